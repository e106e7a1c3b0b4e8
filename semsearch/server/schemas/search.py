"""Request and response models of the search API; the OpenAPI document is generated from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    create_model,
    field_validator,
    model_validator,
)

from semsearch.errors import FilterError, QueryError
from semsearch.filters.expression import parse_optional_filter
from semsearch.filters.tree import Filter, check_size
from semsearch.storage.entries import MAX_KEEP_DAYS
from semsearch.types import DEFAULT_DOMAIN, MAX_K, MAX_OFFSET, Mode, Sort, domain_name_problem

MAX_METADATA_DEPTH = 100
"""Depth to which nested metadata is returned; serializers have limits of their own, and fail beyond them."""


def limit_depth(value: JsonValue, depth: int = MAX_METADATA_DEPTH) -> JsonValue:
    """Return a value whose parts below `depth` are replaced by `…`."""
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {name: limit_depth(inner, depth - 1) for name, inner in value.items()}
    return [limit_depth(inner, depth - 1) for inner in value]


Metadata = Annotated[Mapping[str, JsonValue], BeforeValidator(limit_depth)]
"""Metadata of a document in a response."""


class Limits(BaseModel):
    """Limits of one request and of the queue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(256 * 1024, ge=1024, le=2**30, description="Size of a request's body")
    max_query_chars: int = Field(2_000, ge=1, le=1_000_000, description="Length of one query")
    max_queries: int = Field(32, ge=1, le=10_000, description="Queries in one request")
    max_k: int = Field(100, ge=1, le=MAX_K, description="Results for one query")
    max_offset: int = Field(1_000, ge=0, le=MAX_OFFSET, description="Largest offset of the first result")
    max_batch: int = Field(32, ge=1, le=1_000, description="Queries encoded in one batch, within its token limit")
    max_waiting: int = Field(
        64, ge=1, le=1_000, description="Queries that may wait; beyond this, requests are answered with 503"
    )
    deadline_s: float = Field(
        10.0, ge=0.01, le=86_400, description="Seconds after which a request is answered with 503"
    )
    query_cache_size: int = Field(
        10_000,
        ge=0,
        le=100_000_000,
        description="Recent query vectors kept, 2 KB each, with token vectors at most 8 KB on average; 0: no cache",
    )
    suggestions: bool = Field(
        True, description="Whether past queries of a domain are suggested to clients that may write"
    )
    keep_queries: int = Field(
        0,
        ge=0,
        le=MAX_KEEP_DAYS,
        description="Days for which searches of a named domain are kept with the index, for `semsearch labels"
        " suggest`: texts, counts, times and vectors of at most 300 queries a domain, which are personal data;"
        " `semsearch domains forget-queries` deletes them; 0: none are kept",
    )

    @property
    def threads(self) -> int:
        """Number of server threads: one for each query that may wait or run, and 8 to refuse further requests."""
        return self.max_waiting + self.max_batch + 8


def _parse_filter(value: str | Filter | None) -> Filter | None:
    """Return the filter of a request, given as an expression or as a tree. Raises ValueError if it is invalid."""
    try:
        return parse_optional_filter(value) if isinstance(value, str) else value and check_size(value)
    except FilterError as error:
        raise ValueError(str(error)) from None


FilterField = Annotated[str | Filter | None, AfterValidator(_parse_filter)]
"""A filter tree or an expression; after validation a tree or None."""


def _check_sort(value: str | None) -> str | None:
    """Return the sort order unchanged. Raises ValueError if it names no field."""
    try:
        if value is not None:
            Sort.parse(value)
    except QueryError as error:
        raise ValueError(str(error)) from None
    return value


SortField = Annotated[str | None, Field(max_length=200), AfterValidator(_check_sort)]


def _check_domain(name: str) -> str:
    """Return a domain's name unchanged. Raises ValueError if it is not valid."""
    if problem := domain_name_problem(name):
        raise ValueError(problem)
    return name


DomainName = Annotated[str, Field(max_length=200), AfterValidator(_check_domain)]


