"""One ranking from two, by meaning and by words; knows scores only."""

from __future__ import annotations

import numpy as np

from semsearch.types import LexicalWeight, Scores

RANK_OFFSET = 60
"""Of reciprocal rank fusion, as its authors set it."""


def fuse(dense: Scores, lexical: Scores, weight: LexicalWeight) -> Scores:
    """What to rank by.

    dense: (..., n) cosines; lexical: (..., n) ≥ 0, 0 where no word is shared. Returns (..., n) float32: dense + weight
    · lexical, the lexical scores of each query as shares of its best; or, of weight `rrf`, the sum of 1 / (60 + rank)
    in both rankings (Cormack, Clarke & Büttcher 2009), where what shares no word has no lexical rank.
    """
    if weight == "rrf":
        by_words = np.where(lexical > 0, 1 / (RANK_OFFSET + _ranks(lexical)), 0.0)
        ranked: Scores = (1 / (RANK_OFFSET + _ranks(dense)) + by_words).astype(np.float32)
        return ranked
    if not weight:
        return dense
    best = np.maximum(lexical.max(axis=-1, keepdims=True, initial=0), np.float32(1e-9))
    fused: Scores = dense + np.float32(weight) * lexical / best
    return fused


def _ranks(scores: Scores) -> np.ndarray:
    """The place of each score, from 1; of equal ones the first stands first."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    return np.argsort(order, axis=-1, kind="stable") + 1
