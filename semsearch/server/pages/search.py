"""The search page: the form and the results as HTML, complete without a script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import structlog
from flask import Blueprint, Response
from pydantic import Field, JsonValue, field_validator, model_validator

from semsearch.errors import QueryError, StorageError
from semsearch.filters.expression import parse_optional_filter, write_filter
from semsearch.filters.tree import Comparison as FieldComparison
from semsearch.filters.tree import Filter, conjunction, parts_of, without_field
from semsearch.filters.values import TypedValue, typed
from semsearch.search.comparison import ComparedHit, Comparison, compared
from semsearch.search.engine import ENCODER_FAILED, SORT_DEPTH
from semsearch.search.facets import Facet
from semsearch.server.api.search import index_models, most_frequent
from semsearch.server.http import client_disconnected
from semsearch.server.i18n import texts
from semsearch.server.pages.explain_adaptation import explain_adaptation
from semsearch.server.pages.rendering import TargetParameters, html, web_address
from semsearch.server.pages.teaching import marks_of, taught
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.runtime.service import SearchAnswer, SearchService
from semsearch.server.security import WriteKeys
from semsearch.text.snippets import snippet
from semsearch.types import Hit, Label, Mode, Query, Sort

log = structlog.get_logger("semsearch.server")

HITS_PER_PAGE = 10
PASSAGES_PER_HIT = 3
MAX_FIELDS = 4
"""Metadata fields shown below a hit."""
MAX_FIELD_CHARS = 60
"""Length of a metadata value that is shown below a hit; longer values are left out."""
FIRST_FACET_VALUES = 8
"""Values of a facet that are in view."""
MAX_FACET_VALUES = 30
"""Values of a facet that are offered as filters."""
MAX_SORT_FIELDS = 6
"""Fields that are offered for sorting."""


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a facet, as a link."""

    text: str
    count: int
    """Number of documents."""
    filter: str
    """The filter that also allows this value, or no longer, if it is chosen."""
    is_chosen: bool


