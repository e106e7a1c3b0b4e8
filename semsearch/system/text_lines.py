"""Reads text files line by line, compressed ones too. Does not depend on the lines' content."""

from __future__ import annotations

from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from semsearch.system.compression import DAMAGED, open_compressed

MAX_LINE_CHARS = 2**24
"""Length of a line that is read whole."""

_COMPRESSED = (".gz", ".xz")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Yield the lines that are not blank with their numbers from 1; None for a line of more than MAX_LINE_CHARS.

    Lines may end in any way. The encoding is UTF-8, or UTF-16 with a byte order mark, which is not part of the first
    line. Bytes that cannot be decoded become lone surrogates, so that the caller can report their line. Files ending in
    .gz and .xz are decompressed.

    Raises OSError if the file cannot be read, also if it is damaged or cut off, after the lines that could be read.
    """
    number = 0
    try:
        with _open_text(path) as file:
            while line := file.readline(MAX_LINE_CHARS):
                number += 1
                whole = True
                while len(line) >= MAX_LINE_CHARS and not line.endswith("\n"):
                    line, whole = file.readline(MAX_LINE_CHARS), False
                if not whole:
                    yield number, None
                elif line.strip():
                    yield number, line.rstrip("\n")
    except DAMAGED as error:
        raise OSError(0, "it is damaged, or ends too early") from error


def _open_text(path: Path) -> IO[str]:
    raw: Any = open_compressed(path) if path.suffix.lower() in _COMPRESSED else path.open("rb")
    try:
        wide = raw.peek(2)[:2] in _UTF_16
        return TextIOWrapper(
            raw, encoding="utf-16" if wide else "utf-8-sig", errors="replace" if wide else "surrogateescape"
        )
    except BaseException:
        raw.close()
        raise
