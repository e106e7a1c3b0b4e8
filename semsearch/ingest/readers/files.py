"""Files as text or as bytes, compressed ones too, and what a reader gives. Does not depend on formats.

Nothing here reads more of a file into memory than one record may have, whatever it unpacks to.
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

LONGEST_RECORD = 32 * 2**20
"""Bytes of one file, line or row that is one document; more is taken for a mistake, not read into memory."""


UNREADABLE: tuple[type[Exception], ...] = (OSError, EOFError, InputError, lzma.LZMAError, zlib.error)
"""What opening and unpacking a file raise."""
if zstandard is not None:
    UNREADABLE = (*UNREADABLE, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """Something in the input that is no document."""

    location: str
    """`file` or `file:line`."""
    reason: str
    """What is wrong and what to do about it."""
    whole_file: bool = False
    """Whether nothing of the file could be read: in a folder it is told, and the rest goes on."""

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


Reading: TypeAlias = Iterator[Document | BadRecord]
Reader: TypeAlias = Callable[[Path, str, Source], Reading]
"""Takes a file, its name relative to the source, and the source."""


def _gzip(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path))


def _xz(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", lzma.open(path))


def _zstd(path: Path) -> IO[bytes]:
    if zstandard is None:
        raise InputError(missing("zstandard", "zstd"))
    return cast("IO[bytes]", zstandard.open(path, "rb"))


COMPRESSED: Mapping[str, Callable[[Path], IO[bytes]]] = {".gz": _gzip, ".xz": _xz, ".zst": _zstd}
"""How packed files are opened, by the end of their names; what is in them tells the end before it."""


def missing(package: str, extra: str) -> str:
    """What is said where an optional library is wanted."""
    return f"reading it takes {package}: pip install 'semsearch[{extra}]'"


def kind(path: Path) -> str:
    """The end of a file's name by which it is known how to read it, without that of a packed file."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


def stem(path: Path) -> str:
    """A file's name without the ends that tell what is in it."""
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED else path.stem


def opened(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked as they are read. Raises OSError, InputError."""
    return COMPRESSED.get(path.suffix.lower(), _plain)(path)


def opened_text(path: Path, encoding: str) -> IO[str]:
    """The file as text; bytes that are no text become lone surrogates, to be found row by row."""
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding
    return TextIOWrapper(opened(path), encoding=name, errors="surrogateescape", newline="")


def lines(path: Path, encoding: str) -> Iterator[tuple[int, str | BadRecord]]:
    """Numbered lines; of one that is too long only its beginning is ever in memory."""
    number = 0
    try:
        with opened_text(path, encoding) as file:
            while line := file.readline(LONGEST_RECORD):
                number += 1
                place = f"{path}:{number}"
                if len(line) == LONGEST_RECORD and not line.endswith("\n"):
                    while (rest := file.readline(LONGEST_RECORD)) and not rest.endswith("\n"):
                        pass
                    yield number, BadRecord(place, f"longer than {LONGEST_RECORD} characters: split it")
                else:
                    yield number, line if is_unicode(line) else BadRecord(place, wrong_encoding(encoding))
    except UnicodeError:
        yield number + 1, BadRecord(f"{path}:{number + 1}", wrong_encoding(encoding))
    except UNREADABLE as error:
        yield number + 1, unreadable(path, error)


def whole_bytes(path: Path, *, times: int = 1) -> bytes | BadRecord:
    """All of a file that is one document; times: as many times as long as a text, with pictures and fonts in it."""
    most = times * LONGEST_RECORD
    try:
        with opened(path) as file:
            raw = file.read(most + 1)
    except UNREADABLE as error:
        return unreadable(path, error)
    if len(raw) > most:
        return BadRecord(str(path), f"longer than {most} bytes, too much for one document: split it", whole_file=True)
    return raw


def whole_text(path: Path, encoding: str) -> str | BadRecord:
    """The same as text."""
    raw = whole_bytes(path)
    if isinstance(raw, BadRecord):
        return raw
    try:
        return TextIOWrapper(BytesIO(raw), encoding=encoding).read().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return BadRecord(f"{path}:{line}", wrong_encoding(encoding), whole_file=True)


def checked(document: Document, place: str) -> Document | BadRecord:
    """The document, unless something in it is no Unicode."""
    metadata = json.dumps(dict(document.metadata), ensure_ascii=False)
    if all(map(is_unicode, (document.id, document.title, document.text, metadata))):
        return document
    return BadRecord(place, "holds half of a surrogate pair: write valid Unicode")


def as_json(value: Any) -> JsonValue:
    """A value of a column or a field as JSON has it; None for what is no text and nothing to filter by."""
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
    """Without the character that ends strings in C, and without space around."""
    return text.replace("\x00", "").strip()


def wrong_encoding(encoding: str) -> str:
    """What is said of bytes that are no text."""
    return (
        f"not {encoding.upper()}: convert it (iconv -f latin1 -t utf-8), or name its encoding"
        ' (in the recipe: encoding = "latin-1")'
    )


def unreadable(path: Path, error: BaseException) -> BadRecord:
    """What is said of a file that cannot be read."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return BadRecord(str(path), f"cannot be read ({reason})", whole_file=True)


def _plain(path: Path) -> BufferedReader:
    return path.open("rb")
