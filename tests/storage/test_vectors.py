"""Nearest rows: what a brute force finds, in an order that does not change."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from semsearch.records import BundleError
from semsearch.storage.vectors import VectorIndex
from tests.test_adapter import unit_rows


def filled(count: int, *, dimension: int = 16) -> VectorIndex:
    index = VectorIndex.exact(dimension)
    index.add(unit_rows(count, dimension=dimension))
    return index


def test_it_finds_what_a_brute_force_finds() -> None:
    rows, queries = unit_rows(300, dimension=16), unit_rows(9, dimension=16, seed=7)
    scores, found = filled(300).nearest(queries, 10)
    expected = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ rows.T, expected, axis=1), atol=1e-6)


def test_equal_scores_are_in_the_order_of_rows() -> None:
    index = VectorIndex.exact(4)
    row = unit_rows(1, dimension=4)
    index.add(np.repeat(row, 6, axis=0))
    scores, found = index.nearest(row, 6)
    assert found.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert scores.tolist() == [[1.0] * 6]


def test_places_that_no_row_fills_are_marked() -> None:
    scores, found = filled(2).nearest(unit_rows(1, dimension=16), 4)
    assert found[0, 2:].tolist() == [-1, -1]
    assert scores[0, 2:].tolist() == [-np.inf, -np.inf]


def test_an_empty_index_finds_nothing() -> None:
    assert filled(0).nearest(unit_rows(2, dimension=16), 3)[1].tolist() == [[-1] * 3] * 2


def test_an_index_comes_back_from_disk(tmp_path: Path) -> None:
    filled(50).save(tmp_path / "vectors")
    opened = VectorIndex.open(tmp_path / "vectors")
    queries = unit_rows(3, dimension=16, seed=5)
    assert (opened.count, opened.dimension) == (50, 16)
    np.testing.assert_array_equal(opened.nearest(queries, 5)[1], filled(50).nearest(queries, 5)[1])


def test_a_file_that_is_no_index_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "vectors").write_bytes(b"IxFI" + b"\xff" * 64)
    with pytest.raises(BundleError, match="vectors is not a vector index"):
        VectorIndex.open(tmp_path / "vectors")


def test_an_index_of_another_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="metric"):
        VectorIndex(faiss.IndexFlatL2(4))


def test_a_place_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="vectors could not be written"):
        filled(3).save(tmp_path / "nowhere" / "vectors")
