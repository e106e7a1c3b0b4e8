"""Documents and passages by row, their words and their metadata: one SQLite file. Does not depend on vectors."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import JsonValue

from semsearch.errors import IndexFolderError
from semsearch.filters.tree import FieldValue, Filter
from semsearch.filters.tree import field_values as facts_of
from semsearch.storage import fulltext
from semsearch.storage import metadata as facts
from semsearch.types import Document, Hit, Passage, Rows

SCHEMA = """
CREATE TABLE documents (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    heading TEXT NOT NULL,
    text TEXT NOT NULL,
    source TEXT NOT NULL,
    metadata TEXT NOT NULL
) STRICT;
CREATE TABLE passages (
    row INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents (row),
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    text TEXT NOT NULL,
    tokens INTEGER NOT NULL
) STRICT;
"""

DISAGREEMENTS = {
    "passages are of no document": "SELECT count(*) FROM passages WHERE document NOT IN (SELECT row FROM documents)",
    "documents have no passage": "SELECT count(*) FROM documents WHERE row NOT IN (SELECT document FROM passages)",
    "passages are not what stands in their documents": (
        "SELECT count(*) FROM passages JOIN documents ON documents.row = passages.document"
        " WHERE substr(documents.text, start + 1, stop - start) != passages.text"
    ),
    "passages have no words, or words no passage": (
        "SELECT (SELECT count(*) FROM passages WHERE row NOT IN (SELECT id FROM words_docsize))"
        " + (SELECT count(*) FROM words_docsize WHERE id NOT IN (SELECT row FROM passages))"
    ),
    "facts are of no document": "SELECT count(*) FROM facts WHERE document NOT IN (SELECT row FROM documents)",
}
"""What may be wrong in a file whose checksum is right, and how often it is."""

_AT_ENCODER = (
    "SELECT passages.row, heading, passages.text"
    " FROM passages JOIN documents ON documents.row = passages.document WHERE passages.row IN"
)
_AT_ONCE = 500
"""Rows asked for by one statement; SQLite bounds the number of its parameters."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it was stored: what `DocumentWriter.add` takes."""

    document: Document
    heading: str
    passages: Sequence[tuple[Passage, int]]
    rows: Rows
    """(n,) of its passages."""


class DocumentWriter:
    """Fills a new file; what it holds is durable only after `close` and an fsync of the file by the caller."""

    def __init__(self, path: Path) -> None:
        """Create the file, which must not exist. Raises OSError if that cannot be done."""
        self._path = path
        self.documents = 0
        self.passages = 0
        # the file is built aside and published whole: a journal would protect nothing
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._guarded("PRAGMA journal_mode = OFF")
        self._guarded("PRAGMA synchronous = OFF")
        for statement in (*SCHEMA.split(";"), fulltext.SCHEMA, facts.SCHEMA):
            self._guarded(statement)
        self._guarded("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def source_of(self, document_id: str) -> str | None:
        """Where a document of this id was read, if one is stored."""
        found = self._connection.execute("SELECT source FROM documents WHERE id = ?", (document_id,)).fetchone()
        return None if found is None else str(found[0])

    def add(self, document: Document, heading: str, passages: Sequence[tuple[Passage, int]]) -> None:
        """Store a document whose id is not stored yet, with its passages, at least one.

        heading: what of the title stands before every passage at the encoder (see `encoder_text`).
        passages: each with the number of tokens that it has there.
        """
        metadata = json.dumps(dict(document.metadata), ensure_ascii=False, allow_nan=False)
        self._guarded(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.documents, document.id, document.title, heading, document.text, document.source, metadata),
        )
        known = {"id": document.id, "title": document.title, "source": document.source, **document.metadata}
        for name, value in facts_of(known):
            self._guarded(facts.ADD, (name, value, self.documents))
        for passage, tokens in passages:
            self._guarded(
                "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)",
                (self.passages, self.documents, passage.start, passage.stop, passage.text, tokens),
            )
            self._guarded(fulltext.ADD, (self.passages, fulltext.stems(encoder_text(heading, passage.text))))
            self.passages += 1
        self.documents += 1

    def tokens(self, start: int = 0) -> Rows:
        """(n,) tokens of each passage from row `start` on, as the encoder will read them."""
        found = self._connection.execute("SELECT tokens FROM passages WHERE row >= ? ORDER BY row", (start,))
        return np.fromiter((tokens for (tokens,) in found), np.int64, self.passages - start)

    def texts(self, rows: Rows) -> list[str]:
        """What the encoder reads of passages in these rows."""
        return _texts(self._connection, rows)

    def close(self) -> None:
        """Commit and close. Raises OSError if the file cannot be written whole."""
        self._guarded(fulltext.FINISH)
        self._guarded("COMMIT")
        self._connection.close()

    def _guarded(self, statement: str, values: Sequence[object] = ()) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise OSError(f"{self._path.name} could not be written ({error})") from error


