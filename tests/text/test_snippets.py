"""Snippets: the right stretch, the right words, and offsets that fit the text."""

from __future__ import annotations

import random

from semsearch.text.snippets import snippet


def marked(passage: str, query: str, *, width: int = 320) -> list[str]:
    found = snippet(passage, query, width=width)
    return [found.text[start:stop] for start, stop in found.marks]


def test_words_of_one_stem_are_marked_and_function_words_are_not() -> None:
    assert marked("Splitting the strings; a splitter is the one.", "how to split the string") == [
        "Splitting",
        "strings",
    ]


def test_parts_of_names_are_words() -> None:
    assert marked("call read_csv or os.path.join", "join paths from csv") == ["csv", "path", "join"]


def test_chinese_is_marked_by_its_characters() -> None:
    assert marked("如何检索数据库中的文档", "数据库") == ["数据库"]


def test_nothing_in_common_marks_nothing() -> None:
    found = snippet("A small animal that purrs.", "kitten")
    assert (found.text, found.marks) == ("A small animal that purrs.", ())
    assert found.segments == [("A small animal that purrs.", False)]


def test_an_empty_passage_is_an_empty_snippet() -> None:
    assert (snippet("", "x").text, snippet("", "x").segments) == ("", [])


def test_a_long_passage_is_shown_where_most_words_are() -> None:
    filler = "nothing of note occurred that day " * 20
    found = snippet(f"{filler} volcano {filler} the volcano erupted at midnight {filler}", "volcano erupted midnight")
    assert found.text.startswith("… ")
    assert found.text.endswith(" …")
    assert len(found.text) <= 330
    assert [found.text[start:stop] for start, stop in found.marks] == ["volcano", "erupted", "midnight"]


def test_parts_join_to_the_text_and_marks_rise_whatever_comes() -> None:
    draw = random.Random(3)
    words = ["alpha", "beta", "gamma_beta", "数据", "😀", "İstanbul", "ﬁne", "x" * 700, "-", "beta\n"]
    for _ in range(300):
        passage = draw.choice((" ", "", "\t"))[:1].join(draw.choices(words, k=draw.randint(0, 200)))
        query = " ".join(draw.choices(words, k=3))
        found = snippet(passage, query)
        flat = [place for mark in found.marks for place in mark]
        assert flat == sorted(set(flat))
        assert not flat or (flat[0] >= 0 and flat[-1] <= len(found.text))
        assert "".join(text for text, _ in found.segments) == found.text
        assert len(found.text) <= 330
