"""The stretch of a passage to show for a query, and the words in it that matter. Does not depend on vectors.

Words matter if they share a stem with a word of the query that is not a function word.
"""

from __future__ import annotations

from dataclasses import dataclass

from semsearch.text.tokens import content_stems, match_spans

WIDTH = 320
"""Characters of a snippet, about three lines."""
LEAD = 60
"""Characters shown before the first marked word of a snippet cut out of the middle."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A stretch of text with the words that matter."""

    text: str
    marks: tuple[tuple[int, int], ...]
    """First character and one past the last of each marked stretch, rising, never overlapping."""

    @property
    def segments(self) -> list[tuple[str, bool]]:
        """The text in pieces, each with whether it is marked."""
        pieces: list[tuple[str, bool]] = []
        at = 0
        for start, stop in self.marks:
            pieces += [(self.text[at:start], False), (self.text[start:stop], True)]
            at = stop
        pieces.append((self.text[at:], False))
        return [piece for piece in pieces if piece[0]]


def snippet(passage: str, query: str, *, width: int = WIDTH) -> Snippet:
    """The stretch of `passage` of at most about `width` characters that holds most different words of `query`.

    White space is collapsed; an ellipsis stands where text was cut off.
    """
    text = " ".join(passage.split())
    places = match_spans(text, content_stems(query))
    begin, end = _window(text, places, width)
    before, after = "… " * (begin > 0), " …" * (end < len(text))
    shift = len(before) - begin
    marks: list[tuple[int, int]] = []
    for start, stop, _ in places:
        if begin <= start and stop <= end:
            if marks and marks[-1][1] == start + shift:
                marks[-1] = (marks[-1][0], stop + shift)
            else:
                marks.append((start + shift, stop + shift))
    return Snippet(before + text[begin:end] + after, tuple(marks))


def _window(text: str, found: list[tuple[int, int, str]], width: int) -> tuple[int, int]:
    """Where to cut: at words, so that most different stems are inside; the first of equally good places."""
    if len(text) <= width:
        return 0, len(text)

    def worth(begin: int) -> int:
        return len({stem for start, stop, stem in found if begin <= start and stop <= begin + width})

    begin = max([0, *(_word_start(text, start - LEAD) for start, _, _ in found)], key=lambda at: (worth(at), -at))
    end = begin + width
    if end >= len(text):
        return begin, len(text)
    cut = text.rfind(" ", begin + width // 2, end + 1)
    return begin, cut if cut > 0 else end


def _word_start(text: str, at: int) -> int:
    """The next beginning of a word at or after `at`, or `at` itself inside an endless one."""
    if at <= 0:
        return 0
    space = text.find(" ", at - 1, at + LEAD // 2)
    return space + 1 if space >= 0 else at
