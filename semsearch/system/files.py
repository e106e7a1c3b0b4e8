"""Files that appear whole or not at all, and memory that is a file. Does not depend on what is in them."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(name: str) -> Path:
    """Where what can be made again is kept between runs: $XDG_CACHE_HOME/semsearch/NAME, or below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semsearch" / name


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; what is written there is flushed and takes its place, or is removed."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        sync_to_disk(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Have a file's or a folder's content on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temp_memmap(folder: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An array whose numbers are on disk as far as memory is wanted for others; its file has no name, and goes with it.

    Raises OSError where the disk has no room.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        # a disk that turned out to be full only when a number is written would be the end of this process
        os.posix_fallocate(file.fileno(), 0, max(1, 4 * int(np.prod(shape))))
        return np.memmap(file, np.float32, "r+", shape=shape)


def drop_pages(array: npt.NDArray[np.float32]) -> None:
    """Take a spilled array out of this process's memory until its numbers are asked for again; others stay."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)
