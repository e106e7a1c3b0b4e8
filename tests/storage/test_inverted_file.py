"""Search with an inverted file: near the results of a brute force, in the order of the stored rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.errors import IndexFolderError
from semsearch.storage.approximate import InvertedFile, list_count
from semsearch.storage.vectors import Precision, VectorIndex
from semsearch.types import Rows, Vectors
from tests.adapters.test_adapter import unit_rows

DIMENSION = 32


def clustered(count: int, *, seed: int = 0, spread: float = 1.0) -> Vectors:
    """Unit vectors around 60 centres, as texts around topics."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((60, DIMENSION)).astype(np.float32)
    rows = centres[rng.integers(0, 60, count)] + spread * rng.standard_normal((count, DIMENSION), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows, np.float32)


ROWS, QUERIES = clustered(4000), clustered(50, seed=7)


def ivf_index(rows: Vectors = ROWS, precision: Precision = "float16") -> VectorIndex:
    """An index with an inverted file, filled in two steps."""
    lists = InvertedFile.empty(rows.shape[1], lists=list_count(len(rows)))
    index = VectorIndex.exact(rows.shape[1], precision=precision).with_lists(lists)
    index.train(rows)
    index.add(rows[:1500])
    index.add(rows[1500:])
    return index


def nearest_of(index: VectorIndex, queries: Vectors, allowed: Rows, k: int) -> Rows:
    """The nearest of the allowed rows as they are stored, by brute force."""
    scores = np.round(queries @ index.vectors(allowed).T, 6)
    return allowed[np.argsort(-scores, axis=1, kind="stable")[:, :k]]


def share_found(found: Rows, expected: Rows) -> float:
    return float(np.mean([np.isin(true, row).mean() for true, row in zip(expected, found, strict=True)]))


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_scanning_more_lists_finds_more_and_the_stored_rows_decide_the_order(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semsearch.storage.approximate.MIN_CANDIDATES", 500)
    index = ivf_index(precision=precision)
    truth = nearest_of(index, QUERIES, np.arange(4000), 10)
    found = {lists: index.search(QUERIES, 10, ef_search=lists) for lists in (1, 20, 60)}
    recall = [share_found(rows, truth) for _, rows in found.values()]
    assert recall[0] < recall[1] < recall[2]
    assert recall[2] > 0.97
    scores, rows = found[60]
    stored = np.einsum("nd,nkd->nk", QUERIES, index.vectors(rows.ravel()).reshape(50, 10, DIMENSION))
    np.testing.assert_allclose(scores, stored, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(index.cosine(QUERIES[0], rows[0]), scores[0], atol=1e-5)


def test_equal_rows_are_in_their_order() -> None:
    index = ivf_index(np.concatenate([ROWS, np.repeat(QUERIES[:1], 200, axis=0)]))
    scores, rows = index.search(QUERIES[:1], 12, ef_search=8)
    assert rows[0].tolist() == list(range(4000, 4012))
    assert len(set(scores[0].tolist())) == 1


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.05, 0.01, 0.001])
def test_a_filtered_search_returns_the_nearest_allowed_rows(share: float) -> None:
    index = ivf_index()
    allowed = np.random.default_rng(3).random(4000) < share
    rows = np.flatnonzero(allowed)
    found = index.search(QUERIES, 20, ef_search=20, allowed=allowed)[1]
    expected = nearest_of(index, QUERIES, rows, 20)
    assert (found[:, : expected.shape[1]] >= 0).all()
    assert (found[:, expected.shape[1] :] == -1).all()
    assert allowed[found[found >= 0]].all()
    assert share_found(found, expected) > 0.95


def test_a_search_whose_lists_hold_no_allowed_row_still_returns_the_nearest_ones() -> None:
    index = ivf_index()
    order = np.argsort(-(QUERIES[0] @ ROWS.T))
    allowed = np.zeros(4000, bool)
    allowed[order[1500:]] = True
    found = index.search(QUERIES[:1], 10, ef_search=1, allowed=allowed)[1]
    assert allowed[found].all()
    assert share_found(found, nearest_of(index, QUERIES[:1], np.flatnonzero(allowed), 10)) > 0.5


@pytest.mark.parametrize("k", [900, 1500, 5000])
def test_many_rows_are_returned_even_if_few_lists_are_scanned(k: int) -> None:
    rows = ivf_index().search(QUERIES[:5], k, ef_search=1)[1]
    assert all(len(set(row.tolist()) - {-1}) == min(k, 4000) for row in rows)


def test_a_saved_index_whose_rows_are_mapped_finds_the_same(tmp_path: Path) -> None:
    index = ivf_index(precision="int8")
    index.save(tmp_path / "vectors", tmp_path / "lists")
    opened = VectorIndex.open(tmp_path / "vectors", lists=tmp_path / "lists")
    maps = Path("/proc/self/maps")
    assert f"{tmp_path}/vectors" in maps.read_text()
    assert (opened.count, opened.dimension) == (4000, DIMENSION)
    odd = np.arange(4000) % 2 == 1
    for allowed in (None, odd):
        expected = index.search(QUERIES, 10, ef_search=20, allowed=allowed)
        for actual, saved in zip(opened.search(QUERIES, 10, ef_search=20, allowed=allowed), expected, strict=True):
            np.testing.assert_array_equal(actual, saved)
    every = np.arange(index.count)
    np.testing.assert_array_equal(opened.vectors(every), index.vectors(every))
    del opened
    assert str(tmp_path) not in maps.read_text()


def test_lists_that_were_read_can_be_filled_further(tmp_path: Path) -> None:
    whole, part = (InvertedFile.empty(DIMENSION, lists=40) for _ in range(2))
    for lists in (whole, part):
        lists.train(ROWS)
        lists.append(ROWS[:1700])
    part.save(tmp_path / "lists")
    part = InvertedFile.open(tmp_path / "lists")
    for lists in (whole, part):
        lists.append(ROWS[1700:])
        lists.save(tmp_path / f"lists{lists is whole}")
    assert (tmp_path / "listsTrue").read_bytes() == (tmp_path / "listsFalse").read_bytes()


def test_lists_of_other_rows_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    ivf_index().save(tmp_path / "vectors", tmp_path / "lists")
    ivf_index(ROWS[:3000]).save(tmp_path / "fewer", tmp_path / "fewer_lists")
    with pytest.raises(IndexFolderError, match="lists of 3000 rows of 32 dimensions over 4000 of 32"):
        VectorIndex.open(tmp_path / "vectors", lists=tmp_path / "fewer_lists")
    with pytest.raises(IndexFolderError, match="not a IndexIVFRaBitQFastScan"):
        VectorIndex.open(tmp_path / "vectors", lists=tmp_path / "vectors")
    content = (tmp_path / "lists").read_bytes()
    for length in (0, 10, 200, len(content) // 2, len(content) - 1):
        (tmp_path / "lists").write_bytes(content[:length])
        with pytest.raises(IndexFolderError, match="is not a vector index"):
            VectorIndex.open(tmp_path / "vectors", lists=tmp_path / "lists")


def test_few_rows_get_few_lists() -> None:
    assert [list_count(rows) for rows in (1, 50, 4000, 10_000_000)] == [1, 1, 102, 12_649]
    few = unit_rows(3, dimension=DIMENSION)
    index = ivf_index(few)
    np.testing.assert_array_equal(index.search(few, 1, ef_search=1)[1][:, 0], [0, 1, 2])
