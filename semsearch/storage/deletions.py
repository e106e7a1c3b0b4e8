"""Deleted documents of an index's segments: their rows, and how many of their passages contain each stem.

A segment never changes, so that the frequencies of its full text include what was deleted. The counts of the deleted
passages are subtracted from them. They are stored by a 64-bit hash of the stem.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semsearch.errors import IndexFolderError
from semsearch.storage.fulltext import stems_of
from semsearch.types import Rows

_HASHES, _COUNTS = ".hashes", ".counts"

Hashes: TypeAlias = npt.NDArray[np.uint64]

_NO_ROWS: Rows = np.empty(0, np.int64)
_NO_HASHES: Hashes = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class Deletions:
    """What was deleted of one segment."""

    rows: Rows = field(default_factory=lambda: _NO_ROWS)
    """(n,) the rows of deleted documents, ascending."""
    hashes: Hashes = field(default_factory=lambda: _NO_HASHES)
    """(m,) hashes of the stems in their passages, ascending."""
    counts: Rows = field(default_factory=lambda: _NO_ROWS)
    """(m,) the number of deleted passages that contain each stem."""

    def with_documents(self, rows: Rows, passages: Iterable[str]) -> Deletions:
        """Return these deletions and those of more documents.

        rows: (k,) rows of the documents, none of them deleted before. passages: the indexed text of all their passages.
        """
        of_passages = [np.fromiter(map(_hash, {*stems_of(text)}), np.uint64) for text in passages]
        added, added_counts = np.unique(np.concatenate([_NO_HASHES, *of_passages]), return_counts=True)
        hashes = np.union1d(self.hashes, added)
        counts = np.zeros(len(hashes), np.int64)
        counts[np.searchsorted(hashes, self.hashes)] += self.counts
        counts[np.searchsorted(hashes, added)] += added_counts
        return Deletions(np.union1d(self.rows, rows), hashes, counts)

    def frequency(self, stem: str) -> int:
        """Return the number of deleted passages that contain a stem."""
        index = int(np.searchsorted(self.hashes, np.uint64(_hash(stem))))
        is_held = index < len(self.hashes) and int(self.hashes[index]) == _hash(stem)
        return int(self.counts[index]) if is_held else 0


def load_deletions(path: Path) -> dict[str, Deletions]:
    """Return what was deleted, by segment name. Raises IndexFolderError if the file cannot be read."""
    try:
        arrays = load_file(path) if path.exists() else {}
    except (OSError, SafetensorError) as error:
        raise IndexFolderError(f"{path} cannot be read ({error}): build the index again") from error
    return {
        name: Deletions(rows, arrays.get(name + _HASHES, _NO_HASHES), arrays.get(name + _COUNTS, _NO_ROWS))
        for name, rows in arrays.items()
        if not name.endswith((_HASHES, _COUNTS))
    }


def save_deletions(path: Path, deletions: Mapping[str, Deletions]) -> None:
    """Write what was deleted, by segment name. Writes no file if nothing was."""
    arrays = {
        name: array
        for segment, deleted in deletions.items()
        for name, array in (
            (segment, deleted.rows),
            (segment + _HASHES, deleted.hashes),
            (segment + _COUNTS, deleted.counts),
        )
    }
    if arrays:
        save_file(arrays, path)


def _hash(stem: str) -> int:
    return int.from_bytes(hashlib.blake2b(stem.encode(), digest_size=8).digest(), "little")
