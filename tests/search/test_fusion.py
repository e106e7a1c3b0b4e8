"""Fusion: arithmetic that can be done by hand."""

from __future__ import annotations

import numpy as np

from semsearch.search.fusion import fuse

DENSE = np.array([[0.5, 0.4, 0.1], [0.1, 0.2, 0.3]], np.float32)
WORDS = np.array([[2.0, 8.0, 0.0], [0.0, 0.0, 0.0]], np.float32)


def test_a_querys_best_lexical_match_is_worth_the_weight() -> None:
    np.testing.assert_allclose(fuse(DENSE, WORDS, 0.2), [[0.55, 0.6, 0.1], [0.1, 0.2, 0.3]], rtol=1e-6)
    assert fuse(DENSE, WORDS, 0.0) is DENSE


def test_reciprocal_ranks_are_added_and_what_shares_no_word_has_no_rank() -> None:
    expected = [[1 / 61 + 1 / 62, 1 / 62 + 1 / 61, 1 / 63], [1 / 63, 1 / 62, 1 / 61]]
    np.testing.assert_allclose(fuse(DENSE, WORDS, "rrf"), expected, rtol=1e-6)


def test_nothing_is_fused_to_nothing() -> None:
    nothing = np.empty(0, np.float32)
    assert len(fuse(nothing, nothing, 0.2)) == len(fuse(nothing, nothing, "rrf")) == 0
