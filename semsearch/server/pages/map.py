"""The map of a corpus: a page to look at it, and what the page draws: points, a passage, where a query stands."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from flask import Blueprint, Response, request
from werkzeug.exceptions import Conflict, NotFound

from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import DenseResult
from semsearch.server.http import answer, client_gone, from_address
from semsearch.server.pages.rendering import html, shortened
from semsearch.server.pages.search import HITS_ON_A_PAGE, PageRequest
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

NOWHERE = 0xFFFF
"""What stands for the place of a passage that was deleted."""
LIT = 2 * HITS_ON_A_PAGE
"""Results that are lit."""
SHORT = 200
"""Characters of a passage that is pointed at."""


def blueprint(service: SearchService) -> Blueprint:
    """The routes of one service."""
    routes = Blueprint("map", __name__)

    # an engine that serves no more is released
    drawn: WeakKeyDictionary[SearchEngine, bytes] = WeakKeyDictionary()

    @routes.get("/map")
    def page() -> Response:
        asked = PageRequest.of_request()
        index = service.index(asked.index)
        name, engine = index.name, index.engine
        return html("map.html", asked=asked, name=name, manifest=engine.manifest, mapped=engine.projection is not None)

    @routes.get("/api/map/points")
    def points() -> Response:
        engine = service.index(from_address(MapRequest).index).engine
        if engine not in drawn:
            drawn[engine] = _points(_places(engine)[1])
        response = Response(drawn[engine], mimetype="application/octet-stream")
        response.headers["X-Generation"] = engine.generation
        response.headers["Cache-Control"] = "private, no-cache"
        response.add_etag()
        response.make_conditional(request)
        return response

    @routes.get("/api/map/passage")
    def passage() -> Response:
        asked = from_address(MapPassageRequest)
        engine = service.index(asked.index).engine
        if asked.generation != engine.generation:
            raise Conflict("the index has changed since the map was read: read it again")
        if asked.row >= engine.corpus.rows:
            raise NotFound(f"the index has no passage {asked.row}")
        [hit] = engine.corpus.hits([(asked.row, 0.0)])
        return answer(
            MapPassageResponse(
                id=hit.id,
                title=shortened(hit.title),
                snippet=snippet(hit.passage.text, "", width=SHORT).text,
                start=hit.passage.start,
                stop=hit.passage.stop,
            )
        )

    @routes.get("/api/map/query")
    def query() -> Response:
        asked = from_address(MapQueryRequest)
        assert not isinstance(asked.filter, str)
        wanted = Query(
            asked.query, LIT, domain=asked.domain, compare=True, mode=asked.mode, filter=asked.filter, collapse=True
        )
        found = service.search(asked.index, [wanted], abandoned=client_gone())
        [outcome] = found.outcomes
        engine = found.engine
        projection, places = _places(engine)
        rows = outcome.page.passages.tolist()
        after, before = _stand(projection, outcome.dense)
        return answer(
            MapQueryResponse(
                generation=engine.generation,
                results=tuple(
                    MapPointModel(row=row, id=hit.id, title=shortened(hit.title), point=_pair(places[row]))
                    for row, hit in zip(rows, outcome.hits, strict=True)
                ),
                query=after,
                before=before,
            )
        )

    return routes


def _places(engine: SearchEngine) -> tuple[Projection, Points]:
    """The engine's map and where its passages stand. Raises NotFound for an index without."""
    places = engine.corpus.map_points() if engine.projection is not None else None
    if engine.projection is None or places is None:
        raise NotFound("this index has no map: build it again, or compact it")
    return engine.projection, places


def _points(places: Points) -> bytes:
    """x and y of each row as little-endian 16-bit numbers, 65,534 the far edge, 65,535 for what was deleted."""
    whole = np.where(np.isnan(places), NOWHERE, np.round(places * (NOWHERE - 1)))
    return whole.astype("<u2").tobytes()


def _stand(
    projection: Projection, nearest: DenseResult | None
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Where the query stands, and where it would without adaptation, if that is elsewhere."""
    if nearest is None:
        return None, None
    place = _pair(projection.project(nearest.vector[None])[0])
    if nearest.frozen is None:
        return place, None
    return place, _pair(projection.project(nearest.frozen.vector[None])[0])


def _pair(place: Points) -> tuple[float, float]:
    return round(float(place[0]), 5), round(float(place[1]), 5)
