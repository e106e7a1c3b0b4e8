"""The map of a corpus: a projection of vectors to the plane that keeps similar ones together. Does not depend on texts.

The landmarks, a sample of the passages, are laid out by t-SNE (van der Maaten & Hinton 2008; implementation: openTSNE,
Poličar, Stražar & Zupan 2024). Every other vector, also of a query, is projected to a weighted mean of its nearest
landmarks. Documents added later therefore appear on the same map.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semsearch.adapters.basis import SpectralBasis
from semsearch.errors import IndexFolderError
from semsearch.system.files import drop_pages
from semsearch.types import Vectors

Points = npt.NDArray[np.float32]

MAX_LANDMARKS = 5_000
LANDMARKS_PER_ROOT = 20
"""Landmarks for each unit of the square root of the number of passages."""
MIN_PASSAGES = 50
"""Number of passages from which on t-SNE is used; fewer are projected to the first two axes of the spectral basis."""
PERPLEXITY = 30
EXAGGERATED_ITERATIONS, ITERATIONS = 100, 150
"""Steps of t-SNE; three times as many, its default, keep no more of the nearest neighbours together."""
NEIGHBOURS = 5
"""Number of nearest landmarks that a vector is projected between."""
SHARPNESS = 30.0
"""Factor of the cosines in the landmarks' softmax weights: a cosine that is 0.1 lower weighs a twentieth."""
BATCH_ROWS = 256
"""Vectors that are projected at a time: their cosines with all landmarks are in memory."""
_OUTLIERS = 0.002
"""Share of landmarks on each side that are clipped to the map's edge."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Landmarks and their points on the map."""

    landmarks: npt.NDArray[np.float16]
    """(m, dim) float16, unit rows, m ≥ 1."""
    points: Points
    """(m, 2) float32 in [0, 1]."""

    @classmethod
    def fit(cls, vectors: Vectors, basis: SpectralBasis, *, threads: int) -> Self:
        """Fit a map to (n, dim) passage vectors, n ≥ 1. Deterministic: equal vectors give equal maps.

        Pages of a memory map are released. Raises IndexFolderError if the map cannot be laid out.
        """
        chosen = np.sort(np.random.default_rng(0).permutation(len(vectors))[: landmark_count(len(vectors))])
        sample = np.ascontiguousarray(vectors[chosen], np.float32)
        # to read some rows of a memory map, the system maps the pages around them too
        drop_pages(vectors)
        principal = ((sample - basis.mean) @ basis.axes[:, :2]).astype(np.float32)
        return cls(sample.astype(np.float16), _scale_to_unit_square(_lay_out(sample, principal, threads)))

    def project(self, vectors: Vectors) -> Points:
        """Return the map points, (n, 2) float32 in [0, 1], of (n, dim) unit vectors.

        Pages of a memory map are released.
        """
        points = np.empty((len(vectors), 2), np.float32)
        landmarks = self.landmarks.astype(np.float32)
        neighbours = min(NEIGHBOURS, len(landmarks))
        for start in range(0, len(vectors), BATCH_ROWS):
            all_cosines = np.asarray(vectors[start : start + BATCH_ROWS], np.float32) @ landmarks.T
            nearest = np.argpartition(all_cosines, -neighbours, axis=1)[:, -neighbours:]
            cosines = np.take_along_axis(all_cosines, nearest, axis=1)
            weights = np.exp(SHARPNESS * (cosines - cosines.max(axis=1, keepdims=True)))
            weights /= weights.sum(axis=1, keepdims=True)
            points[start : start + len(cosines)] = np.einsum("nk,nkd->nd", weights, self.points[nearest])
            drop_pages(vectors)
        return points

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_file({"landmarks": self.landmarks, "places": self.points}, path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises IndexFolderError if the file does not hold a map."""
        try:
            tensors = load_file(path)
            landmarks, points = tensors["landmarks"], tensors["places"]
        except (OSError, SafetensorError, KeyError) as error:
            raise IndexFolderError(f"{path} is not a map ({error}): build the index again") from error
        if landmarks.ndim != 2 or points.shape != (len(landmarks), 2) or not len(points):
            raise IndexFolderError(f"{path} holds landmarks and points that do not fit: build the index again")
        return cls(landmarks, points)


def landmark_count(passages: int) -> int:
    """Return the number of landmarks of a map that is fitted to this many passages."""
    # more would show more detail, but laying them out is to be a small part of encoding the passages
    return min(passages, int(LANDMARKS_PER_ROOT * math.sqrt(passages)), MAX_LANDMARKS)


def _lay_out(sample: Vectors, principal: Points, threads: int) -> Points:
    """Points, (m, 2), of (m, dim) vectors, in any scale. principal: (m, 2) their coordinates on the first two axes.

    Raises IndexFolderError if the process that computes them fails.
    """
    if len(sample) < MIN_PASSAGES:
        return principal
    # the usual scale of an informative initialization (Kobak & Berens 2019): larger ones distort the layout
    start = principal / max(float(principal[:, 0].std()), 1e-9) * 1e-4
    perplexity = min(PERPLEXITY, (len(sample) - 1) / 3)
    settings = {
        "perplexity": perplexity,
        "metric": "cosine",
        "early_exaggeration_iter": EXAGGERATED_ITERATIONS,
        "n_iter": ITERATIONS,
        "random_state": 0,
        "n_jobs": threads,
    }
    arrays = io.BytesIO()
    np.savez(arrays, vectors=sample, start=start)
    command = [sys.executable, "-P", str(Path(__file__).with_name("map_layout.py")), json.dumps(settings)]
    try:
        done = subprocess.run(command, input=arrays.getvalue(), capture_output=True, check=False)
    except OSError as error:
        raise _layout_error(f"no process can be started: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise _layout_error((lines or [f"exit code {done.returncode}"])[-1])
    size = start.astype(np.float32).nbytes
    if len(done.stdout) < size:
        raise _layout_error(f"its process returned {len(done.stdout)} of {size} bytes")
    # what the interpreter prints as it starts, such as a site configuration, comes before
    return np.frombuffer(done.stdout[-size:], np.float32).reshape(start.shape)


def _layout_error(reason: str) -> IndexFolderError:
    return IndexFolderError(f"the map could not be laid out ({reason}): set map = false in the recipe to do without")


def _scale_to_unit_square(points: Points) -> Points:
    """The points in [0, 1], both directions with the same scale."""
    low, high = np.quantile(points, (_OUTLIERS, 1 - _OUTLIERS), axis=0)
    middle, span = (low + high) / 2, max(float((high - low).max()), 1e-9)
    return np.asarray(np.clip((points - middle) / span * 0.96 + 0.5, 0, 1), np.float32)
