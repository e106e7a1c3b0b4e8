"""A document to read, with the passage that was found, and why it was found: pages, also shown beside the results."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Blueprint, Response, request, url_for
from werkzeug.exceptions import NotFound

from semsearch.errors import QueryError
from semsearch.server.errors import FieldProblem
from semsearch.server.http import client_gone
from semsearch.server.i18n import texts
from semsearch.server.pages.explanation import explain
from semsearch.server.pages.rendering import html, web_address
from semsearch.server.pages.search import PageRequest
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.search import FieldError
from semsearch.types import Document


def blueprint(service: SearchService) -> Blueprint:
    """The routes of one service."""
    routes = Blueprint("reading", __name__)
    limits = service.limits

    @routes.get("/document")
    def document() -> Response:
        asked = PageRequest.of_request()
        name = service.index(asked.index).name
        found = _found(service, name)
        start, stop = (_number(field, len(found.text)) for field in ("start", "stop"))
        passage = {"start": start, "stop": stop}
        if (start, stop) == (0, len(found.text)):
            start = stop = 0  # marking everything would mark nothing
        where = {"index": name, "id": found.id}
        why = None
        if asked.query.strip():
            said = request.args.to_dict()
            again = {key: said.get(key) or None for key in ("domain", "mode", "filter", "lang")}
            again["query"] = asked.query
            why = url_for("reading.explanation", **where, **again)  # type: ignore[arg-type]
        link = url_for("reading.document", **where, **passage, _external=True, _anchor="passage")  # type: ignore[arg-type]
        return html(
            "document.html",
            name=name,
            document=found,
            link=web_address(found.metadata),
            parts=(found.text[:start], found.text[start:stop], found.text[stop:]),
            back=asked.query,
            why=why,
            cited={"link": link, "text": _citation(service, name, found, link)},
        )

    @routes.get("/explanation")
    def explanation() -> Response:
        asked = PageRequest.of_request()
        name = service.index(asked.index).name
        identity = _found(service, name).id
        most = limits.max_offset + limits.max_k
        if len(asked.query.strip()) > limits.max_query_chars:
            raise FieldProblem([FieldError(field="query", message=f"at most {limits.max_query_chars} characters")])
        try:
            query = asked.to_query(k=most)
        except QueryError as error:
            raise FieldProblem([FieldError(field="query", message=str(error))]) from None
        found = explain(service, name, query, identity, abandoned=client_gone())
        parts = () if found is None else (found.dense, found.adaptation, found.lexical, found.score)
        return html(
            "explanation.html",
            query=asked.query,
            back=url_for("page.search", query=asked.query, index=name),
            found=found,
            most=max([0.01, *(abs(part) for part in parts if part is not None)]),
            most_looked_at=most,
        )

    return routes


def _found(service: SearchService, name: str) -> Document:
    """The document that the address names. Raises NotFound."""
    identity = request.args.get("id", "")
    found = service.index(name).engine.document(identity)
    if found is None:
        raise NotFound(f"No document has the id {identity[:200]!r} here: it may have left the index.")
    return found


def _citation(service: SearchService, name: str, document: Document, link: str) -> str:
    """Author, title, where it is from, the index, its address, when it was looked at."""
    said = document.metadata
    parts = [
        str(said["author"]) if isinstance(said.get("author"), str) else "",
        f"“{document.title or document.id}”",
        document.source if document.source != document.title else "",
        service.index(name).engine.manifest.title,
        web_address(said) or link,
        texts()("read.accessed", date=datetime.now(UTC).date().isoformat()),
    ]
    return ", ".join(part for part in parts if part) + "."


def _number(field: str, most: int) -> int:
    value = request.args.get(field, "0")
    return min(int(value), most) if value.isascii() and value.isdecimal() and len(value) < 19 else 0
