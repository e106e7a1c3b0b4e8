"""The form that marks, adapts and undoes in a browser that runs no scripts; otherwise the script calls the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from flask import Blueprint, Response, request, url_for
from pydantic import Field, ValidationError
from werkzeug.exceptions import Unauthorized

from semsearch.server.api.domains import adapt_domain
from semsearch.server.api.labels import retract_entries, store_entries
from semsearch.server.errors import FieldProblem
from semsearch.server.pages.rendering import TargetParameters
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.search import FieldError
from semsearch.server.security import WriteKeys
from semsearch.storage.entries import MAX_QUERY_CHARS
from semsearch.storage.labels import EntryFilter
from semsearch.types import Label

OUTCOMES = ("marked", "removed", "adapted", "declined", "nothing-new", "adapting", "undone", "restored")
"""What an action did; each is the end of the key of a text."""
CONTEXT = ("query", "index", "domain", "mode", "filter", "sort", "page", "compare")
"""Parameters of the search page that its form sends along, so that the same results are shown afterwards."""


class TeachingForm(TargetParameters):
    """The form: one action, and what it applies to."""

    query: str = Field("", max_length=MAX_QUERY_CHARS)
    mark: str | None = None
    """A relevance, 0 or 1, a colon, and the id of a document."""
    act: str | None = None
    """`adapt` or `undo`."""
    retract: str | None = None
    """Id of a label."""
    restore: int | None = None
    """Number of a version."""


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """Return the route `/teach`. It requires a write key if the server has any."""
    routes = Blueprint("teaching_page", __name__)

    @routes.post("/teach")
    def teach() -> Response:
        values = {name: value for name, value in request.form.items() if value.strip()}
        try:
            source = keys.source(request, form_key=values.pop("key", None))
        except Unauthorized:
            raise Unauthorized(
                "this needs a write key: go back, and type it in the field below the search box"
            ) from None
        try:
            form = TeachingForm.model_validate(values)
        except ValidationError as error:
            raise FieldProblem.of(error, TeachingForm, values) from None
        index = service.index(form.index)
        outcome = _apply(service, index, form, source)
        page = "domain_page.domain" if "from" in values else "search_page.search"
        target: dict[str, Any] = {name: values[name] for name in CONTEXT if name in values}
        # with 303 the browser gets the page, and reloading it sends nothing again
        address = url_for(page, **target, lang=request.args.get("lang"), taught=outcome)
        return Response(status=303, headers={"Location": address})

    return routes


def marks_of(index: ServedIndex, domain: str, query: str) -> dict[str, Label]:
    """Return the latest label of each document that is labelled for a query."""
    return {label.document: label for _, label in index.domains.log.labels(EntryFilter(domain=domain, query=query))}


def taught() -> str | None:
    """Return what the form did that redirected to this page, one of OUTCOMES; None if none did."""
    outcome = request.args.get("taught")
    return outcome if outcome in OUTCOMES else None


def _apply(service: SearchService, index: ServedIndex, form: TeachingForm, source: str) -> str:
    """Do what the form asks for, and return one of OUTCOMES. Raises FieldProblem."""
    if form.mark is not None:
        return _mark(service, index, form, form.mark, source)
    if form.retract is not None:
        retract_entries(service, index, "label", EntryFilter(id=form.retract, domain=form.domain), source)
        return "removed"
    if form.act == "adapt":
        return _adapt(service, index, form.domain)
    if form.act == "undo" or form.restore is not None:
        with index.changing() as domains:
            domains.rollback(form.domain, form.restore)
        return "undone" if form.restore is None else "restored"
    raise FieldProblem([FieldError(field="act", message="missing: give mark, retract, restore, or act (adapt, undo)")])


def _adapt(service: SearchService, index: ServedIndex, domain: str) -> str:
    before = index.domains.status(domain).record.number
    if not adapt_domain(service, index, domain, wait=True):
        return "adapting"
    record = index.domains.status(domain).record
    if record.current is None or record.number == before:
        return "nothing-new"
    return "declined" if record.current.state is None else "adapted"


def _mark(service: SearchService, index: ServedIndex, form: TeachingForm, mark: str, source: str) -> str:
    """Mark a result; the same mark again removes it, as on the page with scripts."""
    relevance, colon, document = mark.partition(":")
    if relevance not in {"0", "1"} or not colon:
        raise FieldProblem([FieldError(field="mark", message="give 0 or 1, a colon, and the id of a document")])
    query = form.query.strip()
    if not query:
        raise FieldProblem([FieldError(field="query", message="missing: give the query whose result is marked")])
    previous = marks_of(index, form.domain, query).get(document)
    is_removed = previous is not None and (previous.relevance > 0) == (relevance == "1")
    if not is_removed:
        label = Label(uuid4().hex, form.domain, query, document, float(relevance), "", source, datetime.now(UTC))
        store_entries(service, index, [label])
    if previous is not None:
        retract_entries(service, index, "label", EntryFilter(id=previous.id, domain=form.domain), source)
    return "removed" if is_removed else "marked"
