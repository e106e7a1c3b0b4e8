"""The JSON endpoint: search, documents, indexes, and what describes and watches it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache

from flask import Blueprint, Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import NotFound, UnsupportedMediaType

from semsearch.records import Hit, Query
from semsearch.server.openapi import openapi
from semsearch.server.problems import FieldProblem
from semsearch.server.schemas import (
    DocumentResponse,
    FieldError,
    HitModel,
    IndexesResponse,
    IndexModel,
    ResultModel,
    SearchRequest,
    SearchResponse,
    TimingModel,
)
from semsearch.server.service import SearchService
from semsearch.snippets import snippet

SCORE_DECIMALS = 6


def blueprint(service: SearchService) -> Blueprint:
    """The routes of one service."""
    routes = Blueprint("api", __name__)
    model = SearchRequest.within(service.limits)

    @routes.get("/api/search")
    def search_get() -> Response:
        return _search(service, _from_address(model))

    @routes.post("/api/search")
    def search_post() -> Response:
        if request.mimetype != "application/json":
            raise UnsupportedMediaType(f"the body is {request.mimetype or 'of no type'}: send application/json")
        try:
            asked = model.model_validate_json(request.get_data(), strict=True)
        except ValidationError as error:
            raise FieldProblem.of(error) from None
        return _search(service, asked)

    @routes.get("/api/document")
    def document() -> Response:
        identity = request.args.get("id")
        if identity is None:
            raise FieldProblem([FieldError(field="id", message="name the document")])
        found = service.document(request.args.get("index"), identity)
        if found is None:
            raise NotFound(f"no document has id {identity[:200]!r}")
        return _json(
            DocumentResponse(
                id=found.id, title=found.title, text=found.text, source=found.source, metadata=found.metadata
            )
        )

    @routes.get("/api/indexes")
    def indexes() -> Response:
        return _json(IndexesResponse(indexes=tuple(described(service))))

    @lru_cache(maxsize=1)
    def description() -> str:
        return json.dumps(openapi(model))

    @routes.get("/api/openapi.json")
    def openapi_json() -> Response:
        return Response(description(), mimetype="application/json")

    @routes.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @routes.get("/readyz")
    def readyz() -> Response:
        if service.ready:
            return Response("ready\n", mimetype="text/plain")
        return Response("not ready\n", status=503, mimetype="text/plain", headers={"Retry-After": "1"})

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(service.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


def described(service: SearchService) -> list[IndexModel]:
    """What is served, the default one first."""
    return [
        IndexModel(
            name=name,
            title=engine.manifest.title,
            description=engine.manifest.description,
            documents=engine.manifest.documents,
            passages=engine.manifest.passages,
            encoder=engine.manifest.encoder.name.rpartition("/")[2],
            built_at=engine.manifest.built_at.isoformat(),
        )
        for name, engine in service.engines.items()
    ]


def client_gone() -> Callable[[], bool]:
    """Asks the server whether the client of the present request has hung up; never so where it cannot tell."""
    found: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return found


def shown(hit: Hit, query: str) -> HitModel:
    """A hit as a caller sees it."""
    part = snippet(hit.passage.text, query)
    return HitModel(
        id=hit.id,
        title=hit.title,
        snippet=part.text,
        marks=part.marks,
        score=round(hit.score, SCORE_DECIMALS),
        source=hit.source,
        metadata=hit.metadata,
    )


def _search(service: SearchService, asked: SearchRequest) -> Response:
    queries = [Query(text, asked.k, asked.offset, asked.domain) for text in asked.texts]
    answer = service.search(asked.index, queries, abandoned=client_gone())
    results = tuple(
        ResultModel(query=query.text, hits=tuple(shown(hit, query.text) for hit in hits))
        for query, hits in zip(queries, answer.results, strict=True)
    )
    return _json(
        SearchResponse(
            index=answer.index,
            domain=asked.domain,
            results=results,
            timing_ms=TimingModel.model_validate(answer.timing_ms),
        )
    )


def _from_address(model: type[SearchRequest]) -> SearchRequest:
    """The request in the address: one query, every field at most once."""
    values: dict[str, object] = {}
    for field, given in request.args.lists():
        if field == "queries":
            values[field] = tuple(given)
        elif len(given) > 1:
            raise FieldProblem([FieldError(field=field, message="given more than once")])
        else:
            values[field] = given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise FieldProblem.of(error) from None


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), mimetype="application/json")
