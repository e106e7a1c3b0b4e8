"""nDCG@10: the measure of the guard, of tuning and of evaluation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DEPTH = 10
"""Ranks that are measured."""


def ndcg(ranked: npt.ArrayLike, judged: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Normalised discounted cumulative gain at rank 10 (Järvelin & Kekäläinen 2002, doi:10.1145/582415.582418).

    Gains are linear, the discount is log2(rank + 1).

    ranked: (..., n) relevance of the documents, in ranked order.
    judged: (..., m) relevance of all judged documents in any order, at least one above 0.

    Returns (...,) float64 in [0, 1].
    """
    ideal = -np.sort(-np.asarray(judged, np.float64), axis=-1)
    scores: npt.NDArray[np.float64] = _dcg(np.asarray(ranked, np.float64)) / _dcg(ideal)
    return scores


def _dcg(relevance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    top = relevance[..., :DEPTH]
    dcg: npt.NDArray[np.float64] = top @ (1 / np.log2(np.arange(2, top.shape[-1] + 2)))
    return dcg
