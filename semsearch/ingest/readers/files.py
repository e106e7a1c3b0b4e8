"""Opens files, compressed ones too, as text or bytes; the types that readers return. Does not depend on formats.

No function reads more of a file into memory than the largest record may have, whatever the file decompresses to.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from io import BufferedReader, RawIOBase, TextIOWrapper
from math import isfinite
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from pydantic import JsonValue

from semsearch.ingest.recipe import Source
from semsearch.system.compression import COMPRESSED, DAMAGED, open_compressed
from semsearch.system.extras import install_command
from semsearch.types import MAX_METADATA_DEPTH, Document, document_problem, is_unicode

MAX_RECORD_BYTES = 32 * 2**20
"""Size of a file, line or row that is one document; a larger one is reported as bad and not read into memory."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

UNREADABLE: tuple[type[Exception], ...] = (OSError, *DAMAGED)
"""What opening and decompressing a file may raise."""


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
    is_folder: bool = False
    """Whether it stands for a whole folder, which could not be read."""
    is_empty: bool = False
    """Whether the file was read whole and holds no text: then it has no documents any more."""
    file: str = ""
    """The file as the `source` of its documents names it; `readers.sources.read` sets it."""
    named: bool = False
    """Whether the file was named itself, not found in a folder; `readers.sources.read` sets it."""

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


def missing(package: str, extra: str) -> str:
    """The reason given if an optional library is not installed."""
    return f"reading it needs {package}: {install_command(package, extra)}"


def kind(path: Path) -> str:
    """The lower-case suffix that tells a file's format, without that of the compression."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


def stem(path: Path) -> str:
    """A file's name without the suffixes of format and compression, as `printable` writes it."""
    return printable(Path(path.stem).stem if path.suffix.lower() in COMPRESSED else path.stem)


def printable(name: str) -> str:
    """A file's name with bytes that are not UTF-8, and control characters, written as `\\xe9`."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file; it is decompressed as it is read. Raises OSError."""
    return open_compressed(path) if path.suffix.lower() in COMPRESSED else path.open("rb")


def open_text(path: Path, encoding: str) -> IO[str]:
    """Open a file as text of its byte order mark, if it has one, or of an encoding.

    Bytes that cannot be decoded become lone surrogates, which the caller finds row by row.
    """
    file = BufferedReader(cast("RawIOBase", open_bytes(path)))
    try:
        name = marked_encoding(file.peek(4)) or encoding
    except BaseException:
        file.close()
        raise
    name = "utf-8-sig" if is_utf8(name) else name
    return TextIOWrapper(file, encoding=name, errors="surrogateescape", newline="")


def is_utf8(encoding: str) -> bool:
    """Whether a name of an encoding is one of UTF-8's."""
    return encoding.lower().replace("_", "-") in {"utf-8", "utf8", "utf-8-sig"}


def marked_encoding(raw: bytes) -> str | None:
    """The encoding of which data start with the byte order mark; None if they start with none.

    To decode by it removes the mark.
    """
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return name
    return None


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


def checked(document: Document, location: str) -> Document | BadRecord:
    """The document; a BadRecord if it cannot be stored."""
    problem = document_problem(document)
    return document if problem is None else BadRecord(location, problem)


def as_json(value: Any, depth: int = MAX_METADATA_DEPTH + 1) -> JsonValue:
    """A value of a column or a field as a JSON value; None for bytes and for numbers that are not finite.

    depth: what is nested deeper becomes None; `checked` refuses a document with metadata of that depth.
    """
    if isinstance(value, dict):
        return {str(key): as_json(inner, depth - 1) for key, inner in value.items()} if depth else None
    if isinstance(value, list | tuple | set):
        return [as_json(inner, depth - 1) for inner in value] if depth else None
    if isinstance(value, bytes) or (isinstance(value, float | Decimal) and not isfinite(value)):
        return None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def clean(text: str) -> str:
    """The text without null characters and surrounding whitespace."""
    return text.replace("\x00", "").strip()


def wrong_encoding(encoding: str) -> str:
    """The reason given for bytes that cannot be decoded."""
    return (
        f"not {encoding.upper()}: name its encoding (in a recipe: sources.encoding, such as"
        ' "cp1252" or "shift_jis"), or convert it to UTF-8'
    )


def unreadable(path: Path, error: BaseException) -> BadRecord:
    """The bad record of a file that cannot be read."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return BadRecord(str(path), f"cannot be read ({reason})", whole_file=True)
