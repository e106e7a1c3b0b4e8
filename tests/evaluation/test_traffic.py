"""Which queries are labelled and measured, with and without a skew of their popularity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from semsearch.evaluation.traffic import draw_traffic, other_texts, zipf_shares
from semsearch.metalearn.episodes import Dataset
from tests.adapters.worlds import domain


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    """The same data set with its queries in another order."""
    order = np.random.default_rng(seed).permutation(len(dataset.queries))
    texts = replace(
        dataset.texts,
        queries=[dataset.texts.queries[row] for row in order],
        judgments=[dataset.texts.judgments[row] for row in order],
    )
    return replace(dataset, texts=texts, queries=dataset.queries[order])


def test_without_a_skew_the_half_that_is_not_labelled_is_measured() -> None:
    dataset = domain(0, queries=31)
    pool, held_out = dataset.halves(3)
    traffic = draw_traffic(dataset, 0.0, 3)
    np.testing.assert_array_equal(traffic.labelled, pool)
    np.testing.assert_array_equal(traffic.measured, held_out)
    assert traffic.weights is None
    np.testing.assert_array_equal(draw_traffic(dataset, 0.0, 3, max_queries=5).measured, held_out[:5])


def test_shares_follow_zipfs_law_and_sum_to_1() -> None:
    np.testing.assert_allclose(zipf_shares(3, 1.0), np.array([6, 3, 2]) / 11)
    for skew in (0.0, 0.5, 1.0, 5.0):
        assert zipf_shares(1500, skew).sum() == pytest.approx(1)


@pytest.mark.parametrize("skew", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("max_queries", [None, 20, 1])
def test_with_a_skew_all_queries_are_measured_by_popularity(skew: float, max_queries: int | None) -> None:
    dataset = domain(0, queries=41)
    traffic = draw_traffic(dataset, skew, 0, max_queries)
    assert traffic.weights is not None
    assert traffic.weights.sum() == pytest.approx(1)
    assert len(set(traffic.measured.tolist())) == len(traffic.measured) == len(traffic.weights)
    assert len(traffic.measured) <= (max_queries or 41)
    assert len(set(traffic.labelled.tolist())) == len(traffic.labelled) == 20
    if max_queries is None:
        np.testing.assert_allclose(np.sort(traffic.weights)[::-1], zipf_shares(41, skew))


def test_searches_are_drawn_in_proportion_to_popularity() -> None:
    dataset = domain(0, queries=60)
    whole, drawn = draw_traffic(dataset, 1.0, 0), draw_traffic(dataset, 1.0, 0, max_queries=40)
    assert whole.weights is not None
    assert drawn.weights is not None
    shares = dict(zip(whole.measured.tolist(), whole.weights.tolist(), strict=True))
    counts = {row: 40 * weight for row, weight in zip(drawn.measured.tolist(), drawn.weights.tolist(), strict=True)}
    assert sum(counts.values()) == pytest.approx(40)
    for row, share in shares.items():
        assert abs(counts.get(row, 0) - 40 * share) < 1
    np.testing.assert_array_equal(drawn.labelled, whole.labelled)


def test_the_same_seed_gives_the_same_traffic_and_another_seed_another() -> None:
    dataset = domain(0, queries=41)
    first, again, other = (draw_traffic(dataset, 1.0, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.labelled, again.labelled)
    np.testing.assert_array_equal(first.weights, again.weights)
    assert first.labelled.tolist() != other.labelled.tolist()


def test_traffic_does_not_depend_on_the_order_of_the_queries() -> None:
    dataset = domain(0, queries=41)
    for max_queries in (None, 20):
        ways = []
        for each in (dataset, shuffled(dataset, 1), shuffled(dataset, 2)):
            traffic = draw_traffic(each, 0.5, 7, max_queries)
            assert traffic.weights is not None
            texts = each.texts.queries
            measured = [texts[row] for row in traffic.measured]
            weights = dict(zip(measured, traffic.weights.tolist(), strict=True))
            ways.append(([texts[row] for row in traffic.labelled], weights))
        assert ways[0] == ways[1] == ways[2]


def test_popular_queries_are_labelled_earlier() -> None:
    """The first query to be labelled is drawn from the half with the probability of its share."""
    dataset = domain(0, queries=8)
    shares = []
    for seed in range(2000):
        traffic = draw_traffic(dataset, 1.0, seed)
        assert traffic.weights is not None
        weights = dict(zip(traffic.measured.tolist(), traffic.weights.tolist(), strict=True))
        of_half = [weights[row] for row in traffic.labelled.tolist()]
        # by the law of total expectation, the first one's share is Σ p² / Σ p of the half on average
        shares.append((of_half[0], sum(p * p for p in of_half) / sum(of_half)))
    first, expected = np.mean(shares, axis=0)
    assert first == pytest.approx(expected, rel=0.05)


def test_popularity_has_the_same_ranks_for_every_skew() -> None:
    dataset = domain(0, queries=41)
    flat, steep = draw_traffic(dataset, 0.5, 0), draw_traffic(dataset, 2.0, 0)
    assert flat.weights is not None
    assert steep.weights is not None
    np.testing.assert_array_equal(np.argsort(flat.weights), np.argsort(steep.weights))
    assert set(flat.labelled.tolist()) == set(steep.labelled.tolist())


def test_a_query_with_the_text_of_a_labelled_one_is_labelled() -> None:
    assert other_texts(["a", "b ", "c"], [" a", "b"]).tolist() == [False, False, True]
