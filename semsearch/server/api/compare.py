"""The JSON routes of comparisons and recommendations."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from semsearch.search.comparison import ComparedHit, Comparison, compared
from semsearch.server.api.search import adaptation_model, hit_model
from semsearch.server.http import answer, client_gone, from_address, from_body
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
    """The routes of one service. Comparing is searching, and needs no key; recommendations tell what a person likes."""
    routes = Blueprint("compare", __name__)

    @routes.post("/api/compare")
    def compare() -> Response:
        asked = from_body(CompareRequest)
        assert not isinstance(asked.filter, str)
        query = compared(Query(asked.query, domain=asked.domain, mode=asked.mode, filter=asked.filter))
        found = service.search(asked.index, [query], abandoned=client_gone())
        [outcome] = found.outcomes
        comparison = Comparison.of(outcome, asked.k)
        return answer(
            CompareResponse(
                index=found.index,
                domain=asked.domain,
                query=asked.query,
                adaptation=adaptation_model(outcome.adaptation),
                frozen=_models(comparison.frozen, asked.query),
                adapted=_models(comparison.adapted, asked.query),
                moved=comparison.moved,
                timing_ms=TimingModel.model_validate(found.timing_ms),
            )
        )

    @routes.get("/api/recommend")
    def recommend() -> Response:
        keys.source(request)
        asked = from_address(RecommendRequest)
        index = service.index(asked.index)
        found = index.domains.recommend(asked.domain, asked.k, diversity=asked.diversity)
        if found is None:
            raise NotFound(f"nothing is known of what {asked.domain[:200]!r} likes: send labels or clicks first")
        hits = tuple(
            RecommendedModel(**hit_model(hit, "").model_dump(), similar_to=similar_to)
            for hit, similar_to in zip(found.hits, found.similar_to, strict=True)
        )
        return answer(RecommendResponse(index=index.name, domain=asked.domain, liked=found.liked, hits=hits))

    return routes


def _models(hits: Sequence[ComparedHit], query: str) -> tuple[ComparedModel, ...]:
    return tuple(ComparedModel(**hit_model(one.hit, query).model_dump(), other_rank=one.other_rank) for one in hits)
