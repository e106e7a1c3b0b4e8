"""Which queries of a data set are labelled and measured. Does not depend on vectors or rankings.

With a skew of 0 every query counts alike, and labelled queries are not measured. With a skew s > 0 each search asks for
the query of popularity rank r with probability p ∝ r^−s (Zipf's law). One half of the queries, drawn at random, are
labelled in the order in which searches come upon them. All queries of both halves are measured, each as often as it is
searched for: labelled queries recur, as in a search box, and the queries of the other half are never labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semsearch.evaluation.measures import Values
from semsearch.metalearn.episodes import Dataset
from semsearch.types import Mask, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """The queries of a data set that may be labelled, and those that are measured, as rows."""

    labelled: Rows
    """The half that may be labelled, in the order in which its queries are labelled."""
    measured: Rows
    """(m,) rows of the measured queries, without repetitions."""
    weights: Values | None = None
    """(m,) share of each measured query in all searches, which sum to 1. None: all count alike."""


def draw_traffic(dataset: Dataset, skew: float, seed: int, max_queries: int | None = None) -> Traffic:
    """Draw the queries of one measurement.

    skew: exponent ≥ 0 of Zipf's law. seed: the same seed gives the same traffic; with a skew above 0 it does not depend
    on the order of the data set's queries, and the same popularity ranks and the same half for every skew.
    max_queries: most queries that are measured, by default all. With a skew of 0 these are queries of the half that is
    not labelled; with a skew above 0 they are the distinct ones among this many searches.
    """
    if skew == 0:
        pool, held_out = dataset.halves(seed)
        return Traffic(pool, held_out[:max_queries])
    rng = np.random.default_rng([seed, 2])
    order = _by_text(dataset.texts.queries)
    shares = zipf_shares(len(order), skew)[rng.permutation(len(order))]
    may_be_labelled = np.sort(rng.permutation(len(order))[: len(order) // 2])
    # an exponential race: the order in which draws with replacement, p ∝ shares, come upon the queries first
    arrivals = rng.exponential(size=len(order)) / shares
    labelled = may_be_labelled[np.argsort(arrivals[may_be_labelled], kind="stable")]
    measured, weights = np.arange(len(order)), shares
    if max_queries is not None and max_queries < len(order):
        measured, weights = _searches(shares, max_queries, rng)
    return Traffic(order[labelled], order[measured], weights)


def zipf_shares(n: int, skew: float) -> Values:
    """(n,) probabilities of popularity ranks 1 to n, p ∝ rank^−skew."""
    powers: Values = np.arange(1, n + 1, dtype=np.float64) ** -skew
    shares: Values = powers / powers.sum()
    return shares


def other_texts(queries: Sequence[str], labelled: Sequence[str]) -> Mask:
    """(m,) bool: whether each query has another text than all labelled ones."""
    texts = {text.strip() for text in labelled}
    return np.array([text.strip() not in texts for text in queries], bool)


def _by_text(queries: Sequence[str]) -> Rows:
    """Rows of the queries sorted by text."""
    return np.array(sorted(range(len(queries)), key=lambda row: queries[row]), np.intp)


def _searches(shares: Values, n: int, rng: np.random.Generator) -> tuple[Rows, Values]:
    """Draw n searches by systematic sampling. Returns the distinct queries and each one's share of the searches.

    A query with the share p of all searches has ⌊np⌋ or ⌈np⌉ of these, np on average.
    """
    points = (np.arange(n) + rng.random()) / n
    drawn = np.searchsorted(np.cumsum(shares), points, side="right").clip(max=len(shares) - 1)
    rows, counts = np.unique(drawn, return_counts=True)
    return rows, counts / n
