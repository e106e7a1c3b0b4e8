"""Documents and passages by row, with metadata, in one SQLite file. Does not depend on vectors."""

from __future__ import annotations

import json
import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import JsonValue
from pyroaring import BitMap

from semsearch.errors import IndexFolderError
from semsearch.filters.tree import Comparison, Filter
from semsearch.filters.values import OWN_FIELDS, Kind, TypedValue, document_values, typed_texts
from semsearch.storage import metadata as metadata_table
from semsearch.storage.fulltext import FullTextWriter
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
CREATE TABLE passage_counts (counts BLOB NOT NULL) STRICT;
"""
"""`counts` holds the number of passages of each document as 32-bit integers: opening need not read every passage."""

CONSISTENCY_CHECKS = {
    "passages belong to no document": "SELECT count(*) FROM passages WHERE document NOT IN (SELECT row FROM documents)",
    "documents have no passage": "SELECT count(*) FROM documents WHERE row NOT IN (SELECT document FROM passages)",
    "passages differ from the text of their documents": (
        "SELECT count(*) FROM passages JOIN documents ON documents.row = passages.document"
        " WHERE substr(documents.text, start + 1, stop - start) != passages.text"
    ),
}
"""Inconsistencies that a checksum cannot show, each with a query for the number of rows that have it."""

_ENCODER_INPUT = (
    "SELECT passages.row, heading, passages.text"
    " FROM passages JOIN documents ON documents.row = passages.document WHERE passages.row IN"
)
MAX_READ_DOCUMENTS = 1_000
"""Documents whose metadata is read at a time, and the number up to which facets are counted that way at once."""
_COUNT_PASSAGES = "SELECT document, count(*) FROM passages GROUP BY document ORDER BY document"
_COUNT = np.dtype("<i4")
_BATCH_ROWS = 500
"""Rows requested by one statement; SQLite limits the number of its parameters."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document with everything that `DocumentWriter.add` stored of it."""

    document: Document
    heading: str
    passages: Sequence[tuple[Passage, int]]
    """Each with its number of tokens."""
    rows: Rows
    """(n,) the rows of its passages."""


class DocumentWriter:
    """Writes a new file, and the full text. They are durable only after `close` and an fsync by the caller."""

    def __init__(self, path: Path, fulltext: Path) -> None:
        """Create the file, and the folder of the full text. Neither may exist. Raises OSError if it cannot."""
        self._path = path
        self.documents = 0
        """Number of documents written."""
        self.total_tokens = 0
        """Number of tokens of all passages in the encoder's input."""
        self.passages = 0
        """Number of passages written."""
        self._passage_counts = array("i")
        self._fulltext = FullTextWriter(fulltext)
        # an unfinished file is never published, so that a journal would protect nothing
        self._connection = sqlite3.connect(path, isolation_level=None)
        try:
            self._execute("PRAGMA journal_mode = OFF")
            self._execute("PRAGMA synchronous = OFF")
            for statement in f"{SCHEMA};{metadata_table.SCHEMA}".split(";"):
                self._execute(statement)
            metadata_table.register_bitmap(self._connection)
            self._execute("BEGIN")
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._connection.close()
        self._fulltext.stop()

    def source_of(self, document_id: str) -> str | None:
        """Return the source of the document of this id, or None if none is stored."""
        row = self._connection.execute("SELECT source FROM documents WHERE id = ?", (document_id,)).fetchone()
        return None if row is None else str(row[0])

    def add(self, document: Document, heading: str, passages: Sequence[tuple[Passage, int]]) -> None:
        """Store a document with its passages, at least one. Its id must be new.

        heading: the part of the title that precedes every passage in the encoder's input (see `encoder_text`).
        passages: each with its number of tokens in the encoder's input.
        """
        metadata = json.dumps(dict(document.metadata), ensure_ascii=False, allow_nan=False)
        self._execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.documents, document.id, document.title, heading, document.text, document.source, metadata),
        )
        value_terms = set[str]()
        for name, value in values_of(document):
            self._execute(metadata_table.ADD, metadata_table.row(name, value, self.documents))
            if name not in OWN_FIELDS:
                value_terms.add(metadata_table.value_term(name, value.kind, value.key))
        for passage, tokens in passages:
            self._execute(
                "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)",
                (self.passages, self.documents, passage.start, passage.stop, passage.text, tokens),
            )
            self._fulltext.add(self.passages, encoder_text(heading, passage.text), value_terms)
            self.passages += 1
            self.total_tokens += tokens
        self._passage_counts.append(len(passages))
        self.documents += 1

    def tokens(self, start: int = 0) -> Rows:
        """Return the number of tokens, (n,), of each passage from row `start` on, in the encoder's input."""
        rows = self._connection.execute("SELECT tokens FROM passages WHERE row >= ? ORDER BY row", (start,))
        return np.fromiter((tokens for (tokens,) in rows), np.int64, self.passages - start)

    def texts(self, rows: Rows) -> list[str]:
        """Return the encoder's input for the passages in these rows, in their order."""
        return _texts(self._connection, rows)

    def passages_by_row(self) -> Iterator[tuple[str, str]]:
        """Yield (document id, encoder's input) of every passage, by row."""
        return _passages(self._connection)

    def close(self) -> None:
        """Commit and close. Raises OSError if the files cannot be written."""
        self._execute(metadata_table.FINISH)
        counts = np.asarray(self._passage_counts, _COUNT)
        self._execute("INSERT INTO passage_counts VALUES (?)", (counts.tobytes(),))
        self._execute("COMMIT")
        self._connection.close()
        self._fulltext.close()

    def _execute(self, statement: str, values: Sequence[object] = ()) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise OSError(f"{self._path.name} could not be written ({error})") from error


