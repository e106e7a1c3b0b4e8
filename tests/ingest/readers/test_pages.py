"""Pages, books and packed files: what is read of them, what becomes metadata, and what cannot be read."""

from __future__ import annotations

import gzip
import lzma
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import docx
import pyarrow
import pyarrow.parquet
import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from semsearch.ingest.readers import content as limits
from semsearch.ingest.readers import files as opening
from semsearch.ingest.readers import pages
from semsearch.ingest.readers.files import BadRecord, Record
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Recipe, Source
from semsearch.types import Document
from tests.conftest import write_jsonl
from tests.ingest.readers.samples import compress_zstd

PAGE = """<!doctype html><html lang="en"><head><title>How to reset – Acme</title>
<meta property="article:published_time" content="2024-03-01T10:00:00Z"><style>p{}</style></head><body>
<div id="cookie-banner"><p>We use cookies.</p></div>
<header class="site-header"><ul><li><a>Products</a></li><li><a>Pricing</a></li></ul></header>
<nav class="breadcrumb"><a>Home</a></nav><aside class="sidebar"><h3>Related</h3><a>Billing</a></aside>
<main><article><h1>How to reset</h1><p>Press the <b>button</b> for&nbsp;ten seconds.</p><h2>If it fails</h2>
<ol><li>Wait</li></ol><pre>reset --hard
  now</pre></article></main><footer><p>© Acme. Terms</p></footer><script>evil()</script></body></html>"""


def one(path: Path, **options: object) -> Record:
    (found,) = read(Source.model_validate({"path": path, **options}))
    return found


