"""Fusion: arithmetic that can be checked by hand."""

from __future__ import annotations

import numpy as np

from semsearch.search.fusion import fuse

DENSE = np.array([[0.5, 0.4, 0.1], [0.1, 0.2, 0.3]], np.float32)
LEXICAL = np.array([[2.0, 8.0, 0.0], [0.0, 0.0, 0.0]], np.float32)


def test_a_querys_best_lexical_match_is_worth_the_weight() -> None:
    np.testing.assert_allclose(fuse(DENSE, LEXICAL, 0.2), [[0.55, 0.6, 0.1], [0.1, 0.2, 0.3]], rtol=1e-6)
    assert fuse(DENSE, LEXICAL, 0.0) is DENSE


def test_reciprocal_ranks_are_added_and_a_lexical_score_of_0_has_no_rank() -> None:
    expected = [[1 / 61 + 1 / 62, 1 / 62 + 1 / 61, 1 / 63], [1 / 63, 1 / 62, 1 / 61]]
    np.testing.assert_allclose(fuse(DENSE, LEXICAL, "rrf"), expected, rtol=1e-6)


def test_empty_scores_are_fused_to_empty_scores() -> None:
    empty = np.empty(0, np.float32)
    assert len(fuse(empty, empty, 0.2)) == len(fuse(empty, empty, "rrf")) == 0
