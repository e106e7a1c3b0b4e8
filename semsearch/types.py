"""Values that packages exchange. Does not depend on files, models or HTTP."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias
from urllib.parse import quote

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
"""Row numbers of passages or documents, from 0; -1 marks an empty rank."""
Mask = npt.NDArray[np.bool_]
"""(rows,) whether a search may return each row."""

LexicalWeight: TypeAlias = float | Literal["rrf"]
"""The cosine that a query's best lexical match is worth, at least 0; or `rrf` for ranks in place of scores."""

DEFAULT_DOMAIN = "default"
MAX_METADATA_DEPTH = 32
"""Levels of lists and objects in the value of a metadata field; parsers of JSON refuse a few hundred."""
MAX_K = 100_000
"""Largest number of documents that a query may ask for."""
MAX_OFFSET = 1_000_000
"""Largest number of documents that a query may skip."""
MAX_DOMAIN_BYTES = 200
"""Length of a domain's name when it is percent-encoded."""
RESERVED_DOMAINS = frozenset({"lock", "changed"})
"""Names of other files next to the domains' folders."""


class Mode(StrEnum):
    """How documents are retrieved and ranked."""

    SEMANTIC = "semantic"
    """Nearest vectors."""
    KEYWORD = "keyword"
    """BM25 over terms. Does not use the encoder. `lexical`, its former name, is accepted as a value."""
    HYBRID = "hybrid"
    """Both, fused."""

    @classmethod
    def _missing_(cls, value: object) -> Mode | None:
        return cls.KEYWORD if value == "lexical" else None


@dataclass(frozen=True, slots=True)
class Document:
    """A document to index, such as a page, a record or the documentation of a function."""

    id: str
    """Unique within an index."""
    title: str
    text: str
    source: str
    """Where it was read: `file`, `file:line`, or a qualified name in a library."""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document's text that fits the encoder's window."""

    text: str
    start: int
    """First character of the passage in the document's text."""
    stop: int
    """One past its last character."""


@dataclass(frozen=True, slots=True)
class Sort:
    """An order for the best documents of a query, used instead of their scores."""

    field: str
    """Name of a metadata value; `title` is the document's title."""
    descending: bool = False

    @classmethod
    def parse(cls, text: str) -> Sort:
        """Parse a field's name; `-` before it sorts descending. Raises QueryError for a blank or invalid name."""
        field = text.strip().removeprefix("-").strip()
        if not field:
            raise QueryError(
                f"the order {text!r} names no field: give one, such as `year`, or `-year` for descending order",
                field="sort",
            )
        if not is_unicode(field):
            raise QueryError(f"the sort field {field[:200]!r} is not valid Unicode: give a field's name", field="sort")
        return cls(field, text.strip().startswith("-"))


@dataclass(frozen=True, slots=True)
class Query:
    """One query for one page of results."""

    text: str
    k: int = 10
    """Number of documents to return, from 1 to MAX_K."""
    offset: int = 0
    """Number of the best documents to skip, for later pages, at most MAX_OFFSET."""
    domain: str = DEFAULT_DOMAIN
    """The population of queries this one belongs to; it chooses the adaptation."""
    compare: bool = False
    """Whether to rank it also without its domain's adaptation."""
    mode: Mode | None = None
    """How to rank; None uses the index's default."""
    filter: Filter | None = None
    """Filter on documents' metadata; None matches every document."""
    passages: int = 1
    """Number of passages to return of each document, best first, at least 1."""
    collapse: bool = False
    """Whether to list near-duplicates under the best of them instead of as hits of their own."""
    sort: Sort | None = None
    """Order of the best documents; None sorts by score."""
    min_score: float | None = None
    """Least score of a returned document; None for no limit. Scores of different modes have different scales."""
    complete: bool = False
    """Whether the text is still being typed: if no passage has its last word, a frequent word that begins with it is
    searched, unless that is found and something is nearer to it."""

    def __post_init__(self) -> None:
        """Raise QueryError for a text that is blank or not Unicode, an invalid domain, or a number out of range."""
        if not self.text.strip():
            raise QueryError("the query is empty: give at least one word")
        if not is_unicode(self.text):
            raise QueryError("the query holds half of a surrogate pair: send valid Unicode")
        if self.k < 1:
            raise QueryError(f"k is {self.k}: ask for at least 1 result", field="k")
        if self.k > MAX_K:
            raise QueryError(f"k is {self.k}: ask for at most {MAX_K:,} results", field="k")
        if self.passages < 1:
            raise QueryError(f"passages is {self.passages}: ask for at least 1 of a document", field="passages")
        if self.offset < 0:
            raise QueryError(f"offset is {self.offset}: it counts from 0", field="offset")
        if self.offset > MAX_OFFSET:
            raise QueryError(f"offset is {self.offset}: skip at most {MAX_OFFSET:,} documents", field="offset")
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise QueryError(f"min_score is {self.min_score}: give a finite number", field="min_score")
        if problem := domain_name_problem(self.domain):
            raise QueryError(problem, field="domain")


