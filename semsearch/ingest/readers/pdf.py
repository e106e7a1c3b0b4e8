"""Reads the text of a PDF file, with the values of its forms. Does not depend on files.

The file is read in another process, so that one that crashes the library, hangs, or needs too much memory costs only
itself. Words that are broken over two lines are joined.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from semsearch.ingest.readers.content import Content, RefusedError, iso_date
from semsearch.ingest.readers.files import MAX_RECORD_BYTES

PROGRAM = Path(__file__).with_name("pdf_process.py")
SECONDS = 60.0
"""A file is read in at most this time,"""
SECONDS_PER_MIB = 2.0
"""and this time for each MiB of it."""
MEMORY_BYTES = 2 * 2**30
"""Memory that reading a file may take, besides a few times its size."""
MAX_PAGES = 100_000

_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\r": None, "\x02": "\ufffe"}
)
_BROKEN_WORD = re.compile(r"(\w*)\ufffe\n?(\w*)")
"""The library writes U+FFFE for a hyphen at the end of a line, without the line break."""
_WORD = re.compile(r"\w+")
_COMPOUND = re.compile(r"\w+(?:-\w+)+")
_DATE = re.compile(r"(?:D:|(?=\d{8}))(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:Z|([+-])(\d\d)'?(\d\d)?)?", re.ASCII)


def parse_pdf(raw: bytes) -> Content:
    """Parse a PDF file. Raises RefusedError; ImportError if the library is not installed."""
    header, pages, failure = _read(raw)
    if header is None:
        raise RefusedError(f"cannot be read as PDF ({failure})")
    if header.get("needs_password"):
        raise RefusedError("a PDF that needs a password: unlock it first")
    if "error" in header:
        raise RefusedError(f"cannot be read as PDF ({header['error']})")
    count = int(header["pages"])
    losses = []
    if header["is_dynamic_form"]:
        losses.append("a dynamic form (XFA), of which only the fixed text is read: print it to a PDF file")
    broken = {number: page["error"] for number, page in enumerate(pages, start=1) if "error" in page}
    if broken:
        losses.append(f"its {_listed(broken)} cannot be read ({next(iter(broken.values()))})")
    if scanned := [number for number, page in enumerate(pages, start=1) if page.get("has_images")]:
        losses.append(f"images without text: its {_listed(scanned)}; run text recognition (OCR) first")
    if len(pages) < count:
        losses.append(f"not read: its {_listed(range(len(pages) + 1, count + 1))} ({failure})")
    text = join_broken_words("\n\n".join(page.get("text", "").translate(_LIGATURES) for page in pages))
    if not text.strip() and len(scanned) == len(losses):
        raise RefusedError(f"no text in its {count} pages: if they are images, run text recognition (OCR) first")
    given = header["metadata"]
    metadata: dict[str, JsonValue] = {
        "pages": count,
        "author": given.get("Author", ""),
        "date": pdf_date(given.get("CreationDate", "")),
    }
    return Content(given.get("Title", ""), text, [], metadata, losses)


def join_broken_words(text: str) -> str:
    r"""Join the words of a text that are broken over two lines; the hyphen at the end of a line is U+FFFE.

    The hyphen is kept if the document has the word with a hyphen elsewhere, if it is not between two small letters, or
    if both parts are words of the document themselves, as in `top-level`; it is dropped if the document has the word
    without it, and otherwise, as in `docu-ment`.
    """
    if "\ufffe" not in text:
        return text.replace("\xad\n", "")
    lower = text.lower()
    words = set(_WORD.findall(_BROKEN_WORD.sub(" ", lower)))
    compounds = {pair for compound in _COMPOUND.findall(lower) for pair in pairwise(compound.split("-"))}

    def join(match: re.Match[str]) -> str:
        before, after = match[1], match[2]
        first, second = before.lower(), after.lower()
        if first + second in words:
            return before + after
        is_small = before[-1:].islower() and after[:1].islower()
        is_compound = (first, second) in compounds or (first in words and second in words)
        return f"{before}-{after}" if is_compound or not is_small else before + after

    return _BROKEN_WORD.sub(join, text).replace("\xad\n", "")


def pdf_date(text: str) -> str:
    """The date of a PDF file, such as D:20240301100000+01'00', in ISO 8601; another text is returned as it is."""
    match = _DATE.match(text.strip())
    if match is None:
        return iso_date(text)
    try:
        numbers = [
            int(number or default) for number, default in zip(match.groups()[:6], (0, 1, 1, 0, 0, 0), strict=True)
        ]
        offset = timedelta(hours=int(match[8] or 0), minutes=int(match[9] or 0))
        zone = timezone(-offset if match[7] == "-" else offset) if match[0].endswith("Z") or match[7] else None
        year, month, day, hour, minute, second = numbers
        return datetime(year, month, day, hour, minute, second, tzinfo=zone).isoformat()
    except ValueError:
        return iso_date(text)


def _read(raw: bytes) -> tuple[dict[str, Any] | None, list[dict[str, Any]], str]:
    """What the other process says of the file and of its pages, and why it did not read all."""
    if find_spec("pypdfium2") is None:
        raise ImportError("pypdfium2")
    seconds = SECONDS + SECONDS_PER_MIB * len(raw) / 2**20
    limits = (MAX_RECORD_BYTES, MAX_PAGES, MEMORY_BYTES + 4 * len(raw))
    # -P: the folder of the program has modules of the names of the standard library's
    command = [sys.executable, "-P", str(PROGRAM), *map(str, limits)]
    failure = "too many pages, or too much text: split it"
    try:
        process = subprocess.run(
            command, input=raw, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds, check=False
        )
        output = process.stdout
        if not output.endswith(b"null\n"):
            failure = f"the library ended with code {process.returncode}"
    except subprocess.TimeoutExpired as error:
        output, failure = error.stdout or b"", f"it takes longer than {seconds:.0f} seconds"
    lines = [json.loads(line) for line in output.split(b"\n")[:-1]]
    header, *pages = lines or [None]
    return header, [page for page in pages if page is not None], failure


def _listed(numbers: Iterable[int]) -> str:
    """Pages by number, ranges with a dash: `page 3`, `pages 1, 4-9`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return f"page{'s' * (len(ranges) > 1 or ranges[0][0] < ranges[0][1])} {', '.join(texts)}"
