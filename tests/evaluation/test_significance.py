"""Tests of data sets against exact p-values, and Holm's correction against a table worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from semsearch.evaluation.measures import Sample
from semsearch.evaluation.significance import holm, query_contributions, randomization_p, significantly_worse


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.001, 0.4], [0.8, 0.003, 0.8]),
        ([0.9, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holms_correction_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_the_p_value_is_the_share_of_signs_with_as_low_a_sum() -> None:
    contributions = np.array([-0.4, 0.1, -0.3, -0.2, 0.25, -0.05, 0.0])
    sums = [np.abs(contributions) @ signs for signs in product((-1, 1), repeat=7)]
    exact = np.mean([total <= contributions.sum() + 1e-12 for total in sums])
    assert randomization_p(contributions) == pytest.approx(exact, abs=0.015)
    assert randomization_p(-np.ones(8)) == pytest.approx(1 / 256, abs=0.002)
    assert randomization_p(np.array([0.1, 0.0])) == randomization_p(np.zeros(3)) == 1.0


def test_what_queries_contribute_adds_up_to_the_mean_over_seeds() -> None:
    seeds = [
        Sample(np.array([0.5, -0.1]), queries=np.array([4, 7])),
        Sample(np.array([0.2, 0.4]), np.array([3.0, 1.0]), np.array([7, 9])),
    ]
    # query 7: −0.1 · 1/2 in the first seed and 0.2 · 3/4 in the second, halved
    np.testing.assert_allclose(query_contributions(seeds), [0.125, (-0.05 + 0.15) / 2, 0.05])
    assert query_contributions(seeds).sum() == pytest.approx(np.mean([seed.mean() for seed in seeds]))


def test_small_data_sets_of_a_family_are_tested_together() -> None:
    rng = np.random.default_rng(0)

    def samples(mean: float, n: int) -> list[Sample]:
        return [Sample(rng.normal(mean, 0.1, n)) for _ in range(2)]

    differences = {
        "f": {
            "worse": samples(-0.1, 80),
            "same": samples(0.0, 200),
            "small": samples(-0.1, 20),
            "tiny": [*samples(-0.1, 9)],
        },
        "g": {"better": samples(0.1, 100)},
    }
    tested = significantly_worse(differences)
    assert tested.worse == ("worse", "small + tiny")
    assert tested.tests == 4


def test_a_data_set_is_hardly_ever_called_worse_by_chance() -> None:
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(40):
        tested = significantly_worse({"f": {str(n): [Sample(rng.normal(0, 0.1, 90))] for n in range(5)}})
        false += bool(tested.worse)
    assert false <= 6
