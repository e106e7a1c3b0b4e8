"""What the endpoint takes and gives, as models: they validate, and the OpenAPI document is made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
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
from semsearch.types import DEFAULT_DOMAIN, Mode, Sort


class Limits(BaseModel):
    """What one caller may ask, and how much may wait."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(256 * 1024, ge=1024, description="Size of a request's body")
    max_query_chars: int = Field(2_000, ge=1, description="Length of one query")
    max_queries: int = Field(32, ge=1, description="Queries in one request")
    max_k: int = Field(100, ge=1, description="Results for one query")
    max_offset: int = Field(1_000, ge=0, description="Results that may be left out before the first one")
    max_batch: int = Field(32, ge=1, description="Queries encoded together, as far as their tokens allow")
    max_waiting: int = Field(64, ge=1, description="Queries that may wait; beyond, requests are answered 503")
    deadline_s: float = Field(10.0, gt=0, description="Seconds after which a request is given up")
    query_cache_size: int = Field(10_000, ge=0, description="Recent queries whose vectors are kept, 2 KB each; 0: none")

    suggestions: bool = Field(True, description="Whether past queries of a domain are suggested to whoever may write")

    @property
    def threads(self) -> int:
        """Server threads: one for each query that may wait or run, and some that are free to refuse the next."""
        return self.max_waiting + self.max_batch + 8


def _understood(value: str | Filter | None) -> Filter | None:
    """The condition that a request gives in either form. Raises ValueError for one that cannot be understood."""
    try:
        return parse_optional_filter(value) if isinstance(value, str) else value and check_size(value)
    except FilterError as error:
        raise ValueError(str(error)) from None


FilterField = Annotated[str | Filter | None, AfterValidator(_understood)]
"""A condition, or an expression for one; a condition or None once it is validated."""


def _ordered(value: str | None) -> str | None:
    """Raises ValueError for an order that names no field."""
    try:
        if value is not None:
            Sort.parse(value)
    except QueryError as error:
        raise ValueError(str(error)) from None
    return value


SortField = Annotated[str | None, Field(max_length=200), AfterValidator(_ordered)]


class SearchRequest(BaseModel):
    """One query, or several that share all other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str | None = Field(None, description="What to search for; either this or `queries`")
    queries: tuple[str, ...] | None = Field(None, description="Several queries, answered in their order")
    k: int = Field(10, ge=1, description="Documents wanted for each query")
    offset: int = Field(0, ge=0, description="Best documents to leave out, for later pages")
    domain: str = Field(DEFAULT_DOMAIN, min_length=1, max_length=200, description="Whose adaptation applies")
    index: str | None = Field(None, max_length=200, description="Which index to search; by default the first served")
    mode: Mode | None = Field(None, description="What to go by: meaning, words or both; by default what the index does")
    explain: bool = Field(
        False,
        description="Whether to say of each hit what its score is made of, and which words made it similar: the hits'"
        " passages are encoded for it",
    )
    passages: int = Field(1, ge=1, le=10, description="Passages wanted of each document, its best ones")
    collapse: bool = Field(
        False, description="Whether documents that are nearly the same as a better one are told with that one"
    )
    sort: SortField = Field(
        None,
        description="Metadata field to put the 100 best documents in order by, or `title`; a `-` before it to fall",
    )
    filter: FilterField = Field(
        None,
        description="What a document's metadata must meet: a condition, or the same written as an expression such as"
        ' `kind = "how-to" and year >= 2020`',
    )
    facets: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        (), max_length=10, description="Fields whose values are counted, over all documents that the filter lets pass"
    )

    @field_validator("query", "queries")
    @classmethod
    def _not_blank(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for text in (value,) if isinstance(value, str) else value or ():
            if not text.strip():
                raise ValueError("a query is empty: give at least one word")
        return value

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        if (self.query is None) == (self.queries is None):
            raise ValueError("give either `query` or `queries`")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """All queries."""
        return self.queries if self.queries is not None else (self.query or "",)

    @classmethod
    def with_limits(cls, limits: Limits) -> type[SearchRequest]:
        """The same model with a server's limits, which then also stand in its OpenAPI document."""
        text = Annotated[str, Field(max_length=limits.max_query_chars)]
        described = {name: field.description for name, field in cls.model_fields.items()}
        return create_model(
            "SearchRequest",
            __base__=cls,
            __doc__=cls.__doc__,
            query=(text | None, Field(None, description=described["query"])),
            queries=(
                tuple[text, ...] | None,
                Field(None, description=described["queries"], min_length=1, max_length=limits.max_queries),
            ),
            k=(int, Field(min(10, limits.max_k), description=described["k"], ge=1, le=limits.max_k)),
            offset=(int, Field(0, description=described["offset"], ge=0, le=limits.max_offset)),
        )


