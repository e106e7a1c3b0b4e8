"""Atomic writes, checksums and arrays in temporary files. Does not depend on the files' content."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash

_CHECKSUMS: Mapping[str, Callable[[], Any]] = {"xxh3": xxhash.xxh3_128, "sha256": hashlib.sha256}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(path: Path, algorithm: Literal["xxh3", "sha256"] = "xxh3") -> str:
    """Return ALGORITHM:CHECKSUM of a file's content, the checksum in hexadecimal. Raises OSError if it cannot be read.

    XXH3 (128 bits) finds damage as surely as SHA-256, and reads 8 times as many bytes a second. Neither the one nor the
    other would stop someone who can write the record of it too.
    """
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, _CHECKSUMS[algorithm]).hexdigest()}"


def cache_folder(name: str) -> Path:
    """Return the folder for reproducible files: $XDG_CACHE_HOME/semsearch/NAME, by default in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semsearch" / name


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, for the caller to write to.

    At the end the file is flushed to disk and replaces `path`; after an error it is removed and `path` is unchanged.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        sync_to_disk(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Flush a file's or a folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temp_memmap(folder: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a writable float32 array in a nameless temporary file in `folder`, which is removed with the array.

    Raises OSError if the disk has not enough space.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        # allocated now: writing to a page for which the disk has no space would kill the process
        os.posix_fallocate(file.fileno(), 0, max(1, 4 * int(np.prod(shape))))
        return np.memmap(file, np.float32, "r+", shape=shape)


def drop_pages(array: npt.NDArray[np.float32]) -> None:
    """Release the memory of an array of `temp_memmap` until it is read again. Other arrays are left unchanged."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)
