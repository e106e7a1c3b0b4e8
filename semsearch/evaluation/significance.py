"""Which data sets a method makes worse, beyond what the choice of queries explains.

Each data set is tested by randomization over its queries (Fisher 1935; for retrieval Smucker et al. 2007,
doi:10.1145/1321440.1321528), and the p-values are corrected for their number by Holm's method (1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semsearch.evaluation.measures import Differences, Sample, Values

MIN_QUERIES = 80
"""Data sets with fewer measured queries are tested together with those of their family."""
LEVEL = 0.05
"""Probability of calling any data set worse that is not."""
DRAWS = 10_000
"""Randomizations of each test: p-values are at least 1 / (DRAWS + 1)."""
BATCH = 1_000
"""Randomizations in memory at once."""


@dataclass(frozen=True, slots=True)
class Tested:
    """The outcome of testing all data sets."""

    worse: tuple[str, ...]
    """Data sets that are significantly worse; data sets that were tested together are joined by ` + `."""
    tests: int
    """Number of tests."""


def significantly_worse(differences: Differences) -> Tested:
    """Test on every data set whether a method is worse than another. differences: between them, on each query."""
    contributions = _contributions_by_test(differences)
    adjusted = holm([randomization_p(each) for each in contributions.values()])
    worse = [name for name, p in zip(contributions, adjusted, strict=True) if p < LEVEL]
    return Tested(tuple(worse), len(contributions))


def _contributions_by_test(differences: Differences) -> dict[str, Values]:
    """The name of each test, with what every query contributes to the mean difference."""
    tests: dict[str, Values] = {}
    for datasets in differences.values():
        by_dataset = {name: query_contributions(seeds) for name, seeds in datasets.items()}
        small = {name: each for name, each in by_dataset.items() if len(each) < MIN_QUERIES}
        tests |= {name: each for name, each in by_dataset.items() if name not in small}
        if small:
            tests[" + ".join(small)] = np.concatenate(list(small.values()))
    return tests


def query_contributions(seeds: Sequence[Sample]) -> Values:
    """(n,) what each query that any seed measured contributes to the mean over seeds, which is their sum."""
    contributions: dict[int, float] = {}
    for sample in seeds:
        weights = np.ones(len(sample.values)) if sample.weights is None else sample.weights
        shares = sample.values * weights / (weights.sum() * len(seeds))
        queries = np.arange(len(shares)) if sample.queries is None else sample.queries
        for query, share in zip(queries.tolist(), shares.tolist(), strict=True):
            contributions[query] = contributions.get(query, 0.0) + share
    return np.array(list(contributions.values()))


def randomization_p(contributions: Values, *, draws: int = DRAWS) -> float:
    """The p-value, one-sided, of a sum below 0 if the sign of each contribution were random.

    It is 1, without a randomization, if the sum is not below 0.
    """
    observed = contributions.sum()
    if observed >= 0:
        return 1.0
    # a query without a difference has none with either sign
    magnitudes = np.abs(contributions[contributions != 0])
    rng = np.random.default_rng(0)
    lower = 0
    for start in range(0, draws, BATCH):
        signs = 2.0 * rng.integers(0, 2, size=(min(BATCH, draws - start), len(magnitudes)), dtype=np.int8) - 1
        # sums of the same terms in another order may differ in their last bits
        lower += int(np.count_nonzero(signs @ magnitudes <= observed * (1 - 1e-9)))
    return (lower + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values, in the same order: the k-th lowest of n times n + 1 − k, at least the one before."""
    adjusted = [1.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        least = max(least, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = least
    return adjusted
