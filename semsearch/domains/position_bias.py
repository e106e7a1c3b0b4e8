"""Turns clicks into relevance, corrected for the positions of the results. Does not depend on vectors.

A result is clicked if it is examined and attractive; whether it is examined depends on its position alone (the
position-based model, Craswell et al. 2008, doi:10.1145/1341531.1341545). Weighting a click by the inverse of that
probability makes its expectation the same at every position (Joachims et al. 2017, doi:10.1145/3018661.3018699).
Weights are clipped, which adds a little bias and removes much variance.
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
"""Mean and standard deviation of the exponent's prior: most published exponents lie between 0.5 and 1.5."""
MAX_EXPONENT = 3.0
NEWTON_STEPS = 25
MIN_SHARE_OF_BEST = 0.1
"""A document whose corrected click rate is below this share of its query's best is not relevant."""
MIN_EXAMINATIONS = 2.0
"""Expected number of examinations from which a document without clicks is not relevant; below it, it is unjudged."""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """The probability that the result at position r, counted from 1, is examined: (1/r)^exponent."""

    exponent: float = PRIOR_EXPONENT
    spread: float = PRIOR_SPREAD
    """Standard deviation of the exponent."""
    clip: float = 10.0
    """Maximum weight of a click."""

    def weight(self, position: int) -> float:
        """Return the weight of a click at a position: the inverse of its probability of examination, clipped."""
        return float(min(position**self.exponent, self.clip))


@dataclass(frozen=True, slots=True, eq=False)
class _Exposure:
    """One document that one query showed at p positions."""

    log_positions: npt.NDArray[np.float64]
    """(p,)"""
    impressions: npt.NDArray[np.float64]
    """(p,) times it was shown at each position."""
    clicks: npt.NDArray[np.float64]
    """(p,) times it was clicked at each position."""


def estimate_bias(clicks: Sequence[Click], *, clip: float = 10.0) -> PositionBias:
    """Estimate the position bias from logged clicks. clip: maximum weight of a click in the result.

    Uses only documents that the same query showed at several positions, and compares each with itself, so that its
    attractiveness cancels (intervention harvesting, Agarwal et al. 2019, doi:10.1145/3289600.3291017). The exponent is
    the mode of its posterior: a normal prior times the likelihood of the documents' clicks over their positions, given
    the number of clicks. Without such a document it is the prior's mean.
    """
    exposures = _exposures(clicks)
    exponent, curvature = PRIOR_EXPONENT, 1 / PRIOR_SPREAD**2
    for _ in range(NEWTON_STEPS):
        slope, curvature = _log_posterior_derivatives(exponent, exposures)
        step = slope / curvature
        exponent = min(max(exponent + step, 0.0), MAX_EXPONENT)
        if abs(step) < 1e-6:
            break
    return PositionBias(exponent, 1 / math.sqrt(curvature), clip)


def click_relevance(clicks: Sequence[Click], bias: PositionBias) -> dict[str, dict[str, float]]:
    """Return query → document → relevance in [0, 1]: its corrected clicks per impression of the query, at most 1.

    The relevance is 0 for a document that was examined at least MIN_EXAMINATIONS times in expectation, and whose clicks
    are below MIN_SHARE_OF_BEST of the query's best document. Queries without a click are left out.
    """
    impressions: Counter[str] = Counter(click.query for click in clicks)
    click_weights: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    examinations: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for click in clicks:
        for position, document in enumerate(click.shown, start=1):
            examinations[click.query][document] += 1 / position**bias.exponent
        if click.document is not None and click.position is not None:
            click_weights[click.query][click.document] += bias.weight(click.position)
    relevance: dict[str, dict[str, float]] = {}
    for query, weights in click_weights.items():
        rates = {document: min(1.0, weight / impressions[query]) for document, weight in weights.items()}
        best = max(rates.values())
        relevance[query] = {
            document: 0.0 for document, expected in examinations[query].items() if expected >= MIN_EXAMINATIONS
        }
        relevance[query] |= {document: rate for document, rate in rates.items() if rate >= MIN_SHARE_OF_BEST * best}
    return relevance


def _exposures(clicks: Sequence[Click]) -> list[_Exposure]:
    """Return the clicked documents that one query showed at several positions."""
    impressions: defaultdict[tuple[str, str, str], Counter[int]] = defaultdict(Counter)
    clicked: defaultdict[tuple[str, str, str], Counter[int]] = defaultdict(Counter)
    for click in clicks:
        for position, document in enumerate(click.shown, start=1):
            impressions[click.domain, click.query, document][position] += 1
        if click.document is not None and click.position is not None and click.shown:
            clicked[click.domain, click.query, click.document][click.position] += 1
    exposures = []
    for key, counts in clicked.items():
        positions = sorted(impressions[key])
        if len(positions) > 1 and set(counts) <= set(positions):
            exposures.append(
                _Exposure(
                    np.log(np.array(positions, np.float64)),
                    np.array([impressions[key][position] for position in positions], np.float64),
                    np.array([counts[position] for position in positions], np.float64),
                )
            )
    return exposures


def _log_posterior_derivatives(exponent: float, exposures: Sequence[_Exposure]) -> tuple[float, float]:
    """Return the first derivative of the exponent's log posterior, and the negative of its second."""
    slope = (PRIOR_EXPONENT - exponent) / PRIOR_SPREAD**2
    curvature = 1 / PRIOR_SPREAD**2
    for exposure in exposures:
        # the distribution of a click over the positions
        share = exposure.impressions * np.exp(-exponent * exposure.log_positions)
        share /= share.sum()
        mean = float(share @ exposure.log_positions)
        clicks = float(exposure.clicks.sum())
        slope += clicks * mean - float(exposure.clicks @ exposure.log_positions)
        curvature += clicks * (float(share @ exposure.log_positions**2) - mean**2)
    return slope, curvature
