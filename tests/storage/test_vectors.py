"""Nearest rows: what a brute force finds, in an order that does not change."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from semsearch.errors import IndexFolderError
from semsearch.storage.vectors import Precision, VectorIndex
from tests.adapters.test_adapter import unit_rows


def filled(count: int, *, dimension: int = 16) -> VectorIndex:
    index = VectorIndex.exact(dimension)
    index.add(unit_rows(count, dimension=dimension))
    return index


def test_it_finds_what_a_brute_force_finds() -> None:
    rows, queries = unit_rows(300, dimension=16), unit_rows(9, dimension=16, seed=7)
    scores, found = filled(300).search(queries, 10)
    expected = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ rows.T, expected, axis=1), atol=1e-6)


def test_equal_scores_are_in_the_order_of_rows() -> None:
    index = VectorIndex.exact(4)
    row = unit_rows(1, dimension=4)
    index.add(np.repeat(row, 6, axis=0))
    scores, found = index.search(row, 6)
    assert found.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert scores.tolist() == [[1.0] * 6]


def test_places_that_no_row_fills_are_marked() -> None:
    scores, found = filled(2).search(unit_rows(1, dimension=16), 4)
    assert found[0, 2:].tolist() == [-1, -1]
    assert scores[0, 2:].tolist() == [-np.inf, -np.inf]


def test_an_empty_index_finds_nothing() -> None:
    assert filled(0).search(unit_rows(2, dimension=16), 3)[1].tolist() == [[-1] * 3] * 2


def test_an_index_comes_back_from_disk(tmp_path: Path) -> None:
    filled(50).save(tmp_path / "vectors")
    opened = VectorIndex.open(tmp_path / "vectors")
    queries = unit_rows(3, dimension=16, seed=5)
    assert (opened.count, opened.dimension) == (50, 16)
    np.testing.assert_array_equal(opened.search(queries, 5)[1], filled(50).search(queries, 5)[1])


def linked(count: int, *, dimension: int = 16) -> VectorIndex:
    index = VectorIndex.hnsw(dimension)
    index.add(unit_rows(count, dimension=dimension))
    return index


def test_a_graph_finds_nearly_what_a_brute_force_finds_with_true_scores() -> None:
    queries = unit_rows(50, dimension=16, seed=7)
    truth = filled(3000).search(queries, 10)[1]
    index = linked(3000)
    found = {effort: index.search(queries, 10, ef_search=effort) for effort in (10, 200)}
    shares = {
        effort: np.mean([np.isin(true, row).mean() for true, row in zip(truth, rows, strict=True)])
        for effort, (_, rows) in found.items()
    }
    assert shares[10] < shares[200]
    assert shares[200] > 0.99
    scores, rows = found[200]
    rounded = np.round(np.einsum("nd,nkd->nk", queries, index.all_vectors()[rows]), 6)
    np.testing.assert_allclose(scores, rounded, atol=2e-6)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_without_effort_or_for_many_rows_every_row_is_compared() -> None:
    queries = unit_rows(9, dimension=16, seed=7)
    for k, effort in ((10, None), (1500, 16)):
        expected = filled(2000).search(queries, k)
        for one, other in zip(linked(2000).search(queries, k, ef_search=effort), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_graph_comes_back_from_disk_over_the_same_vectors(tmp_path: Path) -> None:
    index = linked(500)
    index.save(tmp_path / "vectors", tmp_path / "graph")
    assert (tmp_path / "graph").stat().st_size < 500 * 400
    opened = VectorIndex.open(tmp_path / "vectors", tmp_path / "graph")
    queries = unit_rows(5, dimension=16, seed=3)
    for one, other in zip(opened.search(queries, 5, ef_search=50), index.search(queries, 5, ef_search=50), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(opened.all_vectors(), unit_rows(500, dimension=16))
    np.testing.assert_allclose(
        opened.cosine(queries[0], np.array([3])), opened.all_vectors()[[3]] @ queries[0], atol=1e-6
    )


def test_nothing_of_an_index_stays_in_memory_once_nobody_has_it(tmp_path: Path) -> None:
    linked(500).save(tmp_path / "vectors", tmp_path / "graph")
    maps = Path("/proc/self/maps")
    opened = VectorIndex.open(tmp_path / "vectors", tmp_path / "graph")
    assert {one for one in ("vectors", "graph") if f"{tmp_path}/{one}" in maps.read_text()} == {"vectors", "graph"}
    assert len(opened.search(unit_rows(1, dimension=16), 5, ef_search=50)[1]) == 1
    del opened
    assert str(tmp_path) not in maps.read_text()


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    linked(50).save(tmp_path / "vectors", tmp_path / "graph")
    filled(40).save(tmp_path / "fewer")
    with pytest.raises(IndexFolderError, match="a graph of 50 rows over 40 vectors"):
        VectorIndex.open(tmp_path / "fewer", tmp_path / "graph")
    with pytest.raises(IndexFolderError, match="not a IndexHNSW"):
        VectorIndex.open(tmp_path / "vectors", tmp_path / "fewer")


def test_a_file_that_is_no_index_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "vectors").write_bytes(b"IxFI" + b"\xff" * 64)
    with pytest.raises(IndexFolderError, match="vectors is not a vector index"):
        VectorIndex.open(tmp_path / "vectors")


def test_an_index_of_another_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="metric"):
        VectorIndex(faiss.IndexFlatL2(4))


def test_a_place_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="vectors could not be written"):
        filled(3).save(tmp_path / "nowhere" / "vectors")


@pytest.mark.parametrize(("precision", "bytes_each", "off"), [("float16", 32, 1e-3), ("int8", 16, 2e-2)])
@pytest.mark.parametrize("graph", [False, True])
def test_vectors_in_fewer_bits_find_nearly_the_same(
    tmp_path: Path, precision: Precision, bytes_each: int, off: float, graph: bool
) -> None:
    rows, queries = unit_rows(3000, dimension=16), unit_rows(20, dimension=16, seed=7)
    make = VectorIndex.hnsw if graph else VectorIndex.exact
    index = make(16, precision=precision)
    index.train(rows)
    index.add(rows)
    index.save(tmp_path / "vectors", tmp_path / "graph")
    size = (tmp_path / "vectors").stat().st_size
    assert abs(size - bytes_each * 3000 // 1) < 1_000
    opened = VectorIndex.open(tmp_path / "vectors", tmp_path / "graph" if graph else None)
    effort = 200 if graph else None
    np.testing.assert_allclose(opened.all_vectors(), rows, atol=off)
    np.testing.assert_array_equal(opened.vectors(np.array([5, 2])), opened.all_vectors()[[5, 2]])
    truth = filled(3000).search(queries, 10)[1]
    scores, found = opened.search(queries, 10, ef_search=effort)
    shares = [np.isin(true, row).mean() for true, row in zip(truth, found, strict=True)]
    assert np.mean(shares) > 0.9
    np.testing.assert_allclose(opened.cosine(queries[0], found[0]), scores[0], atol=1e-4)
    allowed = np.arange(3000) % 2 == 0
    some = opened.search(queries, 10, ef_search=effort, allowed=allowed)[1]
    assert allowed[some].all()
    few = np.arange(3000) < 30
    order = np.argsort(-(queries @ opened.all_vectors()[:30].T), axis=1)[:, :10]
    np.testing.assert_array_equal(opened.search(queries, 10, ef_search=effort, allowed=few)[1], order)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("graph", [False, True])
def test_only_allowed_rows_are_found_and_as_many_as_there_are(share: float, graph: bool) -> None:
    index = linked(3000) if graph else filled(3000)
    queries = unit_rows(12, dimension=16, seed=7)
    allowed = np.random.default_rng(3).random(3000) < share
    rows = np.flatnonzero(allowed)
    k = 20
    scores, found = index.search(queries, k, ef_search=100 if graph else None, allowed=allowed)
    expected = np.full((12, k), -1)
    order = rows[np.argsort(-(queries @ index.all_vectors()[rows].T), axis=1)[:, :k]]
    expected[:, : order.shape[1]] = order
    if graph:
        assert (found == expected).mean() > 0.97
        assert (np.sort(found >= 0) == np.sort(expected >= 0)).all()
    else:
        np.testing.assert_array_equal(found, expected)
    assert (np.diff(scores[:, : order.shape[1]], axis=1) <= 0).all()


def test_a_graph_in_which_nothing_near_is_allowed_still_finds_what_is() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(16, dtype=np.float32)[:2]
    rows = np.repeat(centres, 2000, axis=0) + 0.05 * rng.standard_normal((4000, 16), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = VectorIndex.hnsw(16)
    index.add(rows)
    allowed = np.arange(4000) >= 2000  # all of it far from the query
    found = index.search(centres[:1], 10, ef_search=16, allowed=allowed)[1]
    assert (found >= 2000).all()