def pdf(path: Path, *texts: str, title: str = "", password: str = "") -> Path:
    writer = pypdf.PdfWriter()
    for text in texts:
        page = writer.add_blank_page(200, 200)
        font = DictionaryObject(
            {NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1")}
        )
        font[NameObject("/BaseFont")] = NameObject("/Helvetica")
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    writer.add_metadata({"/Title": title, "/Author": "Ann", "/CreationDate": "D:20240301100000Z"})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    writer.write(path)
    return path


def epub(path: Path) -> Path:
    container = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
    package = """<package><metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Sea</dc:title>
    <dc:creator>Bo</dc:creator><dc:language>en</dc:language><dc:date>1999</dc:date></metadata><manifest>
    <item id="b" href="two%20b.xhtml"/><item id="a" href="one.xhtml"/><item id="c" href="style.css"/></manifest>
    <spine><itemref idref="a"/><itemref idref="b"/></spine></package>"""
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("META-INF/container.xml", container)
        book.writestr("OPS/book.opf", package)
        for name, title in (("one", "First"), ("two b", "Second")):
            chapter = f"<html><body><h1>{title}</h1><p>{title} came the whale.</p></body></html>"
            book.writestr(f"OPS/{name}.xhtml", chapter)
    return path


def word(path: Path) -> Path:
    file = docx.Document()
    file.add_heading("Leave", 1)
    file.add_paragraph("Ask three weeks before.")
    table = file.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Days", "30"
    file.add_paragraph("That is all.")
    file.core_properties.author, file.core_properties.created = "Cy", datetime(2024, 5, 6)
    file.save(str(path))
    return path


def test_a_page_is_read_without_navigation_banners_and_scripts(tmp_path: Path) -> None:
    (tmp_path / "reset.html").write_text(PAGE)
    found = one(tmp_path / "reset.html")
    assert isinstance(found, Document)
    assert found.title == "How to reset – Acme"
    assert "How to reset\n\nPress the button for ten seconds." in found.text
    assert "reset --hard\n  now" in found.text
    assert "Billing" in found.text  # an aside may hold anything
    for boilerplate in ("Pricing", "Home", "Terms", "evil", "p{}"):
        assert boilerplate not in found.text
    assert found.metadata["date"] == "2024-03-01T10:00:00Z"
    assert found.metadata["lang"] == "en"
    assert found.metadata["headings"] == ["Related", "How to reset", "If it fails"]


def test_a_page_of_nothing_but_links_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<nav><a>Alpha</a> <a>Beta</a></nav>")
    found = one(tmp_path / "a.html")
    assert isinstance(found, Document)
    assert found.text.split() == ["Alpha", "Beta"]


@pytest.mark.parametrize(
    ("matter", "title", "metadata"),
    [
        ("title: Mine\ndate: 2024-03-01\ntags: [a, b]\n", "Mine", {"date": "2024-03-01", "tags": ["a", "b"]}),
        ("draft: true\nauthor: {name: Ann}\n", "Way out", {"draft": True, "author": {"name": "Ann"}}),
        ("price: 1.5\n", "Way out", {"price": 1.5}),
    ],
)
def test_front_matter_becomes_metadata(tmp_path: Path, matter: str, title: str, metadata: dict[str, object]) -> None:
    (tmp_path / "a.md").write_text(f"---\n{matter}---\n\n# Way out\n\nHere.\n\n## Door\n")
    found = one(tmp_path / "a.md")
    assert isinstance(found, Document)
    assert (found.title, found.text) == (title, "Way out\n\nHere.\n\nDoor")
    assert found.metadata == {**metadata, "headings": ["Way out", "Door"]}


def test_text_between_two_rules_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\nNote: This page is old.\n---\n\n# Way out\n\nHere.\n")
    found = one(tmp_path / "a.md")
    assert isinstance(found, Document)
    assert (found.title, found.text) == ("Way out", "Note: This page is old.\n\nWay out\n\nHere.")


@pytest.mark.parametrize(("matter", "reported"), [("[not: yaml\n", True), ("just words\n", False)])
def test_front_matter_that_is_no_mapping_is_text(tmp_path: Path, matter: str, reported: bool) -> None:
    (tmp_path / "a.md").write_text(f"---\n{matter}---\n\n# Way out\n")
    found, *remarks = read(Source(path=tmp_path / "a.md"))
    assert isinstance(found, Document)
    assert found.text.startswith(matter.strip())
    assert [isinstance(remark, BadRecord) and remark.is_note for remark in remarks] == [True] * reported


def test_a_pdf_has_the_text_of_its_pages(tmp_path: Path) -> None:
    found = one(pdf(tmp_path / "a.pdf", "Salt and rivers", "Harvests", title="Report"))
    assert isinstance(found, Document)
    assert (found.id, found.title, found.text.split()) == ("a.pdf", "Report", ["Salt", "and", "rivers", "Harvests"])
    assert found.metadata == {"pages": 2, "author": "Ann", "date": "2024-03-01T10:00:00+00:00"}


def test_a_book_is_read_without_its_missing_chapters_and_images(tmp_path: Path) -> None:
    package = """<package><metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>T</dc:title></metadata>
    <manifest><item id="a" href="../text/one.xhtml"/><item id="b" href="gone.xhtml"/>
    <item id="c" href="cover.jpg" media-type="image/jpeg"/><item id="e" media-type="application/xhtml+xml"/>
    <item id="d" href="../text/two.html" media-type="text/X-OEB1-Document"/></manifest>
    <spine><itemref idref="c"/><itemref idref="a"/><itemref idref="b"/><itemref idref="d"/><itemref idref="e"/></spine>
    </package>"""
    with zipfile.ZipFile(tmp_path / "a.epub", "w") as book:
        book.writestr("META-INF/container.xml", '<container><rootfile full-path="OPS/book.opf"/></container>')
        book.writestr("OPS/book.opf", package)
        book.writestr("OPS/cover.jpg", b"\xff\xd8 not text")
        book.writestr("text/one.xhtml", '<?xml version="1.0" encoding="koi8-r"?><p>Привет</p>'.encode("koi8-r"))
        book.writestr("text/two.html", "<body><ul><li>last</li></ul></body>")
    document, *losses = read(Source(path=tmp_path / "a.epub"))
    assert isinstance(document, Document)
    assert document.text.split() == ["Привет", "last"]
    assert [loss.reason for loss in losses if isinstance(loss, BadRecord) and loss.is_loss] == [
        "its chapter 'OPS/gone.xhtml' cannot be read (it is missing)",
        "its chapter 'e' has no file",
    ]


def test_a_word_document_has_paragraphs_and_tables_in_order(tmp_path: Path) -> None:
    found = one(word(tmp_path / "leave.docx"))
    assert isinstance(found, Document)
    assert found.title == "Leave"
    assert found.text == "Leave\n\nAsk three weeks before.\n\nDays\t30\n\nThat is all."
    assert (found.metadata["author"], found.metadata["headings"]) == ("Cy", ["Leave"])
    assert str(found.metadata["date"]).startswith("2024-05-06")


def test_a_book_has_its_chapters_in_the_order_of_reading(tmp_path: Path) -> None:
    found = one(epub(tmp_path / "sea.epub"))
    assert isinstance(found, Document)
    assert (found.title, found.metadata["author"], found.metadata["lang"]) == ("The Sea", "Bo", "en")
    assert found.text == "First\n\nFirst came the whale.\n\nSecond\n\nSecond came the whale."
    assert found.metadata["headings"] == ["First", "Second"]


def test_parquet_is_read_by_row(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "sku": ["k1", "k2", None],
            "name": ["Chair", "Table", None],
            "about": ["Wooden", None, None],
            "day": [date(2024, 3, 1), None, None],
            "tags": [["a", "b"], [], None],
            "price": [1.5, float("nan"), 2.0],
            "raw": [b"x", None, None],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    fields = {"id": "sku", "text": ["name", "about"]}
    first, second, third = read(Source.model_validate({"path": tmp_path / "a.parquet", "fields": fields}))
    metadata: dict[str, Any] = {"day": "2024-03-01", "tags": ["a", "b"], "price": 1.5}
    assert first == Document("k1", "", "Chair\n\nWooden", "a.parquet:1", metadata)
    assert second == Document("k2", "", "Table", "a.parquet:2", {"tags": []})
    assert isinstance(third, BadRecord)
    assert (third.location, third.whole_file) == (f"{tmp_path / 'a.parquet'}:3", False)


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), (".zst", compress_zstd)])
def test_packed_files_are_read_as_what_is_in_them(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    for name, content in (
        ("a.jsonl", '{"id": 1, "text": "ä"}\n{bad\n'),
        ("b.csv", "id,text\n2,two\n"),
        ("c.md", "# Title\n\ntext"),
        ("d.tsv", "id\ttext\n4\tfour\n"),
    ):
        (tmp_path / f"{name}{ending}").write_bytes(pack(content.encode()))
    found = list(read(Source(path=tmp_path)))
    documents = [document for document in found if isinstance(document, Document)]
    name = tmp_path.name
    assert [(document.id, document.text) for document in documents] == [
        ("1", "ä"), ("2", "two"), (f"{name}/c.md{ending}", "Title\n\ntext"), ("4", "four"),
    ]  # fmt: skip
    assert documents[2].title == "Title"
    [bad] = [one for one in found if isinstance(one, BadRecord)]
    assert bad.location == f"{tmp_path / 'a.jsonl'}{ending}:2"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pdf", b"no pdf", "cannot be read as PDF"),
        ("a.docx", b"no zip", "cannot be read as a Word document"),
        ("a.epub", b"no zip", "cannot be read as EPUB"),
        ("a.parquet", b"PAR1 no parquet PAR1", "cannot be read as Parquet"),
        ("a.txt.gz", b"no gzip", "cannot be read (not compressed by gzip"),
        ("a.csv.gz", gzip.compress(b"id,text\n1,x\n" * 999)[:40], "cannot be read (it is cut off"),
        ("a.jsonl.xz", b"no xz", "cannot be read (not compressed by xz"),
        ("a.md.zst", b"no zstd", "cannot be read (not compressed by zstd"),
        ("a.txt", b"\n\x80\x81 \xa5\xa6", "not UTF-8"),
        ("a.html", b"<p></p>", "an empty document"),
    ],
)
def test_a_file_of_a_folder_that_cannot_be_read_does_not_end_the_build(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / name).write_bytes(content)
    write_jsonl(folder / "z.jsonl", [{"id": "z", "text": "good"}])
    *_, bad, good = read(Source(path=folder))
    assert isinstance(good, Document)
    assert isinstance(bad, BadRecord)
    assert bad.location.startswith(str(folder / name))
    assert reason in bad.reason
    assert bad.whole_file
    # named itself it must be readable
    *_, alone = read(Source(path=folder / name))
    assert isinstance(alone, BadRecord)
    assert alone.named


