"""Fits the guard's prior: every candidate learner is tried on every training domain, at several numbers of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from semsearch.adapters.candidates import Candidate, candidate_state, cross_validate
from semsearch.adapters.losses import support_ndcg
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.prior import Numbers, Prior, headroom
from semsearch.adapters.states import axes_of, transform
from semsearch.adapters.support import MAX_DOCUMENTS
from semsearch.errors import LabelError
from semsearch.metalearn.episodes import Dataset

SIZES = (4, 8, 16, 32, 64, 128)
"""Labelled queries that trials are made with."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One adaptation of a training domain: what cross-validation said, and what was true."""

    dataset: str
    family: str
    size: int
    frozen: Numbers
    """(n,)."""
    seen: Numbers
    """(n, K) cross-validated."""
    true: Numbers
    """(K,) on the domain's other half, over its whole corpus."""


def run_trials(
    candidates: Sequence[Candidate],
    starts: Mapping[str, MetaParameters],
    domains: Sequence[Dataset],
    *,
    seeds: int = 3,
    most_documents: int = MAX_DOCUMENTS,
    most_queries: int = 300,
) -> Iterator[Trial]:
    """Adapt every domain at every size of SIZES that half of its queries reach, for each seed."""
    for domain in domains:
        for seed in range(seeds):
            half, others = domain.halves(seed)
            judged = domain.support(others[:most_queries], most=len(domain.documents))
            frozen, axes = support_ndcg(judged.queries, judged), axes_of(domain.basis, judged.queries)
            for size in SIZES:
                if size > 1.6 * len(half):
                    continue
                support = domain.support(half[:size], most=most_documents)
                with torch.no_grad():
                    own, seen, _ = cross_validate(candidates, starts, domain.basis, support)
                    true = [
                        float((support_ndcg(transform(state, axes, judged.queries), judged) - frozen).mean())
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
        domains.setdefault(trial.family, set()).add(trial.dataset)
    times = {name: sum(trial.dataset == name for trial in done) for trial in done for name in [trial.dataset]}
    weights = np.array([1 / len(domains) / len(domains[t.family]) / times[t.dataset] for t in done])
    true = np.array([trial.true / headroom(trial.frozen) for trial in done])
    mean = weights @ true
    apart = true - mean
    noise = [np.cov((trial.seen / headroom(trial.frozen)).T).reshape(len(mean), -1) for trial in done]
    return mean, (apart * weights[:, None]).T @ apart, np.tensordot(weights, np.array(noise), axes=1)
