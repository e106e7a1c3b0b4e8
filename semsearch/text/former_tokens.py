"""The tokens of full text that semsearch wrote before it recorded a tokenizer's version.

A segment whose full text has no version is searched with these tokens until a compaction or a build writes it again.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import regex

from semsearch.text.tokens import FUNCTION_WORDS, UNSPACED, Token, stem_word

_WORD = regex.compile(
    rf"(?P<unspaced>[[{UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)"
    rf"|[[\p{{L}}\p{{N}}]--[{UNSPACED}]][[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]*",
    regex.V1,
)
_KEPT_CLASSES = frozenset({0, 9})
"""Canonical combining classes of the marks that these tokens kept."""


def segment(text: str) -> list[Token]:
    """Return the tokens of a text, in order: words of letters and digits, without any signs."""
    return [
        Token(stem, match.start(), match.end(), match["unspaced"] is not None, word in FUNCTION_WORDS)
        for match in _WORD.finditer(text)
        if (stem := stem_word(word := _plain(match.group())))
    ]


@lru_cache(maxsize=65_536)
def _plain(word: str) -> str:
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", word).casefold())
    letters = (part for part in parts if part.isalnum() or _is_kept_mark(part))
    return unicodedata.normalize("NFC", "".join(letters))


def _is_kept_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" and unicodedata.combining(character) in _KEPT_CLASSES
