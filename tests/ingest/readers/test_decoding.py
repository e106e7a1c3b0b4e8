"""Encodings of text files, binary data, and codes of terminals and printers."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.ingest.readers.decoding import NotTextError, decode_text, strip_terminal_codes

RUSSIAN = "Поиск по смыслу находит документы, в которых нет слов запроса. Это просто удобно.\n"
GERMAN = "Die Straße führt über die Brücke zum schönen Schloss; für Fußgänger ist sie geöffnet.\n"
JAPANESE = "これは日本語の文章です。検索エンジンは文書の意味を理解します。\n"
CHINESE = "这是一个中文文档。搜索引擎可以理解文档的意思，并且找到相关的内容。\n"
POLISH = "Zażółć gęślą jaźń. Wyszukiwarka rozumie znaczenie dokumentów i odnajduje je szybko.\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "koi8-r"), (RUSSIAN, "cp1251"), (RUSSIAN, "cp866"), (GERMAN, "latin-1"), (GERMAN, "cp1252"),
        (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp"), (JAPANESE, "iso2022_jp"), (CHINESE, "gb18030"),
        (POLISH, "cp1250"), (POLISH, "iso8859-2"), (GERMAN, "utf-16-le"), (GERMAN, "utf-16-be"),
    ],
)  # fmt: skip
def test_an_encoding_that_is_sure_is_guessed_and_reported(text: str, encoding: str) -> None:
    decoded = decode_text(text.encode(encoding))
    assert decoded.text == text
    assert decoded.remark.startswith("not UTF-8: read as ")
    # the name in the report is one that a recipe takes
    name = decoded.remark.split("read as ")[1].split(",")[0]
    assert decode_text(text.encode(encoding), name).text == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-8"])
def test_unicode_needs_no_guess(encoding: str) -> None:
    for text in (RUSSIAN, "x", ""):
        decoded = decode_text(text.encode(encoding), "latin-1" if encoding != "utf-8" else "utf-8")
        assert (decoded.text, decoded.remark) == (text, "")


def test_an_encoding_that_is_named_is_used() -> None:
    assert decode_text(RUSSIAN.encode("koi8-r"), "koi8-r").text == RUSSIAN
    assert decode_text("é".encode("cp850"), "cp850").text == "é"
    with pytest.raises(NotTextError, match="not SHIFT_JIS"):
        decode_text(b"one\ntwo \xff\xfd", "shift_jis")


@pytest.mark.parametrize("raw", [b"\x80\x81 \xa5\xa6", b"x" * 200 + b"\x81\x8d"])
def test_an_encoding_that_is_not_sure_is_asked_for(raw: bytes) -> None:
    with pytest.raises(NotTextError, match=r"its encoding is not certain.*name it") as raised:
        decode_text(b"\n" + raw)
    assert raised.value.line == 2


@pytest.mark.parametrize(
    "text", ["Boil at 100 °C for 20 minutes.", "© 2024 The authors", "He said “well” and left for good."]
)
def test_a_text_of_few_other_characters_than_ascii_is_read_as_western(text: str) -> None:
    decoded = decode_text(text.encode("cp1252"))
    assert decoded.text == text
    assert "read as windows-1252, a guess" in decoded.remark


def test_damaged_utf_8_is_read_and_the_damage_reported() -> None:
    raw = GERMAN.encode() * 3 + "Stra\u00dfe\n".encode("latin-1") + GERMAN.encode()
    decoded = decode_text(raw)
    assert decoded.is_loss
    assert "in 1 place, first in line 4" in decoded.remark
    assert decoded.text == GERMAN * 3 + "Stra\ufffde\n" + GERMAN


@pytest.mark.parametrize(
    "raw",
    [
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00>\x00",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        zlib.compress(random.Random(0).randbytes(2_000)),
        random.Random(1).randbytes(2_000),
        bytes(100),
        b"a\x00b",
    ],
    ids=["elf", "png", "compressed", "random", "zeros", "short"],
)
def test_binary_data_are_no_text(raw: bytes) -> None:
    with pytest.raises(NotTextError, match="binary data"):
        decode_text(raw)


def test_a_few_null_characters_are_left_out_and_reported() -> None:
    decoded = decode_text(b"word " * 100 + b"\x00end")
    assert decoded.text.endswith("word end")
    assert decoded.remark == "a null character left out"


def test_line_ends_are_unified() -> None:
    assert decode_text(b"a\r\nb\rc\nd\x1a").text == "a\nb\nc\nd"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("N\bNA\bAM\bME\bE", "NAME"),
        ("_\bf_\bi_\bl_\be", "file"),
        ("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x1b\\", "red link"),
        ("\x1b(Bset \x1b7save", "set save"),
        ("page one\fpage two", "page one\npage two"),
        ("plain [31m text", "plain [31m text"),
        ("\b\x1b", ""),
    ],
)
def test_codes_of_terminals_and_printers_are_removed(text: str, plain: str) -> None:
    assert strip_terminal_codes(text) == plain


@given(st.binary(max_size=200), st.sampled_from(["utf-8", "latin-1", "shift_jis", "utf-16"]))
def test_any_bytes_are_text_or_refused(raw: bytes, encoding: str) -> None:
    try:
        decoded = decode_text(raw, encoding)
    except NotTextError as error:
        assert str(error)  # noqa: PT017 - either outcome is right
    else:
        decoded.text.encode()
        assert "\x00" not in decoded.text


@given(st.text())
def test_utf_8_is_read_as_it_is(text: str) -> None:
    lines = "".join(character for character in text if character.isprintable() or character == "\n").removeprefix(
        "\ufeff"
    )
    assert decode_text(lines.encode()).text == lines
