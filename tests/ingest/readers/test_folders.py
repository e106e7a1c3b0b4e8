"""Folders: what is found, what is passed over, and names and kinds of files that no reader expects."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.errors import InputError
from semsearch.ingest.building import Published, build
from semsearch.ingest.readers.files import BadRecord, PassedOver, printable
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Recipe, Source
from semsearch.types import Document


def test_files_of_unknown_formats_are_counted_by_suffix(tmp_path: Path) -> None:
    for name in ("a.txt", "b.PNG", "c.png", "d.py.gz", "Makefile", ".hidden.png", "sub/e.py", "x-skipped.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("words")
    *_, last = read(Source(path=tmp_path, exclude=("x-*",)))
    assert isinstance(last, PassedOver)
    assert (last.folder, last.suffixes, last.files) == (tmp_path, {".png": 2, ".py": 2, "": 1}, 5)
    assert not any(isinstance(record, PassedOver) for record in read(Source(path=tmp_path, include=("*.txt",))))


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_fifo, "not a regular file"),
        (make_socket, "not a regular file"),
        (make_device, "not a regular file"),
        (make_dangling, "No such file"),
        (make_loop, "Too many levels"),
    ],
)
def test_what_is_no_regular_file_is_reported(
    tmp_path: Path, make: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(make)
    monkeypatch.chdir(tmp_path)  # the address of a socket has a limited length
    make(Path("odd.txt"))
    (tmp_path / "z.txt").write_text("words")
    odd, good = read(Source(path=tmp_path))
    assert isinstance(odd, BadRecord)
    assert reason in odd.reason
    assert (odd.whole_file, odd.file, odd.location) == (True, f"{tmp_path.name}/odd.txt", str(tmp_path / "odd.txt"))
    assert isinstance(good, Document)
    with pytest.raises(InputError, match=f"{reason}|no such file"):
        read(Source(path=tmp_path / "odd.txt"))


def test_a_link_to_a_folder_is_reported_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dir.txt").mkdir()
    (tmp_path / "dir.txt" / "a.txt").write_text("words")
    (tmp_path / "circle").symlink_to(tmp_path)
    link, document = read(Source(path=tmp_path))
    assert isinstance(link, BadRecord)
    assert link.is_note
    assert "link to a folder" in link.reason
    assert isinstance(document, Document)
    assert document.id == f"{tmp_path.name}/dir.txt/a.txt"


@pytest.mark.parametrize("folder", [b"plain", b"f\xf6lder"])
def test_names_that_are_not_utf_8_or_not_printable_are_indexed_in_a_printable_form(
    tmp_path: Path, tiny_encoder: Encoder, folder: bytes
) -> None:
    docs = tmp_path / "docs"
    inner = docs / os.fsdecode(folder)
    inner.mkdir(parents=True)
    files = (b"caf\xe9.txt", b"line\nbreak\x1b[31m.md", b"\xff.json", b"bad\xe9.jsonl", b"\xe9.\xe9", b"t\xe9.csv")
    for name in files:
        (inner / os.fsdecode(name)).write_text("id,text\nrow,words\n" if name.endswith(b"csv") else '{"text": "words"}')
    (inner / os.fsdecode(b"bad\xe9.jsonl")).write_text("{nope")
    records = list(read(Source(path=docs)))
    ids = {record.id.rpartition("/")[2] for record in records if isinstance(record, Document)}
    assert ids == {r"caf\xe9.txt", r"line\x0abreak\x1b[31m.md", r"\xff.json:1", "row"}
    *_, published = build(
        Recipe(sources=(Source(path=docs),), map=False, max_bad_share=1), tmp_path / "index", encoder=tiny_encoder
    )
    assert isinstance(published, Published)
    reports = "\n".join(map(str, published.manifest.left_out))
    assert r"bad\xe9.jsonl:1: not JSON" in reports
    assert r"files ending in .\xe9 were not read" in reports
    assert reports.isprintable() or set(reports) - {"\n"} == {c for c in reports if c.isprintable()}


def test_a_source_whose_path_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"f\xf6lder")
    folder.mkdir()
    (folder / "a.txt").write_text("words")
    with pytest.raises(InputError, match=r"f\\xf6lder: its path is not UTF-8"):
        read(Source(path=folder))


def test_a_file_that_vanishes_is_reported(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("words")
    records = read(Source(path=tmp_path))
    assert isinstance(next(records), Document)
    (tmp_path / "b.txt").unlink()
    gone, last = records
    assert isinstance(gone, BadRecord)
    assert "No such file" in gone.reason
    assert isinstance(last, Document)


@pytest.mark.parametrize(
    ("name", "printed"), [("é.txt", "é.txt"), ("\udce9", r"\xe9"), ("a\tb", r"a\x09b"), ("\x9b31m", r"\x9b31m")]
)
def test_a_printable_name_has_no_control_characters_and_no_surrogates(name: str, printed: str) -> None:
    assert printable(name) == printed
