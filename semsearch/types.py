"""The values that travel between packages. Does not depend on files, models or HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from semsearch.errors import QueryError
from semsearch.filters.tree import Filter

Vectors = npt.NDArray[np.float32]
"""(n, dim) float32, rows of unit length unless a docstring says otherwise."""
Scores = npt.NDArray[np.float32]
"""Cosine similarities in [-1, 1]; higher is nearer."""
Rows = npt.NDArray[np.int64]
"""Row numbers of passages or documents, from 0; -1 marks an empty place."""
Mask = npt.NDArray[np.bool_]
"""(rows,) whether each row may be found."""

LexicalWeight: TypeAlias = float | Literal["rrf"]
"""The cosine that a query's best lexical match is worth, at least 0; or `rrf` for ranks in place of scores."""

DEFAULT_DOMAIN = "default"


class Mode(StrEnum):
    """How a search is done."""

    SEMANTIC = "semantic"
    """By the nearest vectors."""
    KEYWORD = "keyword"
    """By BM25 over terms. Does not use the encoder. `lexical`, its former name, is accepted as a value."""
    HYBRID = "hybrid"
    """By both, fused."""

    @classmethod
    def _missing_(cls, value: object) -> Mode | None:
        return cls.KEYWORD if value == "lexical" else None


@dataclass(frozen=True, slots=True)
class Document:
    """What is indexed: one page, one record, one function's documentation."""

    id: str
    """Unique within an index."""
    title: str
    text: str
    source: str
    """Where it was read: `file`, `file:line`, or a qualified place in a library."""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of one document's text that fits the encoder's window."""

    text: str
    start: int
    """First character of the passage in the document's text."""
    stop: int
    """One past its last character."""


@dataclass(frozen=True, slots=True)
class Sort:
    """An order for the best documents of a query in place of how well they fit."""

    field: str
    """Name of a metadata value; `title` is the document's title."""
    descending: bool = False

    @classmethod
    def parse(cls, text: str) -> Sort:
        """From a field's name, with `-` before it to fall. Raises QueryError where none is named."""
        field = text.strip().removeprefix("-").strip()
        if not field:
            raise QueryError(f"the order {text!r} names no field: give one, such as `year`, or `-year` to fall")
        return cls(field, text.strip().startswith("-"))


@dataclass(frozen=True, slots=True)
class Query:
    """One question, for one page of answers."""

    text: str
    k: int = 10
    """How many documents are wanted, at least 1."""
    offset: int = 0
    """How many of the best documents to leave out, for later pages."""
    domain: str = DEFAULT_DOMAIN
    """The population of queries this one belongs to; it chooses the adaptation."""
    compare: bool = False
    """Whether to rank it as if its domain had learned nothing as well."""
    mode: Mode | None = None
    """What to go by; None: what the index goes by."""
    filter: Filter | None = None
    """What a document's metadata must meet to be found; None: nothing."""
    passages: int = 1
    """How many of a document's passages are wanted, the best ones, at least 1."""
    collapse: bool = False
    """Whether documents whose best passage is nearly the same as a better one's are told with that one."""
    sort: Sort | None = None
    """What to put the best documents in order by; None: how well they fit."""

    def __post_init__(self) -> None:
        """Raise QueryError for a blank text, text that is not Unicode, k below 1 or a negative offset."""
        if not self.text.strip():
            raise QueryError("the query is empty: give at least one word")
        if not is_unicode(self.text):
            raise QueryError("the query holds half of a surrogate pair: send valid Unicode")
        if self.k < 1:
            raise QueryError(f"k is {self.k}: ask for at least 1 result")
        if self.passages < 1:
            raise QueryError(f"passages is {self.passages}: ask for at least 1 of a document")
        if self.offset < 0:
            raise QueryError(f"offset is {self.offset}: it counts from 0")


@dataclass(frozen=True, slots=True)
class ScoreBreakdown:
    """What a score is made of; of a part that the search did not go by, None."""

    similarity: float | None
    """Cosine of query and passage in [-1, 1]."""
    dense_rank: int | None
    """The document's place by similarity alone, from 1; None also beyond what was fused."""
    lexical_score: float | None
    """BM25 of query and passage, 0 where they share no word that was looked up."""
    lexical_rank: int | None


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document with its best passage."""

    id: str
    title: str
    passage: Passage
    score: float
    """What it was ranked by, higher is better: the cosine similarity of query and passage, BM25, or both fused."""
    source: str
    metadata: Mapping[str, JsonValue]
    score_breakdown: ScoreBreakdown | None = None
    """What the score is made of; None where nothing was searched for."""
    more_passages: tuple[Passage, ...] = ()
    """Further passages of the document, best first, where more than one was asked for."""
    duplicates: tuple[str, ...] = ()
    """Ids of documents whose best passage is nearly the same as this one's, where they were to be folded."""


@dataclass(frozen=True, slots=True)
class Label:
    """A judgment: how well a document answers a query, said by somebody at some time."""

    id: str
    """Chosen by whoever sends it; the same id again is the same label."""
    domain: str
    query: str
    """Blank where a document is liked without having been asked for; then it counts for recommending only."""
    document: str
    relevance: float
    """0 is not relevant; above, the more the better."""
    user: str
    """Who judged, as the program that sent it calls them; may be empty."""
    source: str
    """Whose key it came with, or which import it came from."""
    at: datetime
    """When it was received, UTC."""


@dataclass(frozen=True, slots=True)
class Click:
    """A result list that somebody was shown, and what they clicked in it, if anything."""

    id: str
    """As of a label."""
    domain: str
    query: str
    document: str | None
    """What was clicked; None where nothing was."""
    position: int | None
    """Where it stood, from 1."""
    shown: tuple[str, ...]
    """Documents that were shown, best first; may be empty where nobody knows."""
    user: str
    source: str
    at: datetime


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8, that is, holds no lone surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def unit_rows(vectors: Vectors) -> Vectors:
    """(n, dim) float32, the rows brought to unit length; a row of zeros stays one."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    unit: Vectors = (vectors / lengths).astype(np.float32, copy=False)
    return unit