class DocumentStore:
    """Reads a finished file, from any number of threads."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises IndexFolderError if it is no such file."""
        self._lock = threading.Lock()
        try:
            # one connection, opened now: the file may be replaced while this one is being read
            self._connection = fulltext.connected(path)
            self.count = int(self._connection.execute("SELECT count(*) FROM documents").fetchone()[0])
            passages = int(self._connection.execute("SELECT count(*) FROM passages").fetchone()[0])
            found = self._connection.execute("SELECT document FROM passages ORDER BY row")
            self.document_of: Rows = np.fromiter((row for (row,) in found), np.int64, passages)
            """(passages,) the document row of each passage row."""
        except sqlite3.Error as error:
            raise IndexFolderError(f"{path} is not a document store ({error}): build the index again") from error

    def hits(self, wanted: Sequence[int]) -> list[Hit]:
        """One hit for each passage row, in their order; its score is 0 until the caller sets it."""
        with self._lock:
            found = {
                row: fields
                for row, *fields in _select_by_row(
                    self._connection,
                    "SELECT passages.row, passages.text, start, stop, id, title, source, metadata"
                    " FROM passages JOIN documents ON documents.row = passages.document WHERE passages.row IN",
                    wanted,
                    columns=8,
                )
            }
        hits = []
        for row in wanted:
            text, start, stop, doc_id, title, source, metadata = found[row]
            hits.append(Hit(doc_id, title, Passage(text, start, stop), 0.0, source, _decoded(metadata)))
        return hits

    def documents(self, rows: Sequence[int]) -> Iterator[StoredDocument]:
        """Whole documents by row, in the order of their rows, with all that was stored of them."""
        for row in sorted(rows):
            passage_rows = self.passage_rows(row)
            with self._lock:
                [fields] = self._connection.execute(
                    "SELECT id, title, text, source, metadata, heading FROM documents WHERE row = ?", (row,)
                ).fetchall()
                passages = self._connection.execute(
                    "SELECT text, start, stop, tokens FROM passages WHERE row BETWEEN ? AND ? ORDER BY row",
                    (int(passage_rows[0]), int(passage_rows[-1])),
                ).fetchall()
            yield StoredDocument(
                _document(*fields[:-1]),
                fields[-1],
                [(Passage(text, start, stop), tokens) for text, start, stop, tokens in passages],
                passage_rows,
            )

    def document(self, doc_id: str) -> Document | None:
        """The whole document of this id, or None."""
        with self._lock:
            found = self._connection.execute(
                "SELECT id, title, text, source, metadata FROM documents WHERE id = ?", (doc_id,)
            ).fetchone()
        return None if found is None else _document(*found)

    def rows(self, doc_ids: Iterable[str]) -> dict[str, int]:
        """The document rows of those of the ids that a document has."""
        unique, rows = list(dict.fromkeys(doc_ids)), dict[str, int]()
        with self._lock:
            for start in range(0, len(unique), _AT_ONCE):
                part = unique[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                rows |= self._connection.execute(f"SELECT id, row FROM documents WHERE id IN ({marks})", part)  # noqa: S608
        return rows

    def all_doc_ids(self) -> list[str]:
        """The id of every document, by row."""
        with self._lock:
            return [doc_id for (doc_id,) in self._connection.execute("SELECT id FROM documents ORDER BY row")]

    def matching(self, tree: Filter) -> Rows:
        """Return the (n,) rows, ascending, of the documents that match a filter."""
        test, values = facts.where(tree)
        with self._lock:
            found = self._connection.execute(f"SELECT row FROM documents WHERE {test} ORDER BY row", values)  # noqa: S608
            return np.array([row for (row,) in found], np.int64)

    def facet_counts(self, name: str, documents: Rows | None = None) -> dict[FieldValue, int]:
        """How many documents have each value under a name: of all, or of those in the given rows."""
        select, values = "SELECT value, count(*) FROM facts WHERE name = ?", [name]
        if documents is not None:
            select += " AND document IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(documents.tolist()))
        with self._lock:
            return dict(self._connection.execute(f"{select} GROUP BY value", values).fetchall())

    def doc_ids(self, rows: Rows) -> list[str]:
        """The document ids of (n,) passage rows."""
        with self._lock:
            select = (
                "SELECT passages.row, id FROM passages JOIN documents ON documents.row = passages.document"
                " WHERE passages.row IN"
            )
            found = dict(_select_by_row(self._connection, select, rows.tolist(), columns=2))
        return [found[row] for row in rows.tolist()]

    def passage_rows(self, document: int) -> Rows:
        """(n,) rows of the passages of the document in a row."""
        return rows_of(document, self.document_of)

    def passages(self) -> Iterator[tuple[str, str]]:
        """(document id, text at the encoder) of every passage, by row."""
        with self._lock:
            found = self._connection.execute(
                "SELECT id, heading, passages.text FROM passages JOIN documents"
                " ON documents.row = passages.document ORDER BY passages.row"
            ).fetchall()
        return ((doc_id, encoder_text(heading, text)) for doc_id, heading, text in found)

    def texts(self, rows: Rows) -> list[str]:
        """What the encoder reads of passages in these rows."""
        with self._lock:
            return _texts(self._connection, rows)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def rows_of(document: int, document_of: Rows) -> Rows:
    """(n,) rows of the passages of the document in a row; document_of: (passages,) the document row of each."""
    # passages are stored in the order of their documents
    first, last = np.searchsorted(document_of, [document, document + 1])
    rows: Rows = np.arange(first, last, dtype=np.int64)
    return rows


def encoder_text(heading: str, passage: str) -> str:
    """What the encoder reads of a passage: the document's heading before it, since few passages name their topic."""
    return f"{heading} {passage}".strip()


def _texts(connection: sqlite3.Connection, rows: Rows) -> list[str]:
    found = {
        row: encoder_text(heading, text)
        for row, heading, text in _select_by_row(connection, _AT_ENCODER, rows.tolist(), columns=3)
    }
    return [found[row] for row in rows.tolist()]


def _select_by_row(
    connection: sqlite3.Connection, select: str, rows: Sequence[int], *, columns: int
) -> Iterator[list[Any]]:
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        statement = fulltext.in_one(f"{select} ({','.join('?' * len(part))})", columns)
        [(found,)] = connection.execute(statement, part)
        yield from json.loads(found)


def _document(doc_id: str, title: str, text: str, source: str, metadata: str) -> Document:
    return Document(doc_id, title, text, source, _decoded(metadata))


def _decoded(metadata: str) -> Mapping[str, JsonValue]:
    values: dict[str, JsonValue] = json.loads(metadata)
    return values
