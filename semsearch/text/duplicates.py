"""Which texts are nearly the same as an earlier one. Does not depend on documents or ranking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from semsearch.text.tokens import tokenize
from semsearch.types import Vectors

MIN_COSINE = 0.9
"""Cosine from which on two texts are compared word by word."""
MIN_OVERLAP = 0.8
"""Share of the runs of three words in either text that both must have (Broder 1997, doi:10.1109/SEQUEN.1997.666900)."""
SHINGLE_WORDS = 3


def collapse_duplicates(vectors: Vectors, text: Callable[[int], str]) -> list[int]:
    """For each text the first one that it is nearly the same as: itself where there is none.

    vectors: (n, dim) float32, unit rows, of n texts. text: gives the one of a number; asked only of those that are near
    another.
    """
    representatives = list(range(len(vectors)))
    near = vectors @ vectors.T >= MIN_COSINE
    runs: dict[int, frozenset[tuple[str, ...]]] = {}
    for number in range(len(vectors)):
        for earlier in np.flatnonzero(near[number, :number]).tolist():
            if representatives[earlier] != earlier:
                continue
            for one in (earlier, number):
                if one not in runs:
                    runs[one] = _runs(text(one))
            both = len(runs[earlier] & runs[number])
            if both >= MIN_OVERLAP * len(runs[earlier] | runs[number]):
                representatives[number] = earlier
                break
    return representatives


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    stems = [word.stem for word in tokenize(text)]
    return frozenset(
        tuple(stems[start : start + SHINGLE_WORDS]) for start in range(max(1, len(stems) - SHINGLE_WORDS + 1))
    )
