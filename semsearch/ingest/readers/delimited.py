"""Splits CSV and TSV files into rows of texts. Does not depend on documents.

A row whose quotation mark is never closed costs only itself: the lines after it are read again as rows of their own.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO

from semsearch.ingest.readers.files import (
    MAX_RECORD_BYTES,
    UNREADABLE,
    BadRecord,
    kind,
    open_text,
    unreadable,
    wrong_encoding,
)
from semsearch.types import is_unicode

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_LINES = 100
"""The delimiter is found from this many first lines,"""
SAMPLE_CHARS = 2**18
"""or from this many first characters."""
MAX_REREAD_CHARS = 8 * MAX_RECORD_BYTES
"""Once this much of a file has been read again after rows that could not be split, lines are read one by one."""
MIN_SWALLOWED = 10
"""Lines in one row of a valid number of fields, from which on it is checked whether they are rows of their own."""

_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"')
_SEPARATOR_LINE = re.compile(r'\A"?sep=([^"\r\n])"?[\r\n]*\Z')
"""The first line by which Excel is told the delimiter."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table."""

    line: int
    """The number of its last line; the first line of a file has number 1."""
    first_line: int
    cells: list[str]


class RowTooLongError(Exception):
    """A row is longer than one document may be."""


def read_rows(
    path: Path, encoding: str, *, delimiter: str | None = None, known: Collection[str] = ()
) -> Iterator[Row | BadRecord]:
    """Yield the rows of a file, the first of which names its columns, and a bad record for each that cannot be split.

    delimiter: by default the one that fits the first lines. known: names of columns, one of which the table should
    have. All rows have as many cells as the first one; rows without any text are left out.
    """
    csv.field_size_limit(MAX_RECORD_BYTES)
    lines = None
    try:
        with open_text(path, encoding) as file:
            lines = _Lines(file)
            yield from _checked(_split(lines, path, delimiter, known), path, encoding)
    except UnicodeError:
        yield BadRecord(f"{path}:{lines.number + 1 if lines else 1}", wrong_encoding(encoding), whole_file=True)
    except UNREADABLE as error:
        yield unreadable(path, error)


def find_delimiter(lines: Sequence[str], *, likely: str, known: Collection[str] = ()) -> str:
    """Return the delimiter of a table from its first lines.

    It is the one by which the first line has a known column, and most lines have as many cells as the first one, of
    which there are two or more. likely: the delimiter if none fits better.
    """

    def fit(delimiter: str) -> tuple[bool, float, int]:
        rows = [row for row in _reader(lines, delimiter, strict=False) if row]
        if not rows or len(rows[0]) < 2:
            return False, 0.0, 1
        columns = {cell.strip() for cell in rows[0]}
        # the last row may be cut off
        complete = rows[1:-1] or rows[1:] or rows
        share = sum(len(row) == len(rows[0]) for row in complete) / len(complete)
        return not columns.isdisjoint(known), round(share, 1), len(rows[0])

    try:
        return max((likely, *DELIMITERS), key=fit)
    except csv.Error:
        return likely


