"""API routes that store, list, suggest and retract labels and clicks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from flask import Blueprint, Response, request

from semsearch.errors import StateError
from semsearch.server.api.search import hit_model
from semsearch.server.errors import FieldProblem
from semsearch.server.http import answer, body_has, from_body, from_query_string
from semsearch.server.runtime.served_index import ServedIndex
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
    SuggestedLabelModel,
    SuggestedLabelsRequest,
    SuggestedLabelsResponse,
    TargetRequest,
)
from semsearch.server.schemas.search import FieldError
from semsearch.server.security import WriteKeys
from semsearch.storage.entries import click_position, entry_problems
from semsearch.storage.labels import EntryFilter
from semsearch.types import Click, Label, is_unicode


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """Return the routes. Each requires a write key if the server has any, because the entries hold users' queries."""
    routes = Blueprint("feedback", __name__)

    @routes.post("/api/labels")
    def post_labels() -> Response:
        source = keys.source(request)
        params = from_body(LabelsRequest) if body_has("labels") else from_body(LabelRequest)
        now = datetime.now(UTC)
        labels = [
            Label(
                _entry_id(entry.id),
                params.domain,
                entry.query,
                entry.document,
                entry.relevance,
                entry.user,
                source,
                now,
            )
            for entry in (params.labels if isinstance(params, LabelsRequest) else (params,))
        ]
        return _store(service, params, labels)

    @routes.post("/api/clicks")
    def post_clicks() -> Response:
        source = keys.source(request)
        params = from_body(ClicksRequest) if body_has("clicks") else from_body(ClickRequest)
        now = datetime.now(UTC)
        clicks = [
            Click(
                _entry_id(entry.id),
                params.domain,
                entry.query,
                entry.document,
                click_position(entry.document, entry.position, entry.shown),
                entry.shown,
                entry.user,
                source,
                now,
            )
            for entry in (params.clicks if isinstance(params, ClicksRequest) else (params,))
        ]
        return _store(service, params, clicks)

    @routes.get("/api/labels")
    def get_labels() -> Response:
        keys.source(request)
        params = from_query_string(ListRequest)
        index = service.index(params.index)
        rows = index.domains.log.labels(_entry_filter(params), after=params.after, limit=params.limit)
        labels = tuple(LabelModel.model_validate(label, from_attributes=True) for _, label in rows)
        return answer(LabelsResponse(index=index.name, labels=labels, next=_next(rows, params.limit)))

    @routes.get("/api/clicks")
    def get_clicks() -> Response:
        keys.source(request)
        params = from_query_string(ListRequest)
        index = service.index(params.index)
        rows = index.domains.log.clicks(_entry_filter(params), after=params.after, limit=params.limit)
        clicks = tuple(ClickModel.model_validate(click, from_attributes=True) for _, click in rows)
        return answer(ClicksResponse(index=index.name, clicks=clicks, next=_next(rows, params.limit)))

    @routes.get("/api/labels/suggested")
    def get_suggested() -> Response:
        keys.source(request)
        params = from_query_string(SuggestedLabelsRequest)
        index = service.index(params.index)
        suggestions = index.domains.suggest(params.domain, params.k, results=params.results, query=params.query)
        models = tuple(
            SuggestedLabelModel(
                query=query.text,
                times_asked=query.times_asked,
                hits=tuple(hit_model(hit, query.text) for hit in query.hits),
            )
            for query in suggestions.queries
        )
        return answer(
            SuggestedLabelsResponse(
                index=index.name, domain=params.domain, suggestions=models, reason=suggestions.reason
            )
        )

    @routes.delete("/api/labels")
    def delete_labels() -> Response:
        return _retract(service, "label", keys.source(request))

    @routes.delete("/api/clicks")
    def delete_clicks() -> Response:
        return _retract(service, "click", keys.source(request))

    return routes


def store_entries(service: SearchService, index: ServedIndex, entries: Sequence[Label | Click]) -> int:
    """Store entries of one kind and domain, and return how many are new. Raises FieldProblem if any is invalid."""
    if errors := _entry_errors(index, entries):
        raise FieldProblem(errors)
    with index.changing() as domains:
        new = domains.log.append(entries)
    service.metrics.entries.labels("label" if isinstance(entries[0], Label) else "click").inc(new)
    queries = list(dict.fromkeys(entry.query for entry in entries))
    service.worker.entries_added(index.name, entries[0].domain, queries)
    return new


def retract_entries(
    service: SearchService, index: ServedIndex, kind: str, entry_filter: EntryFilter, source: str
) -> dict[str, int]:
    """Retract labels or clicks, and adapt the domains again that learned from them; return their number by domain."""
    with index.changing() as domains:
        retracted = domains.log.retract(kind, entry_filter, source=source)
    for domain, numbers in retracted.items():
        # checked before the record is read: a running adaptation may have read the retracted entries
        running = service.worker.busy(index.name, domain)
        try:
            current = domains.store.record(domain).current
        except StateError:
            continue  # a damaged record, or a name that an earlier version accepted: no state is served
        # a state that was adapted to retracted entries must be replaced
        if running or (current is not None and current.last_entry >= numbers[0]):
            service.worker.adapt(index.name, domain)
    return {domain: len(numbers) for domain, numbers in retracted.items()}


def _store(service: SearchService, params: TargetRequest, entries: Sequence[Label | Click]) -> Response:
    index, domain = service.index(params.index), params.domain
    new = store_entries(service, index, entries)
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


def _entry_errors(index: ServedIndex, entries: Sequence[Label | Click]) -> list[FieldError]:
    """Return an error for each rule that an entry does not meet, and for each unknown document."""
    named = [entry.document for entry in entries if entry.document is not None and is_unicode(entry.document)]
    doc_ids = index.engine.corpus.existing_ids(named)
    several = len(entries) > 1
    errors = []
    for number, entry in enumerate(entries):
        problems = list(entry_problems(entry))
        if entry.document is not None and entry.document not in doc_ids:
            problems.append(("document", f"the index {index.name!r} has no document {entry.document[:200]!r}"))
        errors += [
            FieldError(field=f"{number}.{field}" if several else field, message=message) for field, message in problems
        ]
    return errors


def _retract(service: SearchService, kind: str, source: str) -> Response:
    params = from_query_string(EntryFilterRequest)
    entry_filter = _entry_filter(params)
    if entry_filter.empty:
        raise FieldProblem(
            [FieldError(field="", message="give at least one of id, domain, query, document, user and source")]
        )
    index = service.index(params.index)
    retracted = retract_entries(service, index, kind, entry_filter, source)
    return answer(RetractedResponse(index=index.name, retracted=retracted))


def _entry_filter(params: EntryFilterRequest) -> EntryFilter:
    return EntryFilter(
        id=params.id,
        domain=params.domain,
        query=params.query,
        document=params.document,
        user=params.user,
        source=params.source,
    )


def _entry_id(client_id: str | None) -> str:
    return client_id if client_id is not None else uuid4().hex


def _next(rows: Sequence[tuple[int, object]], limit: int) -> int | None:
    return rows[-1][0] if len(rows) == limit else None
