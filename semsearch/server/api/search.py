"""The JSON endpoint: search, documents, indexes, and what describes and watches it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from semsearch.adapters.adapter import Serving
from semsearch.filters.tree import Fact
from semsearch.server.api.openapi import openapi
from semsearch.server.http import answer, client_gone, from_address, from_body
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.search import (
    AdaptedModel,
    CarriedModel,
    CountedValue,
    DocumentRequest,
    DocumentResponse,
    FacetModel,
    HitModel,
    IndexesResponse,
    IndexModel,
    PartsModel,
    PassageModel,
    ResultModel,
    SearchRequest,
    SearchResponse,
    TimingModel,
)
from semsearch.text.snippets import snippet
from semsearch.types import Hit, Parts, Passage, Query, Sort

SCORE_DECIMALS = 6
MOST_CARRIED = 10
"""Words that are told to have made a hit similar."""
MOST_VALUES = 50
"""Values of a field that are told."""


def blueprint(service: SearchService) -> Blueprint:
    """The routes of one service."""
    routes = Blueprint("api", __name__)
    model = SearchRequest.within(service.limits)

    @routes.get("/api/search")
    def search_get() -> Response:
        return _search(service, from_address(model, many=frozenset({"queries", "facets"})))

    @routes.post("/api/search")
    def search_post() -> Response:
        return _search(service, from_body(model))

    @routes.get("/api/document")
    def document() -> Response:
        asked = from_address(DocumentRequest)
        found = service.document(asked.index, asked.id)
        if found is None:
            raise NotFound(f"no document has id {asked.id[:200]!r}")
        return answer(
            DocumentResponse(
                id=found.id, title=found.title, text=found.text, source=found.source, metadata=found.metadata
            )
        )

    @routes.get("/api/indexes")
    def indexes() -> Response:
        return answer(IndexesResponse(indexes=tuple(described(service))))

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
            segments=len(engine.manifest.segments),
            deleted=engine.manifest.deleted,
            encoder=engine.manifest.encoder.name.rpartition("/")[2],
            built_at=engine.manifest.built_at.isoformat(),
            changed_at=engine.manifest.changed_at and engine.manifest.changed_at.isoformat(),
        )
        for name, engine in service.engines.items()
    ]


def adapted(serving: Serving) -> AdaptedModel:
    """What rescaled a query, as a caller sees it."""
    return AdaptedModel(domain=serving.domain, version=serving.version, learner=serving.learner, reason=serving.reason)


def shown(
    hit: Hit, query: str, *, explain: bool = False, carried: Sequence[tuple[str, float]] | None = None
) -> HitModel:
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
        parts=_explained(hit.parts, carried) if explain and hit.parts is not None else None,
        others=tuple(_excerpt(passage, query) for passage in hit.others),
        alike=hit.alike,
    )


def _excerpt(passage: Passage, query: str) -> PassageModel:
    part = snippet(passage.text, query)
    return PassageModel(snippet=part.text, marks=part.marks, start=passage.start, stop=passage.stop)


def counted(values: Mapping[Fact, int], *, most: int = MOST_VALUES) -> FacetModel:
    """A field's values as a caller sees them: the most frequent first, of equal frequency by value."""
    order = sorted(values.items(), key=lambda one: (-one[1], isinstance(one[0], str), one[0]))
    shown = tuple(CountedValue(value=value, count=count) for value, count in order[:most])
    return FacetModel(values=shown, more=len(order) - len(shown))


def _explained(parts: Parts, carried: Sequence[tuple[str, float]] | None) -> PartsModel:
    return PartsModel(
        similarity=None if parts.similarity is None else round(parts.similarity, SCORE_DECIMALS),
        similarity_place=parts.similarity_place,
        words=None if parts.words is None else round(parts.words, SCORE_DECIMALS),
        words_place=parts.words_place,
        carried=None
        if carried is None
        else tuple(CarriedModel(word=word, share=round(share, 4)) for word, share in carried[:MOST_CARRIED]),
    )


def _search(service: SearchService, asked: SearchRequest) -> Response:
    assert not isinstance(asked.filter, str)
    queries = [
        Query(
            text,
            asked.k,
            asked.offset,
            asked.domain,
            mode=asked.mode,
            condition=asked.filter,
            passages=asked.passages,
            fold=asked.fold,
            sort=None if asked.sort is None else Sort.parse(asked.sort),
        )
        for text in asked.texts
    ]
    found = service.search(asked.index, queries, abandoned=client_gone(), facets=asked.facets, explain=asked.explain)
    results = tuple(
        ResultModel(
            query=query.text,
            mode=mode,
            adapted=adapted(by),
            hits=tuple(
                shown(hit, query.text, explain=asked.explain, carried=its)
                for hit, its in zip(hits, [None] * len(hits) if carried is None else carried, strict=True)
            ),
        )
        for query, mode, by, hits, carried in zip(
            queries, found.modes, found.adapted, found.results, found.carried, strict=True
        )
    )
    return answer(
        SearchResponse(
            index=found.index,
            domain=asked.domain,
            matching=found.matching,
            facets={name: counted(values) for name, values in found.facets.items()},
            results=results,
            timing_ms=TimingModel.model_validate(found.timing_ms),
        )
    )
