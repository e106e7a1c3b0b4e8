"""Tokens in any script, and the parsing of keyword queries."""

from __future__ import annotations

import pytest

from semsearch.text.tokens import MAX_TERMS, parse_query, tokenize


@pytest.mark.parametrize(
    ("text", "stems"),
    [
        ("Splitting the STRINGS", ["split", "the", "string"]),
        ("Café naïve ﬁne İstanbul ＡＢＣ", ["cafe", "naiv", "fine", "istanbul", "abc"]),
        ("os.path_join(x2)", ["os", "path", "join", "x2"]),
        ("数据库abc", ["数", "据", "库", "abc"]),
        ("データ", ["デ", "ー", "タ"]),
        ("مُحَمَّد", ["محمد"]),
        ("किताबें", ["किताबें"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("!? 😀 --", []),
    ],
)
def test_stems_have_no_case_accents_and_endings(text: str, stems: list[str]) -> None:
    assert [token.stem for token in tokenize(text)] == stems


def test_tokens_have_offsets_and_function_words_are_flagged() -> None:
    text = "a naïve  数据"
    assert [text[token.start : token.stop] for token in tokenize(text)] == ["a", "naïve", "数", "据"]
    assert [token.is_function_word for token in tokenize(text)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("query", "phrases", "terms"),
    [
        ("how to split the strings", [], ["split", "string"]),
        ("what is it", [], ["what", "is", "it"]),
        ("", [], []),
        ("SKU-1234 red", [], ["sku 1234", "sku", "1234", "red"]),
        ('find "read csv" fast', ["read csv"], ["find", "fast"]),
        ("“exact words”", ["exact word"], []),
        ('open "quote', [], ["open", "quot"]),
        ('"" x', [], ["x"]),
        ("数据库 x", [], ["数 据", "据 库", "x"]),
        ("库", [], ["库"]),
        ("red red Red", [], ["red"]),
    ],
)
def test_a_query_is_parsed_into_phrases_and_terms(query: str, phrases: list[str], terms: list[str]) -> None:
    parsed = parse_query(query)
    assert [" ".join(phrase) for phrase in parsed.phrases] == phrases
    assert [" ".join(term) for term in parsed.terms] == terms


def test_a_long_query_is_cut_to_its_first_terms() -> None:
    assert len(parse_query(" ".join(f"word{n}" for n in range(1000))).terms) == MAX_TERMS
