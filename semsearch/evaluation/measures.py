"""From rankings to measures, and from measures to means with intervals. Does not depend on how a ranking was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from semsearch.adapters.ndcg import ndcg
from semsearch.adapters.support import Judgments
from semsearch.types import Rows, Scores

Values = npt.NDArray[np.float64]

MEASURES = ("nDCG@10", "recall@100", "MRR@10")
DEPTH = 100
"""Ranks that any of them counts."""


def measure(scores: Scores, judgments: Sequence[Judgments]) -> dict[str, Values]:
    """(n,) of each of MEASURES. scores: (n, N), higher is better; equal scores rank by row."""
    return measure_rankings(list(_best_rows(scores, DEPTH)), judgments)


def measure_rankings(rankings: Sequence[Rows], judgments: Sequence[Judgments]) -> dict[str, Values]:
    """(n,) of each of MEASURES.

    rankings: n arrays of document rows, best first, of any length; judgments: n, one a query, each with a relevance
    above 0. nDCG has linear gains and a log2(rank + 1) discount; recall and reciprocal rank count a relevance above 0.
    """
    n = len(judgments)
    ndcg_values, recall, reciprocal_rank = np.zeros(n), np.zeros(n), np.zeros(n)
    for index, (rows, judged) in enumerate(zip(rankings, judgments, strict=True)):
        relevance = np.array([judged.get(row, 0.0) for row in rows[:DEPTH].tolist()], np.float64)
        ndcg_values[index] = ndcg(relevance, list(judged.values()))
        recall[index] = np.count_nonzero(relevance > 0) / len(judged)
        hits = np.flatnonzero(relevance[:10] > 0)
        reciprocal_rank[index] = 1 / (hits[0] + 1) if len(hits) else 0.0
    return {"nDCG@10": ndcg_values, "recall@100": recall, "MRR@10": reciprocal_rank}


def _best_rows(scores: Scores, k: int) -> npt.NDArray[np.intp]:
    """(n, k) rows of the best scores, best first, equal ones by row."""
    k = min(k, scores.shape[1])
    kth_best = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    best = np.empty((len(scores), k), np.intp)
    for index, (row, least) in enumerate(zip(scores, kth_best, strict=True)):
        candidates = np.flatnonzero(row >= least)
        best[index] = candidates[np.argsort(-row[candidates], kind="stable")][:k]
    return best


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A value for each of some queries, and how much each counts."""

    values: Values
    """(n,)"""
    weights: Values | None = None
    """(n,) at least 0, some above 0; only their ratios matter. None: all count alike."""
    queries: Rows | None = None
    """(n,) rows of the queries, to recognize them in other samples of the data set. None: 0 to n − 1."""

    def mean(self) -> float:
        """Return the weighted mean."""
        return float(np.average(self.values, weights=self.weights))


Differences = Mapping[str, Mapping[str, Sequence[Sample]]]
"""family → data set → for each seed, the difference between two methods on each query."""


def macro_mean(differences: Differences) -> float:
    """Mean over families of the mean over data sets of the mean over seeds of the mean over queries."""
    return float(np.mean([np.mean(list(dataset_means(datasets).values())) for datasets in differences.values()]))


def dataset_means(datasets: Mapping[str, Sequence[Sample]]) -> dict[str, float]:
    """Return each data set's mean over seeds of the mean over queries."""
    return {name: float(np.mean([sample.mean() for sample in seeds])) for name, seeds in datasets.items()}


def paired_interval(
    differences: Differences, *, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the macro mean.

    Queries are resampled within seeds, seeds within data sets, and data sets within families; families are fixed. A
    query is drawn with its weight.
    """
    rng = np.random.default_rng(seed)
    family_means = []
    for datasets in differences.values():
        resampled = np.stack([_resampled_dataset(list(seeds), samples, rng) for seeds in datasets.values()])
        chosen = rng.integers(len(resampled), size=(len(resampled), samples))
        family_means.append(np.take_along_axis(resampled, chosen, axis=0).mean(axis=0))
    macro = np.mean(family_means, axis=0)
    low, high = np.quantile(macro, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_dataset(seeds: Sequence[Sample], samples: int, rng: np.random.Generator) -> Values:
    """(samples,) means of one data set, its seeds and their queries drawn with replacement."""
    resampled = np.stack([_resampled_queries(sample, samples, rng) for sample in seeds])
    chosen = rng.integers(len(seeds), size=(len(seeds), samples))
    means: Values = np.take_along_axis(resampled, chosen, axis=0).mean(axis=0)
    return means


def _resampled_queries(sample: Sample, samples: int, rng: np.random.Generator) -> Values:
    """(samples,) weighted means of one seed's queries, drawn with replacement, each as likely as any other."""
    values, weights = sample.values, sample.weights
    means = np.empty(samples)
    for start in range(0, samples, 200):
        stop = min(start + 200, samples)
        drawn = rng.integers(len(values), size=(stop - start, len(values)))
        if weights is None:
            means[start:stop] = values[drawn].mean(axis=1)
        else:
            means[start:stop] = (values * weights)[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    return means