class SearchRequest(BaseModel):
    """One query, or several that share all other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str | None = Field(
        None,
        description="What to search for; either this or `queries`. The first 32 different phrases in quotation marks"
        " must occur word for word, if any document has them; further ones are read as words",
    )
    queries: tuple[str, ...] | None = Field(None, description="Several queries, answered in their order")
    k: int = Field(10, ge=1, description="Number of documents to return for each query")
    offset: int = Field(0, ge=0, description="Number of top documents to skip, for paging")
    domain: DomainName = Field(DEFAULT_DOMAIN, description="Domain whose adaptation is applied")
    index: str | None = Field(None, max_length=200, description="Index to search; by default the first one served")
    mode: Mode | None = Field(None, description="Semantic, keyword or hybrid search; by default the index's own mode")
    explain: bool = Field(
        False,
        description="Whether to return each hit's score breakdown and the words that contribute most to its similarity;"
        " this encodes the hits' passages again",
    )
    passages: int = Field(1, ge=1, le=10, description="Number of best passages to return for each document")
    collapse: bool = Field(False, description="Whether to collapse near-duplicates into the best-ranked of them")
    sort: SortField = Field(
        None,
        description="Metadata field, or `title`, by which to sort the 100 best documents; prefix `-` for descending",
    )
    min_score: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Least score of a document; the scale is that of `score`, which depends on the mode",
    )
    complete: bool = Field(
        False,
        description="Whether the query is still being typed: if no document has its last word, a frequent word that"
        " begins with it is searched, unless a document is nearer to what was typed",
    )
    filter: FilterField = Field(
        None,
        description="Filter on the documents' metadata: a filter tree, or an expression such as"
        ' `kind = "how-to" and year >= 2020`',
    )
    facets: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        (),
        max_length=10,
        description="Fields whose values are counted over the documents that the query matches, see `FacetModel`; for"
        " one query only",
    )

    @field_validator("query", "queries")
    @classmethod
    def _check_not_blank(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for text in (value,) if isinstance(value, str) else value or ():
            if not text.strip():
                raise ValueError("a query is empty: give at least one word")
        return value

    @model_validator(mode="after")
    def _check_query_or_queries(self) -> Self:
        if (self.query is None) == (self.queries is None):
            raise ValueError("give either `query` or `queries`")
        if self.facets and len(self.texts) > 1:
            raise ValueError("`facets` are counted for one query: send one, or leave `facets` out")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """All queries."""
        return self.queries if self.queries is not None else (self.query or "",)

    @classmethod
    def with_limits(cls, limits: Limits) -> type[SearchRequest]:
        """Return this model with a server's limits, which then also appear in the OpenAPI document."""
        text = Annotated[str, Field(max_length=limits.max_query_chars)]
        descriptions = {name: field.description for name, field in cls.model_fields.items()}
        return create_model(
            "SearchRequest",
            __base__=cls,
            __doc__=cls.__doc__,
            query=(text | None, Field(None, description=descriptions["query"])),
            queries=(
                tuple[text, ...] | None,
                Field(None, description=descriptions["queries"], min_length=1, max_length=limits.max_queries),
            ),
            k=(int, Field(min(10, limits.max_k), description=descriptions["k"], ge=1, le=limits.max_k)),
            offset=(int, Field(0, description=descriptions["offset"], ge=0, le=limits.max_offset)),
        )


class DocumentRequest(BaseModel):
    """A document to return."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(max_length=1_000)
    index: str | None = Field(None, max_length=200)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class TokenAttributionModel(_Answer):
    """A word's contribution to the similarity of a passage."""

    word: str = Field(description="The word as it first occurs in the passage")
    share: float = Field(description="Its contribution to the cosine, summed over all occurrences")


class ScoreBreakdownModel(_Answer):
    """The components of a score; null for a component that was not used, or a rank that the document did not get."""

    similarity: float | None = Field(description="Cosine of query and passage, in [-1, 1]")
    dense_rank: int | None = Field(description="The document's rank in the semantic ranking, from 1")
    lexical_score: float | None = Field(description="BM25 of query and passage; 0 if they share no search term")
    lexical_rank: int | None = Field(description="The document's rank in the keyword ranking, from 1")
    vote_boost: float | None = Field(
        None,
        description="What was added to the score because the document answered similar labelled queries of the domain",
    )
    token_boost: float | None = Field(
        None,
        description="What late interaction added to the score: how well the query's tokens match those of the passage,"
        " above the least of the best results; null without late interaction",
    )
    token_attributions: tuple[TokenAttributionModel, ...] | None = Field(
        None, description="The words that add most to the cosine, at most 10; null if the encoder cannot attribute"
    )


class PassageModel(_Answer):
    """One more passage of a document."""

    snippet: str
    marks: tuple[tuple[int, int], ...]
    start: int = Field(description="First character of the passage in the document's text")
    stop: int = Field(description="Offset one past the last character")


