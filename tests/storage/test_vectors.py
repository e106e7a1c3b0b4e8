"""Vector search: the results of a brute force, in a stable order."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from semsearch.errors import IndexFolderError
from semsearch.storage.vectors import Precision, VectorIndex
from tests.adapters.test_adapter import unit_rows


def exact_index(count: int, *, dimension: int = 16) -> VectorIndex:
    index = VectorIndex.exact(dimension)
    index.add(unit_rows(count, dimension=dimension))
    return index


def test_exact_search_equals_a_brute_force() -> None:
    rows, queries = unit_rows(300, dimension=16), unit_rows(9, dimension=16, seed=7)
    scores, nearest = exact_index(300).search(queries, 10)
    expected = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    np.testing.assert_array_equal(nearest, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ rows.T, expected, axis=1), atol=1e-6)


def test_equal_scores_are_in_the_order_of_rows() -> None:
    index = VectorIndex.exact(4)
    row = unit_rows(1, dimension=4)
    index.add(np.repeat(row, 6, axis=0))
    scores, rows = index.search(row, 6)
    assert rows.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert scores.tolist() == [[1.0] * 6]


def test_ranks_that_no_row_fills_are_marked() -> None:
    scores, rows = exact_index(2).search(unit_rows(1, dimension=16), 4)
    assert rows[0, 2:].tolist() == [-1, -1]
    assert scores[0, 2:].tolist() == [-np.inf, -np.inf]


def test_an_empty_index_finds_nothing() -> None:
    assert exact_index(0).search(unit_rows(2, dimension=16), 3)[1].tolist() == [[-1] * 3] * 2


def test_a_saved_index_opens_with_the_same_results(tmp_path: Path) -> None:
    exact_index(50).save(tmp_path / "vectors")
    opened = VectorIndex.open(tmp_path / "vectors")
    queries = unit_rows(3, dimension=16, seed=5)
    assert (opened.count, opened.dimension) == (50, 16)
    np.testing.assert_array_equal(opened.search(queries, 5)[1], exact_index(50).search(queries, 5)[1])


def hnsw_index(count: int, *, dimension: int = 16) -> VectorIndex:
    index = VectorIndex.hnsw(dimension)
    index.add(unit_rows(count, dimension=dimension))
    return index


def test_a_graph_search_has_high_recall_and_exact_scores() -> None:
    queries = unit_rows(50, dimension=16, seed=7)
    truth = exact_index(3000).search(queries, 10)[1]
    index = hnsw_index(3000)
    results = {ef_search: index.search(queries, 10, ef_search=ef_search) for ef_search in (10, 200)}
    recall = {
        ef_search: np.mean([np.isin(true, row).mean() for true, row in zip(truth, rows, strict=True)])
        for ef_search, (_, rows) in results.items()
    }
    assert recall[10] < recall[200]
    assert recall[200] > 0.99
    scores, rows = results[200]
    rounded = np.round(np.einsum("nd,nkd->nk", queries, index.vectors(rows)), 6)
    np.testing.assert_allclose(scores, rounded, atol=2e-6)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_without_ef_search_or_for_many_rows_every_row_is_compared() -> None:
    queries = unit_rows(9, dimension=16, seed=7)
    for k, ef_search in ((10, None), (1500, 16)):
        expected = exact_index(2000).search(queries, k)
        for actual, exact in zip(hnsw_index(2000).search(queries, k, ef_search=ef_search), expected, strict=True):
            np.testing.assert_array_equal(actual, exact)


def test_a_saved_graph_opens_over_the_same_vectors(tmp_path: Path) -> None:
    index = hnsw_index(500)
    index.save(tmp_path / "vectors", tmp_path / "graph")
    assert (tmp_path / "graph").stat().st_size < 500 * 400
    opened = VectorIndex.open(tmp_path / "vectors", tmp_path / "graph")
    queries = unit_rows(5, dimension=16, seed=3)
    expected = index.search(queries, 5, ef_search=50)
    for actual, saved in zip(opened.search(queries, 5, ef_search=50), expected, strict=True):
        np.testing.assert_array_equal(actual, saved)
    np.testing.assert_array_equal(opened.vectors(np.arange(500)), unit_rows(500, dimension=16))
    np.testing.assert_allclose(
        opened.cosine(queries[0], np.array([3])), opened.vectors(np.array([3])) @ queries[0], atol=1e-6
    )


def test_a_deleted_index_unmaps_its_files(tmp_path: Path) -> None:
    hnsw_index(500).save(tmp_path / "vectors", tmp_path / "graph")
    maps = Path("/proc/self/maps")
    opened = VectorIndex.open(tmp_path / "vectors", tmp_path / "graph")
    mapped = {name for name in ("vectors", "graph") if f"{tmp_path}/{name}" in maps.read_text()}
    assert mapped == {"vectors", "graph"}
    assert len(opened.search(unit_rows(1, dimension=16), 5, ef_search=50)[1]) == 1
    del opened
    assert str(tmp_path) not in maps.read_text()


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    hnsw_index(50).save(tmp_path / "vectors", tmp_path / "graph")
    exact_index(40).save(tmp_path / "fewer")
    with pytest.raises(IndexFolderError, match="a graph of 50 rows over 40 vectors"):
        VectorIndex.open(tmp_path / "fewer", tmp_path / "graph")
    with pytest.raises(IndexFolderError, match="not a IndexHNSW"):
        VectorIndex.open(tmp_path / "vectors", tmp_path / "fewer")


def test_a_file_that_is_not_an_index_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "vectors").write_bytes(b"IxFI" + b"\xff" * 64)
    with pytest.raises(IndexFolderError, match="vectors is not a vector index"):
        VectorIndex.open(tmp_path / "vectors")


def test_an_index_of_another_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="metric"):
        VectorIndex(faiss.IndexFlatL2(4))


def test_a_path_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="vectors could not be written"):
        exact_index(3).save(tmp_path / "nowhere" / "vectors")


@pytest.mark.parametrize(("precision", "bytes_each", "tolerance"), [("float16", 32, 1e-3), ("int8", 16, 2e-2)])
@pytest.mark.parametrize("graph", [False, True])
def test_quantized_vectors_have_nearly_the_same_results(
    tmp_path: Path, precision: Precision, bytes_each: int, tolerance: float, graph: bool
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
    ef_search = 200 if graph else None
    np.testing.assert_allclose(opened.vectors(np.arange(len(rows))), rows, atol=tolerance)
    np.testing.assert_array_equal(opened.vectors(np.array([5, 2])), opened.vectors(np.arange(6))[[5, 2]])
    truth = exact_index(3000).search(queries, 10)[1]
    scores, nearest = opened.search(queries, 10, ef_search=ef_search)
    recalls = [np.isin(true, row).mean() for true, row in zip(truth, nearest, strict=True)]
    assert np.mean(recalls) > 0.9
    np.testing.assert_allclose(opened.cosine(queries[0], nearest[0]), scores[0], atol=1e-4)
    allowed = np.arange(3000) % 2 == 0
    assert allowed[opened.search(queries, 10, ef_search=ef_search, allowed=allowed)[1]].all()
    few = np.arange(3000) < 30
    order = np.argsort(-(queries @ opened.vectors(np.arange(30)).T), axis=1)[:, :10]
    np.testing.assert_array_equal(opened.search(queries, 10, ef_search=ef_search, allowed=few)[1], order)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("graph", [False, True])
def test_a_filtered_search_returns_allowed_rows_only_and_all_of_them_if_k_is_larger(share: float, graph: bool) -> None:
    index = hnsw_index(3000) if graph else exact_index(3000)
    queries = unit_rows(12, dimension=16, seed=7)
    allowed = np.random.default_rng(3).random(3000) < share
    rows = np.flatnonzero(allowed)
    k = 20
    scores, nearest = index.search(queries, k, ef_search=100 if graph else None, allowed=allowed)
    expected = np.full((12, k), -1)
    order = rows[np.argsort(-(queries @ index.vectors(rows).T), axis=1)[:, :k]]
    expected[:, : order.shape[1]] = order
    if graph:
        assert (nearest == expected).mean() > 0.97
        assert (np.sort(nearest >= 0) == np.sort(expected >= 0)).all()
    else:
        np.testing.assert_array_equal(nearest, expected)
    assert (np.diff(scores[:, : order.shape[1]], axis=1) <= 0).all()


def test_a_graph_search_whose_neighbourhood_is_not_allowed_still_returns_allowed_rows() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(16, dtype=np.float32)[:2]
    rows = np.repeat(centres, 2000, axis=0) + 0.05 * rng.standard_normal((4000, 16), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = VectorIndex.hnsw(16)
    index.add(rows)
    allowed = np.arange(4000) >= 2000  # all of it far from the query
    nearest = index.search(centres[:1], 10, ef_search=16, allowed=allowed)[1]
    assert (nearest >= 2000).all()
