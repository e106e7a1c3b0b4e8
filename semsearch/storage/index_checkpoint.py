"""The inverted file of an unfinished build, so that an interrupted build does not train and fill its lists again.

One file in the index's folder, named by what it was computed from: what FAISS writes, then its checksum. It is removed
when a generation is published.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import faiss
import numpy as np
import xxhash

from semsearch.storage.approximate import (
    CODE_BITS,
    ITERATIONS,
    MIN_TRAINING_ROWS,
    TRAINING_ROWS,
    InvertedFile,
    list_count,
)
from semsearch.system.files import atomic_write, drop_pages
from semsearch.types import Vectors

PREFIX = "unfinished.lists-"
ROWS_AT_A_TIME = 65_536
CHECKSUM_BYTES = 16
"""XXH3, 128 bits, at the end of the file. FAISS reads a damaged file without an error, and fails later or never."""
READ_BYTES = 2**20
"""Bytes of the file that are read at a time."""


class IndexCheckpoint:
    """Stores the inverted file over given vectors while it is filled."""

    def __init__(self, folder: Path, vectors: Vectors) -> None:
        """Open the checkpoint in an index's folder; one of other vectors or another way to build is discarded.

        vectors: (n, dim) float32, all that are to be indexed. They are read once.
        """
        rows = len(vectors)
        made_by = (CODE_BITS, list_count(rows), MIN_TRAINING_ROWS, TRAINING_ROWS, ITERATIONS, faiss.__version__)
        key = xxhash.xxh3_128(repr((vectors.shape, made_by)).encode())
        for start in range(0, rows, ROWS_AT_A_TIME):
            key.update(np.ascontiguousarray(vectors[start : start + ROWS_AT_A_TIME]).data)
            drop_pages(vectors)
        self._path = folder / f"{PREFIX}{key.hexdigest()}"
        for path in _files(folder):
            if path != self._path:
                path.unlink(missing_ok=True)

    def load(self) -> InvertedFile | None:
        """Return the inverted file as it was last saved; None if there is none, or a damaged one."""
        try:
            with self._path.open("rb") as file:
                size = self._path.stat().st_size - CHECKSUM_BYTES
                is_whole = _checksum(file, size) == file.read()
            if is_whole:
                return InvertedFile.open(self._path)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, ValueError):
            pass
        self._path.unlink(missing_ok=True)
        return None

    def save(self, lists: InvertedFile) -> None:
        """Write the inverted file, atomically. Raises OSError if writing fails."""
        with atomic_write(self._path) as unfinished:
            lists.save(unfinished)
            with unfinished.open("r+b") as file:
                file.write(_checksum(file, unfinished.stat().st_size))


def remove_index_checkpoint(folder: Path) -> None:
    """Remove the checkpoint in an index's folder, if there is one."""
    for path in _files(folder):
        path.unlink(missing_ok=True)


def is_index_checkpoint(path: Path) -> bool:
    """Whether a path in an index's folder is a checkpoint, or one that was being written."""
    return path.name.removeprefix(".").startswith(PREFIX)


def _checksum(file: BinaryIO, size: int) -> bytes:
    """Return the checksum of the next `size` bytes of a file, which is then at their end."""
    checksum = xxhash.xxh3_128()
    for start in range(0, size, READ_BYTES):
        checksum.update(file.read(min(READ_BYTES, size - start)))
    return checksum.digest()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if is_index_checkpoint(path)]
