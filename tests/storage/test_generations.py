"""Generations: published completely or not at all, and every damage named."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.errors import IndexFolderError
from semsearch.search.engine import SearchEngine
from semsearch.storage import generations
from semsearch.storage.generations import begin_build, open_current, read_manifest, republish
from semsearch.storage.manifest import Manifest, SearchOptions
from semsearch.system.files import sha256


@pytest.fixture
def copy(animals: Path, tmp_path: Path) -> Path:
    """A copy of an index, which a test may damage."""
    return Path(shutil.copytree(animals, tmp_path / "copy"))


def part(folder: Path, name: str) -> Path:
    return next(folder.glob(f"g-*/**/{name}"))


def flip_a_byte(folder: Path) -> None:
    path = part(folder, "vectors.faiss")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: part(folder, "vectors.faiss").unlink(), "vectors.faiss cannot be read"),
        (lambda folder: part(folder, "documents.sqlite").write_bytes(b"x"), "documents.sqlite has 1 bytes"),
        (flip_a_byte, "vectors.faiss has changed since"),
        (lambda folder: part(folder, "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: part(folder, "manifest.json").write_text("{"), "is not a manifest"),
        (lambda folder: part(folder, "manifest.json").write_text("[]"), "is not a manifest"),
        (lambda folder: part(folder, "manifest.json").write_text('{"format_version": 99}'), "format version 99"),
        (lambda folder: part(folder, "manifest.json").write_text('{"format_version": 3}'), "Field required"),
        (lambda folder: (folder / "current").write_text("../elsewhere"), "is not a generation"),
        (lambda folder: (folder / "current").write_bytes(b"\xff"), "cannot be read"),
        (lambda folder: (folder / "current").unlink(), "no index at"),
    ],
)
def test_damage_is_named_with_its_remedy(copy: Path, damage: Callable[[Path], object], complaint: str) -> None:
    damage(copy)
    with pytest.raises(IndexFolderError, match=complaint) as caught:
        open_current(copy)
    assert "build" in str(caught.value)


def refuse(code: int, name: str = "") -> Callable[..., Any]:
    """A function that fails, or a `Path.open` that fails for files of this name."""
    open_path = Path.open

    def fail(path: Any, *args: Any, **options: Any) -> Any:
        if name and path.name != name:
            return open_path(path, *args, **options)
        raise OSError(code, os.strerror(code))

    return fail


def make_a_folder(manifest: Path) -> None:
    if manifest.is_file():
        manifest.unlink()
        manifest.mkdir()


@pytest.mark.parametrize(
    ("make_unreadable", "complaint"),
    [
        (lambda manifest, _: make_a_folder(manifest), "manifest.json cannot be read .Is a directory.*build the index"),
        (
            lambda _, patch: patch.setattr("fcntl.flock", refuse(errno.ENOLCK)),
            "manifest.json cannot be locked .*move the index to a file system that has locks",
        ),
        (
            lambda _, patch: patch.setattr("fcntl.flock", refuse(errno.EOPNOTSUPP)),
            "manifest.json cannot be locked .*move the index to a file system that has locks",
        ),
        (
            lambda _, patch: patch.setattr(Path, "open", refuse(errno.EACCES, "manifest.json")),
            "manifest.json cannot be read .Permission denied.*give this user access",
        ),
        (
            lambda _, patch: patch.setattr(Path, "exists", refuse(errno.EACCES)),
            "manifest.json cannot be read .Permission denied.*give this user access",
        ),
        (
            lambda _, patch: patch.setattr(Path, "read_text", refuse(errno.EACCES)),
            "current cannot be read .Permission denied.*give this user access",
        ),
    ],
)
def test_an_unreadable_manifest_is_named_with_its_remedy(
    make_unreadable: Callable[[Path, pytest.MonkeyPatch], None],
    complaint: str,
    copy: Path,
    tiny_encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = SearchEngine.open(copy, encoder=tiny_encoder, threads=1)
    republish(copy, lambda manifest: manifest)
    manifest = generations.current(copy) / "manifest.json"
    for attempt in (
        lambda: open_current(copy),
        engine.reopened,
        lambda: SearchEngine.open(copy, encoder=tiny_encoder, threads=1),
    ):
        with monkeypatch.context() as patch:
            make_unreadable(manifest, patch)
            with pytest.raises(IndexFolderError, match=complaint):
                attempt()
    engine.close()


def test_a_change_without_locks_is_an_error_with_the_remedy(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = generations.current(copy)
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse(errno.ENOLCK))
        with pytest.raises(IndexFolderError, match=r"lock cannot be locked .*move the index to a file system that has"):
            republish(copy, lambda manifest: manifest)
    assert generations.current(copy) == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_manifest_whose_state_cannot_be_read_is_another_one(
    code: int, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_current(copy)) as generation:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", refuse(code))
            is_at = generation.is_at(generation.files.folder)
        assert not is_at


def test_a_manifest_is_read_of_the_generation_that_replaced_its_own(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = generations.current(copy)
    republish(copy, lambda manifest: manifest.model_copy(update={"title": "Newer"}))
    assert not before.exists()
    answers = iter([before])
    now = generations.current
    monkeypatch.setattr(generations, "current", lambda folder: next(answers, None) or now(folder))
    assert read_manifest(copy).title == "Newer"


def with_sha256(folder: Path) -> None:
    """Give the manifest the checksums that earlier versions wrote."""
    path = part(folder, "manifest.json")
    values = json.loads(path.read_text())
    values["files"] = {
        name: {"bytes": file["bytes"], "sha256": sha256(path.parent / name)} for name, file in values["files"].items()
    }
    path.write_text(json.dumps(values))


def test_checksums_of_earlier_versions_are_verified(copy: Path) -> None:
    with_sha256(copy)
    open_current(copy).close()
    republish(copy, lambda manifest: manifest)
    open_current(copy).close()
    flip_a_byte(copy)
    with pytest.raises(IndexFolderError, match=r"vectors\.faiss has changed since"):
        open_current(copy)


def test_opening_leaves_nothing_in_a_folder_that_is_no_index(copy: Path, tiny_encoder: Encoder) -> None:
    generation = next(copy.glob("g-*"))
    before = {path.name for path in generation.iterdir()}
    with pytest.raises(IndexFolderError, match="no index at"):
        SearchEngine.open(generation, encoder=tiny_encoder)
    assert {path.name for path in generation.iterdir()} == before
    SearchEngine.open(copy, encoder=tiny_encoder).close()


def test_the_manifest_describes_the_index(animals: Path) -> None:
    manifest = read_manifest(animals)
    assert (manifest.title, manifest.documents, manifest.passages, manifest.skipped) == ("Animals", 6, 6, 0)
    assert (manifest.encoder.dimension, manifest.encoder.prompts["query"]) == (32, "query: ")
    # the full text's files have names of their own
    files = {name for name in manifest.files if not name.startswith("s-000001/fulltext/")}
    assert len(manifest.files) > len(files)
    assert files == {
        "s-000001/vectors.faiss",
        "s-000001/places.npy",
        "s-000001/documents.sqlite",
        "basis.safetensors",
        "map.safetensors",
    }


def test_a_second_builder_is_refused(copy: Path) -> None:
    with (
        begin_build(copy),
        pytest.raises(IndexFolderError, match="another build or change is writing"),
        begin_build(copy),
    ):
        pass


def test_the_folder_of_a_dead_builder_is_removed(copy: Path) -> None:
    (copy / "building-dead").mkdir()
    (copy / "building-dead" / "vectors.faiss").write_bytes(b"half")
    with begin_build(copy):
        assert not (copy / "building-dead").exists()
    open_current(copy).close()


def test_a_failure_leaves_the_old_index_and_nothing_else(copy: Path) -> None:
    before = sorted(path.name for path in copy.rglob("*"))
    with pytest.raises(IsADirectoryError), begin_build(copy) as files:  # noqa: PT012 - the first line must not fail
        files.basis.write_bytes(b"half")
        files.folder.write_bytes(b"this fails")
    assert sorted(path.name for path in copy.rglob("*")) == before
    open_current(copy).close()


def test_a_first_build_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="disk"), begin_build(tmp_path / "new"):
        raise RuntimeError("disk")
    assert not (tmp_path / "new").exists()


def test_a_generation_is_kept_while_it_is_open(copy: Path) -> None:
    old = Path(shutil.copytree(next(copy.glob("g-*")), copy / "g-000009"))
    (copy / "current").write_text("g-000009\n")
    reader = open_current(copy)
    (copy / "current").write_text("g-000001\n")
    with begin_build(copy):
        assert old.exists()
    reader.close()
    with begin_build(copy):
        assert not old.exists()
    open_current(copy).close()


def test_a_folder_of_other_files_is_refused_and_left_unchanged(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(IndexFolderError, match="holds files that are not an index"), begin_build(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_republishing_changes_the_manifest_and_keeps_the_files(copy: Path) -> None:
    def changed(manifest: Manifest) -> Manifest:
        return manifest.model_copy(update={"search": SearchOptions(lexical_weight=0.4)})

    before = open_current(copy)
    content = {name: path.read_bytes() for name, path in before.files.parts.items()}
    republish(copy, changed)
    # the old generation stays readable while it is open
    assert {name: path.read_bytes() for name, path in before.files.parts.items()} == content
    before.close()
    after = open_current(copy)
    assert after.manifest == changed(before.manifest)
    assert {name: path.read_bytes() for name, path in after.files.parts.items()} == content
    after.close()
    republish(copy, changed)
    assert len(list(copy.glob("g-*"))) == 1


def test_a_failed_change_leaves_the_index_unchanged(copy: Path) -> None:
    def failing(manifest: Manifest) -> Manifest:
        raise ValueError(manifest.title)

    before = read_manifest(copy)
    with pytest.raises(ValueError, match="Animals"):
        republish(copy, failing)
    assert read_manifest(copy) == before
    assert not list(copy.glob("building-*"))
