"""Full text by passage row, in the documents' SQLite file. Does not depend on vectors or documents.

SQLite's FTS5 indexes the stems that `semsearch.text.tokens` produces and ranks by BM25 (Robertson & Zaragoza 2009,
k1 = 1.2, b = 0.75). BM25 weights a term by the number of passages that contain it. A file of few passages estimates
these weights badly, so that a search of it can use the frequencies of a larger file.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import numpy as np

from semsearch.errors import IndexFolderError
from semsearch.text import former_tokens
from semsearch.text.normalization import normalize
from semsearch.text.tokens import SIGNS, TOKENIZER_VERSION, KeywordQuery, Token, parse_phrases, parse_query, segment
from semsearch.types import Mask, Rows, Scores

# the stems are normalized already: the tokenizer only splits at spaces
SCHEMA = f"""
CREATE VIRTUAL TABLE words USING fts5 (stems, content = '', tokenize = "ascii tokenchars '{SIGNS}'");
CREATE TABLE tokenizer AS SELECT {TOKENIZER_VERSION} AS version
"""
ADD = "INSERT INTO words (rowid, stems) VALUES (?, ?)"
FINISH = "INSERT INTO words (words) VALUES ('optimize')"
"""Merges the index's segments into one, which is the fastest to read."""

MAX_LISTED_ROWS = 20_000
"""Number of allowed rows up to which they are passed to SQLite; of more, the results are filtered afterwards."""
CACHED_FREQUENCIES = 65_536
"""Terms whose passage frequency is kept in memory."""

Stems: TypeAlias = tuple[str, ...]

_BEST = "SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank, rowid LIMIT ?"
# without the unary plus, SQLite would run one full-text query for each allowed row
_BEST_LISTED = (
    "SELECT rowid, -rank FROM words WHERE words MATCH ? AND +rowid IN (SELECT value FROM json_each(?))"
    " ORDER BY rank, rowid LIMIT ?"
)
_ALL = "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?"
_COUNT = "SELECT count(*) FROM words WHERE words MATCH ?"
_SEGMENTERS: Mapping[int, Callable[[str], list[Token]]] = {1: former_tokens.segment, TOKENIZER_VERSION: segment}
"""Tokenizer by version."""
_NOTHING = np.empty(0, np.int64), np.empty(0, np.float32)


