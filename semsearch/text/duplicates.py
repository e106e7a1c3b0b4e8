"""Detection of near-duplicate texts. Does not depend on documents or ranking.

Two texts are near-duplicates if most of their shingles are the same, and if they have the same numbers, signs, symbols
and negations in the same order: −20 °C and 20 °C, x > 5 and x < 5, ✅ and ❌, C and C++, 1.10 and 1.1 are opposites or
different things, however long the text around them. White space, case, accents, and all other punctuation (full stops,
commas, colons, quotation marks, brackets, dashes, bullets and Markdown's marks at the start of a line) bear no meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import regex

from semsearch.text.normalization import normalize
from semsearch.text.tokens import segment
from semsearch.types import Vectors

MIN_COSINE = 0.9
"""Cosine from which on two texts are compared by their shingles."""
MIN_OVERLAP = 0.8
"""Jaccard similarity of two texts' shingles from which on they are near-duplicates.

Source: Broder 1997, doi:10.1109/SEQUEN.1997.666900.
"""
SHINGLE_WORDS = 3
"""Number of consecutive words in a shingle."""

_LAYOUT = regex.compile(r"^[ \t]*(?:[>#*+•◦▪■□●○–—-]+[ \t]+)+|^[ \t=~+|_*#.<>-]+$|[|©®]", regex.MULTILINE)
"""Bullets, headings and quotations at the start of a line, lines drawn with signs, and symbols without meaning."""
_NEGATIONS = (
    "not|no|nor|never|none|neither|cannot|without|nicht|kein(?:e[mnrs]?)?|nie|ohne|pas|jamais|sans|nunca|sin|ni|non|não|"
    "не|ни|нет|без|לא|אין|ללא|لا|ليس|لم|لن|بدون|नहीं"
)
_MEANING = regex.compile(
    r"(?:(?<![\p{L}\p{N}])-)?\p{N}+(?:[.,:/]\p{N}+)*"
    r"|(?<![\p{L}\p{N}])(?:[.#@]|--?)(?=\p{L})|(?<=\p{L})#"
    r"|[\p{Sm}\p{Sc}\p{So}%‰&′″^]|!=|(?<![\p{L}\p{N}])!(?=\p{L})|(?<=\s)-(?=\s*\p{N})"
    r"|(?<=[\p{L}\p{N}])[*/](?=[\p{L}\p{N}])|(?<=\s)[*/](?=\s)"
    rf"|\b(?:{_NEGATIONS})\b|(?<=n['’])t\b|[不没沒無无未非]",
    regex.IGNORECASE,
)
"""Numbers, signs of words as keyword search has them, symbols, and the negations of some languages."""


def collapse_duplicates(vectors: Vectors, text: Callable[[int], str]) -> list[int]:
    """Return, for each text, the index of the first text that it is a near-duplicate of, or its own index.

    Texts are compared only with texts that are not near-duplicates themselves.

    vectors: (n, dim) float32, unit rows, of n texts. text: returns the text at an index; called only for texts whose
    cosine to another one is at least MIN_COSINE.
    """
    representatives = list(range(len(vectors)))
    is_similar = vectors @ vectors.T >= MIN_COSINE
    contents: dict[int, _Content] = {}
    for index in range(len(vectors)):
        for earlier in np.flatnonzero(is_similar[index, :index]).tolist():
            if representatives[earlier] != earlier:
                continue
            for unread in {earlier, index} - contents.keys():
                contents[unread] = _Content.of(text(unread))
            if contents[earlier].is_near(contents[index]):
                representatives[index] = earlier
                break
    return representatives


@dataclass(frozen=True, slots=True)
class _Content:
    """What is compared of a text."""

    shingles: frozenset[tuple[str, ...]]
    meaning: tuple[str, ...]
    """Its numbers, signs, symbols and negations, in order."""

    @classmethod
    def of(cls, text: str) -> Self:
        normalized = normalize(_LAYOUT.sub(" ", text)).text
        stems = [token.stem for token in segment(normalized)]
        count = max(1, len(stems) - SHINGLE_WORDS + 1)
        return cls(
            frozenset(tuple(stems[start : start + SHINGLE_WORDS]) for start in range(count)),
            tuple(_MEANING.findall(normalized.lower())),
        )

    def is_near(self, other: Self) -> bool:
        """Whether the two texts are near-duplicates."""
        common = len(self.shingles & other.shingles)
        return self.meaning == other.meaning and common >= MIN_OVERLAP * len(self.shingles | other.shingles)
