"""The weight of words: arithmetic, and that it takes evidence."""

from __future__ import annotations

import numpy as np
import pytest

from semsearch.learning.lexical import WEIGHTS, choose_weight, fuse


def test_a_querys_best_lexical_match_is_worth_the_weight() -> None:
    dense, words = np.array([[0.5, 0.4], [0.1, 0.2]], np.float32), np.array([[2.0, 8.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(fuse(dense, words, 0.2), [[0.55, 0.6], [0.1, 0.2]], rtol=1e-6)
    assert fuse(dense, words, 0.0) is dense


@pytest.mark.parametrize(("labels", "expected"), [(1, 0.0), (3, 0.0), (8, 0.4), (40, 0.4)])
def test_what_helps_everywhere_is_taken_once_there_are_labels_enough(labels: int, expected: float) -> None:
    values = np.full((labels, len(WEIGHTS)), 0.5)
    values[:, WEIGHTS.index(0.4)] += 0.06
    assert choose_weight(values) == expected


def test_what_helps_by_luck_is_not() -> None:
    rng = np.random.default_rng(0)
    taken = [choose_weight(rng.normal(0.5, 0.2, size=(16, len(WEIGHTS)))) for _ in range(100)]
    assert sum(weight > 0 for weight in taken) < 40