class DocumentStore:
    """Reads a finished file. Any number of threads may use it."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises IndexFolderError if it is not a document store."""
        self._lock = threading.Lock()
        try:
            # one connection, open now: the file may be replaced while it is in use
            self._connection = open_read_only(path)
            counts = _passage_counts(self._connection)
            self.count = len(counts)
            """Number of documents."""
            self.document_of: Rows = np.repeat(np.arange(self.count), counts)
            """(passages,) the document row of each passage row."""
            self._is_former = not metadata_table.has_kinds(self._connection)
        except (sqlite3.Error, ValueError) as error:
            raise IndexFolderError(f"{path} is not a document store ({error}): build the index again") from error

    def hits(self, rows: Sequence[int]) -> list[Hit]:
        """Return one hit for each passage row, in their order. Its score is 0 until the caller sets it."""
        with self._lock:
            fields_by_row = {
                row: fields
                for row, *fields in _select_by_row(
                    self._connection,
                    "SELECT passages.row, passages.text, start, stop, id, title, source, metadata"
                    " FROM passages JOIN documents ON documents.row = passages.document WHERE passages.row IN",
                    rows,
                    columns=8,
                )
            }
        hits = []
        for row in rows:
            text, start, stop, doc_id, title, source, metadata = fields_by_row[row]
            hits.append(Hit(doc_id, title, Passage(text, start, stop), 0.0, source, _parse_metadata(metadata)))
        return hits

    def documents(self, rows: Sequence[int]) -> Iterator[StoredDocument]:
        """Yield the documents in these rows, by row, with everything that was stored of them."""
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
            document = _document(*fields[:-1])
            if self._is_former:
                document = replace(document, metadata=typed_texts(document.metadata))
            yield StoredDocument(
                document,
                fields[-1],
                [(Passage(text, start, stop), tokens) for text, start, stop, tokens in passages],
                passage_rows,
            )

    def document(self, doc_id: str) -> Document | None:
        """Return the whole document of this id, or None."""
        with self._lock:
            row = self._connection.execute(
                "SELECT id, title, text, source, metadata FROM documents WHERE id = ?", (doc_id,)
            ).fetchone()
        return None if row is None else _document(*row)

    def rows(self, doc_ids: Iterable[str]) -> dict[str, int]:
        """Return id → document row for those of the ids that a document has."""
        unique, rows = list(dict.fromkeys(doc_ids)), dict[str, int]()
        with self._lock:
            for start in range(0, len(unique), _BATCH_ROWS):
                batch = unique[start : start + _BATCH_ROWS]
                marks = ",".join("?" * len(batch))
                rows |= self._connection.execute(f"SELECT id, row FROM documents WHERE id IN ({marks})", batch)  # noqa: S608
        return rows

    def all_doc_ids(self) -> list[str]:
        """Return the id of every document, by row."""
        with self._lock:
            return [doc_id for (doc_id,) in self._connection.execute("SELECT id FROM documents ORDER BY row")]

    def matching(self, tree: Filter) -> Rows:
        """Return the (n,) rows, ascending, of the documents that match a filter."""
        rows = metadata_table.matching(tree, self._select_batches, self.count)
        return np.asarray(rows.to_array(), np.int64)

    def value_terms(self, comparison: Comparison) -> list[str] | None:
        """As `metadata.value_terms`."""
        with self._lock:
            return metadata_table.value_terms(comparison, self._connection)

    def has_field(self, name: str) -> bool:
        """Whether any document has a value of this field, or of a field of this object."""
        test, values = metadata_table.has_field(name)
        return bool(self._select_values(f"SELECT {test}", values)[0][0])

    def field_names(self, most: int) -> list[str]:
        """Return the names of the documents' fields, sorted, at most `most`."""
        # one step in the table's order for each name
        names = self._select_values(
            "WITH RECURSIVE names(name) AS (SELECT min(name) FROM facts UNION ALL"
            " SELECT (SELECT min(name) FROM facts WHERE facts.name > names.name) FROM names WHERE name IS NOT NULL)"
            " SELECT name FROM names WHERE name IS NOT NULL LIMIT ?",
            [most],
        )
        return [name for (name,) in names]

    def kinds(self, name: str) -> set[Kind]:
        """Return the kinds of the values of the metadata field `name`."""
        tests = ", ".join("EXISTS (SELECT 1 FROM facts WHERE name = ? AND kind = ?)" for _ in Kind)
        [is_held] = self._select_values(f"SELECT {tests}", [value for kind in Kind for value in (name, int(kind))])
        return {kind for kind, held in zip(Kind, is_held, strict=True) if held}

    def facet_counts(self, name: str, documents: Rows) -> dict[TypedValue, int]:
        """Count the documents in (n,) rows by their value of the metadata field `name`."""
        if len(documents) > MAX_READ_DOCUMENTS:
            with self._lock:
                counted = metadata_table.facet_counts(name, BitMap(documents.tolist()), self._connection)
            if counted is not None:
                return counted
        counts: dict[TypedValue, int] = {}
        for start in range(0, len(documents), MAX_READ_DOCUMENTS):
            with self._lock:
                fields = list(
                    _select_by_row(
                        self._connection,
                        "SELECT row, id, title, source, metadata FROM documents WHERE row IN",
                        documents[start : start + MAX_READ_DOCUMENTS].tolist(),
                        columns=5,
                    )
                )
            for _, doc_id, title, source, metadata in fields:
                values = document_values(doc_id=doc_id, title=title, source=source, metadata=_parse_metadata(metadata))
                own = sorted((value for field, value in values if field == name), key=attrgetter("text"))
                # the least text of those that are written in several ways
                for value in dict.fromkeys(own):
                    counts[value] = counts.get(value, 0) + 1
        return counts

    def stray_values(self) -> int:
        """Return the number of metadata values that belong to no document."""
        with self._lock:
            return metadata_table.stray_rows(self._connection, self.count)

    def miscounted_documents(self) -> int:
        """Return the number of documents whose passages are not those that `document_of` names."""
        with self._lock:
            counts = dict(self._connection.execute(_COUNT_PASSAGES))
        expected = np.bincount(self.document_of, minlength=self.count)
        stored = np.asarray([counts.pop(document, 0) for document in range(self.count)])
        return int((stored != expected).sum()) + len(counts)

    def doc_ids(self, rows: Rows) -> list[str]:
        """Return the document id of each passage row, n for (n,) rows."""
        with self._lock:
            select = (
                "SELECT passages.row, id FROM passages JOIN documents ON documents.row = passages.document"
                " WHERE passages.row IN"
            )
            doc_ids = dict(_select_by_row(self._connection, select, rows.tolist(), columns=2))
        return [doc_ids[row] for row in rows.tolist()]

    def passage_rows(self, document: int) -> Rows:
        """Return the rows, (n,), of the passages of the document in row `document`."""
        return passage_rows_of(document, self.document_of)

    def passages(self) -> Iterator[tuple[str, str]]:
        """Return (document id, encoder's input) of every passage, by row."""
        with self._lock:
            return iter(list(_passages(self._connection)))

    def texts(self, rows: Rows) -> list[str]:
        """Return the encoder's input for the passages in these rows, in their order."""
        with self._lock:
            return _texts(self._connection, rows)

    def _select_values(self, select: str, parameters: Sequence[object]) -> list[Any]:
        """Run a statement that reads the metadata values."""
        with self._lock:
            return self._connection.execute(select, parameters).fetchall()

    def _select_batches(self, select: str, parameters: Sequence[object]) -> Iterator[list[tuple[Any, ...]]]:
        """Run a statement and yield its rows in batches; between these, other threads may read."""
        with self._lock:
            cursor = self._connection.execute(select, parameters)
        while True:
            with self._lock:
                batch = cursor.fetchmany(_BATCH_ROWS)
            if not batch:
                return
            yield batch

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a finished file for reading. One thread at a time may use the connection."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def select_as_json(select: str, columns: int) -> str:
    """Return a statement that yields all rows of `select`, with this number of columns, as one JSON text.

    Fetching row by row releases and reacquires the interpreter lock for every row, which is slow under load.
    """
    names = ", ".join(f"c{number}" for number in range(columns))
    return f"WITH found({names}) AS MATERIALIZED ({select}) SELECT json_group_array(json_array({names})) FROM found"  # noqa: S608


