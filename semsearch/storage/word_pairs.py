"""The neighbouring words of each passage, as hashes in one file: two bytes a pair.

Two different pairs have the same hash in one of 65,536 cases, so a passage of a hundred pairs seems to contain a pair
that it does not contain in 0.2% of the cases.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from semsearch.text.tokens import WordPair
from semsearch.types import Rows, Scores

_HASH, _COUNT = np.dtype("<u2"), np.dtype("<u4")


class WordPairsWriter:
    """Writes a new file. It is complete after `close`, and durable after an fsync."""

    def __init__(self, path: Path) -> None:
        """Create the file. Raises OSError if it cannot."""
        self._file = path.open("wb")
        self._counts = array("I")

    def add(self, pairs: Iterable[WordPair]) -> None:
        """Add the pairs of the next passage. Raises OSError if they cannot be written."""
        hashes = np.asarray(_hashes(pairs), _HASH)
        self._file.write(hashes.tobytes())
        self._counts.append(len(hashes))

    def close(self) -> None:
        """Complete the file. Raises OSError if it cannot be written."""
        self._file.write(np.asarray(self._counts, _COUNT).tobytes())
        self._file.close()

    def stop(self) -> None:
        """Close the file, finished or not."""
        # what cannot be written of an unfinished file is of no use
        with suppress(OSError):
            self._file.close()


class WordPairs:
    """The neighbouring words of the passages of a finished file."""

    def __init__(self, path: Path, passages: int) -> None:
        """Map the file into memory. Raises OSError if it cannot, ValueError if it is not of this many passages.

        passages: at least 1.
        """
        content = np.memmap(path, np.uint8, "r")
        split = len(content) - passages * _COUNT.itemsize
        if split < 0 or split % _HASH.itemsize:
            raise ValueError("its word pairs are of another number of passages")
        self._hashes = content[:split].view(_HASH)
        self._ends: Rows = np.cumsum(np.frombuffer(content[split:].tobytes(), _COUNT), dtype=np.int64)
        """(passages,) one past the last pair of each passage."""
        if self._ends[-1] != len(self._hashes):
            raise ValueError("its word pairs are incomplete")

    def shares(self, rows: Rows, pairs: Iterable[WordPair]) -> Scores:
        """Return the share of `pairs`, at least one, that each of the passages in n rows has: (n,) float32."""
        wanted = np.asarray(_hashes(pairs), _HASH)
        starts = np.where(rows > 0, self._ends[rows - 1], 0)
        counts = self._ends[rows] - starts
        # the number of each pair in the file, for the pairs of all rows
        offsets = np.repeat(starts - np.cumsum(counts) + counts, counts)
        hashes = self._hashes[offsets + np.arange(len(offsets))]
        row_of = np.repeat(np.arange(len(rows)), counts)
        matched = np.bincount(row_of[np.isin(hashes, wanted)], minlength=len(rows))
        return (matched / len(wanted)).astype(np.float32)


def _hashes(pairs: Iterable[WordPair]) -> list[int]:
    """The hash of each pair, each once."""
    return sorted({zlib.crc32(" ".join(pair).encode()) & 0xFFFF for pair in pairs})
