"""One score from two: dense and lexical."""

from __future__ import annotations

import numpy as np

from semsearch.types import LexicalWeight, Scores

RRF_K = 60
"""The constant of reciprocal rank fusion, as its authors set it."""


def fuse(dense: Scores, lexical: Scores, weight: LexicalWeight) -> Scores:
    """Fuse dense and lexical scores into the scores to rank by.

    dense: (..., n) cosines; lexical: (..., n) ≥ 0, 0 where no term is shared. Returns (..., n) float32: dense + weight
    · lexical, the lexical scores of each query divided by its best; or, for the weight `rrf`, the sum of
    1 / (60 + rank) in both rankings (Cormack, Clarke & Büttcher 2009), where what shares no term has no lexical rank.
    """
    if weight == "rrf":
        lexical_part = np.where(lexical > 0, 1 / (RRF_K + _ranks(lexical)), 0.0)
        fused: Scores = (1 / (RRF_K + _ranks(dense)) + lexical_part).astype(np.float32)
        return fused
    if not weight:
        return dense
    best = np.maximum(lexical.max(axis=-1, keepdims=True, initial=0), np.float32(1e-9))
    added: Scores = dense + np.float32(weight) * lexical / best
    return added


def _ranks(scores: Scores) -> np.ndarray:
    """The rank of each score, from 1; of equal scores the first has the better rank."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    return np.argsort(order, axis=-1, kind="stable") + 1