def values_of(document: Document) -> Iterator[tuple[str, TypedValue]]:
    """Yield (field name, value) of a document, as filters see them."""
    return document_values(doc_id=document.id, title=document.title, source=document.source, metadata=document.metadata)


def _passage_counts(connection: sqlite3.Connection) -> Rows:
    """Return the number of passages of each document, (documents,). Raises ValueError if these are damaged."""
    if not connection.execute("SELECT 1 FROM pragma_table_info('passage_counts', 'main')").fetchone():
        # written before the counts were stored
        counted = connection.execute(_COUNT_PASSAGES).fetchall()
        return np.fromiter((count for _, count in counted), np.int64, len(counted))
    [(counts,)] = connection.execute("SELECT counts FROM passage_counts").fetchall()
    return np.frombuffer(counts, _COUNT).astype(np.int64)


def passage_rows_of(document: int, document_of: Rows) -> Rows:
    """Return the rows, (n,), of the passages of the document in row `document`.

    document_of: (passages,) the document row of each passage row, ascending.
    """
    first, last = np.searchsorted(document_of, [document, document + 1])
    rows: Rows = np.arange(first, last, dtype=np.int64)
    return rows


def encoder_text(heading: str, passage: str) -> str:
    """Return the encoder's input for a passage: preceded by the heading, because few passages name their topic."""
    return f"{heading} {passage}".strip()


