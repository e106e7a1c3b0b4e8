"""Reads tables of judgments: qrels of TREC and BEIR, and CSV or TSV with a header. Does not depend on vectors.

The first line that is not bad decides: a header names its columns; otherwise three columns are query id, document and
relevance, and four are TREC's query id, iteration, document and relevance. Every line is a row: a quoted value ends on
its line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from semsearch.errors import LabelError
from semsearch.system.text_lines import MAX_LINE_CHARS, read_lines
from semsearch.types import is_unicode

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "query_id": ("query-id", "qid", "topic", "topic-id"),
    "query": ("query", "query-text"),
    "document": ("document", "corpus-id", "doc-id", "docid", "document-id", "doc", "docno"),
    "relevance": ("relevance", "score", "rel", "grade", "gain", "label"),
    "user": ("user", "user-id", "annotator"),
    "at": ("at", "time", "timestamp"),
    **{name: (name,) for name in ("id", "domain", "source", "kind", "position", "shown", "iteration")},
}
"""Field → names of its column in a header, in any case, with `_` or a space for `-`."""
QRELS = {3: ("query_id", "document", "relevance"), 4: ("query_id", "iteration", "document", "relevance")}
"""Columns of a file without a header, by their number."""
FIRST_LINES = 20
"""Lines among which one must tell a file's format."""
_FIELDS = {name: field for field, names in COLUMNS.items() for name in names}
_DELIMITERS = "\t,;|"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used."""

    location: str
    """`file:line`; `file` for the rest of a file."""
    reason: str
    """What is wrong and what to do about it."""

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table."""

    fields: tuple[str, ...]
    """Field of each column; empty for a column that is not used."""
    delimiter: str
    """Character between two columns; empty for any whitespace."""
    has_header: bool
    unused: tuple[str, ...] = ()
    """Names of the columns that are not used."""

    @classmethod
    def of(cls, line: str) -> Layout | None:
        """Return the layout of a table by its first line; None if it is not a table of judgments."""
        for delimiter in _DELIMITERS:
            if delimiter not in line:
                continue
            names = [name.strip().strip('"') for name in line.split(delimiter)]
            meant = [_FIELDS.get(re.sub(r"[_ ]", "-", name.casefold()), "") for name in names]
            # of two columns for one field the first is used
            fields = tuple("" if field in meant[:index] else field for index, field in enumerate(meant))
            if "document" in fields and not {"query", "query_id"}.isdisjoint(fields):
                unused = tuple(name for name, field in zip(names, fields, strict=True) if not field)
                return cls(fields, delimiter, has_header=True, unused=unused)
        for delimiter in ("\t", "", ",", ";"):
            columns = line.split(delimiter) if delimiter else line.split()
            if len(columns) in QRELS and parse_number(columns[-1]) is not None:
                return cls(QRELS[len(columns)], delimiter, has_header=False)
        return None

    def row(self, line: str) -> dict[str, str] | str:
        """Return the values of a line by field, without empty ones; a reason if it is not a row of this table."""
        values = self._split(line)
        if isinstance(values, str):
            return values
        while len(values) > len(self.fields) and not values[-1].strip():
            values = values[:-1]
        if len(values) != len(self.fields):
            return f"has {_counted(len(values), 'column')} where the first line has {len(self.fields)}"
        row = {field: value.strip() for field, value in zip(self.fields, values, strict=True) if field}
        return {field: value for field, value in row.items() if value}

    def _split(self, line: str) -> Sequence[str] | str:
        if not self.delimiter:
            return line.split()
        if self.delimiter == "\t":
            return line.split("\t")
        try:
            [values] = csv.reader([line], delimiter=self.delimiter, strict=True)
        except (csv.Error, ValueError):
            return "a quotation mark is not closed on its line, or text follows it: double the marks inside a value"
        return values


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, str]] | BadLine | Layout]:
    """Yield the table's layout, (`file:line`, values by field) of each row, and a BadLine for each that is none.

    The first line that names columns, or is a row of qrels, tells the layout. Raises LabelError if the file cannot be
    read, or none of its first lines does.
    """
    layout: Layout | None = None
    unknown: list[BadLine] = []
    for number, line in numbered(path):
        location = f"{path}:{number}"
        if isinstance(line, BadLine):
            yield line
            continue
        if layout is None:
            layout = Layout.of(line)
            if layout is None:
                unknown.append(BadLine(location, f"{line[:80]!r} is neither a header nor a judgment: {EXPECTED}"))
                if len(unknown) == FIRST_LINES:
                    break
                continue
            yield from unknown
            yield layout
            if layout.has_header:
                continue
        row = layout.row(line)
        yield BadLine(location, row) if isinstance(row, str) else (location, row)
    if layout is None and unknown:
        raise LabelError(str(unknown[0]))


EXPECTED = (
    "give JSON lines, a table whose header names the columns query (or query-id), document and relevance, or qrels"
    " (query-id, document and relevance, or TREC's four columns)"
)
"""The formats of judgments, for errors."""


def numbered(path: Path) -> Iterator[tuple[int, str | BadLine]]:
    """Yield the numbered lines that are not blank, with a BadLine for each that is not UTF-8 or too long.

    Raises LabelError if the file cannot be read at all. If it ends too early, the last item is a BadLine.
    """
    number = 0
    try:
        for number, line in read_lines(path):
            if line is None:
                yield number, BadLine(f"{path}:{number}", f"longer than {MAX_LINE_CHARS:,} characters")
            elif not is_unicode(line):
                yield number, BadLine(f"{path}:{number}", "not UTF-8: convert the file (iconv -f latin1 -t utf-8)")
            else:
                yield number, line
    except OSError as error:
        reason = error.strerror or "it is damaged"
        if not number:
            raise LabelError(f"{path} cannot be read ({reason}): {EXPECTED}") from error
        yield number + 1, BadLine(str(path), f"cannot be read after line {number} ({reason})")


def json_problem(error: ValueError) -> str:
    """Return the reason that a line is not JSON. error: of pydantic's parser."""
    if "hex escape" in str(error):
        return "not JSON: an escape of it is not valid Unicode, but half of a surrogate pair or cut off"
    return f"not JSON ({error})"


def parse_number(text: str) -> float | None:
    """Return a decimal number; None if `text` is not one, or is too large."""
    # not `filters.values.parse_number`: there `007` is a code, but a relevance may have leading zeros, and an integer
    # that no float can hold is a value of metadata, but no relevance
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if isfinite(value) else None


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
