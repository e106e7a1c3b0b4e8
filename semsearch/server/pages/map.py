"""The map of a corpus: its page, and the API routes that the page draws it from."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from flask import Blueprint, Response, request
from werkzeug.exceptions import Conflict, NotFound

from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import DenseResult
from semsearch.server.http import answer, client_disconnected, from_query_string
from semsearch.server.pages.rendering import html, shortened
from semsearch.server.pages.search import HITS_PER_PAGE, PageParameters
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.pages import (
    MapPassageRequest,
    MapPassageResponse,
    MapPointModel,
    MapQueryRequest,
    MapQueryResponse,
    MapRequest,
)
from semsearch.storage.projection import Points, Projection
from semsearch.text.snippets import snippet
from semsearch.types import Query

Point = tuple[float, float]
"""Map coordinates (x, y), each in [0, 1]."""

DELETED = 0xFFFF
"""Coordinate of a deleted passage in the encoded points."""
RESULTS_ON_MAP = 2 * HITS_PER_PAGE
"""Results that the map highlights."""
SNIPPET_CHARS = 200
"""Length of the text shown for the point under the pointer."""


def blueprint(service: SearchService) -> Blueprint:
    """The route `/map` and the API routes under `/api/map`."""
    routes = Blueprint("map_page", __name__)

    # weak keys: the points go with the engine once a newer one replaces it
    encoded_points: WeakKeyDictionary[SearchEngine, bytes] = WeakKeyDictionary()

    @routes.get("/map")
    def map_page() -> Response:
        params = PageParameters.of_request()
        index = service.index(params.index)
        name, engine = index.name, index.engine
        return html(
            "map.html", params=params, name=name, manifest=engine.manifest, has_map=engine.projection is not None
        )

    @routes.get("/api/map/points")
    def points() -> Response:
        engine = service.index(from_query_string(MapRequest).index).engine
        if engine not in encoded_points:
            encoded_points[engine] = _encode(_projection(engine)[1])
        response = Response(encoded_points[engine], mimetype="application/octet-stream")
        response.headers["X-Generation"] = engine.generation
        response.headers["Cache-Control"] = "private, no-cache"
        response.add_etag()
        response.make_conditional(request)
        return response

    @routes.get("/api/map/passage")
    def passage() -> Response:
        params = from_query_string(MapPassageRequest)
        engine = service.index(params.index).engine
        if params.generation != engine.generation:
            raise Conflict("the index has changed since the map was read: read it again")
        if params.row >= engine.corpus.rows or not engine.corpus.allowed_rows(None).passages[params.row]:
            raise NotFound(f"the index has no passage {params.row}")
        [hit] = engine.corpus.hits([(params.row, 0.0)])
        return answer(
            MapPassageResponse(
                id=hit.id,
                title=shortened(hit.title),
                snippet=snippet(hit.passage.text, "", width=SNIPPET_CHARS).text,
                start=hit.passage.start,
                stop=hit.passage.stop,
            )
        )

    @routes.get("/api/map/query")
    def query() -> Response:
        params = from_query_string(MapQueryRequest)
        assert not isinstance(params.filter, str)
        search_query = Query(
            params.query,
            RESULTS_ON_MAP,
            domain=params.domain,
            compare=True,
            mode=params.mode,
            filter=params.filter,
            collapse=True,
        )
        result = service.search(params.index, [search_query], abandoned=client_disconnected())
        [outcome], engine = result.outcomes, result.engine
        projection, points = _projection(engine)
        rows = outcome.page.passages.tolist()
        adapted, frozen = _query_points(projection, outcome.dense)
        return answer(
            MapQueryResponse(
                generation=engine.generation,
                results=tuple(
                    MapPointModel(row=row, id=hit.id, title=shortened(hit.title), point=_rounded(points[row]))
                    for row, hit in zip(rows, outcome.hits, strict=True)
                ),
                query=adapted,
                before=frozen,
            )
        )

    return routes


def _projection(engine: SearchEngine) -> tuple[Projection, Points]:
    """The engine's projection and the points of its passages. Raises NotFound if the index has no map."""
    points = engine.corpus.map_points() if engine.projection is not None else None
    if engine.projection is None or points is None:
        raise NotFound("this index has no map: build it again, or compact it")
    return engine.projection, points


def _encode(points: Points) -> bytes:
    """Encode points as little-endian uint16, x and y of each row: 65,534 is the far edge, 65,535 a deleted passage."""
    scaled = np.where(np.isnan(points), DELETED, np.round(points * (DELETED - 1)))
    return scaled.astype("<u2").tobytes()


def _query_points(projection: Projection, dense: DenseResult | None) -> tuple[Point | None, Point | None]:
    """Points of the adapted and of the frozen query vector; None for a vector that the search did not compute."""
    if dense is None:
        return None, None
    adapted = _rounded(projection.project(dense.vector[None])[0])
    if dense.frozen is None:
        return adapted, None
    return adapted, _rounded(projection.project(dense.frozen.vector[None])[0])


def _rounded(point: Points) -> Point:
    return round(float(point[0]), 5), round(float(point[1]), 5)