def _passages(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield (document id, encoder's input) of every passage, by row."""
    rows = connection.execute(
        "SELECT id, heading, passages.text FROM passages JOIN documents"
        " ON documents.row = passages.document ORDER BY passages.row"
    )
    return ((doc_id, encoder_text(heading, text)) for doc_id, heading, text in rows)


def _texts(connection: sqlite3.Connection, rows: Rows) -> list[str]:
    texts = {
        row: encoder_text(heading, text)
        for row, heading, text in _select_by_row(connection, _ENCODER_INPUT, rows.tolist(), columns=3)
    }
    return [texts[row] for row in rows.tolist()]


def _select_by_row(
    connection: sqlite3.Connection, select: str, rows: Sequence[int], *, columns: int
) -> Iterator[list[Any]]:
    """Yield [row, …] of the `select`, which ends in `IN`, for these rows; in no particular order."""
    for start in range(0, len(rows), _BATCH_ROWS):
        batch = rows[start : start + _BATCH_ROWS]
        statement = select_as_json(f"{select} ({','.join('?' * len(batch))})", columns)
        [(selected,)] = connection.execute(statement, batch)
        yield from json.loads(selected)


def _document(doc_id: str, title: str, text: str, source: str, metadata: str) -> Document:
    return Document(doc_id, title, text, source, _parse_metadata(metadata))


def _parse_metadata(metadata: str) -> Mapping[str, JsonValue]:
    try:
        values: dict[str, JsonValue] = json.loads(metadata)
    except RecursionError:
        # nested just less deeply than what could be written, and read at a deeper point of the stack: kept as a text
        return {"metadata": metadata}
    return values