def column_names(cells: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return distinct names of columns, and by new name, the former name of those that were renamed.

    The second column `name` becomes `name.2`; a column without a name becomes `column N`.
    """
    given = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, start=1)]
    counts: dict[str, int] = {}
    taken = set(given)
    names: list[str] = []
    renamed: dict[str, str] = {}
    for name in given:
        new = name
        while name in counts and new in taken:
            counts[name] += 1
            new = f"{name}.{counts[name]}"
        if new != name:
            renamed[new] = name
        taken.add(new)
        counts.setdefault(name, 1)
        names.append(new)
    return names, renamed


@dataclass(slots=True)
class _Lines:
    """The lines of a file, some of which may be read again."""

    file: IO[str]
    number: int = 0
    """Number of the last line that was read."""
    record: list[str] = field(default_factory=list)
    """Lines of the present row."""
    chars: int = 0
    """Their characters."""
    again: deque[str] = field(default_factory=deque)
    """Lines to be read again."""
    _error: Exception | None = None
    """Why the file cannot be read after those lines."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        self.chars += len(line)
        if self.chars > MAX_RECORD_BYTES:
            raise RowTooLongError
        return line

    def begin_row(self) -> None:
        """Begin a new row."""
        self.record, self.chars = [], 0

    def return_lines(self, count: int) -> int:
        """Let the last lines of the present row be read again; return the number of their characters."""
        returned = self.record[len(self.record) - count :]
        self.again.extendleft(reversed(returned))
        self.number -= count
        return sum(map(len, returned))

    def peek(self, count: int, chars: int) -> list[str]:
        """Return the first lines, at most this many of at most this many characters in all."""
        try:
            while len(self.again) < count and chars > 0 and (line := self._read()):
                self.again.append(line if self.again else line.removeprefix("\ufeff"))
                chars -= len(line)
        except UNREADABLE as error:
            self._error = error
        except UnicodeError as error:
            self._error = error
        return list(islice(self.again, count))

    def _read(self) -> str:
        if self._error is not None:
            raise self._error
        # one character more than a row may have, so that the rest of a longer line is seen as too long
        line = self.file.readline(MAX_RECORD_BYTES + 1)
        if len(line) > MAX_RECORD_BYTES and not line.endswith(("\n", "\r")):
            while (rest := self.file.readline(MAX_RECORD_BYTES)) and not rest.endswith(("\n", "\r")):
                pass
        # null characters mean nothing, and csv cannot read some of them
        return line.replace("\x00", "") or (line and "\n")


def _split(lines: _Lines, path: Path, delimiter: str | None, known: Collection[str]) -> Iterator[Row | BadRecord]:
    """Yield rows of any number of cells."""
    sample = lines.peek(SAMPLE_LINES, SAMPLE_CHARS)
    if sample and (match := _SEPARATOR_LINE.match(sample[0])):
        delimiter = delimiter or match[1]
        lines.again.popleft()
        lines.number += 1
    if delimiter is None:
        delimiter = find_delimiter(sample, likely="\t" if kind(path) == ".tsv" else ",", known=known)
    reader = _reader(lines, delimiter, strict=True)
    columns, reread = 0, 0
    while True:
        lines.begin_row()
        first = lines.number + 1
        try:
            cells = next(reader)
            reason = ""
        except StopIteration:
            return
        except csv.Error as error:
            cells = []
            closes = "a quotation mark that begins a cell is not closed, or text follows it"
            reason = (
                f"not a row of a table: {closes if 'expected' in str(error) or 'end of data' in str(error) else error}"
            )
        except RowTooLongError:
            cells, reason = [], f"longer than {MAX_RECORD_BYTES} characters: split it"
        others = len(lines.record) - 1
        if others and (reason or _has_rows(lines.record[1:], delimiter, columns, len(cells))):
            reason = reason or "not a row of a table: a quotation mark that begins a cell is not closed"
            if reread <= MAX_REREAD_CHARS:
                reread += lines.return_lines(others)
            else:
                for number, line in enumerate(lines.record, start=first):
                    yield _single(line, number, path, delimiter, columns, reason)
                continue
        if reason:
            row = _single(lines.record[0], first, path, delimiter, columns, reason)
            columns = columns or (len(row.cells) if isinstance(row, Row) else 0)
            yield row
            continue
        columns = columns or len(cells) * any(map(str.strip, cells))
        yield Row(lines.number, first, _tidy(cells, lines.record))


def _single(line: str, number: int, path: Path, delimiter: str, columns: int, reason: str) -> Row | BadRecord:
    """A line as a row of its own; its quotation marks may be text in a table with tabs, which need none."""
    cells = _cells(line, delimiter) if len(line) <= MAX_RECORD_BYTES else []
    if cells is None:  # perhaps because of spaces after a quotation mark
        cells = _cells(re.sub(rf'"[ \t]++(?={re.escape(delimiter)}|[\r\n]*+\Z)', '"', line), delimiter)
    if cells is None and delimiter == "\t":
        cells = line.rstrip("\r\n").split("\t")
    if cells and len(cells) == (columns or len(cells)):
        return Row(number, number, _tidy(cells, [line]))
    return BadRecord(f"{path}:{number}", reason)


def _has_rows(lines: Sequence[str], delimiter: str, columns: int, cells: int) -> bool:
    """Whether lines in one row are rows of their own, so that a quotation mark before them is not closed."""
    if delimiter == "\t" and columns > 1 and cells == columns:
        # hardly any text has as many tabs in each of its lines
        return all(len(line.split("\t")) == columns for line in lines)
    if columns < 2 or (cells == columns and (columns < 3 or len(lines) < MIN_SWALLOWED)):
        return False  # a text may well have two parts in each of its lines, such as a list of names
    rows = sum(len(_cells(line, delimiter) or ()) == columns for line in lines)
    # the last line ends with the quotation mark that closes the row
    return rows >= (len(lines) - 1 if cells == columns else max(1, len(lines) // 2))


def _cells(line: str, delimiter: str) -> list[str] | None:
    """The cells of a line; None if it is not a row."""
    try:
        return next(_reader([line], delimiter, strict=True), None)
    except csv.Error:
        return None


def _reader(lines: Iterable[str], delimiter: str, *, strict: bool) -> Iterator[list[str]]:
    # the spaces before a cell are no part of it, so that a quotation mark after them begins a quoted cell
    return csv.reader(lines, delimiter=delimiter, strict=strict, skipinitialspace=delimiter != " ")


def _tidy(cells: list[str], lines: Sequence[str]) -> list[str]:
    """The cells of a row, without surrounding whitespace where they have no quotation marks. lines: the row's."""
    if not any(cell[-1:].isspace() or cell[:1].isspace() for cell in cells):
        return cells
    quoted = {cell.replace('""', '"') for cell in _QUOTED.findall("".join(lines))}
    return [cell if cell in quoted else cell.strip() for cell in cells]


def _checked(rows: Iterator[Row | BadRecord], path: Path, encoding: str) -> Iterator[Row | BadRecord]:
    columns = 0
    for row in rows:
        if isinstance(row, BadRecord):
            yield row
            continue
        cells = row.cells
        location = f"{path}:{row.first_line}"
        if not all(map(is_unicode, cells)):
            yield BadRecord(location, wrong_encoding(encoding))
        elif any(map(str.strip, cells)):
            columns = columns or len(cells)
            if (len(cells) != columns and any(map(str.strip, cells[columns:]))) or len(cells) < columns:
                yield BadRecord(location, f"{len(cells)} fields in a table of {columns} columns")
            else:
                yield Row(row.line, row.first_line, cells[:columns])
