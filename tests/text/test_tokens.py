"""Tokens in any script, and the parsing of keyword queries."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from semsearch.text.tokens import (
    MAX_PAIRS,
    MAX_PHRASES,
    MAX_TERMS,
    match_spans,
    parse_query,
    quoted_phrases,
    tokenize,
)


@pytest.mark.parametrize(
    ("text", "stems"),
    [
        ("Splitting the STRINGS", ["split", "the", "string"]),
        ("Café naïve ﬁne İstanbul ＡＢＣ", ["cafe", "naiv", "fine", "istanbul", "abc"]),
        ("os.path_join(x2)", ["os", "path", "join", "x2"]),
        ("数据库abc", ["数", "据", "库", "abc"]),
        ("データ", ["デ", "ー", "タ"]),
        ("مُحَمَّد", ["محمد"]),
        ("किताबें", ["किताब"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("!? 😀 --", []),
    ],
)
def test_stems_have_no_case_accents_and_endings(text: str, stems: list[str]) -> None:
    assert [token.stem for token in tokenize(text)] == stems


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("books", "book"),
        ("Книги", "книга"),
        ("المدارس", "مدارس"),
        ("ελλάδας", "ελλάδα"),
        ("किताबें", "किताब"),
        ("քաղաքների", "քաղաք"),
        ("புத்தகங்கள்", "புத்தகம்"),
    ],
)
def test_forms_of_a_word_have_one_stem_in_every_script_with_a_stemmer(first: str, second: str) -> None:
    assert [token.stem for token in tokenize(first)] == [token.stem for token in tokenize(second)]


@pytest.mark.parametrize(("first", "second"), [("чай", "чаи"), ("कि", "की"), ("גן", "גנים"), ("ἐν", "εκ")])
def test_short_words_and_those_of_other_scripts_keep_their_endings(first: str, second: str) -> None:
    assert [token.stem for token in tokenize(first)] != [token.stem for token in tokenize(second)]


@pytest.mark.parametrize("word", ["όταν", "ίδια", "ήσουν", "εστε", "ан", "the", "त"])
def test_no_stem_is_empty(word: str) -> None:
    assert all(token.stem for token in tokenize(word))


@pytest.mark.parametrize("letter", ["த", "ا", "я", "α", "क", "a"])
def test_a_long_word_is_not_stemmed(letter: str) -> None:
    assert tokenize(letter * 500_000)[0].stem == letter * 500_000


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("move to the end", [("move", "end")]),
        ("Sorting a list of lists", [("sort", "list")]),
        ('"quoted words" follow', [("quot", "word"), ("word", "follow")]),
        ("os.path", [("os", "path")]),
        ("a .NET guide", [("net", "guid")]),
        ("数据库 index tree", [("index", "tree")]),
        ("list list list", []),
        ("alone", []),
        ("to be or not to be", []),
        ("", []),
    ],
)
def test_neighbouring_words_of_a_query_are_pairs(query: str, pairs: list[tuple[str, str]]) -> None:
    assert list(parse_query(query).pairs) == pairs


def test_a_query_has_a_limited_number_of_pairs() -> None:
    assert len(parse_query(" ".join(f"word{number}" for number in range(500))).pairs) == MAX_PAIRS


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


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        # marks that quote nothing
        ('24" or 27" monitor', []), ('27" monitor', []), ('24 " or 27 " monitor', []), ("24” or 27” monitor", []),
        ('(24" or 27")', []), ('12"x15" tile', []), ('דו"ח', []), ('דו"ח וצה"ל', []), ("דו״ח", []),
        ('תנ"ך ורמב"ם', []),
        ("5' 10\" tall", []), ("5'10\" and 6'2\"", []), ("rock 'n' roll", []), ("it's the dogs' house", []),
        ("'single quotes'", []), ("‘curly single quotes’", []), ('a " b', []), ('"a', []), ('a"', []),
        ('say "hello', []),
        ('""', []), ('" "', []), ('"?!"', []), ('he"ll"o', []), ("a « b", []), ("a 」 b 「", []), ("“", []),
        ('x="5"', []),
        ("24“ oder 27“ Monitor", []), ("O´Brien `code`", []), ('한국"어', []),
        # phrases
        ('"read csv"', ["read csv"]), ('find "read csv" fast', ["read csv"]), ('("a b")', ["a b"]),
        ('["a b"]', ["a b"]),
        ('"a b".', ["a b"]), ('"a b", "c d"!', ["a b", "c d"]), ('"a b" "a b"', ["a b"]), ('"a b"?', ["a b"]),
        ("“a b” c", ["a b"]), ("„a b“ c", ["a b"]), ("„a b” c", ["a b"]), ("”a b”", ["a b"]), ("«a b» c", ["a b"]),
        ("« a b » c", ["a b"]), ("»a b« c", ["a b"]), ("＂a b＂", ["a b"]), ("｢全文｣", ["全文"]),
        ("「全文検索」とは", ["全文検索"]),
        ("これは『全文検索』です", ["全文検索"]), ("搜索“全文检索”功能", ["全文检索"]),
        ('搜索"全文检索"功能', ["全文检索"]), ('"전문 검색"은', ["전문 검색"]),
        ('"דו"ח שנתי"', ['דו"ח שנתי']), ('"5\' 10 tall"', ["5' 10 tall"]),
        ('"gaming monitor" 27"', ["gaming monitor"]), ('27" "gaming monitor"', ["gaming monitor"]),
        ('say "hello and "good bye"', ["good bye"]), ('“he said "hi" twice”', ['he said "hi" twice']),
        ("\u200b\"a\u00ad b\"\ufeff", ["a b"]),
        ('"C++ templates"', ["C++ templates"]), ('"it\'s here"', ["it's here"]), ('"the who"', ["the who"]),
        ('"one"', ["one"]),
    ],
)  # fmt: skip
def test_a_phrase_stands_between_balanced_marks_at_word_borders(query: str, phrases: list[str]) -> None:
    assert list(quoted_phrases(query)) == phrases
    assert len(parse_query(query).phrases) >= len(phrases)
    assert bool(parse_query(query).phrases) == bool(phrases)
    assert parse_query(query, as_words=phrases).phrases == ()


def test_a_phrase_read_as_words_is_read_as_if_it_were_not_quoted() -> None:
    assert parse_query('find "read csv" now', as_words=["read csv"]) == parse_query("find read csv now")


def test_a_phrase_is_looked_up_once_and_those_after_the_first_ones_are_words() -> None:
    names = [f"{first}{second}" for first in "bcdfgh" for second in "klmnpq"]
    many = " ".join(f'"{name} x"' for name in names)
    assert parse_query(f"{many} {many}") == parse_query(many)
    assert quoted_phrases(many) == tuple(f"{name} x" for name in names[:MAX_PHRASES])
    parsed = parse_query(many)
    assert parsed.phrases == tuple((name, "x") for name in names[:MAX_PHRASES])
    assert {(name,) for name in names[MAX_PHRASES:]} <= {*parsed.terms}
    # a phrase beyond the first ones does not take the place of one that is read as words
    without = parse_query(many, as_words=[f"{names[0]} x"])
    assert without.phrases == parsed.phrases[1:]


@pytest.mark.parametrize(
    ("text", "stems"),
    [
        ("C C++ C# F# g++ a+", ["c", "c++", "c#", "f#", "g++", "a+"]),
        ("C++17, C++/CLI, C#; (C)", ["c++", "17", "c++", "cli", "c#", "c"]),
        ("C言語 C++言語 C#です", ["c", "言", "語", "c++", "言", "語", "c#", "で", "す"]),
        ("a+b a+1 5+ 1+2", ["a", "b", "a", "1", "5", "1", "2"]),
        ("Notepad++ Disney+ CD4+", ["notepad++", "notepad", "disney+", "disney", "cd4+", "cd4"]),
        (".NET NET ASP.NET", [".net", "net", "net", "asp", "net"]),
        ("#hashtag @user $variable", ["#hashtag", "hashtag", "@user", "user", "$variabl", "variabl"]),
        ("-v --verbose x-ray x86-64", ["-v", "v", "--verbos", "verbos", "x", "ray", "x86", "64"]),
        ("$5 €5 -20 −20 10-20", ["$5", "5", "€5", "5", "-20", "20", "-20", "20", "10", "20"]),
        ("R&D AT&T node.js 1.10 1.1", ["r", "d", "at", "t", "node", "js", "1", "10", "1", "1"]),
        ("me@example.com /etc/hosts.txt", ["me", "exampl", "com", "etc", "host", "txt"]),
        ("... and.So - item ## Title a -- b", ["and", "so", "item", "titl", "a", "b"]),
        ("使用.NET框架", ["使", "用", ".net", "net", "框", "架"]),
    ],
)
def test_a_sign_makes_another_word(text: str, stems: list[str]) -> None:
    assert [token.stem for token in tokenize(text)] == stems
    assert [token.stem for token in tokenize(f"{text} é")] == [*stems, "e"]


WORDS = [
    "split",
    "Splits",
    "splitting",
    "unsplit",
    "c",
    "C++",
    "c#",
    ".NET",
    "net",
    "x2",
    "2",
    "$5",
    "a",
    "os.path",
    "é",
]


@given(
    st.lists(st.sampled_from([*WORDS, "_", "-", ".", " ", "\n", "\x00", "+", "#"]), max_size=20).map("".join),
    st.sets(st.sampled_from(WORDS)),
)
@example("split splits split", {"split"})
@example("c c++ c#", {"c"})
@example("notsplit split_it split", {"split"})
def test_the_words_of_a_text_are_matched_where_its_tokens_are(text: str, words: set[str]) -> None:
    stems = frozenset(token.stem for word in words for token in tokenize(word))
    expected: list[tuple[int, int, str]] = []
    for token in tokenize(text):
        if token.stem in stems and not (expected and token.start < expected[-1][1]):
            expected.append((token.start, token.stop, token.stem))
    assert match_spans(text, stems) == expected
