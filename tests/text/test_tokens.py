"""Words in any script: what they are compared by, and what a query asks for."""

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
        ("データ", ["テ", "ー", "タ"]),
        ("مُحَمَّد", ["محمد"]),
        ("किताबें", ["किताबें"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("!? 😀 --", []),
    ],
)
def test_a_word_is_compared_without_case_accents_and_endings(text: str, stems: list[str]) -> None:
    assert [word.stem for word in tokenize(text)] == stems


def test_words_say_where_they_stand() -> None:
    text = "a naïve  数据"
    assert [text[word.start : word.stop] for word in tokenize(text)] == ["a", "naïve", "数", "据"]
    assert [word.is_function_word for word in tokenize(text)] == [True, False, False, False]


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
def test_what_a_query_asks_for(query: str, phrases: list[str], terms: list[str]) -> None:
    found = parse_query(query)
    assert [" ".join(phrase) for phrase in found.phrases] == phrases
    assert [" ".join(term) for term in found.terms] == terms


def test_of_an_endless_query_the_first_words_count() -> None:
    assert len(parse_query(" ".join(f"word{n}" for n in range(1000))).terms) == MAX_TERMS
