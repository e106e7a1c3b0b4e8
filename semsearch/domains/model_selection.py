"""Whether one of many ways is better by more than luck, and what choosing it is worth; knows numbers only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.9
"""That a chosen way is better than the usual one, all that were tried taken together."""
RESAMPLES = 500
"""Of the queries, to know how much of the best figure of so many is luck."""

Values = npt.NDArray[np.float64]


def reality_check(values: Values, usual: int, *, rng: np.random.Generator) -> int:
    """The column that is surely better than the usual one by most, or the usual one where none surely is.

    values: (n, K). Sure is what clears a bound that the luckiest of all columns would stay under in CONFIDENCE of
    resamples if none were better (White 2000, doi:10.1111/1468-0262.00152, on studentised means).
    """
    n = len(values)
    gains = values - values[:, usual, None]
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    mean, error = _studentised(gains, np.full((1, n), 1 / n))
    means, errors = _studentised(gains, drawn)
    luck = ((means - mean) / errors).max(axis=1)
    low = (mean - np.quantile(luck, CONFIDENCE) * error)[0]
    low[usual] = 0.0
    return int(np.argmax(low))


def _studentised(gains: Values, shares: Values) -> tuple[Values, Values]:
    """(B, K) means of (n, K) numbers under (B, n) shares that sum to 1, and their standard errors."""
    mean = shares @ gains
    spread = np.maximum(shares @ gains**2 - mean**2, 0.0)
    # of few queries all may have gained the same by luck: as if one more had gained nothing, or 0.1
    return mean, np.sqrt((spread + 0.01 / len(gains)) / len(gains))


def bias_corrected_cv(
    values: Values, usual: int, *, before: Values, rng: np.random.Generator
) -> tuple[float, float, float]:
    """What choosing by `reality_check` adds to `before`, with the bounds of its central 95% interval.

    values: (n, K); before: (n,). Chosen on queries that are drawn with replacement, measured on those that were not
    drawn: bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou & Borboudakis 2018,
    doi:10.1007/s10994-018-5714-4).
    """
    n, gains = len(values), []
    for _ in range(RESAMPLES):
        drawn = rng.integers(n, size=n)
        left = np.setdiff1d(np.arange(n), drawn)
        if len(left):
            best = reality_check(values[drawn], usual, rng=rng)
            gains.append(float((values[left, best] - before[left]).mean()))
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(np.mean(gains)), float(low), float(high)
