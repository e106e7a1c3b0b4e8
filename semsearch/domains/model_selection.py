"""Chooses among alternatives by their values on the same queries, and estimates what the choice improves.

Does not depend on what the alternatives are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.9
"""Probability that no alternative is chosen if none is better than the baseline."""
RESAMPLES = 500
"""Bootstrap resamples of the queries."""

Values = npt.NDArray[np.float64]


def one_standard_error_rule(values: Values, baseline: int = 0, *, caution: float, penalty: float) -> int:
    """Return the column that is better than the baseline by the largest margin; the baseline if no margin is positive.

    values: (n, K), one row per query, one column per alternative. A margin is a mean improvement minus `caution`
    standard errors and `penalty` / n.
    """
    n = len(values)
    if n < 2:
        return baseline
    improvements = values - values[:, baseline, None]
    margin = improvements.mean(axis=0) - caution * improvements.std(axis=0, ddof=1) / np.sqrt(n) - penalty / n
    margin[baseline] = 0.0
    return int(np.argmax(margin))


def reality_check(values: Values, baseline: int, *, rng: np.random.Generator) -> int:
    """Return the column whose improvement over the baseline has the largest lower bound; the baseline if none is > 0.

    values: (n, K), one row per query, one column per alternative. baseline: a column.

    A lower bound is the mean improvement minus a multiple of its standard error. The multiple is the CONFIDENCE
    quantile of the largest studentized deviation of any column over bootstrap resamples, so that the best of many
    columns is not chosen by chance (White 2000, doi:10.1111/1468-0262.00152, on studentized means).
    """
    n = len(values)
    improvements = values - values[:, baseline, None]
    resamples = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    mean, error = _means_and_errors(improvements, np.full((1, n), 1 / n))
    resampled_means, resampled_errors = _means_and_errors(improvements, resamples)
    largest_deviation = ((resampled_means - mean) / resampled_errors).max(axis=1)
    lower_bound = (mean - np.quantile(largest_deviation, CONFIDENCE) * error)[0]
    lower_bound[baseline] = 0.0
    return int(np.argmax(lower_bound))


def _means_and_errors(values: Values, weights: Values) -> tuple[Values, Values]:
    """Return (B, K) weighted means of the columns of (n, K) values, and their standard errors.

    weights: (B, n), rows that sum to 1.
    """
    mean = weights @ values
    variance = np.maximum(weights @ values**2 - mean**2, 0.0)
    # a few queries may all improve alike by chance: add the variance of a further query that differs by 0.1
    return mean, np.sqrt((variance + 0.01 / len(values)) / len(values))


def bias_corrected_cv(
    values: Values, baseline: int, *, before: Values, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return the mean improvement over `before` of choosing by `reality_check`, and its central 95% interval.

    values: (n, K); baseline: a column; before: (n,). In each bootstrap resample a column is chosen on the queries that
    were drawn and measured on the others: bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou &
    Borboudakis 2018, doi:10.1007/s10994-018-5714-4).
    """
    n, improvements = len(values), []
    for _ in range(RESAMPLES):
        drawn = rng.integers(n, size=n)
        held_out = np.setdiff1d(np.arange(n), drawn)
        if len(held_out):
            best = reality_check(values[drawn], baseline, rng=rng)
            improvements.append(float((values[held_out, best] - before[held_out]).mean()))
    low, high = np.quantile(improvements, [0.025, 0.975])
    return float(np.mean(improvements)), float(low), float(high)
