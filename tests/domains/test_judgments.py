"""Labels are merged over time and over annotators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.domains.judgments import judged_queries, label_relevance
from semsearch.domains.position_bias import PositionBias
from semsearch.types import Click, Label

START = datetime(2026, 1, 1, tzinfo=UTC)


def vote(user: str, relevance: float, second: int, document: str = "a", source: str = "key") -> Label:
    return Label(f"{user}-{second}", "d", "q", document, relevance, user, source, START + timedelta(seconds=second))


@pytest.mark.parametrize(
    ("votes", "relevance"),
    [
        # the latest of an annotator
        ([("ann", 1, 1), ("ann", 0, 2), ("ann", 1, 3)], 1),
        ([("ann", 0, 1), ("ann", 1, 2), ("ann", 0, 3)], 0),
        ([("ann", 1, 3), ("ann", 0, 1), ("ann", 3, 2)], 1),
        ([("ann", 1, 1), ("ann", 0, 1)], 0),
        # the majority of the annotators
        ([("ann", 1, 1), ("bob", 1, 2), ("cy", 0, 3)], 1),
        ([("ann", 1, 1), ("bob", 0, 2), ("cy", 0, 3)], 0),
        ([("ann", 0, 1), ("ann", 0, 2), ("ann", 0, 3), ("bob", 1, 4), ("cy", 1, 5)], 1),
        # a tie is half relevant
        ([("ann", 1, 1), ("bob", 0, 2)], 0.5),
        ([("ann", 1, 1), ("bob", 0, 2), ("cy", 0, 3), ("di", 1, 4)], 0.5),
        # grades
        ([("ann", 3, 1), ("bob", 2, 2), ("cy", 0, 3)], 2),
        ([("ann", 3, 1), ("bob", 1, 2)], 2),
        ([("ann", 3, 1), ("bob", 0, 2), ("cy", 0, 3)], 0),
    ],
)
def test_the_latest_label_of_each_annotator_counts_then_the_majority(
    votes: list[tuple[str, float, int]], relevance: float
) -> None:
    assert label_relevance([vote(*each) for each in votes]) == {"q": {"a": relevance}}


def test_the_same_user_of_two_sources_is_two_annotators() -> None:
    votes = [vote("", 1, 1, source="shop"), vote("", 0, 2, source="import"), vote("", 1, 3, source="ops")]
    assert label_relevance(votes) == {"q": {"a": 1}}


_VOTES = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "cy"]), st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from("ab")),
    max_size=12,
)


@given(_VOTES.flatmap(lambda votes: st.tuples(st.just(votes), st.permutations(range(len(votes))))))
def test_the_order_of_import_does_not_matter_if_times_are_given(
    drawn: tuple[list[tuple[str, float, str]], Sequence[int]],
) -> None:
    votes, order = drawn
    labels = [vote(user, value, second, document) for second, (user, value, document) in enumerate(votes)]
    judged = judged_queries(labels, [], PositionBias())
    assert judged_queries([labels[index] for index in order], [], PositionBias()) == judged
    for document in {document for _, _, document in votes}:
        latest = {user: value for user, value, voted in votes if voted == document}
        relevant = sum(value > 0 for value in latest.values())
        merged = label_relevance(labels)["q"][document]
        assert 2 * relevant == len(latest) or (merged > 0) == (2 * relevant > len(latest))


def test_clicks_of_one_query_with_other_spaces_are_counted_together() -> None:
    clicks = [Click(query, "d", query, "a", 1, ("a",), "", "key", START) for query in ("q", " q", "q ")]
    clicks.append(Click("none", "d", "q", None, None, ("a",), "", "key", START))
    [judged] = judged_queries([], clicks, PositionBias())
    assert judged.relevance == {"a": 0.75}
