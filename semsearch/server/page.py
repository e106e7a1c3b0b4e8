"""The browser page: a form and its answer as HTML, complete without a script."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import Blueprint, Response, render_template, request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator
from werkzeug.exceptions import NotFound

from semsearch.conditions import Fact
from semsearch.engine import COMPARED, places_in
from semsearch.filters import parse_if_any, quoted
from semsearch.records import DEFAULT_DOMAIN, FilterError, Hit, Mode, Query
from semsearch.server.api import counted, described
from semsearch.server.http import client_gone
from semsearch.server.problems import FieldProblem
from semsearch.server.security import WriteKeys
from semsearch.server.service import SearchService
from semsearch.snippets import Snippet, snippet

HITS_ON_A_PAGE = 10
MODES = {Mode.HYBRID: "Meaning and words", Mode.SEMANTIC: "Meaning", Mode.LEXICAL: "Words"}
MOST_FACTS = 4
MOST_OFFERED = 8
"""Values of a field that are offered as filters."""
LONGEST_FACT = 60
"""Characters of a metadata value that is shown below a hit."""


class PageRequest(BaseModel):
    """What the page's own address says; anything else in it is ignored, as links pick up additions on their way."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    q: str = ""
    index: str | None = None
    domain: str = Field(DEFAULT_DOMAIN, max_length=200)
    page: int = Field(1, ge=1)
    compare: bool = False
    mode: Mode | None = None
    filter: str = ""

    @field_validator("mode", mode="before")
    @classmethod
    def _unnamed(cls, value: object) -> object:
        """The form sends an empty one for what the index goes by itself."""
        return value or None


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The routes of one service. Marks are offered where anybody at all may write."""
    routes = Blueprint("page", __name__)
    limits = service.limits
    last_page = limits.max_offset // HITS_ON_A_PAGE + 1

    @routes.get("/")
    def search() -> Response:
        asked = _asked()
        if not asked.domain.strip():
            asked = asked.model_copy(update={"domain": DEFAULT_DOMAIN})
        name = service.name_of(asked.index)
        values: dict[str, object] = {
            "asked": asked,
            "name": name,
            "indexes": described(service),
            "manifest": service.engines[name].manifest,
            "max_query_chars": limits.max_query_chars,
            "default_domain": DEFAULT_DOMAIN,
            "modes": MODES,
            "markable": not keys.refuse_all and service.engines[name].folder is not None,
        }
        query = asked.q.strip()
        if not query:
            return _html("search.html", **values)
        if len(query) > limits.max_query_chars:
            refusal = (
                f"the query has {len(query)} characters, at most {limits.max_query_chars} are searched: shorten it"
            )
            return _html("search.html", 422, refusal=refusal, **values)
        try:
            condition = parse_if_any(asked.filter)
        except FilterError as error:
            return _html("search.html", 422, refusal=str(error), **values)
        if asked.compare:
            both = Query(query, COMPARED, 0, asked.domain, compare=True, mode=asked.mode, condition=condition)
            return _compared(both, name, values)
        page = min(asked.page, last_page)
        # one more than is shown tells whether there is a next page
        many = Query(
            query,
            HITS_ON_A_PAGE + 1,
            (page - 1) * HITS_ON_A_PAGE,
            asked.domain,
            mode=asked.mode,
            condition=condition,
            fold=True,
        )
        facets = service.engines[name].manifest.facets
        answer = service.search(name, [many], abandoned=client_gone(), facets=facets)
        hits = answer.results[0]
        return _html(
            "search.html",
            hits=[_shown(hit, query) for hit in hits[:HITS_ON_A_PAGE]],
            adapted=answer.adapted[0],
            mode=answer.modes[0],
            matching=answer.matching,
            facets={field: _offered(field, counts, asked.filter) for field, counts in answer.facets.items()},
            first=many.offset + 1,
            page=page,
            next_page=page + 1 if len(hits) > HITS_ON_A_PAGE and page < last_page else None,
            timing_ms=answer.timing_ms,
            **values,
        )

    def _compared(query: Query, name: str, values: Mapping[str, object]) -> Response:
        """Frozen and adapted side by side; a document's place in the other ranking is looked for in its first 100."""
        answer = service.search(name, [query], abandoned=client_gone())
        frozen, adapted = answer.frozen[0], answer.results[0]
        shown = {
            side: [
                {**_shown(hit, query.text), "other": place}
                for hit, place in zip(found[:HITS_ON_A_PAGE], places_in(found[:HITS_ON_A_PAGE], other), strict=True)
            ]
            for side, found, other in (("frozen", frozen, adapted), ("adapted", adapted, frozen))
        }
        return _html(
            "search.html",
            sides=shown,
            adapted=answer.adapted[0],
            mode=answer.modes[0],
            first=1,
            timing_ms=answer.timing_ms,
            **values,
        )

    @routes.get("/document")
    def document() -> Response:
        name = service.name_of(request.args.get("index"))
        identity = request.args.get("id", "")
        found = service.document(name, identity)
        if found is None:
            raise NotFound(f"No document has the id {identity[:200]!r} here: it may have left the index.")
        start, stop = (_number(field, len(found.text)) for field in ("start", "stop"))
        if (start, stop) == (0, len(found.text)):
            start = stop = 0  # marking everything would mark nothing
        return _html(
            "document.html",
            name=name,
            document=found,
            link=_web_address(found.metadata),
            parts=(found.text[:start], found.text[start:stop], found.text[stop:]),
            back=request.args.get("q", ""),
        )

    return routes


def _offered(field: str, counts: Mapping[Fact, int], present: str) -> list[tuple[Fact, int, str]]:
    """(value, documents, the filter that chooses it besides the present one), the most frequent first."""
    offered = counted(counts, most=MOST_OFFERED).values
    if len(offered) < 2:  # of one there is nothing to choose
        return []
    before = f"({present}) and " if " or " in present.lower() else f"{present} and " if present.strip() else ""
    return [(one.value, one.count, f"{before}{_name(field)} = {quoted(one.value)}") for one in offered]


def _name(field: str) -> str:
    plain = field.replace(".", "").replace("_", "").isalnum()
    return field if plain and field.lower() not in {"and", "or", "not", "in", "exists"} else quoted(field)


def _asked() -> PageRequest:
    try:
        return PageRequest.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise FieldProblem.of(error) from None


def _shown(hit: Hit, query: str) -> dict[str, object]:
    part: Snippet = snippet(hit.passage.text, query)
    return {
        "hit": hit,
        "parts": part.parts,
        "link": _web_address(hit.metadata),
        "facts": _facts(hit.metadata),
    }


def _facts(metadata: Mapping[str, JsonValue]) -> list[tuple[str, str]]:
    """The short values of a document's metadata, for the line below a hit."""
    return [
        (key, str(value))
        for key, value in metadata.items()
        if isinstance(value, str | int | float) and len(str(value)) <= LONGEST_FACT and key != "url"
    ][:MOST_FACTS]


def _web_address(metadata: Mapping[str, JsonValue]) -> str | None:
    """The document's own address where its metadata gives one that a browser may be sent to."""
    url = metadata.get("url")
    try:
        return url if isinstance(url, str) and urlsplit(url).scheme in {"http", "https"} else None
    except ValueError:
        return None


def _number(field: str, most: int) -> int:
    value = request.args.get(field, "0")
    return min(int(value), most) if value.isascii() and value.isdecimal() else 0


def _html(template: str, status: int = 200, /, **values: object) -> Response:
    return Response(render_template(template, **values), status=status, mimetype="text/html")
