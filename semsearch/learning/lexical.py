"""How much the words themselves should count beside the meaning, for one domain: a weight chosen on its labels.

Knows nothing of how words are matched.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from semsearch.records import Scores

WEIGHTS = (0.0, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0)
"""Cosines that a domain's best lexical match may be worth; 0 leaves words out."""
CAUTION = 1.5
"""Standard errors that a weight's gain must clear."""
CHARGE = 0.2
"""nDCG@10, divided by the number of labelled queries, that it must clear beyond that."""


def fuse(dense: Scores, lexical: Scores, weight: float) -> Scores:
    """dense + weight · lexical, the lexical scores of each query as shares of its best.

    dense: (n, N) cosines; lexical: (n, N) ≥ 0. Returns (n, N) float32.
    """
    if not weight:
        return dense
    best = np.maximum(lexical.max(axis=1, keepdims=True), np.float32(1e-9))
    fused: Scores = dense + np.float32(weight) * lexical / best
    return fused


def choose_weight(values: npt.NDArray[np.float64]) -> float:
    """The weight of WEIGHTS that surely helps most, or 0.

    values: (n, len(WEIGHTS)) the measure of each labelled query under each weight, on the frozen ranking: that of a
    learned one has seen these very labels.
    """
    n = len(values)
    if n < 2:
        return 0.0
    gains = values - values[:, :1]
    sure = gains.mean(axis=0) - CAUTION * gains.std(axis=0, ddof=1) / np.sqrt(n) - CHARGE / n
    best = int(np.argmax(sure))
    return WEIGHTS[best] if sure[best] > 0 else 0.0
