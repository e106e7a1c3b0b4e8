"""Wrapped lines are joined; lines that were ended on purpose, and code, tables and lists, are kept."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.text.unwrapping import unwrapped

PROSE = (
    "Return a list of the words in the string, using a separator as the delimiter string; splits are done from the"
    " front of the string and work to the end, so that the last item may contain more of them than the others do."
)


@pytest.mark.parametrize("width", [60, 72, 79, 100])
@pytest.mark.parametrize("indentation", ["", "    "])
def test_a_wrapped_paragraph_becomes_one_line(width: int, indentation: str) -> None:
    wrapped = textwrap.fill(PROSE, width, initial_indent=indentation, subsequent_indent=indentation)
    assert "\n" in wrapped
    assert unwrapped(wrapped) == [indentation + PROSE]


@pytest.mark.parametrize("end", [".", "?", "!", ".)", '."'])
def test_two_spaces_after_a_sentence_align_nothing(end: str) -> None:
    wrapped = (
        f"returning a list containing the resulting substrings{end}  If\n"
        "capturing parentheses are used in pattern, then the text of all\n"
        f"groups in the pattern is returned as part of the resulting list{end}"
    )
    assert unwrapped(wrapped) == [wrapped.replace("\n", " ")]


def test_paragraphs_stay_apart() -> None:
    wrapped = "\n\n".join(textwrap.fill(PROSE, 72) for _ in range(3))
    assert unwrapped(wrapped) == ["\n\n".join([PROSE] * 3)]


@pytest.mark.parametrize(
    "text",
    [
        "split(self, /, sep=None, maxsplit=-1)\nReturn a list.",
        ">>> path = pathlib.Path(folder) / 'a name that is long'\n>>> path.name\n'a name that is long'",
        "    result = some_function(first_argument, second_argument)\n    return result",
        "Name        Meaning of the field in a record of the file\n----        ----\nsize        Bytes",
        "The modes are as follows, of which the first is the default:\n- one\n- two",
        "The modes of a file that can be given to the function open:\n1. read\n2. write",
        "A poem has lines\nthat end before\nthe margin does.",
        "The function has these parameters, of which the first is needed:\n    text: what is read",
        "The function has these parameters, of which the first is needed\n:param text: what is read",
        "A sentence that is long enough to be one of those wrapped ones\n\nAnother paragraph.",
        "",
        "\n\n",
        "A paragraph on one long line, as word processors export it, " * 4
        + "\n"
        + "Another paragraph, also on one. " * 8,
        "> we should meet again in the week after the next one, since\n> most of us will be away until then",
        "// returns the number of elements that were read from the file\n// and the position of the next one",
        "Rough winds do shake the darling buds of May,\nAnd summer's lease hath all too short a date;",
        "These are the modes, of which the first one is the default one:\nread",
        "The kinds of things that may be in such a list are the following\n– one\n– two",
        "The kinds of things that may be in such a list are the following\n(a) one\n(b) two",
        "The kinds of things that may be in such a list are the following\na) one\nb) two",
        "As was shown by the authors who are listed at the end of the page\n[1] The first of them",
        "The following is what the program prints when it has been started\n```\noutput",
        "The title of a section that is as long as the line under it is long\n" + "=" * 67,
        "The word at the end of this line was cut into two parts and is estab-\nlished in the next one",
    ],
)
def test_lines_that_were_ended_on_purpose_are_kept(text: str) -> None:
    assert unwrapped(text) == [text]


def test_a_part_of_a_text_is_joined_as_in_the_whole() -> None:
    wrapped = textwrap.fill(PROSE, 72)
    for start in range(0, len(wrapped), 7):
        for stop in range(start, len(wrapped), 31):
            parts = unwrapped(wrapped, (start, stop))
            assert len(parts) == 3
            assert "".join(parts) == PROSE, (start, stop)


WORDS = st.lists(st.sampled_from(["a", "line", "of", "some", "Prose,", "which", "is", "wrapped", "here."]), min_size=30)


@given(WORDS, st.integers(45, 100), st.data())
def test_nothing_but_white_space_changes(words: list[str], width: int, data: st.DataObject) -> None:
    text = textwrap.fill(" ".join(words), width)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
    [whole], parts = unwrapped(text), unwrapped(text, cuts)
    assert whole.split() == words
    assert whole.count("\n") < text.count("\n")
    assert "".join(parts) == whole
    for part, start, stop in zip(parts, [0, *cuts], [*cuts, len(text)], strict=True):
        assert part.split() == text[start:stop].split()
