"""Opens compressed files as streams of bytes. One that is cut off or damaged raises an error, and never just ends."""

from __future__ import annotations

import lzma
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Protocol, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

READ_BYTES = 2**16
MAX_MEMORY_BYTES = 2**28
"""Memory that a file may ask for to be decompressed; xz -9 asks for a quarter of it."""
DAMAGED: tuple[type[Exception], ...] = (EOFError, lzma.LZMAError, zlib.error, zstd.ZstdError)
"""What reading a compressed file may raise, besides OSError."""


class _Decompressor(Protocol):
    """Decompresses one stream; a file may have several, one after the other."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """`zlib.decompressobj` with the interface of the other decompressors."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


@dataclass(frozen=True, slots=True)
class _Compression:
    name: str
    magics: tuple[bytes, ...]
    """How a file begins."""
    decompressor: Callable[[], _Decompressor]


_COMPRESSIONS: Mapping[str, _Compression] = {
    ".gz": _Compression("gzip", (b"\x1f\x8b",), _Gunzip),
    ".xz": _Compression("xz", (b"\xfd7zXZ\x00",), partial(lzma.LZMADecompressor, memlimit=MAX_MEMORY_BYTES)),
    ".zst": _Compression(
        "zstd",
        (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))),  # skippable frames
        zstd.ZstdDecompressor,
    ),
}
COMPRESSED = tuple(_COMPRESSIONS)
"""Suffixes of compressed files; the suffix before it tells the format."""


def open_compressed(path: Path) -> IO[bytes]:
    """Open a compressed file by its suffix; all its streams are read as one.

    Raises OSError, also if it is not compressed in this way. Reading raises one of `DAMAGED`, or OSError for data that
    follows the last stream.
    """
    compression = _COMPRESSIONS[path.suffix.lower()]
    with path.open("rb") as file:
        first = file.read(6)
    if not first.startswith(compression.magics):
        raise OSError(_wrong_suffix(path, first, compression.name))
    return cast("IO[bytes]", BufferedReader(_Stream(path.open("rb"), compression)))


class _Stream(RawIOBase):
    def __init__(self, file: IO[bytes], compression: _Compression) -> None:
        self._file = file
        self._compression = compression
        self._decompressor = compression.decompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _read(self, size: int) -> bytes:
        """At most this many bytes; none at the end."""
        while True:
            data = b""
            if self._decompressor.eof:
                # zeros may fill the file up to a multiple of a block
                data = self._decompressor.unused_data.lstrip(b"\x00")
                while not data and (chunk := self._file.read(READ_BYTES)):
                    data = chunk.lstrip(b"\x00")
                if not data:
                    return b""
                data += self._file.read(max(0, 6 - len(data)))
                if not data.startswith(self._compression.magics):
                    raise OSError(f"after the end of its {self._compression.name} data, it has other data")
                self._decompressor = self._compression.decompressor()
            elif self._decompressor.needs_input and not (data := self._file.read(READ_BYTES)):
                raise EOFError("it is cut off: its end is missing")
            if decompressed := self._decompressor.decompress(data, size):
                return decompressed


def _wrong_suffix(path: Path, first: bytes, name: str) -> str:
    if not first:
        return f"it has no bytes, and is not compressed by {name}"
    for suffix, compression in _COMPRESSIONS.items():
        if first.startswith(compression.magics):
            return f"compressed by {compression.name}, not by {name}: rename it to {path.stem}{suffix}"
    return f"not compressed by {name}: if it is not compressed, rename it to {path.stem}"
