"""Readers: every format, and every way in which a record can be none."""

from __future__ import annotations

from pathlib import Path

import pytest

from semsearch.errors import InputError
from semsearch.ingest.readers import delimited, pages, tables
from semsearch.ingest.readers import files as opening
from semsearch.ingest.readers.files import BadRecord, Record
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.types import Document


def read_all(path: Path, **options: object) -> list[Record]:
    return list(read(Source.model_validate({"path": path, **options})))


def documents(path: Path, content: str | bytes, **options: object) -> list[Document]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = read_all(path, **options)
    assert all(isinstance(one, Document) for one in found), found
    return [one for one in found if isinstance(one, Document)]


def test_jsonl_fields_and_metadata(tmp_path: Path) -> None:
    content = (
        '\ufeff{"_id": 7, "title": "T", "text": " a\\u0000b ", "tags": ["x"], "none": null}\r\n\n{"content": "only"}'
    )
    first, second = documents(tmp_path / "a.jsonl", content)
    assert first == Document("7", "T", "ab", "a.jsonl:1", {"tags": ["x"]})
    assert second == Document("a.jsonl:3", "", "only", "a.jsonl:3", {})


def test_csv_with_quoted_newlines_and_a_tsv(tmp_path: Path) -> None:
    (found,) = documents(tmp_path / "a.csv", 'id,text,colour\r\n1,"two\nlines, one ""cell""",red\r\n')
    assert found == Document("1", "", 'two\nlines, one "cell"', "a.csv:3", {"colour": "red"})
    (found,) = documents(tmp_path / "a.tsv", "id\ttitle\ttext\n1\tT\ta b\n")
    assert (found.title, found.text) == ("T", "a b")


def test_named_fields_and_joined_texts(tmp_path: Path) -> None:
    fields = {"id": ["sku"], "text": ["name", "about"], "title": "label"}
    (found,) = documents(tmp_path / "a.csv", "sku,name,about,label\nk1,Chair,Wooden,L\n", fields=fields)
    assert found == Document("k1", "L", "Chair\n\nWooden", "a.csv:2", {})


def test_markdown_has_its_first_heading_and_no_markup(tmp_path: Path) -> None:
    content = "---\ndate: 1\n---\nIntro *to* `it`.\n\n# The [way](http://x) out\n\n- one\n- two\n\n"
    content += "```\ncode()\n```\n\n|a|b|\n|-|-|\n|c|d|\n"
    (found,) = documents(tmp_path / "guide.md", content)
    assert (found.id, found.title) == ("guide.md", "The way out")
    assert found.text.startswith("Intro to it.\n\nThe way out\n\n")
    assert found.text.split()[6:] == ["one", "two", "code()", "a", "b", "c", "d"]


def test_html_has_its_title_and_no_script(tmp_path: Path) -> None:
    content = (
        "<html><head><title>A &amp; B</title><style>p{}</style></head><body><nav>menu</nav><script>evil()</script>"
        "<p>One <b>bold</b> word.</p><p>Two&nbsp;&lt;x&gt;</p><pre>a\n  b</pre></body></html>"
    )
    (found,) = documents(tmp_path / "page.html", content)
    assert found.title == "A & B"
    assert found.text.startswith("One bold word.\n\nTwo <x>")
    assert "a\n" in found.text
    assert not {"evil", "menu", "p{}"} & set(found.text.split())


def test_plain_text_is_titled_by_its_file(tmp_path: Path) -> None:
    (found,) = documents(tmp_path / "notes.txt", "caf\xe9".encode("latin-1"), encoding="latin-1")
    assert found == Document("notes.txt", "notes", "café", "notes.txt", {})


@pytest.mark.parametrize(
    ("name", "content", "place", "reason"),
    [
        ("a.jsonl", b'{"text": "ok"}\n{bad', ":2", "not JSON"),
        ("a.jsonl", b'["x"]', ":1", "a JSON list"),
        ("a.jsonl", b'{"text": NaN}', ":1", "NaN is not a JSON number"),
        ("a.jsonl", b'{"text": "\\ud800"}', ":1", "surrogate"),
        ("a.jsonl", b'{"text": "ok"}\n{"text": "caf\xe9"}', ":2", "not UTF-8"),
        ("a.jsonl", b'{"text": {"deep": 1}}', ":1", "'text' is not text"),
        ("a.jsonl", b'{"id": 1, "other": "x"}', ":1", "an empty document"),
        ("a.jsonl", b'{"text": "' + b"x" * 300 + b'"}', ":1", "longer than 200"),
        ("a.csv", b"id,text\n1,ok\n1,2,3\n", ":3", "3 fields in a table of 2"),
        ("a.csv", b"id,text\n1,caf\xe9\n", ":2", "not UTF-8"),
        ("a.csv", b"foo,bar\n1,2\n", ":1", "no column for the text"),
        ("a.csv", b'id,text\n1,"open\n', ":2", "not a row"),
        ("a.md", b"\n\x80\x81 \xa5\xa6", ":2", "not UTF-8"),
        ("a.html", b"<p>\n</p>", "", "an empty document"),
        ("a.txt", b"one\n\x80\x81 \xa5\xa6", ":2", "not UTF-8"),
        ("a.txt", b" \n", "", "an empty document"),
        ("a.txt", b"x" * 300, "", "longer than 200"),
    ],
)
def test_what_is_no_document_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, place: str, reason: str
) -> None:
    for module in (opening, delimited, pages, tables):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", 200)
    path = tmp_path / name
    path.write_bytes(content)
    bad = read_all(path)[-1]
    assert isinstance(bad, BadRecord)
    assert bad.location == f"{path}{place}"
    assert reason in bad.reason


def test_a_bad_line_does_not_hide_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{bad\n{"text": "caf\xe9"}\n{"text": "good"}\n')
    assert [isinstance(one, Document) for one in read_all(path)] == [False, False, True]


def test_a_folder_is_read_in_order_without_what_is_not_meant(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    for name in ("b.txt", "a.txt", "sub/c.md", ".hidden.txt", ".git/d.txt", "e.exe", "draft-x.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("words")
    found = [one.id for one in read_all(folder, exclude=["draft-*"]) if isinstance(one, Document)]
    assert found == ["docs/a.txt", "docs/b.txt", "docs/sub/c.md"]
    assert [one.id for one in read_all(folder, include=["*.md"]) if isinstance(one, Document)] == ["docs/sub/c.md"]


def test_nothing_to_read_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "x.exe").write_text("x")
    for path, complaint in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "x.exe", "cannot be read; known are .jsonl"),
        (tmp_path, "no file to index"),
    ):
        with pytest.raises(InputError, match=complaint):
            read_all(path)
