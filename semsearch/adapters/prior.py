"""The guard's estimate of a candidate's improvement, by empirical Bayes.

The prior is the improvement by candidates on the training data sets. Cross-validation on a domain's own labels updates
it (Robbins 1956; Efron 2010, doi:10.1017/CBO9780511761362): the more labels, the more weight they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

# weights are read without torch, which takes a second to import
if TYPE_CHECKING:
    from torch import Tensor

Numbers = npt.NDArray[np.float64]

PRIOR_LABELS = 16
"""Weight of the prior's noise covariance against the domain's own, in labelled queries."""


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """Improvements by K candidates on the training data sets at S numbers of labelled queries, over the headroom."""

    sizes: Numbers
    """(S,) numbers of labelled queries, ascending."""
    mean: Numbers
    """(S, K)."""
    covariance: Numbers
    """(S, K, K) between data sets."""
    noise: Numbers
    """(S, K, K) covariance between queries of one data set."""

    def select(self, candidates: Sequence[int]) -> Prior:
        """Return the prior of some of the candidates, given by their indices."""
        block = np.ix_(range(len(self.sizes)), candidates, candidates)
        return Prior(self.sizes, self.mean[:, list(candidates)], self.covariance[block], self.noise[block])

    def interpolate(self, labels: int) -> tuple[Numbers, Numbers, Numbers]:
        """Return mean (K,), covariance (K, K) and noise (K, K), linear in the logarithm of the labelled queries."""
        position = float(np.interp(np.log(labels), np.log(self.sizes), np.arange(len(self.sizes))))
        low = min(int(position), len(self.sizes) - 2) if len(self.sizes) > 1 else 0
        high = min(low + 1, len(self.sizes) - 1)
        fraction = position - low
        mean, covariance, noise = (
            values[low] * (1 - fraction) + values[high] * fraction
            for values in (self.mean, self.covariance, self.noise)
        )
        return mean, covariance, noise


def headroom(before: Numbers) -> float:
    """Return the nDCG@10 that can be gained: the distance of the mean to 1, reduced if the mean is low.

    A low mean is as often due to wrong labels as to a domain that the encoder does not know.

    before: (n,) nDCG@10 of each labelled query before adaptation.
    """
    # one more query with 0.6, because few labels say little about the mean
    level = (float(before.sum()) + 0.6) / (len(before) + 1)
    return (1 - level) * min(1.0, 0.1 + level / 0.2)


def posterior(prior: Prior, before: Tensor, improvements: Tensor) -> tuple[Numbers, Numbers]:
    """Return the expected improvement of nDCG@10 by each candidate on new queries, and its standard deviation.

    With the mean ȳ of n observed improvements, the prior's mean μ and covariance B between domains, and the sampling
    covariance E of ȳ, the posterior of a normal model has

        W = B (B + E)⁻¹,    mean μ + W (ȳ − μ),    covariance B − W B.

    All are divided by the headroom, and the results are multiplied by it. E pools the covariance between the domain's
    queries (n − 1 degrees of freedom) with the prior's (PRIOR_LABELS).

    before: (n,) nDCG@10 of each labelled query before adaptation.
    improvements: (n, K) its change by each candidate. Both come from `cross_validate`.

    Returns two arrays (K,).
    """
    scale = headroom(before.double().numpy())
    scaled = improvements.double().numpy() / scale
    n = len(scaled)
    mean, covariance, noise = prior.interpolate(n)
    between_queries = np.cov(scaled.T).reshape(noise.shape)
    sampling_covariance = ((n - 1) * between_queries + PRIOR_LABELS * noise) / (n - 1 + PRIOR_LABELS) / n
    # the diagonal distinguishes candidates that were equally good on every training data set
    between_domains = covariance + 0.02 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    total = between_domains + sampling_covariance + 1e-8 * np.eye(len(mean))
    shrinkage = np.linalg.solve(total, between_domains).T
    updated = mean + shrinkage @ (scaled.mean(axis=0) - mean)
    variance = np.diag(between_domains - shrinkage @ between_domains)
    return updated * scale, np.sqrt(np.maximum(variance, 0.0)) * scale
