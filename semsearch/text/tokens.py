"""Words as full text and snippets see them: where they stand, their stems, and what a query asks of them.

Knows nothing of files or of ranking. Scripts that put no space between words (Chinese, Japanese, Korean, Thai and their
like) are read character by character, and asked for by pairs of neighbours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import regex
from Stemmer import Stemmer

MAX_TERMS = 128
"""Different words of a query that are looked up; a longer query is known by its first ones."""

_SCRIPTS = ["Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar"]
_UNSPACED = "".join(rf"\p{{Script_Extensions={script}}}" for script in _SCRIPTS)
_WORD = regex.compile(
    rf"(?P<unspaced>[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)"
    rf"|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]*",
    regex.V1,
)
_PLAIN_WORD = re.compile("[A-Za-z0-9]+")
"""The same of a text without other letters, found in half the time."""
_QUOTED = regex.compile(r'"([^"]+)"|\u201c([^\u201d]+)\u201d')
_SIGNS = frozenset({0, 9})
"""Canonical combining classes of vowel signs, and of the sign that takes a vowel away."""
_FUNCTION_WORDS = frozenset(
    """
    a an and are as at be been but by can could did do does for from get had has have how i if in into is it its me
    my no not of on one or our should so some than that the their them then there these they this those to use was
    we were what when where which while who why will with without would you your
    """.split()  # noqa: SIM905 (a list of seventy strings is no easier to read)
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word, or one character of a script without spaces."""

    stem: str
    """What it is compared by: letters and digits only, without case, accents or English endings."""
    start: int
    """First character in the text."""
    stop: int
    """One past its last."""
    unspaced: bool
    """Whether it is a character that its neighbours are not separated from."""
    is_function_word: bool
    """Whether it is one of those that hold a sentence together and say nothing of its subject."""


@dataclass(frozen=True, slots=True)
class KeywordQuery:
    """What a query asks of words."""

    phrases: tuple[tuple[str, ...], ...]
    """Stems that must stand side by side in whatever is found: what stood between quotation marks."""
    terms: tuple[tuple[str, ...], ...]
    """Single stems, and neighbours, each of which is the better for being there."""


def tokenize(text: str) -> list[Token]:
    """Every word of the text, in order."""
    if text.isascii():
        return [
            Token(_stem(word := match.group().lower()), match.start(), match.end(), False, word in _FUNCTION_WORDS)
            for match in _PLAIN_WORD.finditer(text)
        ]
    return [
        Token(stem, match.start(), match.end(), match["unspaced"] is not None, word in _FUNCTION_WORDS)
        for match in _WORD.finditer(text)
        if (stem := _stem(word := _plain(match.group())))
    ]


def match_spans(text: str, stems: frozenset[str]) -> list[tuple[int, int, str]]:
    """Where words of these stems stand in the text: first character, one past the last, stem."""
    matches: Iterator[re.Match[str] | regex.Match[str]]
    if text.isascii():
        matches = _PLAIN_WORD.finditer(text)
        return [(*match.span(), stem) for match in matches if (stem := _stem(match.group().lower())) in stems]
    matches = _WORD.finditer(text)
    return [(*match.span(), stem) for match in matches if (stem := _stem(_plain(match.group()))) in stems]


@lru_cache(maxsize=256)
def content_stems(query: str) -> frozenset[str]:
    """Stems of a query's words that say something of its subject."""
    return frozenset(word.stem for word in tokenize(query) if not word.is_function_word)


def parse_query(query: str) -> KeywordQuery:
    """What is to be looked up for a query.

    Function words count only where there is nothing else. Words that are joined without a space, as in `os.path`,
    `SKU-1234` or `read_csv`, count as neighbours besides, so that exact names are found before their parts.
    """
    phrases = [tuple(word.stem for word in tokenize(first or second)) for first, second in _QUOTED.findall(query)]
    terms: dict[tuple[str, ...], None] = {}
    spare: dict[tuple[str, ...], None] = {}
    for part in _QUOTED.sub(" ", query).split():
        found = tokenize(part)
        if len(found) > 1 and not any(word.unspaced for word in found):
            terms[tuple(word.stem for word in found)] = None
        for place, word in enumerate(found):
            follows = place + 1 < len(found) and found[place + 1]
            if word.unspaced and follows and follows.unspaced and follows.start == word.stop:
                terms[word.stem, follows.stem] = None
            elif not word.unspaced or not _paired(found, place):
                (spare if word.is_function_word else terms)[word.stem,] = None
    return KeywordQuery(
        tuple(phrase for phrase in phrases if phrase),
        tuple(terms or spare)[:MAX_TERMS],
    )


def _paired(found: list[Token], place: int) -> bool:
    """Whether the character before this one already asked for it."""
    return place > 0 and found[place - 1].unspaced and found[place - 1].stop == found[place].start


@lru_cache(maxsize=65_536)
def _stem(plain: str) -> str:
    # a stemmer is not to be shared between threads, and costs nothing to make
    stem: str = Stemmer("english", 0).stemWord(plain)
    return stem


@lru_cache(maxsize=65_536)
def _plain(word: str) -> str:
    """A word without case, accents and compatibility forms."""
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", word).casefold())
    # accents and vowel points go; vowel signs, which are letters in all but name, stay
    kept = (part for part in parts if part.isalnum() or (_is_mark(part) and unicodedata.combining(part) in _SIGNS))
    return unicodedata.normalize("NFC", "".join(kept))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"
