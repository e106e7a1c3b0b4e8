"""The inverted file of an unfinished build, so that an interrupted build does not train and fill its lists again.

One file in the index's folder, named by what it was computed from. It is removed when a generation is published.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import faiss

from semsearch.storage.approximate import CODE_BITS, ITERATIONS, TRAINING_ROWS, InvertedFile
from semsearch.system.files import atomic_write, drop_pages
from semsearch.types import Vectors

PREFIX = "unfinished.lists-"
ROWS_AT_A_TIME = 65_536


class IndexCheckpoint:
    """Stores the inverted file over given vectors while it is filled."""

    def __init__(self, folder: Path, vectors: Vectors) -> None:
        """Open the checkpoint in an index's folder; one of other vectors or another way to build is discarded.

        vectors: (n, dim) float32, all that are to be indexed. They are read once.
        """
        digest = hashlib.sha256(repr((vectors.shape, CODE_BITS, TRAINING_ROWS, ITERATIONS, faiss.__version__)).encode())
        for start in range(0, len(vectors), ROWS_AT_A_TIME):
            digest.update(vectors[start : start + ROWS_AT_A_TIME].data)
            drop_pages(vectors)
        self._path = folder / f"{PREFIX}{digest.hexdigest()[:32]}"
        for path in _files(folder):
            if path != self._path:
                path.unlink(missing_ok=True)

    def load(self) -> InvertedFile | None:
        """Return the inverted file as it was last saved; None if there is none, or a damaged one."""
        try:
            return InvertedFile.open(self._path)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, ValueError):
            self._path.unlink(missing_ok=True)
            return None

    def save(self, lists: InvertedFile) -> None:
        """Write the inverted file, atomically. Raises OSError if writing fails."""
        with atomic_write(self._path) as unfinished:
            lists.save(unfinished)


def remove_index_checkpoint(folder: Path) -> None:
    """Remove the checkpoint in an index's folder, if there is one."""
    for path in _files(folder):
        path.unlink(missing_ok=True)


def is_index_checkpoint(path: Path) -> bool:
    """Whether a path in an index's folder is a checkpoint, or one that was being written."""
    return path.name.removeprefix(".").startswith(PREFIX)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if is_index_checkpoint(path)]
