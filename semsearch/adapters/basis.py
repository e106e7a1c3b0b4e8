"""The axes of a corpus, in which adaptation works. Does not depend on queries or what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semsearch.errors import IndexFolderError
from semsearch.types import Vectors

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpectralBasis:
    """The axes of a corpus: eigenvectors of its passages' covariance."""

    axes: Array
    """(dim, dim) float32, one orthonormal eigenvector per column, by falling eigenvalue."""
    eigenvalues: Array
    """(dim,) float32 eigenvalues, ≥ 0, falling."""
    mean: Array
    """(dim,) float32 mean passage vector, not of unit length."""

    @property
    def dimension(self) -> int:
        """Length of the vectors that this basis belongs to."""
        return len(self.eigenvalues)

    @classmethod
    def from_vectors(cls, vectors: Vectors, *, rows_at_a_time: int = 8_192) -> SpectralBasis:
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
            eigenvalues=np.ascontiguousarray(values, dtype=np.float32),
            mean=mean.astype(np.float32),
        )

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_file({"axes": self.axes, "values": self.eigenvalues, "mean": self.mean}, path)

    @classmethod
    def open(cls, path: Path) -> SpectralBasis:
        """Read what `save` wrote. Raises IndexFolderError if the file does not hold a basis."""
        try:
            parts = load_file(path)
            basis = cls(axes=parts["axes"], eigenvalues=parts["values"], mean=parts["mean"])
        except (OSError, SafetensorError, KeyError) as error:
            raise IndexFolderError(f"{path} is not a spectral basis ({error}): build the index again") from error
        dimension = basis.dimension
        if basis.axes.shape != (dimension, dimension) or basis.mean.shape != (dimension,):
            raise IndexFolderError(f"{path} holds parts of unequal dimension: build the index again")
        return basis
