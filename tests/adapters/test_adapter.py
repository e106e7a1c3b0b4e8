"""Adapters and states: identity without a state, the arithmetic of each part, and isolation of domains."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import GAIN_RANGE, MAX_KEYS, MAX_MAGNITUDE, MAX_SHRINKAGE, DomainState
from semsearch.errors import IndexFolderError, StateError
from semsearch.types import Vectors

DIMENSION = 8


def unit_rows(count: int, *, dimension: int = DIMENSION, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def random_state(seed: int, *, dimension: int = DIMENSION, keys: int = 2, sharpness: float = 2.0) -> DomainState:
    draw = np.random.default_rng(seed)
    return DomainState(
        spectral_gains=draw.uniform(0.5, 2.0, dimension).astype(np.float32),
        shrinkage=(0.8 * unit_rows(min(keys, 3), dimension=dimension, seed=seed + 50)),
        keys=unit_rows(keys, dimension=dimension, seed=seed + 90),
        values=draw.normal(size=(keys, dimension)).astype(np.float32),
        shift=draw.normal(size=dimension).astype(np.float32) * np.float32(0.1),
        sharpness=np.full(keys, sharpness, np.float32),
    )


def gains_only(gains: list[float]) -> DomainState:
    return replace(DomainState.identity(len(gains)), spectral_gains=np.array(gains, np.float32))


def plain_basis(dimension: int = DIMENSION) -> SpectralBasis:
    values = np.arange(dimension, 0, -1, dtype=np.float32)
    return SpectralBasis(np.eye(dimension, dtype=np.float32), values, np.zeros(dimension, np.float32))


def test_a_domain_without_a_state_leaves_its_vectors_bit_identical() -> None:
    queries = unit_rows(5)
    adapter = Adapter.from_states(SpectralBasis.from_vectors(unit_rows(50, seed=1)), {})
    assert adapter.transform(queries, ["a", "b", "a", "default", ""]).tobytes() == queries.tobytes()


def test_gains_stretch_the_axes() -> None:
    adapter = Adapter.from_states(plain_basis(2), {"team": gains_only([2.0, 1.0])})
    # (0.6, 0.8) becomes (1.2, 0.8), of length sqrt(2.08)
    transformed = adapter.transform(np.array([[0.6, 0.8]], np.float32), ["team"])
    np.testing.assert_allclose(transformed, [[1.2 / 2.08**0.5, 0.8 / 2.08**0.5]], rtol=1e-6)


def test_a_linear_displacement_adds_values_times_similarities() -> None:
    state = replace(
        DomainState.identity(2),
        keys=np.array([[1.0, 0.0]], np.float32),
        values=np.array([[0.0, 3.0]], np.float32),
        sharpness=np.zeros(1, np.float32),
    )
    # the similarity is 0.6, so 1.8 is added along the second axis: (0.6, 2.6), of length sqrt(7.12)
    transformed = Adapter.from_states(plain_basis(2), {"team": state}).transform(
        np.array([[0.6, 0.8]], np.float32), ["team"]
    )
    np.testing.assert_allclose(transformed, [[0.6 / 7.12**0.5, 2.6 / 7.12**0.5]], rtol=1e-6)


def test_sharpness_favours_near_keys() -> None:
    state = replace(
        DomainState.identity(2),
        keys=np.array([[1.0, 0.0]], np.float32),
        values=np.array([[0.0, 1.0]], np.float32),
        sharpness=np.array([math.log(4)], np.float32),
    )
    # k(s) = (4^s - 1) / 3: k(1) = 1 and k(1/2) = 1/3
    half = np.array([[1.0, 0.0], [0.5, -(0.75**0.5)]], np.float32)
    transformed = Adapter.from_states(plain_basis(2), {"team": state}).transform(half, ["team"] * 2)
    np.testing.assert_allclose(transformed[0], [0.5**0.5, 0.5**0.5], rtol=1e-6)
    displaced = np.array([0.5, 1 / 3 - 0.75**0.5])
    np.testing.assert_allclose(transformed[1], displaced / np.linalg.norm(displaced), rtol=1e-5)


def test_each_key_has_its_own_sharpness_within_bounds() -> None:
    keys = unit_rows(2, dimension=2)
    state = replace(DomainState.identity(2), keys=keys, values=keys, sharpness=np.array([0.0, 50.0], np.float32))
    query = unit_rows(1, dimension=2, seed=4)
    both = Adapter.from_states(plain_basis(2), {"d": state}).transform(query, ["d"])
    similarity = [(query @ keys[n]).item() for n in (0, 1)]
    displaced = query + similarity[0] * keys[0] + math.expm1(50 * similarity[1]) / math.expm1(50) * keys[1]
    np.testing.assert_allclose(both, displaced / np.linalg.norm(displaced), atol=1e-4)
    assert not state.is_linear
    for wrong in (-1.0, 1001.0):
        with pytest.raises(StateError, match="sharpness"):
            replace(state, sharpness=np.array([0.0, wrong], np.float32))


def test_shrinkage_removes_a_share_of_a_direction() -> None:
    # c = (0, sqrt(3)/2): the second coordinate is multiplied by 1 - 3/4
    state = replace(DomainState.identity(2), shrinkage=np.array([[0.0, 0.75**0.5]], np.float32))
    transformed = Adapter.from_states(plain_basis(2), {"team": state}).transform(
        np.array([[0.6, 0.8]], np.float32), ["team"]
    )
    np.testing.assert_allclose(transformed, [[0.6 / 0.4**0.5, 0.2 / 0.4**0.5]], rtol=1e-5)


def test_a_shift_is_added_to_every_query() -> None:
    state = replace(DomainState.identity(2), shift=np.array([0.0, 1.0], np.float32))
    transformed = Adapter.from_states(plain_basis(2), {"team": state}).transform(
        np.array([[1.0, 0.0]], np.float32), ["team"]
    )
    np.testing.assert_allclose(transformed, [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_a_mixed_batch_gives_each_query_the_vector_it_gets_alone() -> None:
    basis = SpectralBasis.from_vectors(unit_rows(100, seed=2))
    states = {"a": random_state(1, keys=3), "b": random_state(2, keys=0), "c": random_state(3, keys=1, sharpness=0.0)}
    adapter = Adapter.from_states(basis, states)
    queries, domains = unit_rows(7, seed=4), ["c", "a", "unknown", "b", "a", "unknown", "c"]
    together = adapter.transform(queries, domains)
    for row, domain in enumerate(domains):
        alone = adapter.transform(queries[row : row + 1], [domain])[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-6)
        assert (domain == "unknown") == np.array_equal(together[row], queries[row])
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-6)


def test_another_domains_state_changes_nothing() -> None:
    basis, queries = SpectralBasis.from_vectors(unit_rows(100, seed=2)), unit_rows(4)
    before = Adapter.from_states(basis, {"a": random_state(1)}).transform(queries, ["a"] * 4)
    after = Adapter.from_states(basis, {"b": random_state(2), "a": random_state(1)}).transform(queries, ["a"] * 4)
    assert before.tobytes() == after.tobytes()


def test_the_scale_of_all_gains_does_not_matter() -> None:
    basis, queries = SpectralBasis.from_vectors(unit_rows(60)), unit_rows(4)
    gains = [1.0, 2.0, 3.0, 4.0, 0.5, 0.2, 1.0, 1.0]
    adapter = Adapter.from_states(basis, {"a": gains_only(gains), "b": gains_only([8 * gain for gain in gains])})
    np.testing.assert_allclose(adapter.transform(queries, ["a"] * 4), adapter.transform(queries, ["b"] * 4), atol=1e-6)


def test_a_state_of_another_dimension_is_refused_with_its_domain() -> None:
    with pytest.raises(StateError, match="'odd' has 2 dimensions, the index 8"):
        Adapter.from_states(plain_basis(), {"odd": gains_only([1.0, 2.0])})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keys", np.zeros((2, 8), np.float32), "keys"),
        ("shrinkage", np.zeros((1, 4), np.float32), "shrinkage"),
        ("shrinkage", np.zeros((MAX_SHRINKAGE + 1, 8), np.float32), "at most 64 and 120"),
        ("shift", np.zeros(3, np.float32), "shift"),
        ("spectral_gains", np.zeros(8, np.float32), "spectral gains must be above 0"),
        ("shift", np.full(8, np.nan, np.float32), "not finite"),
        ("sharpness", np.zeros(1, np.float32), "one per key"),
        ("spectral_gains", np.full(8, 1e-38, np.float32), r"in \[1e-05, 100000\]"),
        ("spectral_gains", np.full(8, 1e38, np.float32), r"in \[1e-05, 100000\]"),
        ("shift", np.full(8, -1e20, np.float32), r"outside \[-1000, 1000\]"),
        ("shrinkage", np.full((1, 8), 1e38, np.float32), r"outside \[-1000, 1000\]"),
    ],
)
def test_an_inconsistent_state_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(StateError, match=message):
        replace(DomainState.identity(8), **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("dimension", [2, 384])
@pytest.mark.parametrize("sharpness", [0.0, 50.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_most_extreme_state_gives_vectors_of_unit_length(dimension: int, sharpness: float, sign: int) -> None:
    """Runtime warnings, such as those of an overflow, are errors in tests."""
    gains = np.full(dimension, GAIN_RANGE[0], np.float32)
    gains[0] = GAIN_RANGE[1]
    extreme = np.full((1, dimension), MAX_MAGNITUDE, np.float32)
    state = DomainState(
        gains,
        shrinkage=np.repeat(extreme, MAX_SHRINKAGE, axis=0),
        keys=np.repeat(extreme, MAX_KEYS, axis=0),
        values=np.repeat(sign * extreme, MAX_KEYS, axis=0),
        shift=sign * extreme[0],
        sharpness=np.full(MAX_KEYS, sharpness, np.float32),
    )
    adapter = Adapter.from_states(plain_basis(dimension), {"team": state})
    transformed = adapter.transform(unit_rows(20, dimension=dimension), ["team"] * 20)
    np.testing.assert_allclose(np.linalg.norm(transformed, axis=1), 1, rtol=1e-3)


def test_a_query_of_which_nothing_is_left_is_a_vector_of_zeros() -> None:
    state = replace(DomainState.identity(2), shrinkage=np.array([[1.0, 0.0]], np.float32))
    query = np.array([[1.0, 0.0]], np.float32)
    assert Adapter.from_states(plain_basis(2), {"team": state}).transform(query, ["team"]).tolist() == [[0.0, 0.0]]


def test_a_quantized_state_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    state = random_state(5, dimension=33, keys=7).quantized()
    state.save(tmp_path / "team", {"learner": "listwise", "labels": 8})
    opened, about = DomainState.open(tmp_path / "team")
    assert about == {"learner": "listwise", "labels": 8}
    for name in ("spectral_gains", "shrinkage", "keys", "values", "shift", "sharpness"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(state, name))
    assert [path.name for path in tmp_path.iterdir()] == ["team"]


def test_quantization_turns_a_query_by_less_than_two_degrees() -> None:
    state = random_state(6, dimension=384, keys=64)
    state = replace(state, values=state.values * np.float32(0.02))
    adapter = Adapter.from_states(plain_basis(384), {"exact": state, "quantized": state.quantized()})
    queries = unit_rows(50, dimension=384)
    exact, quantized = (adapter.transform(queries, [name] * 50) for name in ("exact", "quantized"))
    assert (np.einsum("nd,nd->n", exact, quantized) > math.cos(math.radians(2))).all()


def test_the_lexical_weight_is_read_back(tmp_path: Path) -> None:
    for weight in (None, 0.0, 0.4):
        replace(DomainState.identity(8), lexical_weight=weight).save(tmp_path / "s", {})
        assert DomainState.open(tmp_path / "s")[0].lexical_weight == weight
    with pytest.raises(StateError, match="the lexical weight is 11"):
        replace(DomainState.identity(8), lexical_weight=11)


def test_the_largest_state_is_under_64_kib() -> None:
    state = replace(random_state(7, dimension=384, keys=MAX_KEYS), shrinkage=unit_rows(MAX_SHRINKAGE, dimension=384))
    assert len(state.to_bytes({"reason": "x" * 400, "labels": 200, "history": list(range(50))})) < 64 * 1024


@pytest.mark.parametrize("content", [b"", b"\x00" * 200, b"{}"], ids=["empty", "zeros", "json"])
def test_a_file_that_is_no_state_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "team").write_bytes(content)
    with pytest.raises(StateError, match="team is not a domain state"):
        DomainState.open(tmp_path / "team")


def test_a_state_of_another_version_or_truncated_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "team"
    content = random_state(5).to_bytes({})
    path.write_bytes(content.replace(b'format_version\\": 2', b'format_version\\": 9'))
    with pytest.raises(StateError, match="format version 9"):
        DomainState.open(path)
    path.write_bytes(content[:-3])
    with pytest.raises(StateError, match="not a domain state"):
        DomainState.open(path)


def test_the_basis_diagonalizes_the_covariance() -> None:
    rows = unit_rows(500, seed=3) + np.float32(0.1)
    basis = SpectralBasis.from_vectors(rows, rows_at_a_time=64)
    covariance = np.cov(rows.astype(np.float64), rowvar=False, bias=True)
    np.testing.assert_allclose(basis.axes @ np.diag(basis.eigenvalues) @ basis.axes.T, covariance, atol=1e-6)
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(DIMENSION), atol=1e-6)
    np.testing.assert_allclose(basis.mean, rows.mean(axis=0), atol=1e-6)
    assert (np.diff(basis.eigenvalues) <= 0).all()


def test_the_basis_of_one_vector_has_zero_eigenvalues() -> None:
    basis = SpectralBasis.from_vectors(unit_rows(1))
    np.testing.assert_allclose(basis.eigenvalues, 0, atol=1e-7)
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(DIMENSION), atol=1e-6)


def test_a_basis_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    basis = SpectralBasis.from_vectors(unit_rows(40))
    basis.save(tmp_path / "basis")
    opened = SpectralBasis.open(tmp_path / "basis")
    assert (opened.axes.tobytes(), opened.eigenvalues.tobytes(), opened.mean.tobytes()) == (
        basis.axes.tobytes(),
        basis.eigenvalues.tobytes(),
        basis.mean.tobytes(),
    )


def test_a_file_that_is_no_basis_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "basis").write_bytes(b"\x00" * 100)
    with pytest.raises(IndexFolderError, match="basis is not a spectral basis"):
        SpectralBasis.open(tmp_path / "basis")
