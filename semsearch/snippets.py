"""The stretch of a passage to show for a query, and the words in it that matter; knows nothing of vectors.

Words matter if they share a stem with a word of the query that is not a function word. Chinese, Japanese and Korean
are compared character by character, since nothing separates their words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from Stemmer import Stemmer

WIDTH = 320
"""Characters of a snippet, about three lines."""
LEAD = 60
"""Characters shown before the first marked word of a snippet cut out of the middle."""

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "get",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "one",
        "or",
        "our",
        "should",
        "so",
        "some",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "use",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "why",
        "will",
        "with",
        "without",
        "would",
        "you",
        "your",
    ]
)


@dataclass(frozen=True, slots=True)
class Snippet:
    """A stretch of text with the words that matter."""

    text: str
    marks: tuple[tuple[int, int], ...]
    """First character and one past the last of each marked stretch, rising, never overlapping."""

    @property
    def parts(self) -> list[tuple[str, bool]]:
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
    wanted = {stem for word, _, stem in _stemmed(query) if word not in _FUNCTION_WORDS}
    found = [(match.start(), match.end(), stem) for _, match, stem in _stemmed(text) if stem in wanted]
    begin, end = _window(text, found, width)
    before, after = "… " * (begin > 0), " …" * (end < len(text))
    shift = len(before) - begin
    marks: list[tuple[int, int]] = []
    for start, stop, _ in found:
        if begin <= start and stop <= end:
            if marks and marks[-1][1] == start + shift:
                marks[-1] = (marks[-1][0], stop + shift)
            else:
                marks.append((start + shift, stop + shift))
    return Snippet(before + text[begin:end] + after, tuple(marks))


def _stemmed(text: str) -> list[tuple[str, re.Match[str], str]]:
    """Every word in lower case, with its place and its stem."""
    matches = list(_WORD.finditer(text))
    words = [match.group().lower() for match in matches]
    # a stemmer is not to be shared between threads, and costs nothing to make
    return list(zip(words, matches, Stemmer("english", 0).stemWords(words), strict=True))


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
