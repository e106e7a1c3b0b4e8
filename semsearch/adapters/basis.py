"""The spectral basis of a corpus. Does not depend on queries or on what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semsearch.errors import IndexFolderError
from semsearch.system.files import drop_pages
from semsearch.types import Vectors

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpectralBasis:
    """The eigenvectors of the covariance of a corpus's passage vectors: its axes."""

    axes: Array
    """(dim, dim) float32, one orthonormal eigenvector per column, in descending order of eigenvalue."""
    eigenvalues: Array
    """(dim,) float32 eigenvalues ≥ 0, in descending order."""
    mean: Array
    """(dim,) float32 mean passage vector, not of unit length."""

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return len(self.eigenvalues)

    @classmethod
    def from_vectors(cls, vectors: Vectors, *, rows_at_a_time: int = 8_192) -> SpectralBasis:
        """Compute the basis of (n, dim) passage vectors, n ≥ 1.

        rows_at_a_time: rows that are converted to float64 and summed at once; of a memory map, only these are held.
        """
        count, dimension = vectors.shape
        total = np.zeros(dimension)
        products = np.zeros((dimension, dimension))
        for start in range(0, count, rows_at_a_time):
            block = vectors[start : start + rows_at_a_time].astype(np.float64)
            total += block.sum(axis=0)
            products += block.T @ block
            drop_pages(vectors)
        mean = total / count
        values, axes = np.linalg.eigh(products / count - np.outer(mean, mean))
        # eigh sorts in ascending order; an eigenvalue of a covariance is negative only by rounding
        values, axes = np.maximum(values[::-1], 0.0), axes[:, ::-1]
        # the sign of an eigenvector is arbitrary: fixed, two builds of one corpus agree
        axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(dimension)] < 0, -1.0, 1.0)
        return cls(
            axes=np.ascontiguousarray(axes, dtype=np.float32),
            eigenvalues=np.ascontiguousarray(values, dtype=np.float32),
            mean=mean.astype(np.float32),
        )

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({"axes": self.axes, "values": self.eigenvalues, "mean": self.mean}, path)

    @classmethod
    def open(cls, path: Path) -> SpectralBasis:
        """Read a file written by `save`. Raises IndexFolderError if it does not hold a basis."""
        try:
            arrays = load_file(path)
            basis = cls(axes=arrays["axes"], eigenvalues=arrays["values"], mean=arrays["mean"])
        except (OSError, SafetensorError, KeyError) as error:
            raise IndexFolderError(f"{path} is not a spectral basis ({error}): build the index again") from error
        dimension = basis.dimension
        if basis.axes.shape != (dimension, dimension) or basis.mean.shape != (dimension,):
            raise IndexFolderError(f"{path} holds arrays of different dimensions: build the index again")
        return basis
