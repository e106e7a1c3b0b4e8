"""Checking an index: damage that a checksum does not show, and stale paths of dead processes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from pyroaring import BitMap

from semsearch.errors import IndexFolderError
from semsearch.storage.checking import check
from semsearch.storage.fulltext import FullTextWriter
from semsearch.storage.generations import Generation, current, publish, read_manifest, remove_stale


@pytest.fixture
def copy(animals: Path, tmp_path: Path) -> Path:
    """A copy of an index, which a test may damage."""
    return Path(shutil.copytree(animals, tmp_path / "copy"))


def sql(*statements: str) -> Callable[[Path], None]:
    def change(segment: Path) -> None:
        connection = sqlite3.connect(segment / "documents.sqlite", isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    return change


def short_vectors(segment: Path) -> None:
    rows = faiss.IndexFlatIP(32)
    rows.add(np.full((6, 32), 0.5, np.float32))
    faiss.write_index(rows, str(segment / "vectors.faiss"))


def counted(*passages: int) -> str:
    """The stored numbers of passages of each document, as hexadecimal digits."""
    return np.asarray(passages, "<i4").tobytes().hex()


def rewrite_fulltext(segment: Path, rows: list[int]) -> None:
    shutil.rmtree(segment / "fulltext")
    writer = FullTextWriter(segment / "fulltext")
    for row in rows:
        writer.add(row, "text")
    writer.close()
    writer.stop()


def republished(copy: Path, change: Callable[[Path], None]) -> None:
    """Change a segment and publish it with new checksums."""
    generation = Generation(Path(shutil.copytree(current(copy), copy / "building-x")))
    change(generation.folder / "s-000001")
    generation.manifest.unlink()
    publish(generation, read_manifest(copy).model_copy(update={"files": {}}))


def test_a_sound_index_has_no_problems(copy: Path) -> None:
    report = check(copy)
    files = len(read_manifest(copy).files)
    assert (report.problems, report.notes, report.files, report.documents, report.passages) == ((), (), files, 6, 6)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (sql("UPDATE passages SET document = 4 WHERE row = 5"), "1 documents have no passage"),
        (sql("UPDATE passages SET text = 'x' WHERE row < 2"), "2 passages differ from the text"),
        (lambda segment: rewrite_fulltext(segment, [0, 1, 2, 3, 4, 4]), "passages have no full text"),
        (lambda segment: rewrite_fulltext(segment, [0, 1, 2, 3, 4]), "different numbers of passages"),
        (
            sql(f"UPDATE facts SET documents = x'{BitMap([1, 99]).serialize().hex()}' WHERE value = 'bee'"),
            "1 metadata values belong to no document",
        ),
        (sql("UPDATE facts SET documents = x'01' WHERE value = 'bee'"), "1 metadata values belong to no document"),
        (
            sql("DELETE FROM passages WHERE row = 5", "DELETE FROM documents WHERE row = 5"),
            "the passages of 1 documents are miscounted",
        ),
        (sql(f"UPDATE passage_counts SET counts = x'{counted(2, 1, 1, 1, 1, 1)}'"), "different numbers of passages"),
        (sql(f"UPDATE passage_counts SET counts = x'{counted(6)}'"), "different numbers of passages"),
        (sql(f"UPDATE passage_counts SET counts = x'{counted(2, 0, 1, 1, 1, 1)}'"), "2 documents are miscounted"),
        (sql(f"UPDATE passage_counts SET counts = x'{counted(-1, 3, 1, 1, 1, 1)}'"), "is not a document store"),
        (sql("UPDATE passage_counts SET counts = x'010000'"), "is not a document store"),
        (sql("DELETE FROM passage_counts"), "is not a document store"),
        (short_vectors, "6 vectors are not of unit length"),
    ],
)
def test_parts_that_do_not_fit_are_reported(copy: Path, change: Callable[[Path], None], complaint: str) -> None:
    republished(copy, change)
    assert complaint in "; ".join(check(copy).problems)


def test_stale_paths_are_noted_and_can_be_removed(copy: Path) -> None:
    (copy / "building-dead").mkdir()
    shutil.copytree(current(copy), copy / "g-000009")
    report = check(copy)
    assert report.problems == ()
    assert [note.split()[0].rpartition("/")[2] for note in report.notes] == ["building-dead", "g-000009"]
    remove_stale(copy)
    assert check(copy).notes == ()


def test_no_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match="no index at"):
        check(tmp_path)


def test_damaged_domains_and_labels_are_reported(copy: Path) -> None:
    (copy / "domains" / "d").mkdir(parents=True)
    (copy / "domains" / "d" / "domain.json").write_text("{")
    (copy / "labels.sqlite").write_bytes(b"no database" * 1000)
    problems = "; ".join(check(copy).problems)
    assert "is not a domain's record" in problems
    assert "labels.sqlite: file is not a database" in problems
