"""The JSON endpoint's comparisons and recommendations: what adaptation does to a query, and what a person may like."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from semsearch.search.engine import COMPARED, places_in
from semsearch.server.api.search import adapted, shown
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
    """The routes of one service. Comparing is searching, and open; what somebody likes is not."""
    routes = Blueprint("comparing", __name__)

    @routes.post("/api/compare")
    def compare() -> Response:
        asked = from_body(CompareRequest)
        return answer(compared(service, asked))

    @routes.get("/api/recommend")
    def recommend() -> Response:
        keys.source(request)
        asked = from_address(RecommendRequest)
        name, domains = service.domains_of(asked.index)
        found = domains.recommend(asked.domain, asked.k, diversity=asked.diversity)
        if found is None:
            raise NotFound(f"nothing is known of what {asked.domain[:200]!r} likes: send labels or clicks first")
        hits = tuple(
            RecommendedModel(**shown(hit, "").model_dump(), because=because)
            for hit, because in zip(service.engines[name].corpus.hits(found.rows), found.because, strict=True)
        )
        return answer(RecommendResponse(index=name, domain=asked.domain, liked=found.liked, hits=hits))

    return routes


def compared(service: SearchService, asked: CompareRequest) -> CompareResponse:
    """Both rankings of a query, from one encoded batch."""
    assert not isinstance(asked.filter, str)
    query = Query(asked.query, COMPARED, 0, asked.domain, compare=True, mode=asked.mode, condition=asked.filter)
    found = service.search(asked.index, [query], abandoned=client_gone())
    [hits], [frozen] = found.results, found.frozen
    sides = [
        tuple(
            ComparedModel(**shown(hit, asked.query).model_dump(), other=place)
            for hit, place in zip(side[: asked.k], places_in(side[: asked.k], other), strict=True)
        )
        for side, other in ((frozen, hits), (hits, frozen))
    ]
    return CompareResponse(
        index=found.index,
        domain=asked.domain,
        query=asked.query,
        by=adapted(found.adapted[0]),
        frozen=sides[0],
        adapted=sides[1],
        moved=sum(one.id != other.id for one, other in zip(*sides, strict=True)),
        timing_ms=TimingModel.model_validate(found.timing_ms),
    )
