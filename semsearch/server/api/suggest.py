"""The API route for suggestions: past queries of a domain that contain the typed text."""

from __future__ import annotations

from flask import Blueprint, Response, request

from semsearch.server.http import answer, from_query_string
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.pages import SuggestionsRequest, SuggestionsResponse
from semsearch.server.security import WriteKeys


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """Return the route. It requires a write key if the server has any, because users' queries are private."""
    routes = Blueprint("suggesting", __name__)

    @routes.get("/api/suggestions")
    def suggestions() -> Response:
        keys.source(request)
        params = from_query_string(SuggestionsRequest)
        index = service.index(params.index)
        queries: list[str] = []
        if service.limits.suggestions:
            queries = index.domains.log.past_queries(params.domain, params.query.strip(), params.k)
        return answer(SuggestionsResponse(index=index.name, domain=params.domain, suggestions=tuple(queries)))

    return routes