class FullText:
    """Keyword search over passages. Any number of threads may use it."""

    def __init__(self, path: Path, *, connections: int = 1) -> None:
        """Open a finished file. connections: number of threads that can search at the same time.

        Raises IndexFolderError if the file has no full text.
        """
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._all: list[sqlite3.Connection] = []
        self._frequencies: dict[Stems, int] = {}
        try:
            for _ in range(connections):
                # all connections open now: the file may be removed while it is in use
                connection = open_read_only(path)
                self._all.append(connection)
                connection.execute("SELECT count(*) FROM words WHERE words MATCH '\"a\"'").fetchone()
                self._free.put(connection)
            [(self.count,)] = self._fetch("SELECT count(*) FROM passages")
            """Number of passages."""
            self.tokenizer_version = self._read_tokenizer_version()
            """Version of the tokenizer that wrote the stems; 1 for files from before it was recorded."""
        except sqlite3.Error as error:
            self.close()
            raise IndexFolderError(f"{path} has no full text ({error}): build the index again") from error
        if self.tokenizer_version not in _SEGMENTERS:
            self.close()
            raise IndexFolderError(
                f"{path} has full text of tokenizer version {self.tokenizer_version}, but this semsearch reads up to"
                f" {TOKENIZER_VERSION}: use the semsearch that built it, or build the index again"
            )

    def parse(self, query: str, *, as_words: Collection[str] = ()) -> KeywordQuery:
        """Parse a query with the tokenizer that wrote this file. as_words: as in `parse_query`."""
        return parse_query(query, as_words=as_words, segment=_SEGMENTERS[self.tokenizer_version])

    def parse_phrases(self, phrases: Iterable[str]) -> KeywordQuery:
        """As the function `parse_phrases`, with the tokenizer that wrote this file."""
        return parse_phrases(phrases, segment=_SEGMENTERS[self.tokenizer_version])

    def search(self, query: KeywordQuery, k: int, *, allowed: Mask | None = None) -> tuple[Rows, Scores]:
        """Return the k best passages by BM25: rows (n,) and scores (n,) > 0, n ≤ k, best first, ties by row number.

        Every passage returned contains each quoted phrase. allowed: (count,) rows that may be returned.
        """
        expression = _fts_expression(query)
        if not expression:
            return _NOTHING
        if allowed is None:
            return _arrays(self._select_scored(_BEST, expression, k))
        allowed_count = int(np.count_nonzero(allowed))
        if not allowed_count:
            return _NOTHING
        # if most rows are allowed, ranking some more of them costs less than listing them all
        if allowed_count <= MAX_LISTED_ROWS and 2 * allowed_count < len(allowed):
            listed = json.dumps(np.flatnonzero(allowed).tolist())
            return _arrays(self._select_scored(_BEST_LISTED, expression, listed, k))
        # on average, this many ranked rows include k allowed ones, with a margin
        considered = math.ceil(1.5 * k * len(allowed) / allowed_count) + 50
        while True:
            ranked = self._select_scored(_BEST, expression, considered)
            matches = [(row, score) for row, score in ranked if allowed[row]]
            if len(matches) >= k or len(ranked) < considered:
                return _arrays(matches[:k])
            considered *= 4

    def search_with_frequencies(
        self,
        query: KeywordQuery,
        k: int,
        frequency: Callable[[Stems], int],
        passages: int,
        *,
        allowed: Mask | None = None,
    ) -> tuple[Rows, Scores]:
        """As `search`, with the term frequencies of another corpus.

        frequency: returns the number of that corpus's passages that contain the stems. passages: its size.
        """
        scores: dict[int, float] = defaultdict(float)
        for stems, times in Counter(_scored_terms(query)).items():
            own_idf = _idf(self.frequency(stems), self.count)
            other_idf = _idf(frequency(stems), passages)
            for row, score in self._select_scored(_ALL, _fts_string(stems)):
                scores[row] += times * score * other_idf / own_idf
        rows = set(scores)
        if query.phrases:
            rows = {row for row, _ in self._select_scored(_ALL, " AND ".join(map(_fts_string, query.phrases)))}
        matches = [(row, scores[row]) for row in rows if allowed is None or allowed[row]]
        return _arrays(sorted(matches, key=lambda match: (-match[1], match[0]))[:k])

    def frequency(self, stems: Stems) -> int:
        """Return the number of passages that contain these stems next to each other."""
        frequency = self._frequencies.get(stems)
        if frequency is None:
            if len(self._frequencies) >= CACHED_FREQUENCIES:
                self._frequencies.clear()
            [(frequency,)] = self._fetch(_COUNT, _fts_string(stems))
            self._frequencies[stems] = frequency
        return frequency

    def _read_tokenizer_version(self) -> int:
        [(is_recorded,)] = self._fetch("SELECT count(*) FROM sqlite_master WHERE name = 'tokenizer'")
        [(version,)] = self._fetch("SELECT version FROM tokenizer") if is_recorded else [(1,)]
        return int(version)

    def _select_scored(self, select: str, *values: object) -> list[tuple[int, float]]:
        [(rows,)] = self._fetch(select_as_json(select, 2), *values)
        return json.loads(rows)  # type: ignore[no-any-return]

    def _fetch(self, select: str, *values: object) -> list[Any]:
        connection = self._free.get()
        try:
            return connection.execute(select, values).fetchall()
        finally:
            self._free.put(connection)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._all:
            connection.close()


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a finished file for reading. One thread at a time may use the connection."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def select_as_json(select: str, columns: int) -> str:
    """Return a statement that yields all rows of `select`, with this number of columns, as one JSON text.

    Fetching row by row releases and reacquires the interpreter lock for every row, which is slow under load.
    """
    names = ", ".join(f"c{number}" for number in range(columns))
    return f"WITH found({names}) AS MATERIALIZED ({select}) SELECT json_group_array(json_array({names})) FROM found"  # noqa: S608


def stem_text(text: str) -> str:
    """Return the stems of a text, separated by spaces, as `ADD` stores them."""
    return " ".join(token.stem for token in segment(normalize(text).text))


def _fts_string(stems: Stems) -> str:
    """The stems as a phrase in FTS5's syntax. They hold letters, digits, marks and SIGNS: no quote ends it."""
    return f'"{" ".join(stems)}"'


def _scored_terms(query: KeywordQuery) -> list[Stems]:
    """The phrases and terms of `_fts_expression`, each as often as FTS5 adds its score."""
    repeated = query.phrases[:1] if query.phrases and query.terms else ()
    return [*query.phrases, *repeated, *query.terms]


def _idf(frequency: int, passages: int) -> float:
    """The inverse document frequency that FTS5 gives a term that `frequency` of the passages contain."""
    idf = math.log((passages - frequency + 0.5) / (frequency + 0.5))
    return idf if idf > 0 else 1e-6


def _arrays(matches: Sequence[tuple[int, float]]) -> tuple[Rows, Scores]:
    return np.array([row for row, _ in matches], np.int64), np.array([score for _, score in matches], np.float32)


def _fts_expression(query: KeywordQuery) -> str:
    """The query in FTS5's syntax; empty if it has no terms."""
    phrases, terms = list(map(_fts_string, query.phrases)), list(map(_fts_string, query.terms))
    if not phrases:
        return " OR ".join(terms)
    required = " AND ".join(phrases)
    return f"({required}) AND ({' OR '.join([phrases[0], *terms])})" if terms else required
