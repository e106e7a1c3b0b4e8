"""API routes that store, list and retract labels and clicks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from flask import Blueprint, Response, request

from semsearch.server.errors import FieldProblem
from semsearch.server.http import answer, from_address, from_body
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.feedback import (
    ClickModel,
    ClickRequest,
    ClicksRequest,
    ClicksResponse,
    EntryFilterRequest,
    LabelModel,
    LabelRequest,
    LabelsRequest,
    LabelsResponse,
    ListRequest,
    RetractedResponse,
    StoredResponse,
    TargetRequest,
)
from semsearch.server.schemas.search import FieldError
from semsearch.server.security import WriteKeys
from semsearch.storage.labels import EntryFilter
from semsearch.types import Click, Label, is_unicode


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """Return the routes. Each requires a write key if the server has any, because the entries hold users' queries."""
    routes = Blueprint("feedback", __name__)

    @routes.post("/api/labels")
    def post_labels() -> Response:
        source = keys.source(request)
        sent = from_body(LabelsRequest) if _holds("labels") else from_body(LabelRequest)
        now = datetime.now(UTC)
        labels = [
            Label(
                _identity(entry.id), sent.domain, entry.query, entry.document, entry.relevance, entry.user, source, now
            )
            for entry in (sent.labels if isinstance(sent, LabelsRequest) else (sent,))
        ]
        return _keep(service, sent, labels)

    @routes.post("/api/clicks")
    def post_clicks() -> Response:
        source = keys.source(request)
        sent = from_body(ClicksRequest) if _holds("clicks") else from_body(ClickRequest)
        now, domain = datetime.now(UTC), sent.domain
        clicks = [
            Click(
                _identity(entry.id),
                domain,
                entry.query,
                entry.document,
                entry.document_position,
                entry.shown,
                entry.user,
                source,
                now,
            )
            for entry in (sent.clicks if isinstance(sent, ClicksRequest) else (sent,))
        ]
        return _keep(service, sent, clicks)

    @routes.get("/api/labels")
    def get_labels() -> Response:
        keys.source(request)
        wanted = from_address(ListRequest)
        index = service.index(wanted.index)
        rows = index.domains.log.labels(_entry_filter(wanted), after=wanted.after, limit=wanted.limit)
        labels = tuple(LabelModel.model_validate(label, from_attributes=True) for _, label in rows)
        return answer(LabelsResponse(index=index.name, labels=labels, next=_next(rows, wanted.limit)))

    @routes.get("/api/clicks")
    def get_clicks() -> Response:
        keys.source(request)
        wanted = from_address(ListRequest)
        index = service.index(wanted.index)
        rows = index.domains.log.clicks(_entry_filter(wanted), after=wanted.after, limit=wanted.limit)
        clicks = tuple(ClickModel.model_validate(click, from_attributes=True) for _, click in rows)
        return answer(ClicksResponse(index=index.name, clicks=clicks, next=_next(rows, wanted.limit)))

    @routes.delete("/api/labels")
    def delete_labels() -> Response:
        return _retract(service, "label", keys.source(request))

    @routes.delete("/api/clicks")
    def delete_clicks() -> Response:
        return _retract(service, "click", keys.source(request))

    return routes


def _keep(service: SearchService, sent: TargetRequest, entries: Sequence[Label | Click]) -> Response:
    index, domain = service.index(sent.index), sent.domain
    index.domains.store.check_name(domain)
    known = index.engine.corpus.existing_ids(entry.document for entry in entries if entry.document is not None)
    several = len(entries) > 1
    wrong = [
        FieldError(
            field=f"{number}.document" if several else "document",
            message=f"the index {index.name!r} has no document {entry.document[:200]!r}",
        )
        for number, entry in enumerate(entries)
        if entry.document is not None and entry.document not in known
    ]
    wrong += [
        FieldError(field=f"{number}" if several else "", message="holds half of a surrogate pair: send valid Unicode")
        for number, entry in enumerate(entries)
        if not is_unicode(f"{entry.query}{entry.id}{entry.user}{entry.domain}")
    ]
    if wrong:
        raise FieldProblem(wrong[:20])
    new = index.domains.log.append(entries)
    service.metrics.entries.labels("label" if isinstance(entries[0], Label) else "click").inc(new)
    service.worker.noted(index.name, domain, list(dict.fromkeys(entry.query for entry in entries)))
    return answer(
        StoredResponse(
            index=index.name,
            domain=domain,
            ids=tuple(entry.id for entry in entries),
            new=new,
            known=len(entries) - new,
        ),
        201,
    )


def _retract(service: SearchService, kind: str, source: str) -> Response:
    wanted = from_address(EntryFilterRequest)
    where = _entry_filter(wanted)
    if where.empty:
        raise FieldProblem([FieldError(field="", message="say which: by id, domain, query, document, user or source")])
    index = service.index(wanted.index)
    domains = index.domains
    retracted = domains.log.retract(kind, where, source=source)
    for domain, numbers in retracted.items():
        # asked before the record is read: an adaptation that is running may have read the entries
        running = service.worker.busy(index.name, domain)
        current = domains.store.record(domain).current
        # what was learned from retracted entries must not keep serving
        if running or (current is not None and current.last_entry >= numbers[0]):
            service.worker.adapt(index.name, domain)
    counts = {domain: len(numbers) for domain, numbers in retracted.items()}
    return answer(RetractedResponse(index=index.name, retracted=counts))


def _holds(field: str) -> bool:
    """Whether the body is an object with this field: then it is of several."""
    try:
        body = json.loads(request.get_data() or b"null")
    except ValueError:
        return False  # the model says so in better words
    return isinstance(body, dict) and field in body


def _entry_filter(wanted: EntryFilterRequest) -> EntryFilter:
    return EntryFilter(
        id=wanted.id,
        domain=wanted.domain,
        query=wanted.query,
        document=wanted.document,
        user=wanted.user,
        source=wanted.source,
    )


def _identity(given: str | None) -> str:
    return given if given is not None else uuid4().hex


def _next(rows: Sequence[tuple[int, object]], limit: int) -> int | None:
    return rows[-1][0] if len(rows) == limit else None
