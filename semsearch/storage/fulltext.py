"""Full text by passage row, beside the documents in their SQLite file; knows nothing of vectors or of documents.

SQLite's FTS5 keeps the stems that `semsearch.words` finds and ranks by BM25 (Robertson & Zaragoza 2009, k1 = 1.2,
b = 0.75).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from semsearch.records import BundleError, Rows, Scores
from semsearch.words import Asked, asked, words

# the stems are already as they are to be compared: the tokenizer has nothing to do but to split at spaces
SCHEMA = """
CREATE VIRTUAL TABLE words USING fts5 (
    stems, content = '', tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M*'"
)
"""
ADD = "INSERT INTO words (rowid, stems) VALUES (?, ?)"
FINISH = "INSERT INTO words (words) VALUES ('optimize')"
"""Merges what was written into one sorted run, which is read fastest."""

_BEST = "SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank, rowid LIMIT ?"


class FullText:
    """Finds passages by their words, from any number of threads."""

    def __init__(self, path: Path, *, connections: int = 1) -> None:
        """Open a finished file, to be read by so many threads at once. Raises BundleError if it is no such file."""
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._all: list[sqlite3.Connection] = []
        try:
            for _ in range(connections):
                # opened now: the file may be taken away while it is being read
                connection = sqlite3.connect(
                    f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
                )
                self._all.append(connection)
                connection.execute("SELECT count(*) FROM words WHERE words MATCH '\"a\"'").fetchone()
                self._free.put(connection)
        except sqlite3.Error as error:
            self.close()
            raise BundleError(f"{path} has no full text ({error}): build the index again") from error

    def best(self, query: str, k: int) -> tuple[Rows, Scores]:
        """The k passages that the query's words fit best: rows (n,) and BM25 scores (n,) > 0, n ≤ k, best first.

        What stands between quotation marks must be there, word by word. Rows of equal score stand by row number.
        """
        expression = _expression(asked(query))
        if not expression:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        connection = self._free.get()
        try:
            found = connection.execute(_BEST, (expression, k)).fetchall()
        finally:
            self._free.put(connection)
        return np.array([row for row, _ in found], np.int64), np.array([score for _, score in found], np.float32)

    def close(self) -> None:
        """Close the file."""
        for connection in self._all:
            connection.close()


def stems(text: str) -> str:
    """What `ADD` stores of a text."""
    return " ".join(word.stem for word in words(text))


def _expression(what: Asked) -> str:
    """The query in FTS5's language; empty where it asks for no word."""
    # stems are letters, digits and marks: nothing in them could end a string
    phrases = [f'"{" ".join(phrase)}"' for phrase in what.phrases]
    terms = [f'"{" ".join(term)}"' for term in what.terms]
    if not phrases:
        return " OR ".join(terms)
    required = " AND ".join(phrases)
    return f"({required}) AND ({' OR '.join([phrases[0], *terms])})" if terms else required
