"""Normalization: what is invisible is removed, equal writings become one, and offsets point into the original text."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.text.normalization import MAX_MARKS, normalize
from semsearch.text.snippets import snippet
from semsearch.text.tokens import content_stems, match_spans, parse_query, quoted_phrases, tokenize

INVISIBLE = [
    "\u00ad", "\u034f", "\u061c", "\u0640", "\u180e", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u202a",
    "\u202c", "\u2060", "\u2066", "\u2069", "\ufe00", "\ufe0e", "\ufe0f", "\ufeff", "\U000e0101", "\U000e0061",
]  # fmt: skip
SAMPLES = [
    "The co-operative C++ and .NET guide, version 1.10: x86-64, R&D", 'a "quoted phrase" of 24" and 27" screens',
    "Straße, Müller, naïve ﬁle, İstanbul ısparta", "мой чай, ёлка, Київ «в кавычках»", "دليل المُستخدم می خواهم",
    "דו\"ח שנתי, מִשְׁפָּט", "किताबें लड़का क्ष", "ガイド ｶﾞｲﾄﾞ データ『全文検索』", "한국어 검색 “문장”",
    "ข้าวไทย", "数据库中的文档、第①章",
    "1½ cups, 10⁶ cells, 5 m², ‘it’s’ Java™ 20℃ −5", "Ｃ＋＋ ＃ｔａｇ ＂ｆｕｌｌ＂", "ന്‍ ൻ", "",
]  # fmt: skip
SCRIPTS = "aZé ñßıİﬁйиёї Αάςעִברשׁعَربىکहिन्दीक़বাংলায়தமிழ்తెలుగుಕನ್ನಡമലയാളംൻไทย้ลาวཨ་ကမ្ពុជာ漢字かがｶﾞﾊﾟ한ᄒㅎ１２½¼²³⁶①№™"
TEXTS = st.text(
    st.one_of(st.sampled_from([*SCRIPTS, *INVISIBLE, *" \"“”«»「」.,+-#@$_&'/\n0123"]), st.characters()), max_size=60
)


def stems(text: str) -> list[str]:
    return [token.stem for token in tokenize(text)]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        # invisible characters
        ("co\u00adoperation", "cooperation"), ("zero\u200bwidth", "zerowidth"), ("\ufeffstart", "start"),
        ("word\u2060joiner", "wordjoiner"), ("\u200eleft\u200f \u2067right\u2069", "left right"),
        ("葛\U000e0100城", "葛城"), ("1\ufe0f\u20e3 first", "1 first"), ("可\u200b能", "可能"),
        # Arabic and Persian
        ("محمـــد", "محمد"), ("مُحَمَّد", "محمد"), ("ﻣﺤﻤﺪ", "محمد"), ("می\u200cخواهم", "میخواهم"), ("أحمد", "احمد"),
        # Hebrew
        ("שָׁלוֹם", "שלום"), ('דו"ח', "דו״ח"), ("ﬡ", "א"),
        # Latin
        ("cafe\u0301", "café"), ("café", "cafe"), ("Straße", "STRASSE"), ("Müller", "Muller"), ("ﬁle ﬂow",
        "file flow"),
        ("Ｆｕｌｌ１", "full1"), ("ISPARTA", "ısparta"), ("İstanbul", "istanbul"), ("ǅ", "dz"), ("O\u02bcBrien",
        "O'Brien"),
        # Cyrillic and Greek
        ("чаи\u0306", "чай"), ("ёлка", "елка"), ("за\u0301мок", "замок"), ("ι\u0308\u0301", "ΐ"), ("σοφός", "ΣΟΦΟΣ"),
        # Japanese, Korean
        ("ｶﾞｲﾄﾞ", "ガイド"), ("か\u3099", "が"), ("か゛", "が"), ("ハ\u309a", "パ"), ("㌔", "キロ"),
        (unicodedata.normalize("NFD", "한국어"), "한국어"), ("한국어\u3164검색", "한국어 검색"),
        # Indic scripts
        ("क्\u200dष", "क्ष"), ("ക\u0d7b", "കന്\u200d"), ("ক\u09ce", "কত্\u200d"), ("ज़", "ज"), ("य\u093c", "\u095f"),
        ("\u09af\u09bc", "\u09df"),
        # numbers
        ("1½", "1 1/2"), ("½", "1/2"), ("5 m²", "5 m2"), ("CO₂", "CO2"), ("10⁶", "10 6"), ("Einstein¹", "Einstein 1"),
        ("cm³", "cm3"), ("m¹⁰", "m10"), ("①②", "1 2"), ("Ⅳ", "iv"), ("㎏ ㎡", "kg m2"), ("20℃", "20 °C"),
        ("Java™", "Java"), ("−5", "-5"), ("C♯", "C#"), ("Ｃ＋＋", "C++"),
    ],
)  # fmt: skip
def test_different_writings_of_a_text_have_the_same_tokens(text: str, same: str) -> None:
    assert stems(text) == stems(same)
    assert stems(text)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("чай", "чаи"), ("її", "іі"), ("ўсё", "усё"), ("が", "か"), ("パ", "ハ"), ("ข้าว", "ขาว"), ("กุ", "กู"),
        ("བོད", "བད"),
        ("য়", "য"), ("कि", "की"), ("1½", "112"), ("1½", "11/2"), ("10⁶", "106"), ("①②", "12"), ("Java™", "javatm"),
        ("می\u200cخواهم", "می خواهم"), ("word\u3164next", "wordnext"), ("m²", "m 2"), ("ب", "پ"),
    ],
)  # fmt: skip
def test_what_bears_meaning_is_kept(text: str, other: str) -> None:
    assert stems(text) != stems(other)


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 100), st.sampled_from(INVISIBLE)), max_size=8))
def test_invisible_characters_never_change_what_is_found(text: str, inserted: list[tuple[int, str]]) -> None:
    changed = text
    for position, character in inserted:
        changed = changed[:position] + character + changed[position:]
    assert stems(changed) == stems(text)
    assert parse_query(changed) == parse_query(text)
    assert quoted_phrases(changed) == quoted_phrases(text)
    assert content_stems(changed) == content_stems(text)


@given(st.sampled_from(SAMPLES))
def test_composed_and_decomposed_texts_have_the_same_tokens(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert stems(unicodedata.normalize(form, text)) == stems(text)
        assert parse_query(unicodedata.normalize(form, text)) == parse_query(text)


@given(TEXTS)
def test_any_text_in_composed_form_has_the_same_tokens_as_in_decomposed_form(text: str) -> None:
    assert stems(unicodedata.normalize("NFC", text)) == stems(unicodedata.normalize("NFD", text))


@given(TEXTS)
def test_tokens_of_any_text_are_spans_of_it_in_order(text: str) -> None:
    tokens = tokenize(text)
    for token in tokens:
        assert 0 <= token.start < token.stop <= len(text)
        assert not set(token.stem) & set(' "\n')
        assert token.stem in stems(text[token.start : token.stop]) or not text.isascii()
    starts = [token.start for token in tokens]
    assert starts == sorted(starts)
    spans = match_spans(text, frozenset(token.stem for token in tokens))
    assert all(first[1] <= second[0] or first[:2] == second[:2] for first, second in pairwise(spans))
    shown = snippet(text, text)
    assert "".join(piece for piece, _ in shown.segments) == shown.text


@pytest.mark.parametrize(
    ("passage", "query", "marked"),
    [
        ("a co\u00adoperation of two", "cooperation", ["co\u00adoperation"]),
        ("\u200bword\u200b next", "word", ["word"]),
        ("ein Cafe\u0301 hier", "café", ["Cafe\u0301"]),
        ("その ｶﾞｲﾄﾞ です", "ガイド", ["ｶﾞｲﾄﾞ"]),
        ("add 1½ cups", "1/2", ["1½"]),
        ("ﬁne ﬁles", "file", ["ﬁles"]),
        (unicodedata.normalize("NFD", "한국어 검색"), "검색", [unicodedata.normalize("NFD", "검색")]),
        ("the .NET net", ".net", [".NET", "net"]),
        ("C, C# and C++", "C++", ["C++"]),
        ("C, C# and C++", "c", ["C"]),
    ],
)
def test_marks_point_into_the_original_text(passage: str, query: str, marked: list[str]) -> None:
    shown = snippet(passage, query)
    assert [shown.text[start:stop] for start, stop in shown.marks] == marked


@pytest.mark.parametrize(
    "unit",
    ["a\u0301\u0323", "\u0301\u0323", "\u00ad", "\u0301\u200d\u0323", "가", "ᅡ", "ﾞﾟ", "½", "²",
    "x²", '"a ', "“", "C++", "-", ".a", "#", "m\u0301²", "①", "ﷺ"],
)  # fmt: skip
def test_long_texts_take_linear_time(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    started = perf_counter()
    tokenize(text)
    parse_query(text[:20_000])
    snippet(text[:20_000], text[:2_000])
    assert perf_counter() - started < 20


def test_long_runs_of_marks_are_cut() -> None:
    assert len(normalize("x" + "\u0301" * 1000).text) <= MAX_MARKS + 1
    assert normalize("plain text é").starts is None
