"""What is read of a file of a binary format, and the limits of such files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from pydantic import JsonValue

from semsearch.ingest.readers.files import MAX_RECORD_BYTES

MAX_PACKED_BYTES = 8 * MAX_RECORD_BYTES
"""Size of a file that may contain images and fonts besides its text, packed or unpacked."""


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


def refuse_bombs(raw: bytes) -> None:
    """Raise RefusedError for a zip file that would decompress to more than one document may have."""
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_PACKED_BYTES:
            raise RefusedError(f"it decompresses to more than {MAX_PACKED_BYTES} bytes: split it")


def iso(time: datetime | None) -> str:
    """The time in ISO 8601; empty for None."""
    return "" if time is None else time.isoformat()
