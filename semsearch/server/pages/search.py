"""The search page: a form and its answer as HTML, complete without a script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flask import Blueprint, Response
from pydantic import Field, JsonValue, field_validator, model_validator

from semsearch.errors import FilterError, QueryError
from semsearch.filters.expression import parse_optional_filter, quote
from semsearch.filters.tree import FieldValue
from semsearch.search.comparison import Comparison, compared
from semsearch.search.engine import SORT_DEPTH
from semsearch.server.api.search import facet_model, index_models
from semsearch.server.http import client_gone
from semsearch.server.i18n import texts
from semsearch.server.pages.explain_adaptation import sentence
from semsearch.server.pages.rendering import TargetParameters, html, web_address
from semsearch.server.runtime.service import SearchAnswer, SearchService
from semsearch.server.security import WriteKeys
from semsearch.text.snippets import snippet
from semsearch.types import Hit, Mode, Query, Sort

HITS_ON_A_PAGE = 10
PASSAGES_OF_A_HIT = 3
MOST_FACTS = 4
MOST_OFFERED = 8
"""Values of a field that are offered as filters."""
MOST_SORTABLE = 6
"""Fields that are offered as orders."""
LONGEST_FACT = 60
"""Characters of a metadata value that is shown below a hit."""


class PageRequest(TargetParameters):
    """What the page's own address says."""

    query: str = ""
    page: int = Field(1, ge=1)
    compare: bool = False
    mode: Mode | None = None
    filter: str = ""
    sort: str = Field("", max_length=200)

    @model_validator(mode="before")
    @classmethod
    def _accept_q(cls, values: dict[str, object]) -> dict[str, object]:
        """Links of semsearch 0.1 say `q`."""
        return {"query": values["q"], **values} if "q" in values else values

    @field_validator("mode", mode="before")
    @classmethod
    def _unnamed(cls, value: object) -> object:
        """The form sends an empty one for what the index goes by itself."""
        return value or None

    def to_query(self, *, k: int, offset: int = 0) -> Query:
        """What it asks for. Raises QueryError for what cannot be searched for."""
        return Query(
            self.query.strip(),
            k,
            offset,
            self.domain,
            mode=self.mode,
            filter=parse_optional_filter(self.filter),
            passages=PASSAGES_OF_A_HIT,
            collapse=True,
            sort=Sort.parse(self.sort) if self.sort.strip() else None,
        )


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The route of one service. Labels are offered where writing is allowed."""
    routes = Blueprint("page", __name__)
    limits = service.limits
    last_page = limits.max_offset // HITS_ON_A_PAGE + 1

    @routes.get("/")
    def search() -> Response:
        asked = PageRequest.of_request()
        index = service.index(asked.index)
        name, manifest = index.name, index.engine.manifest
        values: dict[str, object] = {
            "asked": asked,
            "name": name,
            "indexes": index_models(service),
            "manifest": manifest,
            "max_query_chars": limits.max_query_chars,
            "modes": list(Mode)[::-1],
            "markable": not keys.refuse_all and index.writable,
            "mapped": index.engine.projection is not None,
            "suggestions": limits.suggestions,
            "most_sorted": SORT_DEPTH,
        }
        query = asked.query.strip()
        if not query:
            return html("search.html", **values)
        if len(query) > limits.max_query_chars:
            refusal = texts()("refused.too-long", length=len(query), most=limits.max_query_chars)
            return html("search.html", 422, refusal=refusal, **values)
        page = min(asked.page, last_page)
        try:
            # one more than is shown tells whether there is a next page
            many = asked.to_query(k=HITS_ON_A_PAGE + 1, offset=(page - 1) * HITS_ON_A_PAGE)
        except (FilterError, QueryError) as error:
            return html("search.html", 422, refusal=str(error), **values)
        if asked.compare:
            return _compared(asked, name, values)
        answer = service.search(name, [many], abandoned=client_gone(), facets=manifest.facets)
        [outcome] = answer.outcomes
        return html(
            "search.html",
            **_told(answer, asked),
            hits=[_shown(hit, query) for hit in outcome.hits[:HITS_ON_A_PAGE]],
            sortable=_sortable(manifest.facets, outcome.hits, asked.sort),
            matching=answer.matching,
            facets={field: _offered(field, counts, asked.filter) for field, counts in answer.facets.items()},
            first=many.offset + 1,
            page=page,
            next_page=page + 1 if len(outcome.hits) > HITS_ON_A_PAGE and page < last_page else None,
            **values,
        )

    def _compared(asked: PageRequest, name: str, values: Mapping[str, object]) -> Response:
        """Frozen and adapted side by side; a document's place in the other ranking is looked for in its first 100."""
        query = Query(
            asked.query.strip(), domain=asked.domain, mode=asked.mode, filter=parse_optional_filter(asked.filter)
        )
        answer = service.search(name, [compared(query)], abandoned=client_gone())
        comparison = Comparison.of(answer.outcomes[0], HITS_ON_A_PAGE)
        shown = {
            side: [{**_shown(one.hit, query.text), "other": one.other_rank} for one in found]
            for side, found in (("frozen", comparison.frozen), ("adapted", comparison.adapted))
        }
        return html("search.html", **_told(answer, asked), sides=shown, first=1, **values)

    return routes


def _told(answer: SearchAnswer, asked: PageRequest) -> dict[str, object]:
    """What every answer says beside its hits."""
    serving = answer.outcomes[0].adaptation
    return {
        "adapted": serving,
        "verdict": sentence(texts(), serving, asked.domain),
        "timing_ms": answer.timing_ms,
    }


def _offered(field: str, counts: Mapping[FieldValue, int], present: str) -> list[tuple[FieldValue, int, str]]:
    """(value, documents, the filter that chooses it besides the present one), the most frequent first."""
    offered = facet_model(counts, most=MOST_OFFERED).values
    if len(offered) < 2:  # of one there is nothing to choose
        return []
    before = f"({present}) and " if " or " in present.lower() else f"{present} and " if present.strip() else ""
    return [(one.value, one.count, f"{before}{_name(field)} = {quote(one.value)}") for one in offered]


def _name(field: str) -> str:
    plain = field.replace(".", "").replace("_", "").isalnum()
    return field if plain and field.lower() not in {"and", "or", "not", "in", "exists"} else quote(field)


def _sortable(facets: Iterable[str], hits: Iterable[Hit], present: str) -> list[str]:
    """Fields to order by: the title, the present one, the index's own and what the documents shown have."""
    there = [key for hit in hits for key, value in hit.metadata.items() if _short(key, value)]
    fields = dict.fromkeys(["title", present.removeprefix("-"), *facets, *there])
    return [field for field in fields if field][:MOST_SORTABLE]


def _shown(hit: Hit, query: str) -> dict[str, object]:
    return {
        "hit": hit,
        "parts": snippet(hit.passage.text, query).segments,
        "others": [(passage, snippet(passage.text, query).segments) for passage in hit.more_passages],
        "link": web_address(hit.metadata),
        "facts": [(key, str(value)) for key, value in hit.metadata.items() if _short(key, value)][:MOST_FACTS],
    }


def _short(key: str, value: JsonValue) -> bool:
    """Whether a metadata value is for the line below a hit."""
    return isinstance(value, str | int | float) and len(str(value)) <= LONGEST_FACT and key != "url"
