"""What candidates brought elsewhere, and what to expect of them here: empirical Bayes for the guard.

What the candidates truly added on the training domains is the prior; a domain's own cross-validation updates it
(Robbins 1956; Efron 2010, doi:10.1017/CBO9780511761362), so that few labels are believed little and many much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semsearch.learning.candidates import Candidate, candidate_state, cross_validate
from semsearch.learning.context import Start
from semsearch.learning.losses import ndcg
from semsearch.learning.states import axes_of, rescale
from semsearch.learning.support import MOST_DOCUMENTS
from semsearch.learning.tasks import Domain
from semsearch.records import LabelError

Numbers = npt.NDArray[np.float64]

PRIOR_LABELS = 16
"""How many labelled queries' worth of noise the prior contributes to a domain's own."""
SIZES = (4, 8, 16, 32, 64, 128)
"""Labelled queries that trials are made with."""


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """What candidates added on the training domains, by the number of labelled queries; in shares of the room."""

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


def room(frozen: Numbers) -> float:
    """How much there is to gain: what the frozen encoder leaves, less where it finds next to nothing, since labels
    that few of its hits agree with are as likely wrong as they are unforeseen."""
    # as if one query more had 0.6: few labels say little about the level
    level = (float(frozen.sum()) + 0.6) / (len(frozen) + 1)
    return (1 - level) * min(1.0, 0.1 + level / 0.2)


def posterior(prior: Prior, frozen: Tensor, gains: Tensor) -> tuple[Numbers, Numbers]:
    """(K,) expected change of nDCG@10 of each candidate on queries to come, and (K,) its standard deviation.

    frozen: (n,), gains: (n, K), from `cross_validate`.
    """
    scale = room(frozen.double().numpy())
    seen = gains.double().numpy() / scale
    n = len(seen)
    mean, covariance, noise = prior.at(n)
    own = np.cov(seen.T).reshape(noise.shape)
    error = ((n - 1) * own + PRIOR_LABELS * noise) / (n - 1 + PRIOR_LABELS) / n
    # the diagonal keeps candidates apart that no training domain told apart
    between = covariance + 0.02 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    weight = np.linalg.solve(between + error + 1e-8 * np.eye(len(mean)), between).T
    updated = mean + weight @ (seen.mean(axis=0) - mean)
    variance = np.diag(between - weight @ between)
    return updated * scale, np.sqrt(np.maximum(variance, 0.0)) * scale


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One adaptation of a training domain: what cross-validation said, and what was true."""

    domain: str
    family: str
    size: int
    frozen: Numbers
    """(n,)."""
    seen: Numbers
    """(n, K) cross-validated."""
    true: Numbers
    """(K,) on the domain's other half, over its whole corpus."""


def trials(
    candidates: Sequence[Candidate],
    starts: Mapping[str, Start],
    domains: Sequence[Domain],
    *,
    seeds: int = 3,
    most_documents: int = MOST_DOCUMENTS,
    most_queries: int = 300,
) -> Iterator[Trial]:
    """Adapt every domain at every size of SIZES that half of its queries reach, for each seed."""
    for domain in domains:
        for seed in range(seeds):
            half, others = domain.halves(seed)
            judged = domain.support(others[:most_queries], most=len(domain.documents))
            frozen, axes = ndcg(judged.queries, judged), axes_of(domain.basis, judged.queries)
            for size in SIZES:
                if size > 1.6 * len(half):
                    continue
                support = domain.support(half[:size], most=most_documents)
                with torch.no_grad():
                    own, seen, _ = cross_validate(candidates, starts, domain.basis, support)
                    true = [
                        float((ndcg(rescale(state, axes, judged.queries), judged) - frozen).mean())
                        for state in (candidate_state(c, starts, domain.basis, support) for c in candidates)
                    ]
                yield Trial(
                    domain.name, domain.family, size, own.double().numpy(), seen.double().numpy(), np.array(true)
                )


def fit_prior(done: Sequence[Trial]) -> Prior:
    """The prior that trials tell: families count alike, domains alike within a family. Raises LabelError for none."""
    if not done:
        raise LabelError("no domain has enough judged queries to try the guard on: at least 6 are needed")
    sizes = sorted({trial.size for trial in done})
    parts = [_moments([trial for trial in done if trial.size == size]) for size in sizes]
    mean, covariance, noise = (np.stack(part) for part in zip(*parts, strict=True))
    return Prior(np.array(sizes, np.float64), mean, covariance, noise)


def _moments(done: Sequence[Trial]) -> tuple[Numbers, Numbers, Numbers]:
    domains: dict[str, set[str]] = {}
    for trial in done:
        domains.setdefault(trial.family, set()).add(trial.domain)
    times = {name: sum(trial.domain == name for trial in done) for trial in done for name in [trial.domain]}
    weights = np.array([1 / len(domains) / len(domains[t.family]) / times[t.domain] for t in done])
    true = np.array([trial.true / room(trial.frozen) for trial in done])
    mean = weights @ true
    apart = true - mean
    noise = [np.cov((trial.seen / room(trial.frozen)).T).reshape(len(mean), -1) for trial in done]
    return mean, (apart * weights[:, None]).T @ apart, np.tensordot(weights, np.array(noise), axes=1)
