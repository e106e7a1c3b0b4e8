"""Rankings to measures, and measures to means with intervals; knows nothing of how a ranking came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from semsearch.adapters.support import Judgments
from semsearch.types import Scores

Values = npt.NDArray[np.float64]

MEASURES = ("nDCG@10", "recall@100", "MRR@10")


def measure(scores: Scores, judgments: Sequence[Judgments]) -> dict[str, Values]:
    """(n,) of each of MEASURES. scores: (n, N), higher is better; equal ones rank by row.

    nDCG has linear gains and a log2(rank + 1) discount; recall and reciprocal rank count a gain above 0 as relevant.
    """
    top = _best(scores, 100)
    n = len(judgments)
    ndcg, recall, reciprocal = np.zeros(n), np.zeros(n), np.zeros(n)
    discount = 1 / np.log2(np.arange(2, 12))
    for number, (rows, judged) in enumerate(zip(top.tolist(), judgments, strict=True)):
        gains = [judged.get(row, 0.0) for row in rows]
        first = np.array(gains[:10])
        ideal = np.sort(np.array(list(judged.values())))[::-1][:10]
        ndcg[number] = first @ discount[: len(first)] / (ideal @ discount[: len(ideal)])
        recall[number] = sum(gain > 0 for gain in gains) / len(judged)
        hits = np.flatnonzero(first > 0)
        reciprocal[number] = 1 / (hits[0] + 1) if len(hits) else 0.0
    return {"nDCG@10": ndcg, "recall@100": recall, "MRR@10": reciprocal}


def _best(scores: Scores, k: int) -> npt.NDArray[np.intp]:
    """(n, k) rows of the best scores, best first, equal ones by row."""
    k = min(k, scores.shape[1])
    edge = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    best = np.empty((len(scores), k), np.intp)
    for number, (row, least) in enumerate(zip(scores, edge, strict=True)):
        among = np.flatnonzero(row >= least)
        best[number] = among[np.argsort(-row[among], kind="stable")][:k]
    return best


Differences = Mapping[str, Mapping[str, Sequence[Values]]]
"""family → domain → for each seed, one number a query: what one method has over another."""


def macro_mean(differences: Differences) -> float:
    """Mean over families of the mean over domains of the mean over seeds of the mean over queries."""
    return float(
        np.mean(
            [
                np.mean([np.mean([values.mean() for values in seeds]) for seeds in domains.values()])
                for domains in differences.values()
            ]
        )
    )


def paired_interval(
    differences: Differences, *, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the macro mean: queries drawn within seeds, seeds within domains, domains
    within families; the families stand as they are."""
    rng = np.random.default_rng(seed)
    by_family = []
    for domains in differences.values():
        drawn = np.stack([_drawn_means(list(seeds), samples, rng) for seeds in domains.values()])
        chosen = rng.integers(len(drawn), size=(len(drawn), samples))
        by_family.append(np.take_along_axis(drawn, chosen, axis=0).mean(axis=0))
    macro = np.mean(by_family, axis=0)
    low, high = np.quantile(macro, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _drawn_means(seeds: Sequence[Values], samples: int, rng: np.random.Generator) -> Values:
    """(samples,) means of one domain, its seeds and their queries drawn with replacement."""
    means = np.stack([_drawn(values, samples, rng) for values in seeds])
    chosen = rng.integers(len(seeds), size=(len(seeds), samples))
    drawn: Values = np.take_along_axis(means, chosen, axis=0).mean(axis=0)
    return drawn


def _drawn(values: Values, samples: int, rng: np.random.Generator) -> Values:
    drawn = np.empty(samples)
    for start in range(0, samples, 200):
        stop = min(start + 200, samples)
        drawn[start:stop] = values[rng.integers(len(values), size=(stop - start, len(values)))].mean(axis=1)
    return drawn
