"""Fusion of dense and lexical scores."""

from __future__ import annotations

import numpy as np

from semsearch.types import LexicalWeight, Scores

RRF_K = 60
"""The constant of reciprocal rank fusion, as its authors set it."""


def fuse(dense: Scores, lexical: Scores, weight: LexicalWeight) -> Scores:
    """Fuse dense and lexical scores into the scores to rank by.

    dense: (..., n) cosines. lexical: (..., n) BM25, 0 for a passage that shares no term with the query. weight: that of
    the lexical scores, or `rrf`.

    Returns (..., n) float32. With a number as weight: dense + weight · lexical / (the query's best lexical score). With
    `rrf`, reciprocal rank fusion (Cormack, Clarke & Büttcher 2009): the sum of 1 / (60 + rank) over both rankings, in
    which a lexical score of 0 has no rank.
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
    """The rank of each score, from 1; ties by index."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    return np.argsort(order, axis=-1, kind="stable") + 1
