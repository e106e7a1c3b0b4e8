"""The document store: documents read as they were written, from any thread."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from semsearch.errors import IndexFolderError
from semsearch.storage.documents import DocumentStore, DocumentWriter
from semsearch.types import Document, Passage

TEXT = "Erster Absatz über Käse. 数据库 😀"


def write_documents(path: Path, *, count: int = 3) -> Path:
    with DocumentWriter(path, path.with_name("fulltext")) as writer:
        for number in range(count):
            document = Document(
                f"id {number}/ü", f"Title {number}", TEXT, f"a.jsonl:{number}", {"n": number, "t": ["x"]}
            )
            halves = [(Passage(TEXT[:10], 0, 10), 5 + number), (Passage(TEXT[10:], 10, len(TEXT)), 9)]
            writer.add(document, f"Heading {number}", halves)
        writer.close()
    return path


def test_documents_and_passages_read_as_they_were_written(tmp_path: Path) -> None:
    store = DocumentStore(write_documents(tmp_path / "documents"))
    (hit,) = store.hits([3])
    assert (hit.id, hit.title, hit.source) == ("id 1/ü", "Title 1", "a.jsonl:1")
    assert hit.passage == Passage(TEXT[10:], 10, len(TEXT))
    assert hit.metadata == {"n": 1, "t": ["x"]}
    assert store.document("id 2/ü") == Document("id 2/ü", "Title 2", TEXT, "a.jsonl:2", {"n": 2, "t": ["x"]})
    assert store.document("id 2") is None
    assert (store.count, store.document_of.tolist()) == (3, [0, 0, 1, 1, 2, 2])
    store.close()


def test_hits_are_in_the_order_of_the_given_rows(tmp_path: Path) -> None:
    store = DocumentStore(write_documents(tmp_path / "documents", count=700))
    rows = list(range(1399, -1, -1))
    hits = store.hits(rows)
    assert [hit.id for hit in hits] == [f"id {row // 2}/ü" for row in rows]
    store.close()


def test_the_encoder_input_of_a_passage_begins_with_the_heading(tmp_path: Path) -> None:
    store = DocumentStore(write_documents(tmp_path / "documents", count=1))
    assert list(store.passages()) == [("id 0/ü", f"Heading 0 {TEXT[:10]}"), ("id 0/ü", f"Heading 0 {TEXT[10:]}")]
    store.close()


def test_token_counts_texts_and_sources_can_be_read_while_writing(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path / "documents", tmp_path / "fulltext") as writer:
        for number, tokens in enumerate((3, 9, 5, 9, 1)):
            writer.add(Document(str(number), "", "t", ""), "", [(Passage(f"text {number}", 0, 1), tokens)])
        assert writer.tokens().tolist() == [3, 9, 5, 9, 1]
        assert writer.tokens(3).tolist() == [9, 1]
        assert writer.texts(np.array([3, 1])) == ["text 3", "text 1"]
        assert (writer.source_of("3"), writer.source_of("7")) == ("", None)


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    store = DocumentStore(write_documents(tmp_path / "documents", count=50))
    with ThreadPoolExecutor(16) as pool:
        doc_ids = list(pool.map(lambda row: store.hits([row])[0].id, list(range(100)) * 5))
    assert doc_ids == [f"id {row // 2}/ü" for row in range(100)] * 5
    store.close()


def test_a_file_removed_while_open_can_still_be_read(tmp_path: Path) -> None:
    store = DocumentStore(write_documents(tmp_path / "documents"))
    (tmp_path / "documents").unlink()
    assert store.hits([5])[0].id == "id 2/ü"
    store.close()


def test_a_file_that_is_not_a_store_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "documents").write_bytes(b"no database at all" * 100)
    with pytest.raises(IndexFolderError, match="documents is not a document store"):
        DocumentStore(tmp_path / "documents")


def write_former_documents(path: Path) -> Path:
    """Documents as semsearch 0.1 wrote them: the values of tables are texts, and have no kind."""
    with DocumentWriter(path, path.with_name("fulltext")) as writer:
        for number, year in enumerate(["2019", "2021", "1.10", "n.d."]):
            writer.add(Document(f"d{number}", "", "text", "f.csv", {"year": year}), "", [(Passage("text", 0, 4), 1)])
        writer.close()
    connection = sqlite3.connect(path)
    connection.executescript(
        "DROP TABLE facts; DROP TABLE passage_counts;"
        " CREATE TABLE facts (name TEXT NOT NULL, value ANY NOT NULL, document INTEGER NOT NULL,"
        " PRIMARY KEY (name, value, document)) STRICT, WITHOUT ROWID;"
        " INSERT INTO facts VALUES ('year', 2019, 0), ('year', 2021, 1), ('year', 1.1, 2), ('year', 'n.d.', 3)"
    )
    connection.close()
    return path


def test_values_of_a_file_of_semsearch_0_1_have_kinds_when_it_is_upgraded(tmp_path: Path) -> None:
    store = DocumentStore(write_former_documents(tmp_path / "documents"))
    assert [stored.document.metadata["year"] for stored in store.documents(range(4))] == [2019, 2021, "1.10", "n.d."]
    assert store.hits([0])[0].metadata == {"year": "2019"}
    store.close()


def test_passages_of_a_file_without_stored_counts_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "documents"
    with DocumentWriter(path, tmp_path / "fulltext") as writer:
        for number, passages in enumerate([2, 1, 3]):
            writer.add(Document(f"d{number}", "", "text", "f.csv"), "", [(Passage("text", 0, 4), 1)] * passages)
        writer.close()
    store = DocumentStore(path)
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE passage_counts")
    counted = DocumentStore(path)
    assert store.document_of.tolist() == counted.document_of.tolist() == [0, 0, 1, 2, 2, 2]
    assert (store.count, counted.count, counted.miscounted_documents()) == (3, 3, 0)
    counted.close()