class HitModel(_Answer):
    """One document."""

    id: str
    title: str
    snippet: str = Field(description="From the document's best passage")
    marks: tuple[tuple[int, int], ...] = Field(
        description="Spans of the snippet to highlight: start and end offset (exclusive), in code points"
    )
    score: float = Field(
        description="Ranking score, higher is better: cosine similarity of query and best passage in [-1, 1]"
        " (semantic), BM25 (keyword), or both fused (hybrid)"
    )
    source: str = Field(description="Where the document was read from")
    metadata: Metadata = Field(description="What is nested more than 100 deep is replaced by `…`")
    score_breakdown: ScoreBreakdownModel | None = Field(
        None, description="Components of the score; null unless `explain` is set"
    )
    more_passages: tuple[PassageModel, ...] = Field((), description="The next best passages, if `passages` is above 1")
    duplicates: tuple[str, ...] = Field(
        (), description="Ids of near-duplicates collapsed into this document, if `collapse` is set"
    )


class AdaptationModel(_Answer):
    """The adaptation applied to a query."""

    domain: str | None = Field(
        description="Domain whose state was applied: the requested one or an ancestor; null for none"
    )
    version: int = Field(description="Version of the state; 0 for none")
    learner: str = Field(description="`none`, `memory` of the judged queries alone, or a learner's name")
    reason: str = Field(description="Why this adaptation, or none, was applied")


class ResultModel(_Answer):
    """The answer to one query."""

    query: str
    mode: Mode = Field(description="The mode used; `keyword` also if the encoder failed")
    adaptation: AdaptationModel
    unmatched_phrases: tuple[str, ...] = Field(
        (),
        description="Quoted phrases that no passage of a document that matches the filter contains; keyword"
        " search used their words instead",
    )
    completed: str | None = Field(
        None, description="The query with its last word completed, which was searched, if `complete` asks for it"
    )
    did_you_mean: str | None = Field(
        None,
        description="The query with similar or longer words of the documents in place of those that no document has;"
        " null if there are none",
    )
    weak: bool = Field(
        False,
        description="Whether even the best match is so far from the query that it is likely to have nothing to do with"
        " it: further than those of 90% of unrelated queries, and without all words of the query",
    )
    hits: tuple[HitModel, ...] = Field(description="Best first; fewer than k where the index has no more")


class TimingModel(_Answer):
    """Milliseconds by stage; encode, adapt and search_vectors are those of the batch that the request was part of."""

    queue: float = Field(description="Until the batch began, and between batches")
    encode: float
    adapt: float
    search_vectors: float
    rank: float = Field(description="Keyword search, and fusion of the two rankings")
    fetch: float
    explain: float = Field(description="Token attributions, if `explain` is set")
    total: float


class FacetValue(_Answer):
    """One value of a field."""

    value: bool | int | float | str = Field(description="As in the documents' metadata")
    count: int = Field(description="Documents with this value")


class FacetModel(_Answer):
    """The values of a field in the documents that match the query and the filter's conditions on other fields."""

    values: tuple[FacetValue, ...] = Field(description="The most frequent ones first, at most 50")
    more: int = Field(description="Number of values not listed")
    documents: int = Field(
        description="Number of documents counted: all that match (keyword), or the best ranked ones (semantic, hybrid)"
    )


class SearchResponse(_Answer):
    """Answers in the order of the queries."""

    index: str
    domain: str
    matching: int = Field(description="Documents that match the filter; all documents if there is no filter")
    facets: Mapping[str, FacetModel] = Field(description="Facets by field, for the requested fields")
    notes: tuple[str, ...] = Field((), description="Why a condition of the filter cannot match any document")
    results: tuple[ResultModel, ...]
    timing_ms: TimingModel


class IndexModel(_Answer):
    """A served index."""

    name: str
    title: str
    description: str
    documents: int
    passages: int
    segments: int = Field(description="Segments: one after a build or compaction; changes add more")
    deleted: int = Field(description="Deleted documents not yet removed by a compaction")
    encoder: str
    built_at: str
    changed_at: str | None


class IndexesResponse(_Answer):
    """All served indexes; the first is the default."""

    indexes: tuple[IndexModel, ...]


class DocumentResponse(_Answer):
    """A document with its full text."""

    id: str
    title: str
    text: str
    source: str
    metadata: Metadata = Field(description="What is nested more than 100 deep is replaced by `…`")


class FieldError(_Answer):
    """An invalid field of a request."""

    field: str = Field(description="Dotted name; empty for the whole request")
    message: str


class Problem(_Answer):
    """An error response, as defined by RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] = ()