def test_what_is_locked_or_holds_no_text_is_told(tmp_path: Path) -> None:
    locked = one(pdf(tmp_path / "locked.pdf", "secret", password="x"))
    assert isinstance(locked, BadRecord)
    assert "needs a password" in locked.reason
    scanned = one(pdf(tmp_path / "scan.pdf", "", ""))
    assert isinstance(scanned, BadRecord)
    assert "no text in its 2 pages" in scanned.reason


def test_a_file_that_decompresses_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (opening, pages):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", 2_000)
    for module in (pages, limits):
        monkeypatch.setattr(module, "MAX_PACKED_BYTES", 16_000)
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("word/document.xml", "x" * 100_000)
        book.writestr("META-INF/container.xml", '<rootfile full-path="word/document.xml"/>')
    for name in ("a.docx", "a.epub"):
        (tmp_path / name).write_bytes(packed.getvalue())
        bad = one(tmp_path / name)
        assert isinstance(bad, BadRecord)
        assert "decompresses to more than 16000 bytes" in bad.reason
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"x" * 100_000))
    bad = one(tmp_path / "a.txt.gz")
    assert isinstance(bad, BadRecord)
    assert "longer than 2000 bytes" in bad.reason


@pytest.mark.parametrize(
    ("name", "library"),
    [("a.pdf", "pypdfium2"), ("a.parquet", "pyarrow.parquet")],
)
def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    (tmp_path / name).write_bytes(b"x")
    bad = one(tmp_path / name)
    assert isinstance(bad, BadRecord)
    assert " -m pip install " in bad.reason


def test_fields_are_named_by_one_name_or_by_many(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('[[sources]]\npath = "a.jsonl"\nfields.id = "sku"\nfields.text = ["name", "description"]\n')
    write_jsonl(tmp_path / "a.jsonl", [{"sku": 7, "name": "Chair", "description": "Wooden"}])
    (source,) = Recipe.read(recipe).sources
    (found,) = read(source)
    assert isinstance(found, Document)
    assert (found.id, found.text) == ("7", "Chair\n\nWooden")
    # what is not named is looked for
    write_jsonl(tmp_path / "a.jsonl", [{"text": "first", "content": "second"}])
    (found,) = read(Source(path=tmp_path / "a.jsonl"))
    assert isinstance(found, Document)
    assert found.text == "first"
