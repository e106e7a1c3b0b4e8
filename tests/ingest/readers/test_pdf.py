"""PDF: pages, forms, dates and broken words; a file that crashes or hangs costs only itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from semsearch.ingest.readers import pdf
from semsearch.ingest.readers.content import RefusedError
from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.pdf import join_broken_words, parse_pdf, pdf_date
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.types import Document
from tests.ingest.readers.samples import AES_PDF, pdf_bytes, write


def test_a_broken_page_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    raw = pdf_bytes("first", "second", "third")
    # the second page is no page any more
    second = raw.index(b"/Type /Page\n", raw.index(b"/Type /Page\n") + 1)
    broken = raw[:second] + b"/Type /Pxxx\n" + raw[second + 12 :]
    document, *losses = read(Source(path=write(tmp_path / "a.pdf", broken)))
    assert isinstance(document, Document)
    assert {"first", "third"} <= set(document.text.split())
    assert all(isinstance(loss, BadRecord) and loss.is_loss for loss in losses)


def test_pages_that_are_images_are_reported_by_their_numbers(tmp_path: Path) -> None:
    raw = pdf_bytes("text", "", "", "", "more", "", image=(1, 2, 3, 6))
    document, loss = read(Source(path=write(tmp_path / "a.pdf", raw)))
    assert isinstance(document, Document)
    assert document.text.split() == ["text", "more"]
    assert isinstance(loss, BadRecord)
    assert loss.reason.startswith("images without text: its pages 2-3, 6;")
    assert loss.is_loss


def test_values_of_forms_are_read() -> None:
    assert parse_pdf(pdf_bytes("Name:", form="Mariana Valdez")).text.split() == ["Name:", "Mariana", "Valdez"]


def test_a_file_encrypted_without_a_password_is_read() -> None:
    assert parse_pdf(AES_PDF).text.strip() == "Sealed words"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("D:20240301100000Z", "2024-03-01T10:00:00+00:00"),
        ("D:20240301100000+05'30'", "2024-03-01T10:00:00+05:30"),
        ("D:20240301", "2024-03-01T00:00:00"),
        ("20240301", "2024-03-01T00:00:00"),
        ("D:2024", "2024-01-01T00:00:00"),
        ("D:20241399000000Z", "D:20241399000000Z"),
        ("D:20240301100000+99'00'", "D:20240301100000+99'00'"),
        ("D:00000000000000Z", "D:00000000000000Z"),
        ("Friday", "Friday"),
        ("2024", "2024"),
        ("", ""),
    ],
)
def test_odd_dates_never_fail(date: str, expected: str) -> None:
    assert pdf_date(date) == expected
    assert parse_pdf(pdf_bytes("x", CreationDate=date)).metadata["date"] == expected


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("a docu\ufffement of words", "a document of words"),
        ("a top\ufffelevel domain; top of a level", "a top-level domain; top of a level"),
        ("the re\ufffestart, a re-start", "the re-start, a re-start"),
        ("the infor\ufffemation, infor mation, information", "the information, infor mation, information"),
        ("COVID\ufffe19 and Mayer\ufffeVietoris", "COVID-19 and Mayer-Vietoris"),
        ("no-\ufffe", "no--"),
        ("soft\xad\nly", "softly"),
    ],
)
def test_words_broken_over_two_lines_are_joined(text: str, joined: str) -> None:
    assert join_broken_words(text) == joined


def test_broken_words_and_ligatures_of_a_page() -> None:
    assert parse_pdf(pdf_bytes(["a long docu-", "ment with a well-known", "end"])).text.split() == (
        ["a", "long", "document", "with", "a", "well-known", "end"]
    )


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("import os; os.abort()", "the library ended with code -6"),
        ("while True: pass", "it takes longer than 1 seconds"),
        ("print('null')", "too many pages, or too much text"),
    ],
)
def test_a_crash_or_an_endless_loop_costs_the_rest_of_the_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, reason: str
) -> None:
    program = tmp_path / "program.py"
    header = '{"pages": 3, "metadata": {}, "is_dynamic_form": false}'
    page = '{"text": "first", "has_images": false}'
    program.write_text(f"print('{header}', flush=True)\nprint('{page}', flush=True)\n{ending}\n")
    monkeypatch.setattr(pdf, "PROGRAM", program)
    monkeypatch.setattr(pdf, "SECONDS", 1.0)
    parsed = parse_pdf(b"%PDF")
    assert parsed.text == "first"
    (loss,) = parsed.losses
    assert loss.startswith("not read: its pages 2-3 (")
    assert reason in loss


def test_a_crash_at_once_refuses_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text("raise MemoryError")
    monkeypatch.setattr(pdf, "PROGRAM", program)
    with pytest.raises(RefusedError, match="the library ended with code 1"):
        parse_pdf(b"%PDF")


def test_a_page_count_without_pages_and_pages_in_a_circle_end(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = pdf_bytes("only")
    monkeypatch.setattr(pdf, "MAX_PAGES", 50)
    many = parse_pdf(raw.replace(b"/Count 1", b"/Count 1999999999"))
    assert "only" in many.text
    kids = raw.index(b"/Kids [ ") + 8
    circle = raw[:kids] + b"1 0 R" + raw[kids + 5 :]
    with pytest.raises(RefusedError, match=r"no text in its 1 pages|not read|cannot be read"):
        parse_pdf(circle)
