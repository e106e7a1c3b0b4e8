"""Clicks become gains, corrected for the position at which a result stood. Does not depend on vectors.

A result is clicked if it was looked at and found worth it; whether it is looked at depends on its position alone (the
position-based model, Craswell et al. 2008, doi:10.1145/1341531.1341545). Weighting a click by the inverse of that
probability makes its expectation the same at every position (Joachims et al. 2017, doi:10.1145/3018661.3018699);
weights are clipped, which trades a little bias for much variance.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from semsearch.types import Click

PRIOR_EXPONENT = 1.0
PRIOR_SPREAD = 0.5
"""What exponents are like before a click is seen: most published ones lie between 0.5 and 1.5."""
MIN_SHARE_OF_BEST = 0.1
"""A document whose corrected rate is below this share of the query's best is not taken for an answer."""
ENOUGH_LOOKS = 2.0
"""Expected times that a result was looked at, from which on not being clicked says something."""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """The probability that the result at position r, from 1, is looked at: (1/r)^exponent."""

    exponent: float = PRIOR_EXPONENT
    spread: float = PRIOR_SPREAD
    """Standard deviation of the exponent."""
    clip: float = 10.0
    """A click weighs at most so much."""

    def weight(self, position: int) -> float:
        """What a click at this position counts."""
        return float(min(position**self.exponent, self.clip))


def estimate_bias(clicks: Sequence[Click], *, clip: float = 10.0) -> PositionBias:
    """The position bias that a log of clicks shows.

    Uses only documents that the same query showed at several positions, and compares each with itself: how good it is
    cancels (intervention harvesting, Agarwal et al. 2019, doi:10.1145/3289600.3291017). The exponent is the mode of the
    likelihood of a document's clicks over its positions, given their number, times a normal prior; without any such
    document it is the prior's.
    """
    shown: defaultdict[tuple[str, str, str], Counter[int]] = defaultdict(Counter)
    clicked: defaultdict[tuple[str, str, str], Counter[int]] = defaultdict(Counter)
    for click in clicks:
        for position, document in enumerate(click.shown, start=1):
            shown[click.domain, click.query, document][position] += 1
        if click.document is not None and click.position is not None and click.shown:
            clicked[click.domain, click.query, click.document][click.position] += 1
    pairs = [
        _pair(shown[key], counts)
        for key, counts in clicked.items()
        if len(shown[key]) > 1 and set(counts) <= set(shown[key])
    ]
    exponent, curvature = PRIOR_EXPONENT, 1 / PRIOR_SPREAD**2
    for _ in range(25):
        slope = (PRIOR_EXPONENT - exponent) / PRIOR_SPREAD**2
        curvature = 1 / PRIOR_SPREAD**2
        for logs, impressions, counts in pairs:
            share = impressions * np.exp(-exponent * logs)
            share /= share.sum()
            mean = float(share @ logs)
            slope += float(counts.sum()) * mean - float(counts @ logs)
            curvature += float(counts.sum()) * (float(share @ logs**2) - mean**2)
        step = slope / curvature
        exponent = min(max(exponent + step, 0.0), 3.0)
        if abs(step) < 1e-6:
            break
    return PositionBias(exponent, 1 / math.sqrt(curvature), clip)


def click_relevance(clicks: Sequence[Click], bias: PositionBias) -> dict[str, dict[str, float]]:
    """Query → document → gain in [0, 1]: clicks for each time the query was shown, corrected and capped at 1.

    0 for what was looked at often enough, by the bias, and yet hardly clicked: below FAINT of the query's best.
    Queries that nothing was clicked for are left out.
    """
    lists: Counter[str] = Counter(click.query for click in clicks)
    summed: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    looks: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for click in clicks:
        for position, document in enumerate(click.shown, start=1):
            looks[click.query][document] += 1 / position**bias.exponent
        if click.document is not None and click.position is not None:
            summed[click.query][click.document] += bias.weight(click.position)
    found: dict[str, dict[str, float]] = {}
    for query, weights in summed.items():
        rates = {document: min(1.0, weight / lists[query]) for document, weight in weights.items()}
        best = max(rates.values())
        found[query] = {document: 0.0 for document, seen in looks[query].items() if seen >= ENOUGH_LOOKS}
        found[query] |= {document: rate for document, rate in rates.items() if rate >= MIN_SHARE_OF_BEST * best}
    return found


def _pair(shown: Counter[int], clicked: Counter[int]) -> tuple[npt.NDArray[np.float64], ...]:
    """Of one document under one query: logarithms of its positions, impressions there, clicks there."""
    positions = sorted(shown)
    return (
        np.log(np.array(positions, np.float64)),
        np.array([shown[position] for position in positions], np.float64),
        np.array([clicked[position] for position in positions], np.float64),
    )
