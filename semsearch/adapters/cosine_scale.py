"""The scale of an encoder's cosines in a corpus, so that what was learned with one encoder holds for any other.

Encoders differ in how far the cosines of unrelated texts are from 1, and in how much they vary: for all-MiniLM-L6-v2
they are near 0.2 ± 0.1, for a multilingual E5 near 0.82 ± 0.03. A difference of cosine that separates documents for one
is noise, or out of reach, for another. The mean and the eigenvectors of the corpus are enough to tell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from semsearch.adapters.basis import SpectralBasis
from semsearch.types import Vectors

REFERENCE_CONTRAST = 0.78
"""Distance of the mean cosine to 1 for all-MiniLM-L6-v2, as on most of the data sets that the weights were learned
on."""
REFERENCE_SPREAD = 0.11
"""Standard deviation of its cosines over a corpus."""
LEAST_CONTRAST = 0.01
"""Contrast below which cosines are taken to be that of one text with itself."""


class CosineScale(NamedTuple):
    """Where the cosines of queries and passages of a corpus lie."""

    background: float
    """Mean cosine of a query to a passage."""
    spread: float
    """Standard deviation of a query's cosines to all passages, the mean over the queries."""

    @property
    def contrast(self) -> float:
        """Distance of the background to 1, at least LEAST_CONTRAST."""
        return max(1 - self.background, LEAST_CONTRAST)

    @property
    def factor(self) -> float:
        """How large a difference of cosine counts as much as 1 does for all-MiniLM-L6-v2, at least LEAST_CONTRAST.

        The smaller one of two, each as a share of its reference: the contrast and the spread. Temperatures above either
        make all documents equal.
        """
        return max(min(self.contrast / REFERENCE_CONTRAST, self.spread / REFERENCE_SPREAD), LEAST_CONTRAST)


def cosine_scale(basis: SpectralBasis, queries: Vectors) -> CosineScale:
    """Measure the cosines of queries to all passages of a corpus.

    queries: (n, dim) float32, unit rows, n ≥ 1.
    """
    background = float((queries @ basis.mean).mean())
    projected = queries @ basis.axes
    # the variance of q · d over the corpus is qᵀ C q, with the covariance C
    spread = float(np.sqrt(np.maximum(projected * projected @ basis.eigenvalues, 0)).mean())
    return CosineScale(background, spread)
