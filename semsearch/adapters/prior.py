"""What candidates brought elsewhere, and what to expect of them here: empirical Bayes for the guard.

What the candidates truly added on the training domains is the prior; a domain's own cross-validation updates it
(Robbins 1956; Efron 2010, doi:10.1017/CBO9780511761362), so that few labels are believed little and many much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

Numbers = npt.NDArray[np.float64]

PRIOR_LABELS = 16
"""How many labelled queries' worth of noise the prior contributes to a domain's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """What candidates added on the training domains, by the number of labelled queries; in shares of the headroom."""

    sizes: Numbers
    """(S,) labelled queries, rising."""
    mean: Numbers
    """(S, K)."""
    covariance: Numbers
    """(S, K, K) between domains."""
    noise: Numbers
    """(S, K, K) between queries of one domain."""

    def among(self, columns: Sequence[int]) -> Prior:
        """The same for some of the candidates."""
        both = np.ix_(range(len(self.sizes)), columns, columns)
        return Prior(self.sizes, self.mean[:, list(columns)], self.covariance[both], self.noise[both])

    def at(self, labels: int) -> tuple[Numbers, Numbers, Numbers]:
        """(mean, covariance, noise), interpolated over the logarithm of the number of labelled queries."""
        place = float(np.interp(np.log(labels), np.log(self.sizes), np.arange(len(self.sizes))))
        low = min(int(place), len(self.sizes) - 2) if len(self.sizes) > 1 else 0
        high = min(low + 1, len(self.sizes) - 1)
        part = place - low
        mean, covariance, noise = (
            values[low] * (1 - part) + values[high] * part for values in (self.mean, self.covariance, self.noise)
        )
        return mean, covariance, noise


def headroom(frozen: Numbers) -> float:
    """How much there is to gain: what the frozen encoder leaves, less where it finds next to nothing, since labels
    that few of its hits agree with are as likely wrong as they are unforeseen."""
    # as if one query more had 0.6: few labels say little about the level
    level = (float(frozen.sum()) + 0.6) / (len(frozen) + 1)
    return (1 - level) * min(1.0, 0.1 + level / 0.2)


def posterior(prior: Prior, frozen: Tensor, gains: Tensor) -> tuple[Numbers, Numbers]:
    """(K,) expected change of nDCG@10 of each candidate on queries to come, and (K,) its standard deviation.

    With the mean ȳ of n observed improvements, the prior's mean μ and covariance B between domains, and the sampling
    covariance E of ȳ, the posterior of a normal model has

        W = B (B + E)⁻¹,    mean μ + W (ȳ − μ),    covariance B − W B.

    All are in shares of the headroom; the results are scaled back. E pools the covariance between this domain's
    queries (n − 1 degrees of freedom) with the prior's (PRIOR_LABELS).

    frozen: (n,), gains: (n, K), from `cross_validate`.
    """
    scale = headroom(frozen.double().numpy())
    improvements = gains.double().numpy() / scale
    n = len(improvements)
    mean, covariance, noise = prior.at(n)
    between_queries = np.cov(improvements.T).reshape(noise.shape)
    sampling_covariance = ((n - 1) * between_queries + PRIOR_LABELS * noise) / (n - 1 + PRIOR_LABELS) / n
    # the diagonal keeps candidates apart that no training domain told apart
    between_domains = covariance + 0.02 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    total = between_domains + sampling_covariance + 1e-8 * np.eye(len(mean))
    shrinkage = np.linalg.solve(total, between_domains).T
    updated = mean + shrinkage @ (improvements.mean(axis=0) - mean)
    variance = np.diag(between_domains - shrinkage @ between_domains)
    return updated * scale, np.sqrt(np.maximum(variance, 0.0)) * scale
