"""Fits the guard's prior to trials of every candidate on every training data set, at several numbers of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from semsearch.adapters.candidates import Candidate
from semsearch.adapters.cross_validation import candidate_state, cross_validate
from semsearch.adapters.losses import support_ndcg
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.prior import Numbers, Prior, headroom
from semsearch.adapters.states import axes_of, transform
from semsearch.adapters.support import MAX_DOCUMENTS
from semsearch.errors import LabelError
from semsearch.metalearn.episodes import Dataset

SIZES = (4, 8, 16, 32, 64, 128)
"""Numbers of labelled queries of trials."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The K candidates on one support set: their improvements in cross-validation, and on other queries.

    Training checkpoints hold trials as JSON, with these names.
    """

    dataset: str
    family: str
    size: int
    """n, the number of labelled queries."""
    frozen: Numbers
    """(n,) nDCG@10 of the frozen encoder."""
    seen: Numbers
    """(n, K) improvements in cross-validation on the labelled queries."""
    true: Numbers
    """(K,) mean improvements on queries of the data set's other half, over its whole corpus."""


def run_trials(
    candidates: Sequence[Candidate],
    meta_parameters: Mapping[str, MetaParameters],
    datasets: Sequence[Dataset],
    *,
    seeds: int = 3,
    max_documents: int = MAX_DOCUMENTS,
    max_queries: int = 300,
) -> Iterator[Trial]:
    """Try the candidates on every data set, for each seed, at every size of SIZES for which it has enough queries.

    meta_parameters: by learner.
    max_documents: of the support sets.
    max_queries: that the candidates are measured on.
    """
    for dataset in datasets:
        for seed in range(seeds):
            half, others = dataset.halves(seed)
            measured = dataset.support(others[:max_queries], max_documents=len(dataset.documents))
            frozen, axes = support_ndcg(measured.queries, measured), axes_of(dataset.basis, measured.queries)
            for size in SIZES:
                if size > 1.6 * len(half):
                    continue
                support = dataset.support(half[:size], max_documents=max_documents)
                with torch.no_grad():
                    before, improvements, _ = cross_validate(candidates, meta_parameters, dataset.basis, support)
                    states = (candidate_state(c, meta_parameters, dataset.basis, support) for c in candidates)
                    true = [
                        float((support_ndcg(transform(state, axes, measured.queries), measured) - frozen).mean())
                        for state in states
                    ]
                yield Trial(
                    dataset.name,
                    dataset.family,
                    size,
                    before.double().numpy(),
                    improvements.double().numpy(),
                    np.array(true),
                )


def fit_prior(trials: Sequence[Trial]) -> Prior:
    """Return the moments of the trials' improvements at each size.

    Families have equal weight, and data sets have equal weight within a family. Raises LabelError without trials.
    """
    if not trials:
        raise LabelError("no data set has enough judged queries to try the guard on: at least 6 are needed")
    sizes = sorted({trial.size for trial in trials})
    moments = [_moments([trial for trial in trials if trial.size == size]) for size in sizes]
    mean, covariance, noise = (np.stack(moment) for moment in zip(*moments, strict=True))
    return Prior(np.array(sizes, np.float64), mean, covariance, noise)


def _moments(trials: Sequence[Trial]) -> tuple[Numbers, Numbers, Numbers]:
    """Return mean (K,), covariance between data sets and covariance between queries, each (K, K), of scaled trials."""
    datasets: dict[str, set[str]] = {}
    for trial in trials:
        datasets.setdefault(trial.family, set()).add(trial.dataset)
    count = Counter(trial.dataset for trial in trials)
    weights = np.array([1 / len(datasets) / len(datasets[t.family]) / count[t.dataset] for t in trials])
    improvements = np.array([trial.true / headroom(trial.frozen) for trial in trials])
    mean = weights @ improvements
    deviations = improvements - mean
    noise = [np.cov((trial.seen / headroom(trial.frozen)).T).reshape(len(mean), -1) for trial in trials]
    return mean, (deviations * weights[:, None]).T @ deviations, np.tensordot(weights, np.array(noise), axes=1)
