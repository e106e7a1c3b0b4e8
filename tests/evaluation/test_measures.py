"""Measures against a maintained library, and intervals against their known properties."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, nDCG

from semsearch.evaluation.measures import Sample, macro_mean, measure, measure_rankings, paired_interval


def test_the_measures_are_those_of_ir_measures() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(30, 300)).astype(np.float32)
    judgments = [
        {int(row): float(rng.integers(1, 4)) for row in rng.choice(300, rng.integers(1, 20), replace=False)}
        for _ in range(30)
    ]
    qrels = [
        ir_measures.Qrel(str(query), str(row), int(gain))
        for query, judged in enumerate(judgments)
        for row, gain in judged.items()
    ]
    run = [
        ir_measures.ScoredDoc(str(query), str(row), float(score))
        for query, line in enumerate(scores)
        for row, score in enumerate(line)
    ]
    theirs = {nDCG @ 10: "nDCG@10", R @ 100: "recall@100", RR @ 10: "MRR@10"}
    ours = measure(scores, judgments)
    for value in ir_measures.iter_calc(list(theirs), qrels, run):
        assert ours[theirs[value.measure]][int(value.query_id)] == pytest.approx(value.value, abs=1e-6)


def test_ndcg_by_hand_with_a_tie() -> None:
    # rows 0 and 1 tie and rank by row: the gain of 1 is second, that of 3 third
    values = measure(np.array([[0.9, 0.9, 0.5, 0.1]], np.float32), [{1: 1.0, 2: 3.0}])
    expected = (1 / np.log2(3) + 3 / np.log2(4)) / (3 / np.log2(2) + 1 / np.log2(3))
    assert values["nDCG@10"][0] == pytest.approx(expected)
    assert values["MRR@10"][0] == 0.5
    assert values["recall@100"][0] == 1.0


def test_rankings_and_scores_give_the_same_measures() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(9, 150)).astype(np.float32)
    judgments = [{int(row): 1.0 for row in rng.choice(150, 4, replace=False)} for _ in range(9)]
    rankings = list(np.argsort(-scores, axis=1, kind="stable"))
    by_scores, by_rankings = measure(scores, judgments), measure_rankings(rankings, judgments)
    for name, values in by_scores.items():
        np.testing.assert_array_equal(by_rankings[name], values)


def test_a_ranking_may_be_shorter_than_the_measures_look() -> None:
    empty, short = np.empty(0, np.int64), np.array([7, 3])
    values = measure_rankings([empty, short], [{3: 1.0}, {3: 1.0, 9: 1.0}])
    assert values["nDCG@10"].tolist() == pytest.approx([0.0, (1 / np.log2(3)) / (1 + 1 / np.log2(3))])
    assert values["recall@100"].tolist() == [0.0, 0.5]
    assert values["MRR@10"].tolist() == [0.0, 0.5]


def test_families_count_alike() -> None:
    one, two, three = Sample(np.full(5, 0.1)), Sample(np.full(50, 0.3)), Sample(np.full(7, 0.6))
    assert macro_mean({"f": {"a": [one], "b": [two]}, "g": {"c": [three, three]}}) == pytest.approx((0.2 + 0.6) / 2)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(1), 0
    for trial in range(100):
        apart = {
            family: {
                f"{family}{number}": [Sample(rng.normal(effect, 0.3, size=40))]
                for number, effect in enumerate(rng.normal(0.05, 0.05, size=8))
            }
            for family in "fgh"
        }
        low, high = paired_interval(apart, samples=300, seed=trial)
        covered += low <= 0.05 <= high
    assert 88 <= covered <= 100


def test_no_difference_has_no_interval() -> None:
    assert paired_interval({"f": {"a": [Sample(np.zeros(9))], "b": [Sample(np.zeros(4))]}}) == (0.0, 0.0)
