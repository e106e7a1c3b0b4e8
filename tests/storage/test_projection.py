"""The map: similar passages stay together, fitting is deterministic, and new vectors are projected."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.basis import SpectralBasis
from semsearch.errors import IndexFolderError
from semsearch.storage.projection import MIN_PASSAGES, Projection, landmark_count
from semsearch.types import Vectors, unit_rows


def clusters(count: int, *, seed: int = 0) -> tuple[Vectors, np.ndarray]:
    """Unit vectors around four centres, and the centre of each."""
    rng = np.random.default_rng(seed)
    centre_of = np.arange(count) % 4
    vectors = np.eye(16, dtype=np.float32)[centre_of] + 0.1 * rng.standard_normal((count, 16)).astype(np.float32)
    return unit_rows(vectors), centre_of


def fit_map(vectors: Vectors) -> Projection:
    return Projection.fit(vectors, SpectralBasis.from_vectors(vectors), threads=1)


@pytest.mark.parametrize("count", [12, MIN_PASSAGES * 4])
def test_similar_vectors_stay_together_and_all_points_are_on_the_map(count: int) -> None:
    vectors, centre_of = clusters(count)
    points = fit_map(vectors).project(vectors)
    assert points.shape == (count, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    if count >= MIN_PASSAGES:  # two principal axes do not separate four clusters
        centres = np.stack([points[centre_of == cluster].mean(axis=0) for cluster in range(4)])
        nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
        assert (nearest == centre_of).mean() > 0.95


def test_a_landmark_keeps_its_point_and_a_new_vector_is_projected_to_its_cluster() -> None:
    vectors, centre_of = clusters(200)
    projection = fit_map(vectors)
    points = projection.project(vectors)
    assert np.abs(points - projection.points).max(axis=1).mean() < 0.05
    new, new_centre_of = clusters(40, seed=1)
    centres = np.stack([points[centre_of == cluster].mean(axis=0) for cluster in range(4)])
    nearest = np.linalg.norm(projection.project(new)[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == new_centre_of).all()


def test_equal_vectors_give_equal_maps_also_after_saving(tmp_path: Path) -> None:
    vectors, _ = clusters(120)
    first, second = fit_map(vectors), fit_map(vectors)
    assert np.array_equal(first.points, second.points)
    first.save(tmp_path / "map.safetensors")
    opened = Projection.open(tmp_path / "map.safetensors")
    assert np.array_equal(opened.project(vectors), first.project(vectors))


@pytest.mark.parametrize(("passages", "landmarks"), [(1, 1), (400, 400), (10_000, 2_000), (10**6, 5_000)])
def test_the_number_of_landmarks_grows_as_the_root_of_the_passages(passages: int, landmarks: int) -> None:
    assert landmark_count(passages) == landmarks


def test_the_landmarks_are_as_many_as_the_passages_call_for() -> None:
    vectors, _ = clusters(900)
    projection = fit_map(vectors)
    assert len(projection.landmarks) == 600
    assert projection.project(vectors).shape == (900, 2)


def test_a_layout_that_fails_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(IndexFolderError, match=r"could not be laid out \(exit code 1\): set map = false"):
        fit_map(clusters(60)[0])


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOMEM])
def test_a_layout_without_a_process_is_an_error_with_a_remedy(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("subprocess.Popen", fail)
    reason = f"no process can be started: {os.strerror(code)}"
    with pytest.raises(IndexFolderError, match=f"could not be laid out .{reason}.: set map = false"):
        fit_map(clusters(60)[0])


def test_a_layout_without_points_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "true")
    with pytest.raises(IndexFolderError, match=r"could not be laid out .its process returned 0 of 480 bytes.: set map"):
        fit_map(clusters(60)[0])


@pytest.mark.parametrize(
    "site",
    [
        "print('hello')",
        "import atexit; atexit.register(print, 'goodbye')",
        "import atexit, os; os.write(1, b'hello'); atexit.register(os.write, 1, b'goodbye')",
    ],
)
def test_what_the_layout_prints_besides_its_points_is_ignored(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, _ = clusters(60)
    expected = fit_map(vectors).points
    (tmp_path / "sitecustomize.py").write_text(site)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert np.array_equal(fit_map(vectors).points, expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_passages_have_a_map_too(count: int) -> None:
    vectors, _ = clusters(count)
    assert np.isfinite(fit_map(vectors).project(vectors)).all()


def test_a_file_that_is_not_a_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    path.write_bytes(b"not a map")
    with pytest.raises(IndexFolderError, match=r"map\.safetensors is not a map .*build the index again"):
        Projection.open(path)
    vectors, _ = clusters(8)
    Projection(fit_map(vectors).landmarks, np.zeros((3, 2), np.float32)).save(path)
    with pytest.raises(IndexFolderError, match="landmarks and points that do not fit"):
        Projection.open(path)
