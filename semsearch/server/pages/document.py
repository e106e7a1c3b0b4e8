"""Two pages about one document: its text, with the passage marked, and the explanation of its rank.

The search page shows both in its panel.
"""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Blueprint, Response, request, url_for
from werkzeug.exceptions import NotFound

from semsearch.errors import QueryError
from semsearch.server.errors import FieldProblem
from semsearch.server.http import client_disconnected
from semsearch.server.i18n import texts
from semsearch.server.pages.explanation import explain
from semsearch.server.pages.rendering import html, web_address
from semsearch.server.pages.search import PageParameters
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.search import FieldError, limit_depth
from semsearch.text.unwrapping import unwrapped
from semsearch.types import Document

MIN_BAR_SCALE = 0.01
"""Smallest score that fills the width of a bar in an explanation, so that scores of 0 can be drawn."""


def blueprint(service: SearchService) -> Blueprint:
    """The routes `/document` and `/explanation`."""
    routes = Blueprint("document_page", __name__)
    limits = service.limits

    @routes.get("/document")
    def document() -> Response:
        params = PageParameters.of_request()
        name = service.index(params.index).name
        shown = _requested_document(service, name)
        start, stop = (_offset(field, len(shown.text)) for field in ("start", "stop"))
        link = url_for(
            "document_page.document",
            index=name,
            id=shown.id,
            start=start,
            stop=stop,
            _external=True,
            _anchor="passage",
        )
        if (start, stop) == (0, len(shown.text)):
            start = stop = 0  # the passage is the whole document: there is nothing to set off
        return html(
            "document.html",
            name=name,
            document=shown,
            metadata=limit_depth(dict(shown.metadata)),
            web_address=web_address(shown.metadata),
            segments=unwrapped(shown.text, (start, stop)),
            query=params.query,
            explanation_address=_explanation_address(params, name, shown.id),
            link=link,
            citation=_citation(service, name, shown, link),
        )

    @routes.get("/explanation")
    def explanation() -> Response:
        params = PageParameters.of_request()
        name = service.index(params.index).name
        doc_id = _requested_document(service, name).id
        if len(params.query.strip()) > limits.max_query_chars:
            raise FieldProblem([FieldError(field="query", message=f"at most {limits.max_query_chars} characters")])
        depth = limits.max_offset + limits.max_k
        try:
            query = params.to_query(k=depth)
        except QueryError as error:
            raise FieldProblem([FieldError(field="query", message=str(error))]) from None
        explained = explain(service, name, query, doc_id, abandoned=client_disconnected())
        components: list[float] = []
        if explained is not None:
            given = explained.dense, explained.adaptation, explained.votes, explained.tokens, explained.lexical
            components = [value for value in (*given, explained.score) if value is not None]
        return html(
            "explanation.html",
            query=params.query,
            back=url_for("search_page.search", query=params.query, index=name),
            explanation=explained,
            scale=max([MIN_BAR_SCALE, *map(abs, components)]),
            has_negative=min(components, default=0) < 0,
            depth=depth,
        )

    return routes


def _requested_document(service: SearchService, name: str) -> Document:
    """The document that the request's address names. Raises NotFound."""
    doc_id = request.args.get("id", "")
    document = service.index(name).engine.document(doc_id)
    if document is None:
        raise NotFound(f"No document has the id {doc_id[:200]!r}: it may have been deleted from the index.")
    return document


def _explanation_address(params: PageParameters, name: str, doc_id: str) -> str | None:
    """Address of the page that explains the document's rank; None without a query."""
    if not params.query.strip():
        return None
    args = request.args.to_dict()
    search_args = {key: args.get(key) or None for key in ("domain", "mode", "filter", "lang")}
    return url_for("document_page.explanation", index=name, id=doc_id, **search_args, query=params.query)  # type: ignore[arg-type]


def _citation(service: SearchService, name: str, document: Document, link: str) -> str:
    """Author, title, source, index, web address and date of access, separated by commas."""
    author = document.metadata.get("author")
    parts = [
        author if isinstance(author, str) else "",
        f"“{document.title or document.id}”",
        document.source if document.source != document.title else "",
        service.index(name).engine.manifest.title,
        web_address(document.metadata) or link,
        texts()("document.accessed", date=datetime.now(UTC).date().isoformat()),
    ]
    return ", ".join(part for part in parts if part) + "."


def _offset(field: str, maximum: int) -> int:
    """A character offset from the request's address; 0 if it is missing or not a number."""
    value = request.args.get(field, "0")
    return min(int(value), maximum) if value.isascii() and value.isdecimal() and len(value) < 19 else 0
