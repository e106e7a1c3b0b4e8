"""API routes for comparisons and recommendations."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from semsearch.search.comparison import ComparedHit, Comparison, compared
from semsearch.server.api.search import adaptation_model, hit_model
from semsearch.server.http import answer, client_disconnected, from_body, from_query_string
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.feedback import (
    ComparedModel,
    CompareRequest,
    CompareResponse,
    RecommendedModel,
    RecommendRequest,
    RecommendResponse,
)
from semsearch.server.schemas.search import TimingModel
from semsearch.server.security import WriteKeys
from semsearch.types import Query


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """Return the routes. Recommendations require a write key if the server has any, because they reveal likes."""
    routes = Blueprint("compare", __name__)

    @routes.post("/api/compare")
    def compare() -> Response:
        params = from_body(CompareRequest)
        assert not isinstance(params.filter, str)
        query = compared(Query(params.query, domain=params.domain, mode=params.mode, filter=params.filter))
        result = service.search(params.index, [query], abandoned=client_disconnected())
        [outcome] = result.outcomes
        comparison = Comparison.of(outcome, params.k)
        return answer(
            CompareResponse(
                index=result.index,
                domain=params.domain,
                query=params.query,
                adaptation=adaptation_model(outcome.adaptation),
                unmatched_phrases=outcome.unmatched_phrases,
                frozen=_models(comparison.frozen, params.query),
                adapted=_models(comparison.adapted, params.query),
                moved=comparison.moved,
                timing_ms=TimingModel.model_validate(result.timing_ms),
            )
        )

    @routes.get("/api/recommend")
    def recommend() -> Response:
        keys.source(request)
        params = from_query_string(RecommendRequest)
        index = service.index(params.index)
        recommendation = index.domains.recommend(params.domain, params.k, diversity=params.diversity)
        if recommendation is None:
            raise NotFound(
                f"the domain {params.domain[:200]!r} has no liked document in the index: send labels or clicks first"
            )
        hits = tuple(
            RecommendedModel(**hit_model(hit, "").model_dump(), similar_to=similar_to)
            for hit, similar_to in zip(recommendation.hits, recommendation.similar_to, strict=True)
        )
        return answer(RecommendResponse(index=index.name, domain=params.domain, liked=recommendation.liked, hits=hits))

    return routes


def _models(hits: Sequence[ComparedHit], query: str) -> tuple[ComparedModel, ...]:
    return tuple(ComparedModel(**hit_model(hit.hit, query).model_dump(), other_rank=hit.other_rank) for hit in hits)
