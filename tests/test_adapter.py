"""Rescaling: identity where nothing is learned, arithmetic where something is, and no leak between domains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.adapter import Adapter, DomainState, SpectralBasis
from semsearch.records import BundleError, Vectors

DIMENSION = 8


def unit_rows(count: int, *, dimension: int = DIMENSION, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def random_state(seed: int, *, rank: int = 2) -> DomainState:
    draw = np.random.default_rng(seed)
    return DomainState(
        gains=draw.uniform(0.5, 2.0, DIMENSION).astype(np.float32),
        down=draw.normal(size=(rank, DIMENSION)).astype(np.float32),
        up=draw.normal(size=(rank, DIMENSION)).astype(np.float32),
    )


def gains_only(gains: list[float]) -> DomainState:
    none = np.zeros((0, len(gains)), np.float32)
    return DomainState(np.array(gains, np.float32), none, none)


def plain_basis(dimension: int = DIMENSION) -> SpectralBasis:
    values = np.arange(dimension, 0, -1, dtype=np.float32)
    return SpectralBasis(np.eye(dimension, dtype=np.float32), values, np.zeros(dimension, np.float32))


def test_a_domain_that_has_learned_nothing_leaves_its_vectors_bit_identical() -> None:
    queries = unit_rows(5)
    rescaled = Adapter(SpectralBasis.of(unit_rows(50, seed=1)), {}).rescale(queries, ["a", "b", "a", "default", ""])
    assert rescaled.tobytes() == queries.tobytes()


def test_gains_stretch_the_axes() -> None:
    adapter = Adapter(plain_basis(2), {"team": gains_only([2.0, 1.0])})
    # (0.6, 0.8) becomes (1.2, 0.8), of length sqrt(2.08)
    rescaled = adapter.rescale(np.array([[0.6, 0.8]], np.float32), ["team"])
    np.testing.assert_allclose(rescaled, [[1.2 / 2.08**0.5, 0.8 / 2.08**0.5]], rtol=1e-6)


def test_a_displacement_adds_what_it_reads() -> None:
    state = DomainState(np.ones(2, np.float32), np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 3.0]], np.float32))
    # it reads 1 along the first axis and writes 3 along the second
    rescaled = Adapter(plain_basis(2), {"team": state}).rescale(np.array([[1.0, 0.0]], np.float32), ["team"])
    np.testing.assert_allclose(rescaled, [[1 / 10**0.5, 3 / 10**0.5]], rtol=1e-6)


def test_a_mixed_batch_gives_each_domain_what_it_gets_alone() -> None:
    basis = SpectralBasis.of(unit_rows(100, seed=2))
    states = {"a": random_state(1, rank=3), "b": random_state(2, rank=0), "c": random_state(3, rank=1)}
    adapter = Adapter(basis, states)
    queries, domains = unit_rows(7, seed=4), ["c", "a", "nobody", "b", "a", "nobody", "c"]
    together = adapter.rescale(queries, domains)
    for place, domain in enumerate(domains):
        alone = adapter.rescale(queries[place : place + 1], [domain])[0]
        np.testing.assert_allclose(together[place], alone, atol=1e-6)
        assert (domain == "nobody") == np.array_equal(together[place], queries[place])
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-6)


def test_another_domains_state_changes_nothing() -> None:
    basis, queries = SpectralBasis.of(unit_rows(100, seed=2)), unit_rows(4)
    before = Adapter(basis, {"a": random_state(1)}).rescale(queries, ["a"] * 4)
    after = Adapter(basis, {"b": random_state(2), "a": random_state(1)}).rescale(queries, ["a"] * 4)
    assert before.tobytes() == after.tobytes()


def test_the_scale_of_all_gains_does_not_matter() -> None:
    basis, queries, gains = SpectralBasis.of(unit_rows(60)), unit_rows(4), [1.0, 2.0, 3.0, 4.0, 0.5, 0.2, 1.0, 1.0]
    adapter = Adapter(basis, {"a": gains_only(gains), "b": gains_only([8 * gain for gain in gains])})
    np.testing.assert_allclose(adapter.rescale(queries, ["a"] * 4), adapter.rescale(queries, ["b"] * 4), atol=1e-6)


@pytest.mark.parametrize(
    "state",
    [
        gains_only([1.0, 2.0]),
        DomainState(np.ones(8, np.float32), np.zeros((2, 8), np.float32), np.zeros((1, 8), np.float32)),
        DomainState(np.ones(8, np.float32), np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)),
    ],
    ids=["gains", "unequal ranks", "displacement"],
)
def test_a_state_of_another_shape_is_refused_by_name(state: DomainState) -> None:
    with pytest.raises(ValueError, match="'odd'"):
        Adapter(plain_basis(), {"odd": state})


def test_the_basis_is_the_covariances() -> None:
    rows = unit_rows(500, seed=3) + np.float32(0.1)
    basis = SpectralBasis.of(rows, rows_at_a_time=64)
    covariance = np.cov(rows.astype(np.float64), rowvar=False, bias=True)
    np.testing.assert_allclose(basis.axes @ np.diag(basis.values) @ basis.axes.T, covariance, atol=1e-6)
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(DIMENSION), atol=1e-6)
    np.testing.assert_allclose(basis.mean, rows.mean(axis=0), atol=1e-6)
    assert (np.diff(basis.values) <= 0).all()


def test_the_basis_of_one_vector_has_no_spread() -> None:
    basis = SpectralBasis.of(unit_rows(1))
    np.testing.assert_allclose(basis.values, 0, atol=1e-7)
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(DIMENSION), atol=1e-6)


def test_a_basis_comes_back_from_disk_bit_for_bit(tmp_path: Path) -> None:
    basis = SpectralBasis.of(unit_rows(40))
    basis.save(tmp_path / "basis")
    opened = SpectralBasis.open(tmp_path / "basis")
    assert (opened.axes.tobytes(), opened.values.tobytes(), opened.mean.tobytes()) == (
        basis.axes.tobytes(),
        basis.values.tobytes(),
        basis.mean.tobytes(),
    )


def test_a_file_that_is_no_basis_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "basis").write_bytes(b"\x00" * 100)
    with pytest.raises(BundleError, match="basis is not a spectral basis"):
        SpectralBasis.open(tmp_path / "basis")
