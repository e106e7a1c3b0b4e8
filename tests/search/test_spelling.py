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
        ("a fish and its necta", "a fish and its nectar"),
        ("moun", "mountains"),  # too short for an edit, but some words begin with it
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


def completion(engine: SearchEngine, query: Query) -> str | None:
    [outcome] = engine.search([query])
    return outcome.completed


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("salm", "salmon"),
        ("a bird over moun", "a bird over mountains"),
        ("a bird over MOUNT", "a bird over mountains"),
        ("mountain", None),  # a word by itself
        ("salm ", None),  # a space ends the word
        ("salm,", None),
        ("sa", None),  # too short
        ("salmx", None),
        ("salm1", None),
        ("salm over", None),  # not the last word
        ("the", None),
        ("...", None),
    ],
)
def test_an_unfinished_last_word_is_completed(
    engine: SearchEngine, query: str, expected: str | None, mode: Mode
) -> None:
    assert completion(engine, Query(query, mode=mode, complete=True)) == expected
    assert completion(engine, Query(query, mode=mode)) is None


def test_a_completed_query_finds_what_the_whole_word_finds(engine: SearchEngine) -> None:
    for mode in Mode:
        whole, typed, literal = engine.search(
            [
                Query("salmon", mode=mode),
                Query("salm", mode=mode, complete=True),
                Query("salm", mode=mode),
            ]
        )
        assert typed.query.text == "salm"
        assert typed.text == "salmon"
        assert [hit.id for hit in typed.hits] == [hit.id for hit in whole.hits]
        assert typed.hits[0].id == "salmon"
        if mode is Mode.KEYWORD:
            assert literal.hits == []


def test_words_of_excluded_documents_complete_nothing(engine: SearchEngine) -> None:
    assert completion(engine, Query("salm", filter=parse_filter("kind = fish"), complete=True)) == "salmon"
    assert completion(engine, Query("salm", filter=parse_filter("kind = bird"), complete=True)) is None
