"""Weak matches: told by a threshold that is measured on the corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from semsearch.search.unrelated_queries import EVERYDAY, gibberish
from semsearch.search.weak_matches import RANDOM_QUERIES, is_weak, measure_weak_similarity
from semsearch.storage.manifest import EncoderFit, WeakSimilarity
from semsearch.text.tokens import Term, content_terms
from semsearch.types import Vectors, unit_rows

READS = EncoderFit(agreement=0.8, passages=500)
THRESHOLD = WeakSimilarity(threshold=0.4, queries=100)
RESULT = "Reset a PIN\nError E4711 asks you to reset your PIN."


def has_all(terms: Sequence[Term]) -> bool:
    return set(terms) <= set(content_terms(RESULT))


def random_vectors(count: int, seed: int) -> Vectors:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32))


def test_the_threshold_lies_above_nine_tenths_of_the_unrelated_queries() -> None:
    passages, queries = random_vectors(200, 0), random_vectors(len(EVERYDAY) + RANDOM_QUERIES, 1)
    asked: list[str] = []

    def encode(texts: Sequence[str]) -> Vectors:
        asked.extend(texts)
        return queries

    measured = measure_weak_similarity(passages, encode, READS)
    assert measured is not None
    assert measured.queries == len(asked) == len(set(asked))
    best = (queries @ passages.T).max(axis=1)
    for kind in (best[: len(EVERYDAY)], best[len(EVERYDAY) :]):
        assert np.mean(kind <= measured.threshold + 1e-4) >= 0.9
    assert np.mean(best <= measured.threshold) < 1


@pytest.mark.parametrize("fit", [None, EncoderFit(agreement=0.2, passages=500)], ids=["small", "unread"])
def test_nothing_is_measured_where_cosines_tell_nothing(fit: EncoderFit | None) -> None:
    def encode(_: Sequence[str]) -> Vectors:
        pytest.fail("nothing is to be encoded")

    assert measure_weak_similarity(random_vectors(200, 0), encode, fit) is None


def test_gibberish_is_the_same_every_time() -> None:
    assert gibberish(5) == gibberish(9)[:5]


@pytest.mark.parametrize(
    ("query", "similarity", "threshold", "weak"),
    [
        ("horoscope for libra", 0.39, THRESHOLD, True),
        ("horoscope for libra", 0.4, THRESHOLD, False),
        ("horoscope for libra", 0.39, None, False),
        ("horoscope for libra", None, THRESHOLD, False),
        ("E4711", 0.1, THRESHOLD, False),
        ("pin resets", 0.1, THRESHOLD, False),
        ("reset of E4712", 0.1, THRESHOLD, True),
        ("?!", 0.1, THRESHOLD, True),
    ],
)
def test_a_match_is_weak_below_the_threshold_unless_it_has_all_words(
    query: str, similarity: float | None, threshold: WeakSimilarity | None, weak: bool
) -> None:
    assert is_weak(query, similarity, has_all, threshold) is weak


def test_a_query_without_results_is_weak_only_if_it_was_far_from_everything() -> None:
    assert is_weak("horoscope", 0.1, lambda _terms: False, THRESHOLD)
    assert not is_weak("horoscope", None, lambda _terms: False, THRESHOLD)
