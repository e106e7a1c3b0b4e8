"""What a domain has learned, in memory and on disk. Does not depend on how it was learned or how it is applied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from semsearch.errors import StateError, StorageError
from semsearch.system.files import atomic_write

Array = npt.NDArray[np.float32]

STATE_VERSION = 2
MAX_SHRINKAGE = 64
"""Rows of a contraction at most: with MAX_KEYS they keep a state of 384 dimensions under 64 KiB on disk."""
MAX_KEYS = 120
"""Keys, and values, of a state at most."""


@dataclass(frozen=True, eq=False)
class DomainState:
    """What a domain has learned. All but the gains stands in the encoder's own coordinates."""

    spectral_gains: Array
    """(dim,) float32 > 0, one factor per axis of the corpus; only their ratios matter."""
    shrinkage: Array
    """(r, dim) float32, r ≤ MAX_CONTRACTION; x loses contractionᵀ (contraction x)."""
    keys: Array
    """(m, dim) float32, m ≤ MAX_KEYS: where displacements are known."""
    values: Array
    """(m, dim) float32, the displacement that belongs to each key."""
    shift: Array
    """(dim,) float32, added to every query."""
    sharpness: Array
    """(m,) float32, each key's β in [0, 50]: how much more it counts for a near query than for a far one; 0 makes its
    displacement linear in the query."""
    lexical_weight: float | None = None
    """The cosine in [0, 10] that a query's best lexical match is worth; None: what the index says."""

    def __post_init__(self) -> None:
        """Raise StateError where shapes disagree or a number is not finite."""
        dimension = len(self.spectral_gains)
        if self.shrinkage.ndim != 2 or self.shrinkage.shape[1] != dimension:
            raise StateError(f"the shrinkage has shape {self.shrinkage.shape}, not (any, {dimension})")
        if self.keys.shape != self.values.shape or self.keys.ndim != 2 or self.keys.shape[1] != dimension:
            raise StateError(f"keys {self.keys.shape} and values {self.values.shape} are not both (any, {dimension})")
        if len(self.shrinkage) > MAX_SHRINKAGE or len(self.keys) > MAX_KEYS:
            raise StateError(
                f"{len(self.shrinkage)} contractions and {len(self.keys)} keys: at most {MAX_SHRINKAGE} and"
                f" {MAX_KEYS} fit a state"
            )
        if self.shift.shape != (dimension,):
            raise StateError(f"the shift has shape {self.shift.shape}, not ({dimension},)")
        if self.sharpness.shape != (len(self.keys),):
            raise StateError(f"the sharpness has shape {self.sharpness.shape}, not ({len(self.keys)},), one a key")
        numbers = (self.spectral_gains, self.shrinkage, self.keys, self.values, self.shift, self.sharpness)
        if not all(np.isfinite(part).all() for part in numbers):
            raise StateError("a domain state holds numbers that are not finite")
        if not (self.spectral_gains > 0).all() or not ((self.sharpness >= 0) & (self.sharpness <= 50)).all():
            raise StateError("gains must be above 0 and the sharpness in [0, 50]")
        if self.lexical_weight is not None and not 0 <= self.lexical_weight <= 10:
            raise StateError(f"the weight of words is {self.lexical_weight}, not in [0, 10]")

    @property
    def dimension(self) -> int:
        """Length of the query vectors that this state rescales."""
        return len(self.spectral_gains)

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers in memory."""
        parts = (self.spectral_gains, self.shrinkage, self.keys, self.values, self.shift, self.sharpness)
        return sum(part.nbytes for part in parts)

    @cached_property
    def is_linear(self) -> bool:
        """Whether every key's displacement is linear in the query."""
        return not self.sharpness.any()

    @cached_property
    def has_gains(self) -> bool:
        """Whether the gains change anything: turning into the corpus's axes and back costs more than all else."""
        return bool((self.spectral_gains != self.spectral_gains[0]).any())

    @classmethod
    def identity(cls, dimension: int) -> DomainState:
        """The state of a domain that has learned nothing."""
        empty = np.zeros((0, dimension), np.float32)
        still = np.zeros(dimension, np.float32)
        return cls(still + 1, shrinkage=empty, keys=empty, values=empty, shift=still, sharpness=np.zeros(0, np.float32))

    def quantized(self) -> DomainState:
        """The state as it will be read from disk: contraction, keys and values in 4 bits a number."""
        return _unpacked(self._packed())

    def to_bytes(self, about: Mapping[str, JsonValue]) -> bytes:
        """A safetensors file whose header carries `about` as JSON; at 384 dimensions under 64 KiB."""
        header = {"format_version": STATE_VERSION, "about": dict(about)}
        return bytes(save(self._packed(), metadata={"semsearch": json.dumps(header, ensure_ascii=False)}))

    def save(self, path: Path, about: Mapping[str, JsonValue]) -> None:
        """Write `to_bytes` whole or not at all. Raises StorageError if the disk refuses."""
        try:
            with atomic_write(path) as unfinished:
                unfinished.write_bytes(self.to_bytes(about))
        except OSError as error:
            raise StorageError(
                f"the state {path} cannot be written ({error.strerror}): make room or choose another place"
            ) from error

    @classmethod
    def open(cls, path: Path) -> tuple[DomainState, dict[str, JsonValue]]:
        """Read what `save` wrote, with what it said about itself. Raises StateError for anything else."""
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {})["semsearch"])
                parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            version = header["format_version"]
            if version != STATE_VERSION:
                raise StateError(
                    f"the state {path} has format version {version!r}, this semsearch reads {STATE_VERSION}:"
                    " adapt the domain again"
                )
            return _unpacked(parts), dict(header["about"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise StateError(f"{path} is not a domain state ({error}): adapt the domain again") from error

    def _packed(self) -> dict[str, npt.NDArray[np.generic]]:
        parts: dict[str, npt.NDArray[np.generic]] = {
            "gains": np.ascontiguousarray(self.spectral_gains, np.float32),
            "shift": np.ascontiguousarray(self.shift, np.float32),
            "sharpness": np.ascontiguousarray(self.sharpness, np.float32),
        }
        for name, rows in (("contraction", self.shrinkage), ("keys", self.keys), ("values", self.values)):
            parts[name], parts[f"{name}_scale"] = _in_4_bits(rows)
        if self.lexical_weight is not None:
            parts["words"] = np.array([self.lexical_weight], np.float32)
        return parts


def _in_4_bits(rows: Array) -> tuple[npt.NDArray[np.uint8], Array]:
    """(m, dim) → (m, ⌈dim / 2⌉) pairs of whole numbers from −7 to 7, and (m,) what each row's are multiples of.

    The rounding errors of a row point in no direction in particular: of a unit vector's cosine to any other they
    change some 0.006 at 384 dimensions.
    """
    scale = np.maximum(np.abs(rows).max(axis=1, initial=0.0), 1e-12).astype(np.float32) / np.float32(7)
    codes = (np.round(rows / scale[:, None]) + 8).astype(np.uint8)
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return np.ascontiguousarray(codes[:, 0::2] * np.uint8(16) + codes[:, 1::2]), scale


def _from_4_bits(codes: npt.NDArray[np.generic], scale: npt.NDArray[np.generic], dimension: int) -> Array:
    pairs = np.asarray(codes, np.uint8)
    numbers = np.stack([pairs >> 4, pairs & 15], axis=2).reshape(len(pairs), 2 * pairs.shape[1])[:, :dimension]
    return (numbers.astype(np.float32) - np.float32(8)) * np.asarray(scale, np.float32)[:, None]


def _unpacked(parts: Mapping[str, npt.NDArray[np.generic]]) -> DomainState:
    gains, shift, sharpness = (
        np.ascontiguousarray(parts[name], dtype=np.float32) for name in ("gains", "shift", "sharpness")
    )
    contraction, keys, values = (
        _from_4_bits(parts[name], parts[f"{name}_scale"], len(gains)) for name in ("contraction", "keys", "values")
    )
    words = round(float(np.asarray(parts["words"], np.float32)[0]), 4) if "words" in parts else None
    return DomainState(
        gains, shrinkage=contraction, keys=keys, values=values, shift=shift, sharpness=sharpness, lexical_weight=words
    )
