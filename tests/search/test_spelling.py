"""Corrections of a query's words from those of the corpus."""

from __future__ import annotations

import pytest

from semsearch.filters.expression import parse_filter
from semsearch.search.engine import SearchEngine
from semsearch.types import Mode, Query


def suggestion(engine: SearchEngine, query: Query) -> str | None:
    [outcome] = engine.search([query], correct=True)
    return outcome.did_you_mean


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("salmno", "salmon"),  # two letters exchanged
        ("nectr of flowers", "nectar of flowers"),  # one missing
        ("a bird that hunnts", "a bird that hunts"),  # one too many
        ("Salmom, RIVRS!", "salmon, rivers!"),  # several words, what is between them is kept
        ("salmon", None),
        ("quantum", None),  # nothing is similar
        ("slm", None),  # too short
        ("salm0n", None),  # a code
        ("the of and", None),
        ("salmno nectr hunnting rivrs", None),  # more unknown words than a misspelled query has
    ],
)
def test_unknown_words_are_replaced_by_similar_ones(
    engine: SearchEngine, query: str, expected: str | None, mode: Mode
) -> None:
    assert suggestion(engine, Query(query, mode=mode)) == expected


def test_words_of_documents_that_the_filter_excludes_are_not_shown(engine: SearchEngine) -> None:
    assert suggestion(engine, Query("salmno", filter=parse_filter("kind = fish"))) == "salmon"
    assert suggestion(engine, Query("salmno", filter=parse_filter("kind = bird"))) is None
