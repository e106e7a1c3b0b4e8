"""A domain's learned state, in memory and on disk. Does not depend on how it is learned or applied."""

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

from semsearch.adapters.votes import MAX_ANSWER_BYTES, Votes, max_voters
from semsearch.errors import StateError, StateFileError, StorageError
from semsearch.system.files import atomic_write

Array = npt.NDArray[np.float32]

STATE_VERSION = 2
MAX_SHRINKAGE = 64
"""Most rows of the shrinkage. With MAX_KEYS it keeps a state of 384 dimensions under 64 KiB on disk; of more
dimensions, fewer are made."""
MAX_KEYS = 120
"""Most keys, and values, of a state."""
MAX_BYTES = 61_440
"""Bytes of a state's arrays on disk without votes: those of 384 dimensions with all rows."""
SHRINKAGE_SHARE = 0.45
"""Most of the bytes of rows that the shrinkage may have. It generalises better than keys: with 30 instead of 64 rows, a
768-dimensional encoder lost a seventh of what 32 labels bring."""
MAX_SHARPNESS = 1e3
"""Highest sharpness of a key."""
GAIN_RANGE = (1e-5, 1e5)
"""Least and largest spectral gain."""
MAX_MAGNITUDE = 1e3
"""Largest absolute number in the other arrays. With it and GAIN_RANGE no query vector overflows; learned states are far
below both."""

_FILE_ERRORS = (
    OSError,
    SafetensorError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    StateError,
)
"""Errors of reading a file that holds no state, or a damaged one."""


