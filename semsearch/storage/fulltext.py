"""Full text by passage row, beside the documents in their SQLite file. Does not depend on vectors or documents.

SQLite's FTS5 keeps the stems that `semsearch.text.tokens` finds and ranks by BM25 (Robertson & Zaragoza 2009, k1 = 1.2,
b = 0.75). What a word is worth depends on how many passages have it: a file of few passages knows that badly, and takes
it from another one.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import numpy as np

from semsearch.errors import IndexFolderError
from semsearch.text.tokens import KeywordQuery, tokenize
from semsearch.types import Mask, Rows, Scores

# the stems are already as they are to be compared: the tokenizer has nothing to do but to split at spaces
SCHEMA = """
CREATE VIRTUAL TABLE words USING fts5 (
    stems, content = '', tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M*'"
)
"""
ADD = "INSERT INTO words (rowid, stems) VALUES (?, ?)"
FINISH = "INSERT INTO words (words) VALUES ('optimize')"
"""Merges what was written into one sorted run, which is read fastest."""

FEW = 20_000
"""Allowed rows up to which SQLite is told of each; of more, so much is ranked that enough of it should be allowed."""
REMEMBERED = 65_536
"""Words whose frequency is kept in memory."""

Stems: TypeAlias = tuple[str, ...]

_BEST = "SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank, rowid LIMIT ?"
# without the sign every row would be a search of its own
_BEST_AMONG = (
    "SELECT rowid, -rank FROM words WHERE words MATCH ? AND +rowid IN (SELECT value FROM json_each(?))"
    " ORDER BY rank, rowid LIMIT ?"
)
_ALL = "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?"
_COUNT = "SELECT count(*) FROM words WHERE words MATCH ?"
_NOTHING = np.empty(0, np.int64), np.empty(0, np.float32)


class FullText:
    """Finds passages by their words, from any number of threads."""

    def __init__(self, path: Path, *, connections: int = 1) -> None:
        """Open a finished file for `connections` threads at once. Raises IndexFolderError if it is no such file."""
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._all: list[sqlite3.Connection] = []
        self._frequencies: dict[Stems, int] = {}
        try:
            for _ in range(connections):
                # opened now: the file may be taken away while it is being read
                connection = connected(path)
                self._all.append(connection)
                connection.execute("SELECT count(*) FROM words WHERE words MATCH '\"a\"'").fetchone()
                self._free.put(connection)
            [(self.count,)] = self._fetched("SELECT count(*) FROM passages")
        except sqlite3.Error as error:
            self.close()
            raise IndexFolderError(f"{path} has no full text ({error}): build the index again") from error

    def best(self, query: KeywordQuery, k: int, *, allowed: Mask | None = None) -> tuple[Rows, Scores]:
        """The k passages that the query's words fit best: rows (n,) and BM25 scores (n,) > 0, n ≤ k, best first.

        What was quoted must be there, word by word. Rows of equal score stand by row number. allowed: rows that may be
        found.
        """
        expression = _expression(query)
        if not expression:
            return _NOTHING
        if allowed is None:
            return _arrays(self._pairs(_BEST, expression, k))
        count = int(np.count_nonzero(allowed))
        if not count:
            return _NOTHING
        # where most may be found, looking at some more costs less than naming them all
        if count <= FEW and 2 * count < len(allowed):
            return _arrays(self._pairs(_BEST_AMONG, expression, json.dumps(np.flatnonzero(allowed).tolist()), k))
        many = math.ceil(1.5 * k * len(allowed) / count) + 50
        while True:
            ranked = self._pairs(_BEST, expression, many)
            found = [(row, score) for row, score in ranked if allowed[row]]
            if len(found) >= k or len(ranked) < many:
                return _arrays(found[:k])
            many *= 4

    def best_by(
        self,
        query: KeywordQuery,
        k: int,
        frequency: Callable[[Stems], int],
        passages: int,
        *,
        allowed: Mask | None = None,
    ) -> tuple[Rows, Scores]:
        """As `best`, where what a word is worth is told from elsewhere: by how many of so many passages it is had."""
        scores: dict[int, float] = defaultdict(float)
        for stems, times in Counter(_counted(query)).items():
            own, other = _rarity(self.frequency(stems), self.count), _rarity(frequency(stems), passages)
            for row, score in self._pairs(_ALL, _string(stems)):
                scores[row] += times * score * other / own
        there = set(scores)
        if query.phrases:
            there = {row for row, _ in self._pairs(_ALL, " AND ".join(map(_string, query.phrases)))}
        found = [(row, scores[row]) for row in there if allowed is None or allowed[row]]
        return _arrays(sorted(found, key=lambda one: (-one[1], one[0]))[:k])

    def frequency(self, stems: Stems) -> int:
        """How many passages have these stems side by side."""
        known = self._frequencies.get(stems)
        if known is None:
            if len(self._frequencies) >= REMEMBERED:
                self._frequencies.clear()
            [(known,)] = self._fetched(_COUNT, _string(stems))
            self._frequencies[stems] = known
        return known

    def _pairs(self, select: str, *values: object) -> list[tuple[int, float]]:
        [(found,)] = self._fetched(in_one(select, 2), *values)
        return json.loads(found)  # type: ignore[no-any-return]

    def _fetched(self, select: str, *values: object) -> list[Any]:
        connection = self._free.get()
        try:
            return connection.execute(select, values).fetchall()
        finally:
            self._free.put(connection)

    def close(self) -> None:
        """Close the file."""
        for connection in self._all:
            connection.close()


def connected(path: Path) -> sqlite3.Connection:
    """A finished file, opened to be read, by one thread at a time."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def in_one(select: str, columns: int) -> str:
    """A statement that gives all rows of another one, of so many columns, as one text in JSON.

    Every row that Python takes releases the interpreter's lock and waits for it again: under load that is what
    takes long.
    """
    names = ", ".join(f"c{number}" for number in range(columns))
    return f"WITH found({names}) AS MATERIALIZED ({select}) SELECT json_group_array(json_array({names})) FROM found"  # noqa: S608


def stems(text: str) -> str:
    """What `ADD` stores of a text."""
    return " ".join(word.stem for word in tokenize(text))


def _string(stems: Stems) -> str:
    """Stems side by side in FTS5's language; they are letters, digits and marks: nothing in them could end a string."""
    return f'"{" ".join(stems)}"'


def _counted(what: KeywordQuery) -> list[Stems]:
    """Everything that adds to a score, as often as it does."""
    again = what.phrases[:1] if what.phrases and what.terms else ()
    return [*what.phrases, *again, *what.terms]


def _rarity(having: int, passages: int) -> float:
    """What FTS5 takes a word to be worth that so many passages have."""
    worth = math.log((passages - having + 0.5) / (having + 0.5))
    return worth if worth > 0 else 1e-6


def _arrays(found: Sequence[tuple[int, float]]) -> tuple[Rows, Scores]:
    return np.array([row for row, _ in found], np.int64), np.array([score for _, score in found], np.float32)


def _expression(what: KeywordQuery) -> str:
    """The query in FTS5's language; empty where it asks for no word."""
    phrases, terms = list(map(_string, what.phrases)), list(map(_string, what.terms))
    if not phrases:
        return " OR ".join(terms)
    required = " AND ".join(phrases)
    return f"({required}) AND ({' OR '.join([phrases[0], *terms])})" if terms else required
