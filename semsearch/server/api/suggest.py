"""The JSON endpoint's suggestions: queries of a domain that contain what is being typed."""

from __future__ import annotations

from flask import Blueprint, Response, request

from semsearch.server.http import answer, from_address
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.pages import SuggestionsRequest, SuggestionsResponse
from semsearch.server.security import WriteKeys


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The route of one service; it wants a key where there are keys: queries are nobody else's business."""
    routes = Blueprint("suggesting", __name__)

    @routes.get("/api/suggestions")
    def suggestions() -> Response:
        keys.source(request)
        asked = from_address(SuggestionsRequest)
        index = service.index(asked.index)
        part = asked.query.strip()
        found = index.domains.log.past_queries(asked.domain, part, asked.k) if service.limits.suggestions else []
        return answer(SuggestionsResponse(index=index.name, domain=asked.domain, suggestions=tuple(found)))

    return routes