@dataclass(frozen=True, eq=False)
class DomainState:
    """A domain's learned state. All but the spectral gains are in the coordinates of the encoder."""

    spectral_gains: Array
    """(dim,) float32 in GAIN_RANGE, one factor for each axis of the corpus; only their ratios matter."""
    shrinkage: Array
    """(r, dim) float32, r ≤ MAX_SHRINKAGE: a query x becomes x − shrinkageᵀ (shrinkage x)."""
    keys: Array
    """(m, dim) float32, m ≤ MAX_KEYS: transformed queries with known displacements."""
    values: Array
    """(m, dim) float32, the displacement of each key."""
    shift: Array
    """(dim,) float32, added to every query."""
    sharpness: Array
    """(m,) float32, each key's β in [0, MAX_SHARPNESS]: the higher, the less the key affects queries that are not near
    it. With 0 its displacement is linear in the query."""
    lexical_weight: float | None = None
    """Cosine in [0, 10] that is added for a query's best lexical match. None: the index's weight."""
    token_weight: float | None = None
    """What late interaction counts, in [0, 10]. None: the index's weight."""
    votes: Votes | None = None
    """Raise the scores of documents that answered similar labelled queries. None: none do."""

    def __post_init__(self) -> None:
        """Raise StateError for shapes that do not match, or numbers that are not finite or out of range."""
        dimension = len(self.spectral_gains)
        if self.shrinkage.ndim != 2 or self.shrinkage.shape[1] != dimension:
            raise StateError(f"the shrinkage has shape {self.shrinkage.shape}, not (any, {dimension})")
        if self.keys.shape != self.values.shape or self.keys.ndim != 2 or self.keys.shape[1] != dimension:
            raise StateError(f"keys {self.keys.shape} and values {self.values.shape} are not both (any, {dimension})")
        if len(self.shrinkage) > MAX_SHRINKAGE or len(self.keys) > MAX_KEYS:
            raise StateError(
                f"{len(self.shrinkage)} rows of shrinkage and {len(self.keys)} keys: a state holds at most"
                f" {MAX_SHRINKAGE} and {MAX_KEYS}"
            )
        if self.shift.shape != (dimension,):
            raise StateError(f"the shift has shape {self.shift.shape}, not ({dimension},)")
        if self.sharpness.shape != (len(self.keys),):
            raise StateError(f"the sharpness has shape {self.sharpness.shape}, not ({len(self.keys)},), one per key")
        arrays = (self.spectral_gains, self.shrinkage, self.keys, self.values, self.shift, self.sharpness)
        if not all(np.isfinite(array).all() for array in arrays):
            raise StateError("a domain state holds numbers that are not finite")
        least, most = GAIN_RANGE
        if not ((self.spectral_gains >= least) & (self.spectral_gains <= most)).all():
            raise StateError(f"spectral gains must be above 0, in [{least:g}, {most:g}]")
        if not ((self.sharpness >= 0) & (self.sharpness <= MAX_SHARPNESS)).all():
            raise StateError(f"the sharpness must be in [0, {MAX_SHARPNESS:g}]")
        if any((np.abs(array) > MAX_MAGNITUDE).any() for array in (self.shrinkage, self.keys, self.values, self.shift)):
            raise StateError(f"a domain state holds numbers outside [-{MAX_MAGNITUDE:g}, {MAX_MAGNITUDE:g}]")
        if self.lexical_weight is not None and not 0 <= self.lexical_weight <= 10:
            raise StateError(f"the lexical weight is {self.lexical_weight}, not in [0, 10]")
        if self.token_weight is not None and not 0 <= self.token_weight <= 10:
            raise StateError(f"the weight of late interaction is {self.token_weight}, not in [0, 10]")
        if self.votes is not None and self.votes.dimension != dimension:
            raise StateError(f"the votes have {self.votes.dimension} dimensions, the state {dimension}")

    @property
    def dimension(self) -> int:
        """Dimension of the query vectors that this state transforms."""
        return len(self.spectral_gains)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays in memory."""
        arrays = (self.spectral_gains, self.shrinkage, self.keys, self.values, self.shift, self.sharpness)
        return sum(array.nbytes for array in arrays) + (0 if self.votes is None else self.votes.nbytes)

    @cached_property
    def is_linear(self) -> bool:
        """Whether every key's displacement is linear in the query."""
        return not self.sharpness.any()

    @cached_property
    def has_gains(self) -> bool:
        """Whether the spectral gains have an effect: projecting on the axes and back is the most expensive step."""
        return bool((self.spectral_gains != self.spectral_gains[0]).any())

    @classmethod
    def identity(cls, dimension: int) -> DomainState:
        """The state that changes no query."""
        empty = np.zeros((0, dimension), np.float32)
        zeros = np.zeros(dimension, np.float32)
        return cls(zeros + 1, shrinkage=empty, keys=empty, values=empty, shift=zeros, sharpness=np.zeros(0, np.float32))

    def quantized(self) -> DomainState:
        """Return the state as it is read from disk: shrinkage, keys and values are rounded to 4 bits per number."""
        return _from_arrays(self._to_arrays())

    def to_bytes(self, about: Mapping[str, JsonValue]) -> bytes:
        """Return a safetensors file with `about` as JSON in its header; up to 4,096 dimensions under 64 KiB."""
        header = {"format_version": STATE_VERSION, "about": dict(about)}
        return bytes(save(self._to_arrays(), metadata={"semsearch": json.dumps(header, ensure_ascii=False)}))

    def save(self, path: Path, about: Mapping[str, JsonValue]) -> None:
        """Write `to_bytes` atomically. Raises StorageError if the file cannot be written."""
        try:
            with atomic_write(path) as unfinished:
                unfinished.write_bytes(self.to_bytes(about))
        except OSError as error:
            raise StorageError(
                f"the state {path} cannot be written ({error.strerror}): free space or choose another path"
            ) from error

    @classmethod
    def open(cls, path: Path) -> tuple[DomainState, dict[str, JsonValue]]:
        """Read a file written by `save`. Returns state and `about`. Raises StateFileError for any other file."""
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {})["semsearch"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            version, about = header["format_version"], dict(header["about"])
            state = _from_arrays(arrays) if version == STATE_VERSION else None
        except _FILE_ERRORS as error:
            raise StateFileError(f"{path} is not a domain state ({error}): adapt the domain again") from error
        if state is None:
            raise StateFileError(
                f"the state {path} has format version {version!r}, this semsearch reads {STATE_VERSION}:"
                " adapt the domain again"
            )
        return state, about

    def _to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "gains": np.ascontiguousarray(self.spectral_gains, np.float32),
            "shift": np.ascontiguousarray(self.shift, np.float32),
            "sharpness": np.ascontiguousarray(self.sharpness, np.float32),
        }
        for name, rows in (("contraction", self.shrinkage), ("keys", self.keys), ("values", self.values)):
            arrays[name], arrays[f"{name}_scale"] = _quantize(rows)
        if self.lexical_weight is not None:
            arrays["words"] = np.array([self.lexical_weight], np.float32)
        if self.token_weight is not None:
            arrays["token_weight"] = np.array([self.token_weight], np.float32)
        return arrays if self.votes is None else arrays | self.votes.to_arrays()


