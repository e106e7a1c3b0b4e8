"""Parses JSON records, and finds them in files. Does not depend on fields.

A file of records is cut into texts at its brackets first, so that a record which is not JSON does not end the reading
of the others, and no more than one record is in memory.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from pydantic import JsonValue

from semsearch.ingest.readers.files import MAX_RECORD_BYTES

BLANK = " \t\r\n\ufeff"
"""What may stand around a record."""
_CHUNK_CHARS = 2**20
_STRING_PART = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_INSIDE = re.compile(rf'(?:[^"\[\]{{}}]++|"{_STRING_PART.pattern}")*+', re.DOTALL)
_OUTSIDE = re.compile(rf'(?:[^"\[\]{{}},]++|"{_STRING_PART.pattern}")*+', re.DOTALL)
"""What may be read at once, inside of a record and outside: strings, and other characters but brackets and commas."""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """The text of one record of a file."""

    text: str | None
    """None if it is longer than a record may be, or cut off."""
    line: int
    """Number of the line on which it starts."""
    is_cut_off: bool = False
    """Whether it stands for the end of a file that ends before its array does."""


def parse_object(text: str) -> tuple[dict[str, JsonValue], list[str]]:
    """Return the fields of a JSON object, and the keys that occur more than once in it, of which the last is taken.

    Raises ValueError with the reason for what is not a JSON object. A number such as 1e999 becomes infinite.
    """
    repeated: list[str] = []

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            repeated.extend(key for key in values if counts[key] > 1)
        return values

    try:
        values = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=make_object)
    except RecursionError:
        raise ValueError("nested too deeply: nest it less") from None
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise ValueError("an integer of too many digits: write it as text") from None
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"a JSON {type(values).__name__}, not an object with a text")  # noqa: TRY004 - a bad record
    return values, list(dict.fromkeys(repeated))


def split_records(file: IO[str]) -> Iterator[RawRecord]:
    """Cut a file into the elements of its arrays, and the other values that it consists of.

    Text between values is a record of its own, which is not JSON. A file that ends before its array
    does ends with a record that is cut off. At most one record is in memory.
    """
    return _Splitter().split(file)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


class _Splitter:
    """The state between two chunks of a file."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        """The present record so far; none of a record that is too long."""
        self._size = 0
        """Its characters so far."""
        self._depth = 0
        """Number of its brackets that are open."""
        self._in_string = False
        self._is_escaped = False
        """Whether the next character of the string follows a backslash."""
        self._in_array = False
        self._line = 1
        """Line of the next character."""
        self._start_line = 1
        """Line on which the present record starts."""

    def split(self, file: IO[str]) -> Iterator[RawRecord]:
        while chunk := file.read(_CHUNK_CHARS):
            position = 0
            while position < len(chunk):
                position, is_end = self._read(chunk, position)
                if is_end and self._size:
                    yield self._end()
        if self._size:
            yield self._end()
        if self._in_array:
            yield RawRecord(None, self._line, is_cut_off=True)

    def _read(self, chunk: str, start: int) -> tuple[int, bool]:
        """Read up to the next bracket or comma; return the position after it, and whether a record ends."""
        if self._in_string:
            stop = self._skip_string(chunk, start)
            self._add(chunk[start:stop])
            return stop, False
        stop = (_INSIDE if self._depth else _OUTSIDE).match(chunk, start).end()  # type: ignore[union-attr]
        self._add(chunk[start:stop])
        if stop == len(chunk):
            return stop, False
        character = chunk[stop]
        if not self._depth and self._is_between(character):
            return stop + 1, True
        self._add(character)
        self._in_string = character == '"'  # it has no end in this chunk
        self._depth = max(0, self._depth + (character in "[{") - (character in "]}"))
        return stop + 1, character in "]}" and not self._depth

    def _is_between(self, character: str) -> bool:
        """Whether a character outside of records opens, divides or closes the array of records."""
        if character == "[" and not self._in_array and not self._size:
            self._in_array = True
            return True
        if self._in_array and character in ",]":
            self._in_array = character == ","
            return True
        return False

    def _skip_string(self, chunk: str, start: int) -> int:
        stop = _STRING_PART.match(chunk, start + self._is_escaped).end()  # type: ignore[union-attr]
        self._is_escaped = False
        if stop >= len(chunk):
            return len(chunk)
        self._in_string = chunk[stop] != '"'
        self._is_escaped = self._in_string  # a backslash, the last character of the chunk
        return stop + 1

    def _add(self, text: str) -> None:
        if not self._size:
            stripped = text.lstrip(BLANK)
            self._line += text.count("\n", 0, len(text) - len(stripped))
            self._start_line = self._line
            text = stripped
        self._size += len(text)
        self._line += text.count("\n")
        if self._size <= MAX_RECORD_BYTES:
            self._parts.append(text)
        else:
            self._parts.clear()

    def _end(self) -> RawRecord:
        text = None if self._size > MAX_RECORD_BYTES else "".join(self._parts)
        self._parts, self._size, self._depth = [], 0, 0
        return RawRecord(text, self._start_line)
