"""Parses JSON records, and finds them in files. Does not depend on fields.

A file is cut into the texts of its records first, so that a record which is not JSON does not end the reading of the
others.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from typing import IO, Any, NoReturn

from pydantic import JsonValue

from semsearch.ingest.readers.files import MAX_RECORD_BYTES

BLANK = " \t\r\n\ufeff"
"""What may stand around a record."""
NOT_AN_OBJECT = "not an object with a text"
MAX_REREAD_CHARS = 8 * MAX_RECORD_BYTES
"""Once this much of a file has been read again after records that are not JSON, a record ends after the error in it."""
_CHUNK_CHARS = 2**14
_OVERLAP = 256
"""Length of what stands at the end of one chunk and is understood only with the next one, such as a literal."""
_BETWEEN = re.compile(rf"[{BLANK},]*+")
_LINE_START = re.compile(r"[\r\n]([ \t]*+)(?:\}[ \t]*+,?[ \t]*+)?(\{)")
_INLINE_START = re.compile(r'[,}][ \t]*+()(\{)(?=[ \t]*+["}])')
_OBJECT = re.compile(r'\{\s*+["}]')
_SCALAR = re.compile(rf"[^{BLANK},\[\]{{}}\"]*+")
_STRING_PART = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_NO_BRACKETS = re.compile(r'[^"\[\]{}]*+')
_BRACKETS = re.compile(r"[\[{]++|[\]}]++")


@dataclass(frozen=True, slots=True)
class RawRecord:
    """The text of one record of a file."""

    text: str | None
    """None if it is longer than a record may be, not JSON, or cut off."""
    line: int
    """Number of the line on which it starts."""
    reason: str = ""
    """Why it is not JSON, if that was found when the file was cut."""
    is_rest: bool = False
    """Whether it goes on to the end of the file, and perhaps contains other records."""
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
        raise ValueError(f"a JSON {type(values).__name__}, {NOT_AN_OBJECT}")  # noqa: TRY004 - a bad record
    return values, list(dict.fromkeys(repeated))


def split_records(file: IO[str]) -> Iterator[RawRecord]:
    """Cut a file into the elements of its arrays, and the other values that it consists of.

    A record that is not JSON ends where the next one seems to start, so that the others are still found: see
    `_Splitter`. A file that ends before its array does ends with a record that is cut off. Takes linear time, and holds
    no more than a few records in memory.
    """
    return _Splitter(file).split()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


class _Splitter:
    """Reads a file record by record.

    The next record starts at a line that begins with `{`, indented no more than the present one. In a file with several
    records in a line, it also starts at an object that follows another one or a comma.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._again: list[StringIO] = []
        """Texts that were read, but are to be read again, the next one last."""
        self._text = ""
        """The part of the file that is being read,"""
        self._position = 0
        """and the first of its characters that was not used."""
        self._is_end = False
        """Whether the file ends with this part."""
        self._line = 1
        """Line of that character."""
        self._in_array = False
        self._column = 0
        """Indentation of the present record."""
        self._is_line_start: bool | None = None
        """Whether all records but the first start on lines of their own; None if there is no other one yet."""
        self._reread = MAX_REREAD_CHARS
        """Number of characters that may still be read again."""
        self._found: dict[re.Pattern[str], tuple[int, int, re.Match[str] | None]] = {}
        """By pattern, where a search in this part began, the indentation that it allowed, and its result."""
        self._decode = json.JSONDecoder().raw_decode

    def split(self) -> Iterator[RawRecord]:
        is_first, is_damaged = True, False
        while True:
            between, stray = self._skip_between()
            if stray and not is_damaged:
                yield RawRecord(None, self._line, reason=f"not JSON (a bracket {stray!r} that closes nothing)")
            if self._position == len(self._text):
                break
            if not is_damaged:
                self._note_start(between, is_first=is_first)
            record = self._next()
            yield record
            is_first, is_damaged = False, bool(record.reason)
        if self._in_array:
            yield RawRecord(None, self._line, is_cut_off=True)

    def _skip_between(self) -> tuple[str, str]:
        """Skip what stands between two records; return it, as far as it is in the present part, and a stray bracket."""
        skipped, stray = "", ""
        while True:
            start = self._position
            self._use(_BETWEEN.match(self._text, start).end())  # type: ignore[union-attr]
            skipped = (skipped + self._text[start : self._position])[-_OVERLAP:]
            character = self._text[self._position : self._position + 1]
            if not character:
                if not self._fill():
                    return skipped, stray
                continue
            if character == "[" and not self._in_array:
                self._in_array = True
            elif character == "]" and self._in_array:
                self._in_array = False
            elif character in "]}":
                stray = stray or character
            else:
                return skipped, stray
            self._use(self._position + 1)
            skipped += character

    def _note_start(self, between: str, *, is_first: bool) -> None:
        """Learn from a record how records start. between: what stands before it."""
        _, newline, indentation = between.replace("\r", "\n").rpartition("\n")
        if is_first or newline:
            self._column = len(indentation)
        if not is_first:
            self._is_line_start = bool(newline) and self._is_line_start is not False

    def _next(self) -> RawRecord:
        """Read the record that starts at the present position."""
        line = self._line
        while True:
            try:
                _, end = self._decode(self._text, self._position)
            except json.JSONDecodeError as error:
                # at the end of the part, or in a string without an end, the rest of the record may be missing
                is_part = error.pos > len(self._text) - _OVERLAP or error.msg.startswith("Unterminated")
                if is_part and len(self._text) - self._position > MAX_RECORD_BYTES:
                    return self._skip_balanced()
                if is_part and self._fill():
                    continue
                return self._skip_damaged(error)
            except (RecursionError, ValueError):  # nested too deeply, or an integer of too many digits
                return self._skip_balanced()
            if end == len(self._text) and self._fill():
                continue  # a number may go on
            text = self._use(end)
            return RawRecord(text if len(text) <= MAX_RECORD_BYTES else None, line)

    def _skip_balanced(self) -> RawRecord:
        """Skip a record up to the bracket that closes it, or to the end of the file."""
        line, depth, in_string = self._line, 0, False
        if self._text[self._position] not in "[{":
            return RawRecord(self._use(_SCALAR.match(self._text, self._position).end()), line)  # type: ignore[union-attr]
        parts: list[str] = []
        size = 0
        while True:
            pattern = _STRING_PART if in_string else _NO_BRACKETS
            stop = pattern.match(self._text, self._position).end()  # type: ignore[union-attr]
            character = self._text[stop : stop + 1]
            is_end = False
            if character == '"':
                in_string = not in_string
                stop += 1
            elif character and not in_string:
                brackets = _BRACKETS.match(self._text, stop).end() - stop  # type: ignore[union-attr]
                if character in "]}":
                    brackets = min(brackets, depth)
                    is_end = brackets == depth
                    depth -= brackets
                else:
                    depth += brackets
                stop += brackets
            part = self._use(stop)
            size += len(part)
            parts.append(part)
            if size > MAX_RECORD_BYTES:
                parts.clear()
            if is_end:
                return RawRecord("".join(parts) if size <= MAX_RECORD_BYTES else None, line)
            # a backslash may be the last character of this part
            if len(self._text) - self._position <= in_string and not self._fill():
                self._use(len(self._text))
                return RawRecord("".join(parts) if size <= MAX_RECORD_BYTES else None, line, is_rest=not self._in_array)

    def _skip_damaged(self, error: json.JSONDecodeError) -> RawRecord:
        """Skip a record that is not JSON, up to the next one."""
        line = self._line
        error_line = line + self._text.count("\n", self._position, error.pos)
        reason = f"not JSON ({error.msg}: line {error_line})"
        first = self._position + 1
        if self._reread > 0:
            # the quotation mark that is missing may be the end of the string before the error
            quote = self._text.rfind('"', self._position, error.pos)
            first = max(first, self._text.rfind('"', self._position, max(quote, 0)))
        else:
            first = max(first, error.pos)
        last, has_objects = "", False
        start = self._find_start(first, error.pos)
        self._reread -= max(0, error.pos - start) if start is not None else 0
        while start is None:
            # what is kept may be the beginning of what a record starts with
            skipped = self._use(max(self._position, len(self._text) - _OVERLAP))
            has_objects |= "{" in skipped[not last :]
            last = skipped or last
            if not self._fill():
                rest = self._use(len(self._text))
                has_objects |= "{" in rest[not last :]
                if (last + rest).rstrip(BLANK).endswith("]"):
                    self._in_array = False
                return RawRecord(None, line, reason=reason, is_rest=has_objects and not self._in_array)
            start = self._find_start(self._position, len(self._text))
        self._use(start)
        if len(self._text) > _CHUNK_CHARS:
            # errors count the lines of the whole part
            self._again.append(StringIO(self._text[self._position :], newline=""))
            self._text, self._position, self._is_end = "", 0, False
            self._found.clear()
        return RawRecord(None, line, reason=reason)

    def _find_start(self, first: int, error: int) -> int | None:
        """Position of the next record in this part, from `first` on; None if there is none.

        error: position at which the present record is not JSON.
        """
        line_start = self._search(_LINE_START, first)
        if line_start is not None and self._is_line_start is not False:
            self._column = len(line_start[1])
            return line_start.start(2)
        if self._is_line_start:
            return None
        starts = [match.start(2) for match in (line_start, self._search(_INLINE_START, first)) if match is not None]
        if _OBJECT.match(self._text, error):
            starts.append(error)
        return min(starts, default=None)

    def _search(self, pattern: re.Pattern[str], first: int) -> re.Match[str] | None:
        """The first match of a pattern from `first` on that is indented no more than the present record."""
        # many records that are not JSON may be followed by the same match
        origin, column, match = self._found.get(pattern, (first + 1, 0, None))
        if origin > first or column != self._column or (match is not None and match.start() < first):
            matches = pattern.finditer(self._text, first)
            match = next((match for match in matches if len(match[1]) <= self._column), None)
            self._found[pattern] = first, self._column, match
        return match

    def _use(self, stop: int) -> str:
        """Advance to a position; return the characters up to it."""
        used = self._text[self._position : stop]
        self._line += used.count("\n")
        self._position = stop
        return used

    def _fill(self) -> bool:
        """Read more of the file, at least as much as is not used; return whether there was more."""
        if self._is_end:
            return False
        size = max(_CHUNK_CHARS, len(self._text) - self._position)
        more = ""
        while self._again and not (more := self._again[-1].read(size)):
            self._again.pop()
        more = more or self._file.read(size)
        if more:
            self._text, self._position = self._text[self._position :] + more, 0
            self._found.clear()
        self._is_end = not more
        return bool(more)
