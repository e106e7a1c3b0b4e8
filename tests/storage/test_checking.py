"""What check sees: each kind of damage that a checksum does not, and what a dead process left."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from semsearch.errors import IndexFolderError
from semsearch.storage.checking import check
from semsearch.storage.generations import Generation, current, publish, read_manifest, remove_stale


@pytest.fixture
def copy(animals: Path, tmp_path: Path) -> Path:
    """An index that may be broken."""
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


def republished(copy: Path, change: Callable[[Path], None]) -> None:
    """Change a segment and vouch for what came of it."""
    generation = Generation(Path(shutil.copytree(current(copy), copy / "building-x")))
    change(generation.folder / "s-000001")
    generation.manifest.unlink()
    publish(generation, read_manifest(copy).model_copy(update={"files": {}}))


def test_a_sound_index_is_told(copy: Path) -> None:
    found = check(copy)
    assert (found.problems, found.notes, found.files, found.documents, found.passages) == ((), (), 5, 6, 6)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (sql("UPDATE passages SET document = 4 WHERE row = 5"), "1 documents have no passage"),
        (sql("UPDATE passages SET text = 'x' WHERE row < 2"), "2 passages are not what stands in their documents"),
        (sql("INSERT INTO words (rowid, stems) VALUES (77, 'x')"), "1 passages have no words, or words no passage"),
        (sql("INSERT INTO facts VALUES ('kind', 'x', 99)"), "1 facts are of no document"),
        (sql("DELETE FROM passages WHERE row = 5", "DELETE FROM documents WHERE row = 5"), "disagree in number"),
        (short_vectors, "6 vectors are not of unit length"),
    ],
)
def test_parts_that_do_not_fit_are_told(copy: Path, change: Callable[[Path], None], complaint: str) -> None:
    republished(copy, change)
    assert complaint in "; ".join(check(copy).problems)


def test_what_dead_processes_left_is_noted_and_removed_at_the_next_opening(copy: Path) -> None:
    (copy / "building-dead").mkdir()
    shutil.copytree(current(copy), copy / "g-000009")
    found = check(copy)
    assert found.problems == ()
    assert [note.split()[0].rpartition("/")[2] for note in found.notes] == ["building-dead", "g-000009"]
    remove_stale(copy)
    assert check(copy).notes == ()


def test_no_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match="no index at"):
        check(tmp_path)


def test_damaged_domains_and_labels_are_told(copy: Path) -> None:
    (copy / "domains" / "d").mkdir(parents=True)
    (copy / "domains" / "d" / "domain.json").write_text("{")
    (copy / "labels.sqlite").write_bytes(b"no database" * 1000)
    said = "; ".join(check(copy).problems)
    assert "is not a domain's record" in said
    assert "labels.sqlite: file is not a database" in said
