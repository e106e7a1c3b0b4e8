"""A map of a corpus: vectors to places in the plane, near where they are alike. Does not depend on texts.

The corpus's landmarks, a sample of its passages, are laid out by t-SNE (van der Maaten & Hinton 2008, as openTSNE does
it: Poličar, Stražar & Zupan 2024). Every other vector, a query too, is placed amid the landmarks it is nearest to. So
what is added later finds its place without the map being drawn anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semsearch.adapters.basis import SpectralBasis
from semsearch.errors import IndexFolderError
from semsearch.types import Vectors

Points = npt.NDArray[np.float32]

LANDMARKS = 5_000
MIN_PASSAGES = 50
"""Passages that t-SNE is worth it for; fewer stand along the corpus's first two axes."""
PERPLEXITY = 30
NEIGHBOURS = 5
"""Landmarks that a vector stands amid."""
SHARPNESS = 30.0
"""How much more the nearest of them counts: a cosine that is 0.1 less weighs a twentieth."""
ROWS_AT_A_TIME = 2_048
_OUTLIERS = 0.002
"""Share of landmarks on each side that may stand beyond the map's edge; they are brought to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Landmarks and where they stand."""

    landmarks: npt.NDArray[np.float16]
    """(m, dim) float16, unit rows, m ≥ 1."""
    points: Points
    """(m, 2) float32 in [0, 1]."""

    @property
    def full(self) -> bool:
        """Whether more passages would bring no more landmarks."""
        return len(self.landmarks) >= LANDMARKS

    @classmethod
    def fit(cls, vectors: Vectors, basis: SpectralBasis, *, threads: int) -> Self:
        """The map of (n, dim) passage vectors, n ≥ 1; the same vectors give the same map."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(vectors))[:LANDMARKS])
        sample = np.ascontiguousarray(vectors[chosen], np.float32)
        along = ((sample - basis.mean) @ basis.axes[:, :2]).astype(np.float32)
        return cls(sample.astype(np.float16), _within(_laid_out(sample, along, threads)))

    def project(self, vectors: Vectors) -> Points:
        """(n, 2) float32 in [0, 1], where (n, dim) unit vectors stand."""
        found = np.empty((len(vectors), 2), np.float32)
        landmarks = self.landmarks.astype(np.float32)
        amid = min(NEIGHBOURS, len(landmarks))
        for start in range(0, len(vectors), ROWS_AT_A_TIME):
            near = np.asarray(vectors[start : start + ROWS_AT_A_TIME], np.float32) @ landmarks.T
            nearest = np.argpartition(-near, amid - 1, axis=1)[:, :amid]
            cosines = np.take_along_axis(near, nearest, axis=1)
            weights = np.exp(SHARPNESS * (cosines - cosines.max(axis=1, keepdims=True)))
            weights /= weights.sum(axis=1, keepdims=True)
            found[start : start + len(near)] = np.einsum("nk,nkd->nd", weights, self.points[nearest])
        return found

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_file({"landmarks": self.landmarks, "places": self.points}, path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises IndexFolderError if the file does not hold a map."""
        try:
            parts = load_file(path)
            landmarks, places = parts["landmarks"], parts["places"]
        except (OSError, SafetensorError, KeyError) as error:
            raise IndexFolderError(f"{path} is not a map ({error}): build the index again") from error
        if landmarks.ndim != 2 or places.shape != (len(landmarks), 2) or not len(places):
            raise IndexFolderError(f"{path} holds parts that do not belong together: build the index again")
        return cls(landmarks, places)


def _laid_out(sample: Vectors, along: Points, threads: int) -> Points:
    """(m, 2) places of (m, dim) vectors, in no unit; along: (m, 2) where they stand along the corpus's axes."""
    if len(sample) < MIN_PASSAGES:
        return along
    from openTSNE import TSNE

    start = along / max(float(along[:, 0].std()), 1e-9) * 1e-4
    perplexity = min(PERPLEXITY, (len(sample) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, initialization=start, metric="cosine", random_state=0, n_jobs=threads)
    return np.asarray(tsne.fit(sample), np.float32)


def _within(places: Points) -> Points:
    """The same in [0, 1], with one measure for both directions."""
    low, high = np.quantile(places, (_OUTLIERS, 1 - _OUTLIERS), axis=0)
    middle, span = (low + high) / 2, max(float((high - low).max()), 1e-9)
    return np.asarray(np.clip((places - middle) / span * 0.96 + 0.5, 0, 1), np.float32)
