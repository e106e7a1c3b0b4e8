"""Snippets: the part of a passage to show for a query, with its matches marked. Does not depend on vectors.

A word is marked if it has the stem of a query word that is not a function word.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from semsearch.text.tokens import content_stems, match_spans

WIDTH = 320
"""Default length of a snippet in characters, about three lines."""
LEAD = 60
"""Characters before the first marked word of a snippet that does not begin at the start of the passage."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a text with marked words."""

    text: str
    marks: tuple[tuple[int, int], ...]
    """First character and one past the last of each mark, ascending, without overlaps."""

    @property
    def segments(self) -> list[tuple[str, bool]]:
        """The text in consecutive pieces, each with whether it is marked."""
        pieces: list[tuple[str, bool]] = []
        end = 0
        for start, stop in self.marks:
            pieces += [(self.text[end:start], False), (self.text[start:stop], True)]
            end = stop
        pieces.append((self.text[end:], False))
        return [piece for piece in pieces if piece[0]]


def snippet(passage: str, query: str, *, width: int = WIDTH) -> Snippet:
    """Return the part of a passage that contains most different words of the query.

    White space is collapsed; an ellipsis marks omitted text. width: maximum length in characters, without the ellipses.
    """
    text = " ".join(passage.split())
    matches = match_spans(text, content_stems(query))
    begin, end = _window(text, matches, width)
    before, after = "… " * (begin > 0), " …" * (end < len(text))
    shift = len(before) - begin
    marks: list[tuple[int, int]] = []
    for start, stop, _ in matches:
        if begin <= start and stop <= end:
            if marks and marks[-1][1] == start + shift:
                marks[-1] = (marks[-1][0], stop + shift)
            else:
                marks.append((start + shift, stop + shift))
    return Snippet(before + text[begin:end] + after, tuple(marks))


def _window(text: str, matches: list[tuple[int, int, str]], width: int) -> tuple[int, int]:
    """First character and one past the last of the part with most different stems, cut between words; ties: first."""
    if len(text) <= width:
        return 0, len(text)

    # both the candidates and the matches ascend, so that one pass counts the stems in every window
    occurrences: Counter[str] = Counter()
    begin = most = distinct = first = last = 0
    for candidate in [0, *(_word_start(text, start - LEAD) for start, _, _ in matches)]:
        while last < len(matches) and matches[last][1] <= candidate + width:
            stem = matches[last][2]
            distinct += not occurrences[stem]
            occurrences[stem] += 1
            last += 1
        while first < last and matches[first][0] < candidate:
            stem = matches[first][2]
            occurrences[stem] -= 1
            distinct -= not occurrences[stem]
            first += 1
        if distinct > most:
            begin, most = candidate, distinct
    end = begin + width
    if end >= len(text):
        return begin, len(text)
    cut = text.rfind(" ", begin + width // 2, end + 1)
    return begin, cut if cut > 0 else end


def _word_start(text: str, position: int) -> int:
    """The first start of a word from `position` on; `position` itself if there is none within LEAD // 2 characters."""
    if position <= 0:
        return 0
    space = text.find(" ", position - 1, position + LEAD // 2)
    return space + 1 if space >= 0 else position
