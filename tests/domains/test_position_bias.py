"""Clicks: their position bias is estimated and corrected, and they are merged with labels."""

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
    position = shown.index(document) + 1 if document in shown else position
    return Click("", "d", query, document, position, tuple(shown), "", "key", NOW)


def label(query: str, document: str, relevance: float, user: str = "ann", source: str = "key") -> Label:
    return Label("", "d", query, document, relevance, user, source, NOW)


def sessions(exponent: float, *, count: int, seed: int = 0) -> tuple[list[Click], list[dict[str, float]]]:
    """Result lists in changing orders, clicked by the position-based model; and the attractiveness of each result."""
    rng = np.random.default_rng(seed)
    attractiveness = [{f"{query}-{n}": float(rng.choice([0.05, 0.5, 0.9])) for n in range(10)} for query in range(20)]
    examined = np.arange(1, 11) ** -exponent
    clicks = []
    for _ in range(count):
        query = int(rng.integers(len(attractiveness)))
        # one of three orders per query, independent of the attractiveness
        order = np.random.default_rng([query, int(rng.integers(3))]).permutation(10)
        shown = [f"{query}-{n}" for n in order]
        clicked = [
            document
            for document, probability in zip(shown, examined, strict=True)
            if rng.random() < probability * attractiveness[query][document]
        ]
        clicks += [click(str(query), document, shown) for document in clicked] or [click(str(query), None, shown)]
    return clicks, attractiveness


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.6])
def test_the_bias_is_estimated_from_documents_shown_at_several_positions(exponent: float) -> None:
    bias = estimate_bias(sessions(exponent, count=6000)[0])
    assert bias.exponent == pytest.approx(exponent, abs=0.1)
    assert bias.spread < 0.05


def test_without_evidence_the_bias_is_its_prior() -> None:
    same = ["a", "b", "c"]
    for clicks in ([], [click("q", "a", same)] * 50, [click("q", "a", [], position=3)] * 9):
        assert estimate_bias(clicks) == PositionBias(1.0, 0.5)


def test_corrected_clicks_rank_better_than_raw_ones() -> None:
    clicks, attractiveness = sessions(1.0, count=3000)
    scores = {}
    for name, bias in (("raw", PositionBias(0.0)), ("corrected", estimate_bias(clicks)), ("known", PositionBias(1.0))):
        relevance = click_relevance(clicks, bias)
        discount = 1 / np.log2(np.arange(2, 12))
        values = []
        for query, true in enumerate(attractiveness):
            estimated = relevance.get(str(query), {})
            ranked = sorted((-estimated.get(document, 0.0), row, true[document]) for row, document in enumerate(true))
            values.append(discount @ [value for *_, value in ranked] / (discount @ sorted(true.values())[::-1]))
        scores[name] = np.mean(values)
    assert scores["corrected"] > scores["raw"] + 0.02
    assert scores["corrected"] == pytest.approx(scores["known"], abs=0.01)


def test_relevance_is_the_clipped_click_weight_per_impression_and_0_if_examined_without_clicks() -> None:
    shown = [str(n) for n in range(20)]
    clicks = [click("q", "1", shown), click("q", "19", shown), click("q", None, shown), click("q", None, shown)]
    # a click at position 2 has weight 2, one at position 20 is clipped to 4; of four impressions the first result was
    # examined in all four, the second in 2, the third in 4 / 3, which is too few to make it a negative
    assert click_relevance(clicks, PositionBias(1.0, clip=4.0)) == {"q": {"0": 0.0, "1": 0.5, "19": 1.0}}
    faint = [click("q", "0", shown[:2])] * 1 + [click("q", "1", shown[:2])] * 19
    assert click_relevance(faint, PositionBias(1.0, clip=20.0)) == {"q": {"0": 0.0, "1": 1.0}}
    assert click_relevance([click("q", None, shown)] * 9, PositionBias()) == {}


def test_labels_override_clicks_the_last_label_of_a_user_counts_and_users_are_averaged() -> None:
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
    judged = judged_queries(labels, clicks, PositionBias())
    assert [(query.text, dict(query.relevance), set(query.negatives), query.partially_judged) for query in judged] == [
        ("q", {"a": 2.0}, {"clicked"}, True),
        ("r", {}, {"bad"}, True),
        ("s", {"a": 1.0}, set(), True),
        ("t", {"a": 1.0}, set(), False),
    ]


def test_the_most_recently_judged_queries_are_kept() -> None:
    labels = [
        Label("", "d", f"q{n}", "a", 1.0, "", "key", datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n))
        for n in range(MAX_QUERIES + 10)
    ]
    judged = judged_queries([*labels, label("q0", "b", 1.0)], [click("x", None, ["a"])] * 50, PositionBias())
    assert len(judged) == MAX_QUERIES
    texts = {query.text for query in judged}
    assert {"q0", f"q{MAX_QUERIES + 9}"} <= texts
    assert "q5" not in texts