def shrinkage_rows(dimension: int) -> int:
    """Return how many rows of shrinkage are made for vectors of this dimension.

    At most half of all directions are shrunk in excess of the others, and at most SHRINKAGE_SHARE of the bytes used.
    """
    fit = int(SHRINKAGE_SHARE * _bytes_for_rows(dimension) / _row_bytes(dimension))
    return max(1, min(MAX_SHRINKAGE, dimension // 2, fit))


def key_rows(dimension: int, *, with_votes: bool = False) -> int:
    """Return how many keys are made for vectors of this dimension, at least 1; fewer next to votes."""
    left = _bytes_for_rows(dimension) - shrinkage_rows(dimension) * _row_bytes(dimension)
    votes = MAX_ANSWER_BYTES + max_voters(dimension) * dimension // 8 if with_votes else 0
    return max(1, min(MAX_KEYS, (left - votes) // (2 * _row_bytes(dimension))))


def _bytes_for_rows(dimension: int) -> int:
    """Return the bytes of a state's shrinkage, keys and values: all but its gains and its shift."""
    return MAX_BYTES - 8 * dimension


def _row_bytes(dimension: int) -> int:
    return -(-dimension // 2)


def rounded(rows: Array) -> Array:
    """Return (m, dim) rows as they are read from disk."""
    return _dequantize(*_quantize(rows), rows.shape[1])


def _quantize(rows: Array) -> tuple[npt.NDArray[np.uint8], Array]:
    """Round (m, dim) rows to 4 bits per number: (m, ⌈dim / 2⌉) pairs of integers from −7 to 7, and (m,) scales.

    The rounding errors have no preferred direction: they change the cosine of a unit vector to any other by some 0.006
    at 384 dimensions.
    """
    scale = np.maximum(np.abs(rows).max(axis=1, initial=0.0), 1e-12).astype(np.float32) / np.float32(7)
    codes = (np.round(rows / scale[:, None]) + 8).astype(np.uint8)
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return np.ascontiguousarray(codes[:, 0::2] * np.uint8(16) + codes[:, 1::2]), scale


def _dequantize(codes: npt.NDArray[np.generic], scale: npt.NDArray[np.generic], dimension: int) -> Array:
    pairs = np.asarray(codes, np.uint8)
    numbers = np.stack([pairs >> 4, pairs & 15], axis=2).reshape(len(pairs), 2 * pairs.shape[1])[:, :dimension]
    return (numbers.astype(np.float32) - np.float32(8)) * np.asarray(scale, np.float32)[:, None]


def _from_arrays(arrays: Mapping[str, npt.NDArray[np.generic]]) -> DomainState:
    spectral_gains, shift, sharpness = (
        np.ascontiguousarray(arrays[name], dtype=np.float32) for name in ("gains", "shift", "sharpness")
    )
    dimension = len(spectral_gains)
    shrinkage, keys, values = (
        _dequantize(arrays[name], arrays[f"{name}_scale"], dimension) for name in ("contraction", "keys", "values")
    )
    lexical_weight, token_weight = (
        round(float(np.asarray(arrays[name], np.float32)[0]), 4) if name in arrays else None
        for name in ("words", "token_weight")
    )
    return DomainState(
        spectral_gains,
        shrinkage=shrinkage,
        keys=keys,
        values=values,
        shift=shift,
        sharpness=sharpness,
        lexical_weight=lexical_weight,
        token_weight=token_weight,
        votes=Votes.from_arrays(arrays, dimension),
    )
