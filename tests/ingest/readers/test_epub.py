"""EPUB books: which chapters are read, how often, and what is reported of those that cannot be read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from semsearch.ingest.readers import epub
from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.types import Document
from tests.ingest.readers.samples import write, zip_bytes

CONTAINER = '<container><rootfiles><rootfile full-path="OPS/b.opf"/></rootfiles></container>'
PACKAGE = """<?xml version="1.0"?><package xmlns:dc="d"><metadata><dc:title>T</dc:title><dc:creator/></metadata>
<manifest>{items}</manifest><spine>{spine}</spine></package>"""


def book(chapters: dict[str, str | bytes], *, package: str = PACKAGE, spine: str = "", **parts: str) -> bytes:
    """A book of chapters by href. spine: by default, all of them in order."""
    items = "".join(f'<item id="i{number}" href="{href}"/>' for number, href in enumerate(chapters))
    spine = spine or "".join(f'<itemref idref="i{number}"/>' for number in range(len(chapters)))
    files = {f"OPS/{href}": chapter for href, chapter in chapters.items()}
    opf = package.format(items=items, spine=spine)
    return zip_bytes({"META-INF/container.xml": CONTAINER, "OPS/b.opf": opf, **files, **parts})


def results(path: Path, raw: bytes) -> tuple[list[str], list[str]]:
    """The words of the document; the reasons of losses, and of a whole file after `!`, or `empty` for an empty one."""
    words, reasons = [], []
    for record in read(Source(path=write(path, raw))):
        if isinstance(record, Document):
            words = record.text.split()
        else:
            assert isinstance(record, BadRecord)
            assert record.is_loss or record.whole_file
            reasons.append("empty" if record.is_empty else f"{'!' * record.whole_file}{record.reason}")
    return words, reasons


def edit_entry(raw: bytes, name: str, edit: Callable[[bytearray, int, int, int], None]) -> bytes:
    """Edit an entry of a zip file; `edit` receives the file and the offsets of both of its headers and its data."""
    changed = bytearray(raw)
    local = raw.index(b"PK\x03\x04", raw.index(name.encode()) - 30)
    central = raw.rindex(b"PK\x01\x02", 0, raw.rindex(name.encode()))
    edit(changed, local, central, local + 30 + struct.unpack_from("<H", raw, local + 26)[0])
    return bytes(changed)


def wrong_checksum(raw: bytearray, local: int, central: int, data: int) -> None:
    raw[local + 14] ^= 1
    raw[central + 16] ^= 1


def unknown_compression(raw: bytearray, local: int, central: int, data: int) -> None:
    raw[local + 8] = raw[central + 10] = 99


def password(raw: bytearray, local: int, central: int, data: int) -> None:
    raw[local + 6] |= 1
    raw[central + 8] |= 1


def damaged_data(raw: bytearray, local: int, central: int, data: int) -> None:
    raw[data] = 0xFF


@pytest.mark.parametrize(
    ("edit", "words", "reason"),
    [
        (wrong_checksum, ["one", *["two"] * 4, "three"], "is damaged, and not read to its end (Bad CRC-32"),
        (unknown_compression, ["one", "three"], "cannot be read (That compression method is not supported)"),
        (password, ["one", "three"], "cannot be read (it needs a password"),
        (damaged_data, ["one", "three"], "cannot be read (Error -3 while decompressing"),
    ],
)
def test_a_damaged_chapter_is_a_loss_and_the_others_are_read(
    tmp_path: Path, edit: Callable[[bytearray, int, int, int], None], words: list[str], reason: str
) -> None:
    # of the last 4 KiB of a part, nothing is read if its checksum is wrong
    two = "".join(f"two{' ' * 1_021}" for _ in range(4)) + "end"
    chapters: dict[str, str | bytes] = {"one.xhtml": "<p>one</p>", "two.xhtml": two, "three.xhtml": "<p>three</p>"}
    raw = edit_entry(book(chapters), "OPS/two.xhtml", edit)
    found, (loss,) = results(tmp_path / "a.epub", raw)
    assert found == words
    assert loss.startswith(f"its chapter 'OPS/two.xhtml' {reason}")


def test_chapters_that_are_encrypted_or_binary_are_losses(tmp_path: Path) -> None:
    encryption = """<encryption xmlns:enc="e"><enc:EncryptedData><enc:CipherReference URI="OPS/two%20b.xhtml"/>
    </enc:EncryptedData></encryption>"""
    chapters: dict[str, str | bytes] = {"one.xhtml": "<p>one", "two b.xhtml": b"abc", "three": bytes(range(256))}
    words, losses = results(tmp_path / "a.epub", book(chapters, **{"META-INF/encryption.xml": encryption}))
    assert words == ["one"]
    assert losses[0] == "its chapter 'OPS/two b.xhtml' cannot be read (it is encrypted)"
    assert losses[1].startswith("its chapter 'OPS/three' cannot be read (binary data")


@pytest.mark.parametrize("prefix", ["", "opf:", "ns0:"])
def test_the_prefix_of_the_elements_does_not_matter(tmp_path: Path, prefix: str) -> None:
    package = (
        PACKAGE.replace("<package", f"<{prefix}package xmlns:{prefix or 'x:'}x='y'")
        .replace("package>", f"{prefix}package>")
        .replace("manifest>", f"{prefix}manifest>")
        .replace("spine>", f"{prefix}spine>")
    )
    raw = book({"one.xhtml": "<p>one</p>", "two.xhtml": "<p>two</p>"}, package=package)
    if prefix:
        items = "".join(f'<{prefix}item id="i{n}" href="{h}.xhtml"/>' for n, h in enumerate(("one", "two")))
        spine = "".join(f'<{prefix}itemref idref="i{n}"></{prefix}itemref>' for n in range(2))
        container = f'<{prefix}container><{prefix}rootfile full-path="OPS/b.opf"/></{prefix}container>'
        raw = zip_bytes(
            {
                "META-INF/container.xml": container,
                "OPS/b.opf": package.format(items=items, spine=spine),
                "OPS/one.xhtml": "<p>one</p>",
                "OPS/two.xhtml": "<p>two</p>",
            }
        )
    (document,) = read(Source(path=write(tmp_path / "a.epub", raw)))
    assert isinstance(document, Document)
    assert (document.text.split(), document.title, document.metadata.get("author")) == (["one", "two"], "T", None)


@pytest.mark.parametrize(
    "href", ["two%20b.xhtml", "./x/../two%20b.xhtml", "../OPS/two%20b.xhtml", "TWO%20B.xhtml", "two%20b.xhtml#part"]
)
def test_references_to_chapters_are_resolved(tmp_path: Path, href: str) -> None:
    package = PACKAGE.replace("{items}", f'<item id="i0" href="{href}"/>')
    assert results(tmp_path / "a.epub", book({"two b.xhtml": "<p>two</p>"}, package=package)) == (["two"], [])


def test_a_name_that_is_percent_encoded_in_the_file_too_is_found(tmp_path: Path) -> None:
    assert results(tmp_path / "a.epub", book({"two%20b.xhtml": "<p>two</p>"})) == (["two"], [])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (book({}), "!none of its chapters can be read"),
        (book({"a.xhtml": "<p>x"}, spine="<nothing/>"), "!none of its chapters can be read"),
        (book({"a.xhtml": "<p>x"}, spine='<itemref idref="no"/>'), "!none of its chapters can be read; its chapter"),
        (book({"a.xhtml": "<p>x"}, package="{items}"), "!none of its chapters can be read"),
        (edit_entry(book({"a.xhtml": "<p>x"}), "OPS/a.xhtml", password), "!none of its chapters can be read; its"),
        (edit_entry(book({"a.xhtml": "<p>x"}), "OPS/b.opf", password), "!none of its chapters can be read; its"),
        (zip_bytes({"mimetype": "application/epub+zip"}), "!its META-INF/container.xml is missing"),
        (book({"a.xhtml": "<img src='a.png'/>"}), "empty"),
    ],
)
def test_a_book_of_which_nothing_can_be_read_is_not_empty(tmp_path: Path, raw: bytes, reason: str) -> None:
    words, (found,) = results(tmp_path / "a.epub", raw)
    assert words == []
    assert found.startswith(reason)


def test_a_chapter_is_read_once_however_often_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spine = '<itemref idref="i0"/><itemref idref="i1"/><itemref idref="i2"/>' * 1_000
    chapters: dict[str, str | bytes] = {"a.xhtml": "<p>word</p>", "./a.xhtml": "<p>word</p>", "A.xhtml": "<p>word</p>"}
    assert results(tmp_path / "a.epub", book(chapters, spine=spine)) == (["word"], [])
    monkeypatch.setattr(epub, "MAX_RECORD_BYTES", 100)
    many = {f"{number}.xhtml": f"<p>{'word ' * 10}</p>" for number in range(5)}
    assert results(tmp_path / "a.epub", book(dict(many))) == ([], ["!its text is longer than 100 characters: split it"])