@dataclass(frozen=True, slots=True)
class ScoreBreakdown:
    """The parts of a score; None for a part that the search did not use."""

    similarity: float | None
    """Cosine of query and passage in [-1, 1]."""
    dense_rank: int | None
    """The document's rank by similarity alone, from 1; None also below the ranks that were fused."""
    lexical_score: float | None
    """BM25 of query and passage, 0 if they share no term that was looked up."""
    lexical_rank: int | None
    vote_boost: float | None = None
    """What the document gains because it answered similar labelled queries; None in a domain without votes."""
    token_boost: float | None = None
    """What the passage gains by late interaction over the least of the results compared so; None without it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One document of a result page, with its best passage."""

    id: str
    title: str
    passage: Passage
    score: float
    """Higher is better: the cosine similarity of query and passage, BM25, or both fused."""
    source: str
    metadata: Mapping[str, JsonValue]
    score_breakdown: ScoreBreakdown | None = None
    """The parts of the score; None if there was no query."""
    more_passages: tuple[Passage, ...] = ()
    """Further passages of the document, best first, if the query wants more than one."""
    duplicates: tuple[str, ...] = ()
    """Ids of documents whose best passage is nearly the same as this one's, if the query collapses them."""


@dataclass(frozen=True, slots=True)
class Label:
    """A judgment: how relevant a document is to a query, by one user at one time."""

    id: str
    """Chosen by the client; sending the same id again does not add a label."""
    domain: str
    query: str
    """Blank if a document is liked without a query; such a label counts for recommendations only."""
    document: str
    relevance: float
    """0 is not relevant; higher is more relevant."""
    user: str
    """The annotator, under the client's name for them; may be empty."""
    source: str
    """Name of the API key it was sent with, or of the import."""
    at: datetime
    """When it was given or received, UTC."""


@dataclass(frozen=True, slots=True)
class Click:
    """A result list that a user was shown, and the document they clicked, if any."""

    id: str
    """As for a label."""
    domain: str
    query: str
    document: str | None
    """The clicked document; None if nothing was clicked."""
    position: int | None
    """Rank of the clicked document, from 1."""
    shown: tuple[str, ...]
    """Ids of the documents that were shown, best first; empty if unknown."""
    user: str
    source: str
    at: datetime


def domain_name_problem(name: str) -> str:
    """Return why `name` cannot be a domain's name, in a sentence; an empty text if it can.

    This is the rule of every interface. A name may contain slashes, as in `site/section`, but is never a relative path:
    its parts between slashes are not empty, `.` or `..`. Names that differ in case are different domains.
    """
    if not name.strip():
        reason = "it is blank"
    elif not is_unicode(name) or "\ufffd" in name:
        reason = "it is not valid UTF-8"
    elif any(unicodedata.category(character) == "Cc" for character in name):
        reason = "it contains a control character"
    elif name.startswith(".") or not {"", ".", ".."}.isdisjoint(re.split(r"[/\\]", name)):
        reason = "it looks like a path: it must not begin with a dot, and no part between slashes may be empty, . or .."
    elif len(quote(name, safe="")) > MAX_DOMAIN_BYTES:
        reason = f"it is longer than {MAX_DOMAIN_BYTES} bytes in percent-encoding"
    elif name in RESERVED_DOMAINS:
        reason = "it is reserved"
    else:
        return ""
    return f"{name[:40]!r} cannot be a domain's name: {reason}"


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8, that is, holds no lone surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def document_problem(document: Document) -> str | None:
    """Why a document cannot be stored and returned by a search, and what to do about it; None if it can.

    Its metadata must be JSON of limited depth, with finite numbers, and all of its texts valid Unicode. Takes time in
    proportion to its size, whatever its metadata hold, also if they contain themselves.
    """
    if _is_deeper(document.metadata.values(), MAX_METADATA_DEPTH):
        return f"its metadata are nested more than {MAX_METADATA_DEPTH} levels deep: nest them less"
    try:
        metadata = json.dumps(dict(document.metadata), allow_nan=False, ensure_ascii=False)
    except TypeError as error:
        return f"its metadata are not JSON ({error}): use text, numbers, booleans, lists and mappings"
    except ValueError:
        return "its metadata have a number that is not finite or has too many digits: leave it out or write it as text"
    if not all(map(is_unicode, (document.id, document.title, document.text, document.source, metadata))):
        return "it has half of a surrogate pair: write valid Unicode"
    return None


def _is_deeper(values: Iterable[object], depth: int) -> bool:
    """Whether values contain more than `depth` levels of lists and mappings."""
    level = [value for value in values if isinstance(value, dict | list | tuple)]
    while level and depth:
        depth -= 1
        # a value that occurs many times on a level is looked at once
        distinct = {id(value): value for value in level}.values()
        children = (child for value in distinct for child in (value.values() if isinstance(value, dict) else value))
        level = [child for child in children if isinstance(child, dict | list | tuple)]
    return bool(level)


def unit_rows(vectors: Vectors) -> Vectors:
    """Return `vectors`, (n, dim) float32, with rows scaled to unit length; a row of zeros stays zero."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    unit: Vectors = (vectors / lengths).astype(np.float32, copy=False)
    return unit
