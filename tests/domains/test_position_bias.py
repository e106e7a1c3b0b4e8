"""Clicks: their bias is found, and corrected for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from semsearch.domains.judgments import MAX_QUERIES, judged_queries
from semsearch.domains.position_bias import PositionBias, click_relevance, estimate_bias
from semsearch.types import Click, Label

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def click(query: str, document: str | None, shown: Sequence[str], position: int | None = None) -> Click:
    place = shown.index(document) + 1 if document in shown else position
    return Click("", "d", query, document, place, tuple(shown), "", "key", NOW)


def label(query: str, document: str, gain: float, user: str = "ann", source: str = "key") -> Label:
    return Label("", "d", query, document, gain, user, source, NOW)


def sessions(exponent: float, *, count: int, seed: int = 0) -> tuple[list[Click], list[dict[str, float]]]:
    """Result lists in changing orders, clicked by the position-based model, and what each result is worth."""
    rng = np.random.default_rng(seed)
    worth = [{f"{query}-{n}": float(rng.choice([0.05, 0.5, 0.9])) for n in range(10)} for query in range(20)]
    looked = np.arange(1, 11) ** -exponent
    clicks = []
    for _ in range(count):
        query = int(rng.integers(len(worth)))
        # the order has little to do with worth, and changes between two of a few versions
        order = np.random.default_rng([query, int(rng.integers(3))]).permutation(10)
        shown = [f"{query}-{n}" for n in order]
        found = [one for one, p in zip(shown, looked, strict=True) if rng.random() < p * worth[query][one]]
        clicks += [click(str(query), one, shown) for one in found] or [click(str(query), None, shown)]
    return clicks, worth


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.6])
def test_the_bias_is_found_from_results_that_stood_at_several_places(exponent: float) -> None:
    bias = estimate_bias(sessions(exponent, count=6000)[0])
    assert bias.exponent == pytest.approx(exponent, abs=0.1)
    assert bias.spread < 0.05


def test_without_evidence_the_bias_is_what_others_published() -> None:
    same = ["a", "b", "c"]
    for clicks in ([], [click("q", "a", same)] * 50, [click("q", "a", [], position=3)] * 9):
        assert estimate_bias(clicks) == PositionBias(1.0, 0.5)


def test_corrected_clicks_rank_better_than_raw_ones() -> None:
    clicks, worth = sessions(1.0, count=3000)
    scores = {}
    for name, bias in (("raw", PositionBias(0.0)), ("corrected", estimate_bias(clicks)), ("known", PositionBias(1.0))):
        found = click_relevance(clicks, bias)
        values = []
        for query, true in enumerate(worth):
            order = sorted(true, key=lambda one, q=query: -found.get(str(q), {}).get(one, 0.0))  # type: ignore[misc]
            discount = 1 / np.log2(np.arange(2, 12))
            values.append(discount @ [true[one] for one in order] / (discount @ sorted(true.values())[::-1]))
        scores[name] = np.mean(values)
    assert scores["corrected"] > scores["raw"] + 0.02
    assert scores["corrected"] == pytest.approx(scores["known"], abs=0.01)


def test_a_gain_is_the_clipped_weight_a_showing_and_nought_where_looks_led_to_nothing() -> None:
    shown = [str(n) for n in range(20)]
    clicks = [click("q", "1", shown), click("q", "19", shown), click("q", None, shown), click("q", None, shown)]
    # position 2 weighs 2, position 20 is clipped to 4; the query was shown four times, and its first result looked at
    # as often, the second twice, the third 4 / 3 times, which says nothing yet
    assert click_relevance(clicks, PositionBias(1.0, clip=4.0)) == {"q": {"0": 0.0, "1": 0.5, "19": 1.0}}
    faint = [click("q", "0", shown[:2])] * 1 + [click("q", "1", shown[:2])] * 19
    assert click_relevance(faint, PositionBias(1.0, clip=20.0)) == {"q": {"0": 0.0, "1": 1.0}}
    assert click_relevance([click("q", None, shown)] * 9, PositionBias()) == {}


def test_labels_outrank_clicks_the_last_word_of_a_user_counts_and_users_are_averaged() -> None:
    labels = [
        label("q", "a", 1.0),
        label("q", "a", 3.0),
        label(" q ", "a", 1.0, user="bob"),
        label("q", "clicked", 0.0),
        label("", "liked", 1.0),
        label("r", "bad", 0.0),
        label("t", "a", 1.0),
    ]
    clicks = [click("q", "clicked", ["clicked"]), click("s", "a", ["a"])]
    found = judged_queries(labels, clicks, PositionBias())
    assert [(one.text, dict(one.relevance), set(one.negatives), one.partially_judged) for one in found] == [
        ("q", {"a": 2.0}, {"clicked"}, True),
        ("r", {}, {"bad"}, True),
        ("s", {"a": 1.0}, set(), True),
        ("t", {"a": 1.0}, set(), False),
    ]


def test_of_very_many_queries_those_spoken_of_last_are_taken() -> None:
    labels = [
        Label("", "d", f"q{n}", "a", 1.0, "", "key", datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n))
        for n in range(MAX_QUERIES + 10)
    ]
    found = judged_queries([*labels, label("q0", "b", 1.0)], [click("x", None, ["a"])] * 50, PositionBias())
    assert len(found) == MAX_QUERIES
    assert {"q0", f"q{MAX_QUERIES + 9}"} <= {one.text for one in found}
    assert "q5" not in {one.text for one in found}
