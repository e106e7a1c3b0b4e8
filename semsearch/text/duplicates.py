"""Detection of near-duplicate texts. Does not depend on documents or ranking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from semsearch.text.tokens import tokenize
from semsearch.types import Vectors

MIN_COSINE = 0.9
"""Cosine from which on two texts are compared by their shingles."""
MIN_OVERLAP = 0.8
"""Jaccard similarity of two texts' shingles from which on they are near-duplicates.

Source: Broder 1997, doi:10.1109/SEQUEN.1997.666900.
"""
SHINGLE_WORDS = 3
"""Number of consecutive words in a shingle."""


def collapse_duplicates(vectors: Vectors, text: Callable[[int], str]) -> list[int]:
    """Return, for each text, the index of the first text that it is a near-duplicate of, or its own index.

    Texts are compared only with texts that are not near-duplicates themselves.

    vectors: (n, dim) float32, unit rows, of n texts. text: returns the text at an index; called only for texts whose
    cosine to another one is at least MIN_COSINE.
    """
    representatives = list(range(len(vectors)))
    is_similar = vectors @ vectors.T >= MIN_COSINE
    shingles: dict[int, frozenset[tuple[str, ...]]] = {}
    for index in range(len(vectors)):
        for earlier in np.flatnonzero(is_similar[index, :index]).tolist():
            if representatives[earlier] != earlier:
                continue
            for unread in {earlier, index} - shingles.keys():
                shingles[unread] = _shingles(text(unread))
            common = len(shingles[earlier] & shingles[index])
            if common >= MIN_OVERLAP * len(shingles[earlier] | shingles[index]):
                representatives[index] = earlier
                break
    return representatives


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    stems = [token.stem for token in tokenize(text)]
    return frozenset(
        tuple(stems[start : start + SHINGLE_WORDS]) for start in range(max(1, len(stems) - SHINGLE_WORDS + 1))
    )
