"""The JSON endpoint: search, documents, indexes, and what describes and watches it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from semsearch.adapters.adapter import DomainAdapter
from semsearch.filters.tree import FieldValue
from semsearch.search.engine import Outcome
from semsearch.server.api.openapi import openapi
from semsearch.server.http import answer, client_gone, from_address, from_body
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.search import (
    AdaptationModel,
    DocumentRequest,
    DocumentResponse,
    FacetModel,
    FacetValue,
    HitModel,
    IndexesResponse,
    IndexModel,
    PassageModel,
    ResultModel,
    ScoreBreakdownModel,
    SearchRequest,
    SearchResponse,
    TimingModel,
    TokenAttributionModel,
)
from semsearch.text.snippets import snippet
from semsearch.types import Hit, Passage, Query, ScoreBreakdown, Sort

SCORE_DECIMALS = 6
MAX_ATTRIBUTIONS = 10
"""Words that are told to have made a hit similar."""
MAX_FACET_VALUES = 50
"""Values of a field that are told."""


def blueprint(service: SearchService) -> Blueprint:
    """The routes of one service."""
    routes = Blueprint("api", __name__)
    model = SearchRequest.with_limits(service.limits)

    @routes.get("/api/search")
    def search_get() -> Response:
        return _search(service, from_address(model, many=frozenset({"queries", "facets"})))

    @routes.post("/api/search")
    def search_post() -> Response:
        return _search(service, from_body(model))

    @routes.get("/api/document")
    def document() -> Response:
        asked = from_address(DocumentRequest)
        found = service.index(asked.index).engine.document(asked.id)
        if found is None:
            raise NotFound(f"no document has id {asked.id[:200]!r}")
        return answer(
            DocumentResponse(
                id=found.id, title=found.title, text=found.text, source=found.source, metadata=found.metadata
            )
        )

    @routes.get("/api/indexes")
    def indexes() -> Response:
        return answer(IndexesResponse(indexes=tuple(index_models(service))))

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


def index_models(service: SearchService) -> list[IndexModel]:
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
        for name, engine in ((index.name, index.engine) for index in service.indexes.values())
    ]


def adaptation_model(adaptation: DomainAdapter) -> AdaptationModel:
    """What a query was adapted with, as a response model."""
    return AdaptationModel(
        domain=adaptation.domain,
        version=adaptation.version,
        learner=adaptation.learner,
        reason=adaptation.reason,
    )


def hit_model(
    hit: Hit, query: str, *, explain: bool = False, attributions: Sequence[tuple[str, float]] | None = None
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
        score_breakdown=_breakdown_model(hit.score_breakdown, attributions)
        if explain and hit.score_breakdown is not None
        else None,
        more_passages=tuple(_excerpt(passage, query) for passage in hit.more_passages),
        duplicates=hit.duplicates,
    )


def _excerpt(passage: Passage, query: str) -> PassageModel:
    part = snippet(passage.text, query)
    return PassageModel(snippet=part.text, marks=part.marks, start=passage.start, stop=passage.stop)


def facet_model(values: Mapping[FieldValue, int], *, most: int = MAX_FACET_VALUES) -> FacetModel:
    """A field's values as a caller sees them: the most frequent first, of equal frequency by value."""
    order = sorted(values.items(), key=lambda one: (-one[1], isinstance(one[0], str), one[0]))
    shown = tuple(FacetValue(value=value, count=count) for value, count in order[:most])
    return FacetModel(values=shown, more=len(order) - len(shown))


def _breakdown_model(
    breakdown: ScoreBreakdown, attributions: Sequence[tuple[str, float]] | None
) -> ScoreBreakdownModel:
    return ScoreBreakdownModel(
        similarity=None if breakdown.similarity is None else round(breakdown.similarity, SCORE_DECIMALS),
        dense_rank=breakdown.dense_rank,
        lexical_score=None if breakdown.lexical_score is None else round(breakdown.lexical_score, SCORE_DECIMALS),
        lexical_rank=breakdown.lexical_rank,
        token_attributions=None
        if attributions is None
        else tuple(
            TokenAttributionModel(word=word, share=round(share, 4)) for word, share in attributions[:MAX_ATTRIBUTIONS]
        ),
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
            filter=asked.filter,
            passages=asked.passages,
            collapse=asked.collapse,
            sort=None if asked.sort is None else Sort.parse(asked.sort),
        )
        for text in asked.texts
    ]
    found = service.search(asked.index, queries, abandoned=client_gone(), facets=asked.facets, explain=asked.explain)
    return answer(
        SearchResponse(
            index=found.index,
            domain=asked.domain,
            matching=found.matching,
            facets={name: facet_model(values) for name, values in found.facets.items()},
            results=tuple(_result_model(outcome, explain=asked.explain) for outcome in found.outcomes),
            timing_ms=TimingModel.model_validate(found.timing_ms),
        )
    )


def _result_model(outcome: Outcome, *, explain: bool) -> ResultModel:
    attributions: Sequence[Sequence[tuple[str, float]] | None] = outcome.attributions or [None] * len(outcome.hits)
    return ResultModel(
        query=outcome.query.text,
        mode=outcome.mode,
        adaptation=adaptation_model(outcome.adaptation),
        hits=tuple(
            hit_model(hit, outcome.query.text, explain=explain, attributions=words)
            for hit, words in zip(outcome.hits, attributions, strict=True)
        ),
    )
