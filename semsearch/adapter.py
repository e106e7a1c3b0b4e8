"""Rescales query vectors for their domains; knows nothing of texts, indexes or how a domain's state was learned.

With V the eigenvectors of the corpus's own covariance, a query q of a domain with gains g and displacement
(down, up) becomes

    x  = Vᵀ q
    x' = g ⊙ x
    q' = normalise(V (x' + upᵀ (down x')))

Documents never move, so adapting a domain needs no re-index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semsearch.records import BundleError, Vectors

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpectralBasis:
    """The axes of a corpus: eigenvectors of its passages' covariance."""

    axes: Array
    """(dim, dim) float32, one orthonormal eigenvector per column, by falling eigenvalue."""
    values: Array
    """(dim,) float32 eigenvalues, ≥ 0, falling."""
    mean: Array
    """(dim,) float32 mean passage vector, not of unit length."""

    @property
    def dimension(self) -> int:
        """Length of the vectors that this basis belongs to."""
        return len(self.values)

    @classmethod
    def of(cls, vectors: Vectors, *, rows_at_a_time: int = 65_536) -> SpectralBasis:
        """The basis of (n, dim) passage vectors, n ≥ 1, summed in float64 a slice at a time."""
        count, dimension = vectors.shape
        total = np.zeros(dimension)
        products = np.zeros((dimension, dimension))
        for start in range(0, count, rows_at_a_time):
            part = vectors[start : start + rows_at_a_time].astype(np.float64)
            total += part.sum(axis=0)
            products += part.T @ part
        mean = total / count
        values, axes = np.linalg.eigh(products / count - np.outer(mean, mean))
        # eigh rises; a covariance has no negative eigenvalue but for rounding
        values, axes = np.maximum(values[::-1], 0.0), axes[:, ::-1]
        # an eigenvector's sign is arbitrary: fix it, so that two builds of one corpus agree
        axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(dimension)] < 0, -1.0, 1.0)
        return cls(
            axes=np.ascontiguousarray(axes, dtype=np.float32),
            values=np.ascontiguousarray(values, dtype=np.float32),
            mean=mean.astype(np.float32),
        )

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_file({"axes": self.axes, "values": self.values, "mean": self.mean}, path)

    @classmethod
    def open(cls, path: Path) -> SpectralBasis:
        """Read what `save` wrote. Raises BundleError if the file does not hold a basis."""
        try:
            parts = load_file(path)
            basis = cls(axes=parts["axes"], values=parts["values"], mean=parts["mean"])
        except (OSError, SafetensorError, KeyError) as error:
            raise BundleError(f"{path} is not a spectral basis ({error}): build the index again") from error
        dimension = basis.dimension
        if basis.axes.shape != (dimension, dimension) or basis.mean.shape != (dimension,):
            raise BundleError(f"{path} holds parts of unequal dimension: build the index again")
        return basis


@dataclass(frozen=True, slots=True)
class DomainState:
    """What a domain has learned, in the corpus's own axes."""

    gains: Array
    """(dim,) float32, one factor per axis; 1 leaves the axis alone."""
    down: Array
    """(rank, dim) float32, reads a rescaled query; rank 0 means no displacement."""
    up: Array
    """(rank, dim) float32, writes the displacement."""


class Adapter:
    """The states of an index's domains, applied to batches in which domains mix."""

    def __init__(self, basis: SpectralBasis, states: Mapping[str, DomainState]) -> None:
        """Stack the states once. Raises ValueError where a state's shapes do not fit the basis."""
        dimension = basis.dimension
        for domain, state in states.items():
            if state.gains.shape != (dimension,) or state.down.shape != state.up.shape:
                raise ValueError(f"the state of domain {domain!r} does not fit a basis of {dimension} dimensions")
            if state.down.ndim != 2 or state.down.shape[1] != dimension:
                raise ValueError(f"the displacement of domain {domain!r} has shape {state.down.shape}")
        self._axes = basis.axes
        self._slots = {domain: slot for slot, domain in enumerate(states)}
        rank = max((len(state.down) for state in states.values()), default=0)
        self._gains = np.ones((len(states), dimension), np.float32)
        self._down = np.zeros((len(states), rank, dimension), np.float32)
        self._up = np.zeros((len(states), rank, dimension), np.float32)
        for slot, state in enumerate(states.values()):
            self._gains[slot] = state.gains
            self._down[slot, : len(state.down)] = state.down
            self._up[slot, : len(state.up)] = state.up

    def rescale(self, queries: Vectors, domains: Sequence[str]) -> Vectors:
        """Each query as its own domain sees it, in one pass whatever the mixture.

        queries: (n, dim) float32, unit rows; domains: n names. Returns (n, dim) float32, unit rows. A row whose
        domain has learned nothing is returned bit for bit.
        """
        slots = np.array([self._slots.get(domain, -1) for domain in domains], dtype=np.intp)
        learned = slots >= 0
        if not learned.any():
            return queries
        slots = slots[learned]
        x = (queries[learned] @ self._axes) * self._gains[slots]
        read = np.einsum("nd,nrd->nr", x, self._down[slots])
        x += np.einsum("nr,nrd->nd", read, self._up[slots])
        moved = x @ self._axes.T
        rescaled = queries.copy()
        rescaled[learned] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        return rescaled
