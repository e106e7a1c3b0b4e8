"""The map: places that keep alike passages together, the same every time, and give what is new its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.basis import SpectralBasis
from semsearch.errors import IndexFolderError
from semsearch.storage.projection import MIN_PASSAGES, Projection
from semsearch.types import Vectors, unit_rows


def groups(count: int, *, seed: int = 0) -> tuple[Vectors, np.ndarray]:
    """Unit vectors about four centres, and which centre each is about."""
    rng = np.random.default_rng(seed)
    home = np.arange(count) % 4
    vectors = np.eye(16, dtype=np.float32)[home] + 0.1 * rng.standard_normal((count, 16)).astype(np.float32)
    return unit_rows(vectors), home


def drawn(vectors: Vectors) -> Projection:
    return Projection.fit(vectors, SpectralBasis.from_vectors(vectors), threads=1)


@pytest.mark.parametrize("count", [12, MIN_PASSAGES * 4])
def test_what_is_alike_stands_together_and_all_of_it_on_the_map(count: int) -> None:
    vectors, home = groups(count)
    projection = drawn(vectors)
    places = projection.project(vectors)
    assert places.shape == (count, 2)
    assert places.min() >= 0
    assert places.max() <= 1
    if count >= MIN_PASSAGES:  # two axes cannot hold four groups apart
        centres = np.stack([places[home == group].mean(axis=0) for group in range(4)])
        nearest = np.linalg.norm(places[:, None] - centres, axis=2).argmin(axis=1)
        assert (nearest == home).mean() > 0.95


def test_a_landmark_stands_where_it_was_put_and_what_is_new_amid_its_like() -> None:
    vectors, home = groups(200)
    projection = drawn(vectors)
    places = projection.project(vectors)
    assert np.abs(places - projection.points).max(axis=1).mean() < 0.05
    new, its = groups(40, seed=1)
    centres = np.stack([places[home == group].mean(axis=0) for group in range(4)])
    assert (np.linalg.norm(projection.project(new)[:, None] - centres, axis=2).argmin(axis=1) == its).all()


def test_the_same_vectors_give_the_same_map_which_a_file_keeps(tmp_path: Path) -> None:
    vectors, _ = groups(120)
    one, other = drawn(vectors), drawn(vectors)
    assert np.array_equal(one.points, other.points)
    one.save(tmp_path / "map.safetensors")
    read = Projection.open(tmp_path / "map.safetensors")
    assert np.array_equal(read.project(vectors), one.project(vectors))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_passages_have_a_map_too(count: int) -> None:
    vectors, _ = groups(count)
    assert np.isfinite(drawn(vectors).project(vectors)).all()


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    path.write_bytes(b"not a map")
    with pytest.raises(IndexFolderError, match=r"map\.safetensors is not a map .*build the index again"):
        Projection.open(path)
    vectors, _ = groups(8)
    Projection(drawn(vectors).landmarks, np.zeros((3, 2), np.float32)).save(path)
    with pytest.raises(IndexFolderError, match="do not belong together"):
        Projection.open(path)
