"""Tokenizing for full text and snippets: tokens with their stems and offsets, and the parsing of keyword queries.

Does not depend on files or on ranking. Scripts without spaces between words (Chinese, Japanese, Korean, Thai and
others) are tokenized by character and looked up by bigrams.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import regex
from Stemmer import Stemmer

MAX_TERMS = 128
"""Different terms of a query that are looked up; of a longer query, the first ones."""

_SCRIPTS = ["Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar"]
_UNSPACED = "".join(rf"\p{{Script_Extensions={script}}}" for script in _SCRIPTS)
_WORD = regex.compile(
    rf"(?P<unspaced>[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)"
    rf"|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]*",
    regex.V1,
)
_PLAIN_WORD = re.compile("[A-Za-z0-9]+")
"""Equal to `_WORD` for ASCII text, and twice as fast."""
_QUOTED = regex.compile(r'"([^"]+)"|\u201c([^\u201d]+)\u201d')
_SIGNS = frozenset({0, 9})
"""Canonical combining classes of vowel signs and of the virama."""
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
    """Used for comparing: letters and digits only, without case, accents or English endings."""
    start: int
    """First character in the text."""
    stop: int
    """One past its last character."""
    unspaced: bool
    """Whether it is a character of a script without spaces between words."""
    is_function_word: bool
    """Whether it is a stop word such as `the` or `of`."""


Term: TypeAlias = tuple[str, ...]
"""Stems that stand next to each other in a text; one stem for a single word."""


@dataclass(frozen=True, slots=True)
class KeywordQuery:
    """A query as the keyword search reads it."""

    phrases: tuple[Term, ...]
    """Quoted phrases. Every hit must contain each of them."""
    terms: tuple[Term, ...]
    """Optional terms. Each match raises the score."""


def tokenize(text: str) -> list[Token]:
    """Return the tokens of the text, in order."""
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
    """Return (first character, one past the last, stem) of every word in the text that has one of the stems."""
    matches: Iterator[re.Match[str] | regex.Match[str]]
    if text.isascii():
        matches = _PLAIN_WORD.finditer(text)
        return [(*match.span(), stem) for match in matches if (stem := _stem(match.group().lower())) in stems]
    matches = _WORD.finditer(text)
    return [(*match.span(), stem) for match in matches if (stem := _stem(_plain(match.group()))) in stems]


@lru_cache(maxsize=256)
def content_stems(query: str) -> frozenset[str]:
    """Return the stems of a query without its function words."""
    return frozenset(token.stem for token in tokenize(query) if not token.is_function_word)


def parse_query(query: str) -> KeywordQuery:
    """Parse a query into phrases and terms for the keyword search.

    Function words count only if the query has no other terms. Words joined without a space, as in `os.path`,
    `SKU-1234` or `read_csv`, are also looked up as neighbours, so that exact names rank above their parts.
    """
    terms: dict[Term, None] = {}
    function_words: dict[Term, None] = {}
    for part in _QUOTED.sub(" ", query).split():
        tokens = tokenize(part)
        terms |= dict.fromkeys(_compounds(tokens))
        for term, is_function_word in _words_and_bigrams(tokens):
            (function_words if is_function_word else terms)[term] = None
    return KeywordQuery(_phrases(query), tuple(terms or function_words)[:MAX_TERMS])


def _phrases(query: str) -> tuple[Term, ...]:
    """The stems of each quoted part that has any."""
    phrases = (_stems(tokenize(straight or curly)) for straight, curly in _QUOTED.findall(query))
    return tuple(phrase for phrase in phrases if phrase)


def _compounds(tokens: list[Token]) -> list[Term]:
    """All words of a part without spaces as one term, if there are several."""
    is_compound = len(tokens) > 1 and not any(token.unspaced for token in tokens)
    return [_stems(tokens)] if is_compound else []


def _words_and_bigrams(tokens: list[Token]) -> Iterator[tuple[Term, bool]]:
    """Yield (term, whether it is a function word): bigrams of unspaced neighbours, and every token in no bigram."""
    for previous, token, following in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        if following is not None and _form_bigram(token, following):
            yield (token.stem, following.stem), False
        elif previous is None or not _form_bigram(previous, token):
            yield (token.stem,), token.is_function_word


def _form_bigram(first: Token, second: Token) -> bool:
    """Whether both are characters of unspaced scripts with nothing between them."""
    return first.unspaced and second.unspaced and first.stop == second.start


def _stems(tokens: list[Token]) -> Term:
    return tuple(token.stem for token in tokens)


@lru_cache(maxsize=65_536)
def _stem(plain: str) -> str:
    # threads must not share a stemmer; making one is cheap
    stem: str = Stemmer("english", 0).stemWord(plain)
    return stem


@lru_cache(maxsize=65_536)
def _plain(word: str) -> str:
    """Return a word without case, accents and compatibility forms."""
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", word).casefold())
    # drop accents and vowel points, but keep vowel signs: they carry meaning as letters do
    letters = (part for part in parts if part.isalnum() or (_is_mark(part) and unicodedata.combining(part) in _SIGNS))
    return unicodedata.normalize("NFC", "".join(letters))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"