class DocumentRequest(BaseModel):
    """Which document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(max_length=1_000)
    index: str | None = Field(None, max_length=200)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class TokenAttributionModel(_Answer):
    """A word of a passage that made it similar."""

    word: str = Field(description="As it stands there first")
    share: float = Field(description="What it adds to the cosine, wherever it stands")


class ScoreBreakdownModel(_Answer):
    """What a score is made of; null is what the search did not go by, and a place that the document did not have."""

    similarity: float | None = Field(description="Cosine of query and passage, in [-1, 1]")
    dense_rank: int | None = Field(description="The document's place by similarity alone, from 1")
    lexical_score: float | None = Field(
        description="BM25 of query and passage; 0: they share no word that was looked up"
    )
    lexical_rank: int | None = Field(description="The document's place by words alone, from 1")
    token_attributions: tuple[TokenAttributionModel, ...] | None = Field(
        None, description="The words that add most to the cosine, at most 10; null where the encoder does not tell"
    )


class PassageModel(_Answer):
    """One more passage of a document."""

    snippet: str
    marks: tuple[tuple[int, int], ...]
    start: int = Field(description="First character of the passage in the document's text")
    stop: int = Field(description="One past its last")


class HitModel(_Answer):
    """One document."""

    id: str
    title: str
    snippet: str = Field(description="From the document's best passage")
    marks: tuple[tuple[int, int], ...] = Field(
        description="Words of the snippet that matter: first character and one past the last, in code points"
    )
    score: float = Field(
        description="What it was ranked by, higher is better: cosine similarity of query and best passage in [-1, 1]"
        " (semantic), BM25 (lexical), or both fused (hybrid)"
    )
    source: str = Field(description="Where the document was read")
    metadata: Mapping[str, JsonValue]
    score_breakdown: ScoreBreakdownModel | None = Field(
        None, description="What the score is made of; null unless `explain` asks for it"
    )
    more_passages: tuple[PassageModel, ...] = Field(
        (), description="Its next best passages, where `passages` asks for more"
    )
    duplicates: tuple[str, ...] = Field(
        (), description="Ids of documents that are nearly the same, where `fold` asks for it"
    )


class AdaptationModel(_Answer):
    """What rescaled a query."""

    domain: str | None = Field(description="Whose state: the domain's own or an ancestor's; null for none")
    version: int = Field(description="0 for none")
    learner: str = Field(description="`none`, `memory` of the judged queries alone, or a learner's name")
    reason: str = Field(description="Why it is so")


class ResultModel(_Answer):
    """The answer to one query."""

    query: str
    mode: Mode = Field(description="What the search went by; `lexical` also where the encoder failed")
    adaptation: AdaptationModel
    hits: tuple[HitModel, ...] = Field(description="Best first; fewer than k where the index has no more")


class TimingModel(_Answer):
    """Milliseconds by stage; encode, rescale and nearest are those of the batch that the request was part of."""

    queue: float = Field(description="Until the batch began, and between batches")
    encode: float
    adapt: float
    search_vectors: float
    rank: float = Field(description="Looking words up, and making one ranking of two")
    fetch: float
    explain: float = Field(description="Finding the words that made hits similar, where asked for")
    total: float


class FacetValue(_Answer):
    """One value of a field."""

    value: str | int | float = Field(description="As it is compared: a text that is a number is one")
    count: int = Field(description="Documents that have it")


class FacetModel(_Answer):
    """The values of a field."""

    values: tuple[FacetValue, ...] = Field(description="The most frequent ones first, at most 50")
    more: int = Field(description="Other values that there are")


class SearchResponse(_Answer):
    """Answers in the order of the queries."""

    index: str
    domain: str
    matching: int = Field(description="Documents that the filter lets pass; all, where there is none")
    facets: Mapping[str, FacetModel] = Field(description="By field, where asked for")
    results: tuple[ResultModel, ...]
    timing_ms: TimingModel


class IndexModel(_Answer):
    """One index that is served."""

    name: str
    title: str
    description: str
    documents: int
    passages: int
    segments: int = Field(description="Pieces that it is in: a build or a compaction makes one, changes add some")
    deleted: int = Field(description="Deleted documents that still take room")
    encoder: str
    built_at: str
    changed_at: str | None


class IndexesResponse(_Answer):
    """All indexes that are served; the first one answers where a request names none."""

    indexes: tuple[IndexModel, ...]


class DocumentResponse(_Answer):
    """A whole document."""

    id: str
    title: str
    text: str
    source: str
    metadata: Mapping[str, JsonValue]


class FieldError(_Answer):
    """What is wrong with one field of a request."""

    field: str = Field(description="Dotted name; empty for the request as a whole")
    message: str


class Problem(_Answer):
    """A failure as RFC 9457 describes it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] = ()
