"""The weight of words: it takes evidence."""

from __future__ import annotations

import numpy as np
import pytest

from semsearch.learning.lexical import WEIGHTS, surely_best


@pytest.mark.parametrize(("labels", "expected"), [(1, 0.1), (3, 0.1), (8, 0.4), (40, 0.4)])
def test_what_helps_everywhere_is_taken_once_there_are_labels_enough(labels: int, expected: float) -> None:
    values = np.full((labels, len(WEIGHTS)), 0.5)
    values[:, WEIGHTS.index(0.4)] += 0.06
    assert WEIGHTS[surely_best(values, WEIGHTS.index(0.1))] == expected


def test_what_helps_by_luck_is_not() -> None:
    rng = np.random.default_rng(0)
    taken = [surely_best(rng.normal(0.5, 0.2, size=(16, len(WEIGHTS)))) for _ in range(100)]
    assert sum(way > 0 for way in taken) < 40