class PageParameters(TargetParameters):
    """Query parameters of the search page, which the pages it links to accept as well."""

    query: str = ""
    page: int = Field(1, ge=1)
    compare: bool = False
    mode: Mode | None = None
    filter: str = ""
    sort: str = Field("", max_length=200)
    typing: bool = False
    """Whether the query is still being typed, so that its last word may be unfinished."""

    @model_validator(mode="before")
    @classmethod
    def _accept_q(cls, values: dict[str, object]) -> dict[str, object]:
        """Accept `q` for `query`: links of semsearch 0.1 use it."""
        return {"query": values["q"], **values} if "q" in values else values

    @field_validator("mode", mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        """Accept an empty mode: the form sends it for the index's default mode."""
        return value or None

    def to_query(self, *, k: int, offset: int = 0) -> Query:
        """Convert to a query. Raises QueryError or FilterError if that is invalid."""
        return Query(
            self.query.strip(),
            k,
            offset,
            self.domain,
            mode=self.mode,
            filter=parse_optional_filter(self.filter),
            passages=PASSAGES_PER_HIT,
            collapse=True,
            sort=Sort.parse(self.sort) if self.sort.strip() else None,
            complete=self.typing,
        )


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The route `/`. Results can be labelled if the index is writable and the server accepts labels."""
    routes = Blueprint("search_page", __name__)
    limits = service.limits
    last_page = limits.max_offset // HITS_PER_PAGE + 1

    @routes.get("/")
    def search() -> Response:
        params = PageParameters.of_request()
        index = service.index(params.index)
        name, manifest = index.name, index.engine.manifest
        values: dict[str, object] = {
            "params": params,
            "name": name,
            "indexes": index_models(service),
            "manifest": manifest,
            "max_query_chars": limits.max_query_chars,
            "modes": list(Mode)[::-1],
            "can_label": not keys.refuse_all and index.writable,
            "has_map": index.engine.projection is not None,
            "suggestions": limits.suggestions,
            "sort_depth": SORT_DEPTH,
        }
        text = params.query.strip()
        if not text:
            return html("search.html", **values)
        if len(text) > limits.max_query_chars:
            refusal = texts()("refused.too-long", length=len(text), limit=limits.max_query_chars)
            return html("search.html", 422, refusal=refusal, **values)
        page = min(params.page, last_page)
        try:
            # one hit more than is shown tells whether there is a next page
            query = params.to_query(k=HITS_PER_PAGE + 1, offset=(page - 1) * HITS_PER_PAGE)
            if params.compare:
                return _render_comparison(params, name, values)
            facets = [field for field in manifest.facets if index.engine.corpus.has_field(field)]
            answer = service.search(name, [query], abandoned=client_disconnected(), facets=facets)
        except QueryError as error:
            return html("search.html", 422, refusal=_in_language(str(error)), **values)
        # the page searches while its user types
        service.keep_queries(answer, typed=True)
        [outcome] = answer.outcomes
        if values["can_label"] and not keys.required:
            values["marks"] = _marks(index, params.domain, outcome.text)
        if outcome.completed is not None:
            # links and marks are about what was searched
            values["params"] = params.model_copy(update={"query": outcome.completed})
        return html(
            "search.html",
            **_answer_values(answer, params),
            hits=[_hit_values(hit, outcome.text) for hit in outcome.hits[:HITS_PER_PAGE]],
            sort_fields=_sort_fields(manifest.facets, outcome.hits, params.sort),
            matching=answer.matching,
            facets={field: _facet_values(field, facet, query.filter) for field, facet in outcome.facets.items()},
            first_facet_values=FIRST_FACET_VALUES,
            counted=max((facet.documents for facet in outcome.facets.values()), default=0),
            notes=[_in_language(note) for note in outcome.notes],
            first=query.offset + 1,
            page=page,
            next_page=page + 1 if len(outcome.hits) > HITS_PER_PAGE and page < last_page else None,
            **values,
        )

    def _render_comparison(params: PageParameters, name: str, values: Mapping[str, object]) -> Response:
        """Render the frozen and the adapted ranking side by side."""
        query = Query(
            params.query.strip(), domain=params.domain, mode=params.mode, filter=parse_optional_filter(params.filter)
        )
        answer = service.search(name, [compared(query)], abandoned=client_disconnected())
        comparison = Comparison.of(answer.outcomes[0], HITS_PER_PAGE)
        sides = {
            "frozen": _compared_values(comparison.frozen, query.text),
            "adapted": _compared_values(comparison.adapted, query.text),
        }
        return html("search.html", **_answer_values(answer, params), sides=sides, first=1, **values)

    return routes


def _in_language(message: str) -> str:
    """A message of the library in the language of the page, or in English if it has no translation."""
    return texts().translated(message) or message


def _marks(index: ServedIndex, domain: str, query: str) -> Mapping[str, Label]:
    """The latest label of each document for a query; none if they cannot be read, because searches go on then."""
    try:
        return marks_of(index, domain, query)
    except StorageError as error:
        log.warning("marks cannot be read", index=index.name, error=str(error))
        return {}


def _answer_values(answer: SearchAnswer, params: PageParameters) -> dict[str, object]:
    """Template values that both result views need, apart from the hits."""
    domain_adapter = answer.outcomes[0].adaptation
    return {
        "domain_adapter": domain_adapter,
        "encoder_failed": domain_adapter is ENCODER_FAILED,
        "conditions": _conditions(answer.outcomes[0].query.filter),
        "explanation": explain_adaptation(texts(), domain_adapter, params.domain),
        "timing_ms": answer.timing_ms,
        "unmatched_phrases": answer.outcomes[0].unmatched_phrases,
        "completed": answer.outcomes[0].completed,
        "typed": params.query.strip(),
        "did_you_mean": answer.outcomes[0].did_you_mean,
        "is_weak": answer.outcomes[0].is_weak,
        "taught": taught(),
    }


def _facet_values(field: str, facet: Facet, current: Filter | None) -> list[FacetValue]:
    """The most frequent values of a field, and those that the filter chooses; empty for a single value not chosen."""
    others = without_field(current, field)
    conditions = [part for part in parts_of(current) if isinstance(part, FieldComparison) and part.field == field]
    chosen = [value for condition in conditions for value in condition.values]
    values = []
    for index, (value, count) in enumerate(most_frequent(facet, set(chosen))):
        is_chosen = value in chosen
        wanted = [other for other in chosen if other != value] if is_chosen else [*chosen, value]
        narrowed = conjunction([*parts_of(others), *_one_of(field, wanted)])
        if is_chosen or index < MAX_FACET_VALUES:
            values.append(FacetValue(value.text, count, _written(narrowed), is_chosen))
    return values if len(values) > 1 or current != others else []


def _one_of(field: str, values: Sequence[TypedValue]) -> list[Filter]:
    """The condition that a field has one of some values, as a list of one; empty without values."""
    scalars = tuple(value.value for value in values)
    if not scalars:
        return []
    return [
        FieldComparison(field=field, eq=scalars[0])
        if len(scalars) == 1
        else FieldComparison(field=field, one_of=scalars)
    ]


def _conditions(current: Filter | None) -> list[tuple[str, str]]:
    """Each condition of a filter and the filter without it, as texts."""
    parts = parts_of(current)
    found = []
    for index, part in enumerate(parts):
        rest = [*parts[:index], *parts[index + 1 :]]
        if isinstance(part, FieldComparison) and part.values:
            for value in part.values:
                others = _one_of(part.field, [other for other in part.values if other != value])
                found.append((f"{part.field}: {value.text}", _written(conjunction([*rest, *others]))))
        else:
            found.append((write_filter(part), _written(conjunction(rest))))
    return found


def _written(tree: Filter | None) -> str:
    return "" if tree is None else write_filter(tree)


def _sort_fields(facets: Iterable[str], hits: Iterable[Hit], current_sort: str) -> list[str]:
    """Fields to sort by: the title, the current one, the index's facets and the fields of the hits."""
    hit_fields = [field for hit in hits for field, value in hit.metadata.items() if _is_short(value, field)]
    fields = dict.fromkeys(["title", current_sort.removeprefix("-"), *facets, *hit_fields])
    return [field for field in fields if field][:MAX_SORT_FIELDS]


def _hit_values(hit: Hit, query: str) -> dict[str, object]:
    """Template values of a hit."""
    fields = [(field, typed(value).text) for field, value in hit.metadata.items() if _is_short(value, field)]
    return {
        "hit": hit,
        "segments": snippet(hit.passage.text, query).segments,
        "more_passages": [(passage, snippet(passage.text, query).segments) for passage in hit.more_passages],
        "web_address": web_address(hit.metadata),
        "fields": fields[:MAX_FIELDS],
    }


def _compared_values(hits: Iterable[ComparedHit], query: str) -> list[dict[str, object]]:
    """Template values of one side of a comparison."""
    return [{**_hit_values(compared_hit.hit, query), "other_rank": compared_hit.other_rank} for compared_hit in hits]


def _is_short(value: JsonValue, field: str) -> TypeGuard[str | int | float]:
    """Whether a metadata value fits below a hit; the web address is shown as a link instead."""
    return isinstance(value, str | int | float) and len(str(value)) <= MAX_FIELD_CHARS and field != "url"
