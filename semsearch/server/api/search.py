"""API routes for search, documents and indexes, the OpenAPI document, and routes for monitoring."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from semsearch.adapters.adapter import DomainAdapter
from semsearch.filters.values import TypedValue
from semsearch.search.engine import Outcome
from semsearch.search.facets import Facet
from semsearch.server.api.openapi import openapi
from semsearch.server.http import answer, client_disconnected, from_body, from_query_string
from semsearch.server.runtime.service import SearchService
from semsearch.server.runtime.storage_problem import EXPLANATIONS
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
SHARE_DECIMALS = 4
"""Of token attributions."""
MAX_ATTRIBUTIONS = 10
"""Token attributions of one hit in a response."""
MAX_FACET_VALUES = 50
"""Values of one facet in a response."""


def blueprint(service: SearchService) -> Blueprint:
    """Return the routes. None requires a write key."""
    routes = Blueprint("api", __name__)
    model = SearchRequest.with_limits(service.limits)

    @routes.get("/api/search")
    def search_get() -> Response:
        return _search(service, from_query_string(model, many=frozenset({"queries", "facets"})))

    @routes.post("/api/search")
    def search_post() -> Response:
        return _search(service, from_body(model))

    @routes.get("/api/document")
    def document() -> Response:
        params = from_query_string(DocumentRequest)
        match = service.index(params.index).engine.document(params.id)
        if match is None:
            raise NotFound(f"no document has id {params.id[:200]!r}")
        return answer(
            DocumentResponse(
                id=match.id, title=match.title, text=match.text, source=match.source, metadata=match.metadata
            )
        )

    @routes.get("/api/indexes")
    def indexes() -> Response:
        return answer(IndexesResponse(indexes=tuple(index_models(service))))

    @lru_cache(maxsize=8)
    def description(root_path: str) -> str:
        return json.dumps(openapi(model, root_path=root_path))

    @routes.get("/api/openapi.json")
    def openapi_json() -> Response:
        return Response(description(request.script_root), mimetype="application/json")

    _add_monitoring_routes(routes, service)
    return routes


def _add_monitoring_routes(routes: Blueprint, service: SearchService) -> None:
    @routes.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @routes.get("/readyz")
    def readyz() -> Response:
        if service.ready:
            problems = [
                f"the index {index.name!r} cannot be changed: {EXPLANATIONS[index.problem]}\n"
                for index in service.indexes.values()
                if index.problem is not None
            ]
            return Response("".join(["ready\n", *problems]), mimetype="text/plain")
        return Response("not ready\n", status=503, mimetype="text/plain", headers={"Retry-After": "1"})

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(service.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")


def index_models(service: SearchService) -> list[IndexModel]:
    """Return all served indexes as response models, the default index first."""
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
    """Return the adaptation applied to a query as a response model."""
    return AdaptationModel(
        domain=adaptation.domain,
        version=adaptation.version,
        learner=adaptation.learner,
        reason=adaptation.reason,
    )


def hit_model(
    hit: Hit, query: str, *, explain: bool = False, attributions: Sequence[tuple[str, float]] | None = None
) -> HitModel:
    """Return a hit as a response model, with a snippet that highlights the query.

    explain: whether to include the score breakdown. attributions: (word, share) in descending order of share.
    """
    excerpt = snippet(hit.passage.text, query)
    return HitModel(
        id=hit.id,
        title=hit.title,
        snippet=excerpt.text,
        marks=excerpt.marks,
        score=round(hit.score, SCORE_DECIMALS),
        source=hit.source,
        metadata=hit.metadata,
        score_breakdown=_breakdown_model(hit.score_breakdown, attributions)
        if explain and hit.score_breakdown is not None
        else None,
        more_passages=tuple(_passage_model(passage, query) for passage in hit.more_passages),
        duplicates=hit.duplicates,
    )


def _passage_model(passage: Passage, query: str) -> PassageModel:
    excerpt = snippet(passage.text, query)
    return PassageModel(snippet=excerpt.text, marks=excerpt.marks, start=passage.start, stop=passage.stop)


def facet_model(facet: Facet) -> FacetModel:
    """Return a field's values as a response model: the most frequent first, equally frequent ones by value."""
    ordered = most_frequent(facet)
    listed = tuple(FacetValue(value=value.value, count=count) for value, count in ordered[:MAX_FACET_VALUES])
    return FacetModel(values=listed, more=len(ordered) - len(listed), documents=facet.documents)


def most_frequent(facet: Facet, further: Iterable[TypedValue] = ()) -> list[tuple[TypedValue, int]]:
    """Return the values of a facet with their counts, the most frequent first, equally frequent ones by value.

    further: values that are listed even if no document has them.
    """
    counts = {**dict.fromkeys(further, 0), **facet.counts}
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _breakdown_model(
    breakdown: ScoreBreakdown, attributions: Sequence[tuple[str, float]] | None
) -> ScoreBreakdownModel:
    return ScoreBreakdownModel(
        similarity=None if breakdown.similarity is None else round(breakdown.similarity, SCORE_DECIMALS),
        dense_rank=breakdown.dense_rank,
        lexical_score=None if breakdown.lexical_score is None else round(breakdown.lexical_score, SCORE_DECIMALS),
        lexical_rank=breakdown.lexical_rank,
        vote_boost=None if breakdown.vote_boost is None else round(breakdown.vote_boost, SCORE_DECIMALS),
        token_boost=None if breakdown.token_boost is None else round(breakdown.token_boost, SCORE_DECIMALS),
        token_attributions=None
        if attributions is None
        else tuple(
            TokenAttributionModel(word=word, share=round(share, SHARE_DECIMALS))
            for word, share in attributions[:MAX_ATTRIBUTIONS]
        ),
    )


def _search(service: SearchService, params: SearchRequest) -> Response:
    assert not isinstance(params.filter, str)
    queries = [
        Query(
            text,
            params.k,
            params.offset,
            params.domain,
            mode=params.mode,
            filter=params.filter,
            passages=params.passages,
            collapse=params.collapse,
            sort=None if params.sort is None else Sort.parse(params.sort),
            min_score=params.min_score,
            complete=params.complete,
        )
        for text in params.texts
    ]
    result = service.search(
        params.index, queries, abandoned=client_disconnected(), facets=params.facets, explain=params.explain
    )
    service.keep_queries(result)
    return answer(
        SearchResponse(
            index=result.index,
            domain=params.domain,
            matching=result.matching,
            facets={name: facet_model(facet) for name, facet in result.outcomes[0].facets.items()},
            notes=tuple(result.outcomes[0].notes),
            results=tuple(_result_model(outcome, explain=params.explain) for outcome in result.outcomes),
            timing_ms=TimingModel.model_validate(result.timing_ms),
        )
    )


def _result_model(outcome: Outcome, *, explain: bool) -> ResultModel:
    by_hit: Sequence[Sequence[tuple[str, float]] | None] = outcome.attributions or [None] * len(outcome.hits)
    return ResultModel(
        query=outcome.query.text,
        mode=outcome.mode,
        adaptation=adaptation_model(outcome.adaptation),
        unmatched_phrases=outcome.unmatched_phrases,
        completed=outcome.completed,
        did_you_mean=outcome.did_you_mean,
        weak=outcome.is_weak,
        hits=tuple(
            hit_model(hit, outcome.text, explain=explain, attributions=attributions)
            for hit, attributions in zip(outcome.hits, by_hit, strict=True)
        ),
    )
