"""Snippets: which part of a passage is shown, which words are marked, and offsets that fit the text."""

from __future__ import annotations

import random

from semsearch.text.snippets import snippet


def marked(passage: str, query: str, *, width: int = 320) -> list[str]:
    shown = snippet(passage, query, width=width)
    return [shown.text[start:stop] for start, stop in shown.marks]


def test_words_of_one_stem_are_marked_and_function_words_are_not() -> None:
    assert marked("Splitting the strings; a splitter is the one.", "how to split the string") == [
        "Splitting",
        "strings",
    ]


def test_parts_of_identifiers_are_marked() -> None:
    assert marked("call read_csv or os.path.join", "join paths from csv") == ["csv", "path", "join"]


def test_chinese_is_marked_by_character() -> None:
    assert marked("如何检索数据库中的文档", "数据库") == ["数据库"]


def test_without_a_common_word_nothing_is_marked() -> None:
    shown = snippet("A small animal that purrs.", "kitten")
    assert (shown.text, shown.marks) == ("A small animal that purrs.", ())
    assert shown.segments == [("A small animal that purrs.", False)]


def test_an_empty_passage_has_an_empty_snippet() -> None:
    assert (snippet("", "x").text, snippet("", "x").segments) == ("", [])


def test_of_a_long_passage_the_part_with_most_words_is_shown() -> None:
    filler = "nothing of note occurred that day " * 20
    shown = snippet(f"{filler} volcano {filler} the volcano erupted at midnight {filler}", "volcano erupted midnight")
    assert shown.text.startswith("… ")
    assert shown.text.endswith(" …")
    assert len(shown.text) <= 330
    assert [shown.text[start:stop] for start, stop in shown.marks] == ["volcano", "erupted", "midnight"]


def test_segments_join_to_the_text_and_marks_ascend_for_random_input() -> None:
    draw = random.Random(3)
    words = ["alpha", "beta", "gamma_beta", "数据", "😀", "İstanbul", "ﬁne", "x" * 700, "-", "beta\n"]
    for _ in range(300):
        passage = draw.choice((" ", "", "\t"))[:1].join(draw.choices(words, k=draw.randint(0, 200)))
        query = " ".join(draw.choices(words, k=3))
        shown = snippet(passage, query)
        offsets = [offset for mark in shown.marks for offset in mark]
        assert offsets == sorted(set(offsets))
        assert not offsets or (offsets[0] >= 0 and offsets[-1] <= len(shown.text))
        assert "".join(text for text, _ in shown.segments) == shown.text
        assert len(shown.text) <= 330
