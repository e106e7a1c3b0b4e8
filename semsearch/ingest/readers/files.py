"""Opens files, compressed ones too, as text or bytes; the types that readers return. Does not depend on formats.

No function reads more of a file into memory than the largest record may have, whatever the file decompresses to.
"""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from io import BufferedReader, BytesIO, TextIOWrapper
from math import isfinite
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from pydantic import JsonValue

from semsearch.errors import InputError
from semsearch.ingest.recipe import Source
from semsearch.types import Document, is_unicode

try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment, unused-ignore]

MAX_RECORD_BYTES = 32 * 2**20
"""Size of a file, line or row that is one document; a larger one is reported as bad and not read into memory."""


UNREADABLE: tuple[type[Exception], ...] = (OSError, EOFError, InputError, lzma.LZMAError, zlib.error)
"""What opening and decompressing a file may raise."""
if zstandard is not None:
    UNREADABLE = (*UNREADABLE, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A part of the input that is not a document."""

    location: str
    """`file` or `file:line`."""
    reason: str
    """What is wrong and what to do about it."""
    is_loss: bool = False
    """Whether it is a part that is missing from a document that was read: reported, and the other records are read."""
    is_note: bool = False
    """Whether it is a remark on a document that was read whole, such as the encoding that was guessed."""
    whole_file: bool = False
    """Whether it stands for a whole file, which could not be read, or not to its end."""
    is_empty: bool = False
    """Whether the file was read whole and holds no text: then it has no documents any more."""
    file: str = ""
    """The file as the `source` of its documents names it; `readers.sources.read` sets it."""
    named: bool = False
    """Whether the file was named itself, not found in a folder; `readers.sources.read` sets it."""
    incomplete: bool = False
    """Whether the file was read only up to here: an earlier version of it may have held records that are missing."""

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Files of a folder that were not read because their format is unknown, such as images and source code."""

    folder: Path
    suffixes: Mapping[str, int]
    """Number of files by lower-case suffix, such as `.png`; an empty suffix counts the files without one."""

    @property
    def files(self) -> int:
        """Number of files."""
        return sum(self.suffixes.values())


Reading: TypeAlias = Iterator[Document | BadRecord]
Reader: TypeAlias = Callable[[Path, str, Source], Reading]
"""Takes a file, its name relative to the source, and the source."""
Record: TypeAlias = Document | BadRecord | PassedOver
"""What reading a source yields."""


def _gzip(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path))


def _xz(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", lzma.open(path))


def _zstd(path: Path) -> IO[bytes]:
    if zstandard is None:
        raise InputError(missing("zstandard", "zstd"))
    return cast("IO[bytes]", zstandard.open(path, "rb"))


COMPRESSED: Mapping[str, Callable[[Path], IO[bytes]]] = {".gz": _gzip, ".xz": _xz, ".zst": _zstd}
"""By suffix, how a compressed file is opened; the suffix before it tells the format."""


def missing(package: str, extra: str) -> str:
    """The reason given if an optional library is not installed."""
    return f"reading it needs {package}: pip install 'semsearch[{extra}]'"


def kind(path: Path) -> str:
    """The lower-case suffix that tells a file's format, without that of the compression."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


def stem(path: Path) -> str:
    """A file's name without the suffixes of format and compression."""
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED else path.stem


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file; it is decompressed as it is read. Raises OSError, InputError."""
    return COMPRESSED.get(path.suffix.lower(), _plain)(path)


def open_text(path: Path, encoding: str) -> IO[str]:
    """Open a file as text. Bytes that cannot be decoded become lone surrogates, which the caller finds row by row."""
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding
    return TextIOWrapper(open_bytes(path), encoding=name, errors="surrogateescape", newline="")


def lines(path: Path, encoding: str) -> Iterator[tuple[int, str | BadRecord]]:
    """Yield numbered lines; of a line that is too long only a part is in memory."""
    number = 0
    try:
        with open_text(path, encoding) as file:
            while line := file.readline(MAX_RECORD_BYTES):
                number += 1
                location = f"{path}:{number}"
                if len(line) == MAX_RECORD_BYTES and not line.endswith("\n"):
                    while (rest := file.readline(MAX_RECORD_BYTES)) and not rest.endswith("\n"):
                        pass
                    yield number, BadRecord(location, f"longer than {MAX_RECORD_BYTES} characters: split it")
                else:
                    yield number, line if is_unicode(line) else BadRecord(location, wrong_encoding(encoding))
    except UnicodeError:
        yield number + 1, BadRecord(f"{path}:{number + 1}", wrong_encoding(encoding))
    except UNREADABLE as error:
        yield number + 1, unreadable(path, error)


def read_bytes(path: Path, *, max_bytes: int) -> bytes | BadRecord:
    """Read a file that is one document."""
    try:
        with open_bytes(path) as file:
            raw = file.read(max_bytes + 1)
    except UNREADABLE as error:
        return unreadable(path, error)
    if len(raw) > max_bytes:
        reason = f"longer than {max_bytes} bytes, too much for one document: split it"
        return BadRecord(str(path), reason, whole_file=True)
    return raw


def read_whole_text(path: Path, encoding: str) -> str | BadRecord:
    """Read a text file that is one document."""
    raw = read_bytes(path, max_bytes=MAX_RECORD_BYTES)
    if isinstance(raw, BadRecord):
        return raw
    try:
        return TextIOWrapper(BytesIO(raw), encoding=encoding).read().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return BadRecord(f"{path}:{line}", wrong_encoding(encoding), whole_file=True)


def checked(document: Document, location: str) -> Document | BadRecord:
    """The document; a BadRecord if one of its texts is not valid Unicode."""
    metadata = json.dumps(dict(document.metadata), ensure_ascii=False)
    if all(map(is_unicode, (document.id, document.title, document.text, metadata))):
        return document
    return BadRecord(location, "has half of a surrogate pair: write valid Unicode")


def as_json(value: Any) -> JsonValue:
    """A value of a column or a field as a JSON value; None for bytes and for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_json(inner) for inner in value]
    if isinstance(value, bytes) or (isinstance(value, float) and not isfinite(value)):
        return None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def clean(text: str) -> str:
    """The text without null characters and surrounding whitespace."""
    return text.replace("\x00", "").strip()


def wrong_encoding(encoding: str) -> str:
    """The reason given for bytes that cannot be decoded."""
    return (
        f"not {encoding.upper()}: convert it (iconv -f latin1 -t utf-8), or name its encoding"
        ' (in the recipe: encoding = "latin-1")'
    )


def unreadable(path: Path, error: BaseException) -> BadRecord:
    """The bad record of a file that cannot be read."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return BadRecord(str(path), f"cannot be read ({reason})", whole_file=True)


def _plain(path: Path) -> BufferedReader:
    return path.open("rb")
