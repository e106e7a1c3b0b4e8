"""Errors of the file system during builds and changes: an error of the index, which stays as it was."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.basis import SpectralBasis
from semsearch.encoders.encoder import Encoder
from semsearch.errors import IndexFolderError, IndexWriteError
from semsearch.ingest.building import Reading, build, save_map_points
from semsearch.ingest.inverted_file import fill_lists
from semsearch.ingest.recipe import Recipe
from semsearch.ingest.updating import OpenIndex, compact, delete, update
from semsearch.search.engine import SearchEngine
from semsearch.storage.approximate import InvertedFile
from semsearch.storage.checking import check
from semsearch.storage.generations import SegmentFiles, current
from semsearch.storage.index_checkpoint import IndexCheckpoint, remove_index_checkpoint
from semsearch.storage.projection import Projection
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Document
from tests.adapters.test_adapter import unit_rows

DOCUMENTS = [Document(f"d{n}", "", f"text of word{n}", f"a.csv:{n}", {"n": n}) for n in range(60)]

ROWS = unit_rows(4_000, dimension=16)


def run_build(folder: Path, encoder: Encoder) -> None:
    for _ in build(Recipe(), folder, records=DOCUMENTS, encoder=encoder, threads=1):
        pass


def run_update(folder: Path, encoder: Encoder) -> None:
    engine = SearchEngine.open(folder, encoder=encoder, threads=1)
    new = [Document("new", "", "a new text", "b.csv:1", {})]
    try:
        for _ in update(folder, new, opened=OpenIndex(engine.corpus, encoder, encoder.encode_passages)):
            pass
    finally:
        engine.close()


def run_delete(folder: Path, _encoder: Encoder) -> None:
    delete(folder, ["d5"])


def run_compact(folder: Path, encoder: Encoder) -> None:
    for _ in compact(folder, encoder=encoder, threads=1):
        pass


Change = Callable[[Path, Encoder], None]
CHANGES = pytest.mark.parametrize("change", [run_build, run_update, run_delete, run_compact])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    folder = tmp_path_factory.mktemp("built") / "index"
    run_build(folder, tiny_encoder)
    delete(folder, ["d3"])
    return folder


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    """An index with a deleted document, which may be changed."""
    return Path(shutil.copytree(built, tmp_path / "index"))


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let every write beyond `size` bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@CHANGES
@pytest.mark.parametrize("size", [0, 100, 1_500, 5_000, 9_000, 20_000, 40_000, 60_000, 90_000])
def test_a_full_disk_leaves_the_index_as_it_was(index: Path, tiny_encoder: Encoder, change: Change, size: int) -> None:
    before = current(index)
    failed = False
    with files_limited_to(size):
        try:
            change(index, tiny_encoder)
        except IndexWriteError as error:
            failed = True
            message = str(error)
    if failed:
        assert "make room" in message
        assert current(index) == before
    else:
        assert size > 1_000
        assert current(index) != before
    assert not list(index.glob("building-*"))
    assert check(index).problems == ()


def save_exact(folder: Path) -> None:
    index = VectorIndex.exact(16)
    index.add(ROWS)
    index.save(folder / "saved")


def save_graph(folder: Path) -> None:
    index = VectorIndex.hnsw(16)
    index.add(ROWS)
    index.save(folder / "vectors", folder / "saved")


def save_lists(folder: Path) -> None:
    lists = InvertedFile.empty(16, lists=30)
    lists.train(ROWS)
    lists.append(ROWS)
    lists.save(folder / "saved")


def save_checkpoint(folder: Path) -> None:
    remove_index_checkpoint(folder)
    for _ in fill_lists(ROWS, IndexCheckpoint(folder, ROWS), threads=1):
        pass


@cache
def projection() -> Projection:
    return Projection.fit(ROWS, SpectralBasis.from_vectors(ROWS), threads=1)


def save_points(folder: Path) -> None:
    save_map_points(SegmentFiles(folder), projection(), ROWS)


@pytest.mark.parametrize("save", [save_exact, save_graph, save_lists, save_checkpoint, save_points])
@pytest.mark.parametrize("missing", [1, 10, 1_000, 4_000])
def test_a_file_that_lacks_its_last_bytes_is_an_error(
    tmp_path: Path, save: Callable[[Path], None], missing: int
) -> None:
    save(tmp_path)
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    with files_limited_to(size - missing), pytest.raises(OSError, match="File too large"):
        save(tmp_path)
    save(tmp_path)


def test_vectors_that_lack_their_last_bytes_are_not_published(index: Path, tiny_encoder: Encoder) -> None:
    vectors = np.random.default_rng(0).standard_normal((4_000, tiny_encoder.dimension)).astype(np.float32)
    documents = [Document(f"d{n}", "", f"word{n}", "a.csv", {}) for n in range(len(vectors))]

    def run() -> None:
        for _ in build(Recipe(map=False), index, records=documents, vectors=vectors, encoder=tiny_encoder, threads=1):
            pass

    run()
    before = current(index)
    size = next(before.glob("*/vectors.faiss")).stat().st_size
    assert size == max(path.stat().st_size for path in before.rglob("*"))
    with files_limited_to(size - 10), pytest.raises(IndexWriteError, match=r"vectors\.faiss.*make room"):
        run()
    assert current(index) == before
    assert check(index).problems == ()


@CHANGES
@pytest.mark.parametrize("function", ["mkdtemp", "mkdir", "rename", "replace", "fsync"])
def test_a_read_only_folder_is_an_error_with_a_remedy(
    index: Path, tiny_encoder: Encoder, change: Change, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tempfile if function == "mkdtemp" else os
    original = getattr(module, function)

    def refuse(*args: object, **options: object) -> object:
        if function == "fsync" or str(index) in str((args, options)):
            raise OSError(30, "Read-only file system")
        return original(*args, **options)

    before = current(index)
    with monkeypatch.context() as patch:
        patch.setattr(module, function, refuse)
        with pytest.raises(IndexWriteError, match=r"Read-only file system.*make its folder writable"):
            change(index, tiny_encoder)
    assert current(index) == before
    assert check(index).problems == ()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("file", "is a file"),
        ("file/index", "Not a directory"),
        ("n" * 300, "File name too long"),
        ("other", "holds files that are not an index"),
    ],
)
def test_a_folder_that_cannot_be_made_is_an_error(
    tmp_path: Path, tiny_encoder: Encoder, name: str, complaint: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(IndexFolderError, match=complaint):
        run_build(tmp_path / name, tiny_encoder)
    for change in (run_update, run_delete, run_compact):
        with pytest.raises(IndexFolderError):
            change(tmp_path / name, tiny_encoder)


def test_a_folder_that_is_moved_during_a_build_is_an_error(tmp_path: Path, index: Path, tiny_encoder: Encoder) -> None:
    before = current(index).name
    events = build(Recipe(), index, records=DOCUMENTS, encoder=tiny_encoder, threads=1)
    with pytest.raises(IndexWriteError):  # noqa: PT012 - the loop is one statement
        for event in events:
            if event == Reading(30, 30):
                index.rename(tmp_path / "moved")
    assert current(tmp_path / "moved").name == before
    assert check(tmp_path / "moved").problems == ()
