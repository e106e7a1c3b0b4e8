"""What is read of a file of a binary format, and the limits of such files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from pydantic import JsonValue

from semsearch.ingest.readers.files import MAX_RECORD_BYTES

MAX_PACKED_BYTES = 8 * MAX_RECORD_BYTES
"""Size of a file that may contain images and fonts besides its text, packed or unpacked."""

_READ_BYTES = 2**12
"""Bytes that are read of a part at a time; those of the read in which damage is found are lost."""


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a file."""

    title: str
    text: str
    headings: list[str]
    metadata: dict[str, JsonValue]
    losses: Sequence[str] = ()
    """Reasons why parts of the file could not be read."""


class RefusedError(Exception):
    """A valid file that cannot be read, such as one with a password."""


class Package:
    """The parts of a zip file. No more than `MAX_PACKED_BYTES` of them are decompressed in all."""

    def __init__(self, raw: bytes) -> None:
        """Open a zip file. Raises zipfile.BadZipFile."""
        self._archive = zipfile.ZipFile(BytesIO(raw))
        # names are compared without case, and archives of some Windows programs have backslashes
        self._names = {name.replace("\\", "/").lower(): name for name in self._archive.namelist()}
        self._bytes_left = MAX_PACKED_BYTES

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._names

    def read(self, name: str) -> tuple[bytes, str]:
        """Return the bytes of a part, and the reason why the rest of them could not be read: empty if all were.

        Raises RefusedError if the parts are too large.
        """
        stored = self._names.get(name.lower())
        if stored is None:
            return b"", "it is missing"
        if self._archive.getinfo(stored).file_size > self._bytes_left:
            raise RefusedError(f"it decompresses to more than {MAX_PACKED_BYTES} bytes: split it")
        if self._archive.getinfo(stored).flag_bits & 1:
            return b"", "it needs a password: save the file without one"
        raw, reason = bytearray(), ""
        try:
            with self._archive.open(stored) as part:
                while chunk := part.read(_READ_BYTES):
                    raw += chunk
        except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            reason = str(error)
        self._bytes_left -= len(raw)
        return bytes(raw), reason


def iso_date(text: str) -> str:
    """The date and time of a text in ISO 8601; another text is returned as it is, on one line."""
    text = " ".join(text.split())
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        return text
