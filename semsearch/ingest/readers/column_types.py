"""Types of metadata fields: those of a table's columns, which hold texts only, and those that a recipe sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from semsearch.filters.values import parse_boolean, parse_number
from semsearch.ingest.readers.files import BadRecord, Reader, Reading
from semsearch.ingest.recipe import FieldType, Source
from semsearch.types import Document

NOTED_SHARE = 0.5
"""A column of texts is reported if at least this share of its values are numbers, or booleans."""


@dataclass(slots=True)
class _Column:
    """The values of one column."""

    values: int = 0
    numbers: int = 0
    booleans: int = 0
    other: tuple[str, str] = ("", "")
    """The first value that is no number, and its source."""

    def add(self, value: JsonValue, source: str) -> None:
        self.values += 1
        text = value if isinstance(value, str) else ""
        is_number = parse_number(text) is not None
        self.numbers += is_number
        self.booleans += parse_boolean(text) is not None
        if not is_number and not self.other[1]:
            self.other = (text, source)

    @property
    def type(self) -> FieldType:
        if self.values == self.numbers:
            return "number"
        return "boolean" if self.values == self.booleans else "text"


def typed_columns(reader: Reader) -> Reader:
    """Return a reader that gives each metadata column of a table one type.

    A column whose values are all numbers holds numbers, one whose values are all `true` or `false` holds booleans, and
    all others hold texts; empty cells do not count. Types that the source sets are not changed here. A column of
    numbers and other texts is reported with the first of them. The file is read twice.
    """

    def read(path: Path, name: str, source: Source) -> Reading:
        columns: dict[str, _Column] = {}
        for record in reader(path, name, source):
            if isinstance(record, Document):
                for column, value in record.metadata.items():
                    columns.setdefault(column, _Column()).add(value, record.source)
        types = {name: column.type for name, column in columns.items() if name not in source.types}
        for column, seen in columns.items():
            if types.get(column) == "text" and seen.numbers >= NOTED_SHARE * seen.values:
                text, location = seen.other
                yield BadRecord(
                    str(path),
                    f"column {column!r} holds texts, because {seen.values - seen.numbers} of {seen.values} values are"
                    f" not numbers, such as {text[:80]!r} in {location}: correct them, or set types.{column} in the"
                    " recipe",
                    is_note=True,
                )
        for record in reader(path, name, source):
            yield _converted(record, types) if isinstance(record, Document) else record

    return read


def with_types(reading: Reading, types: Mapping[str, FieldType], path: Path) -> Reading:
    """Convert metadata to the types that a source sets, and report how many values cannot be converted."""
    failures: dict[str, tuple[int, str]] = {}

    def failed(name: str, value: JsonValue) -> None:
        count, first = failures.get(name, (0, json.dumps(value, ensure_ascii=False)))
        failures[name] = (count + 1, first)

    for record in reading:
        yield _converted(record, types, failed) if isinstance(record, Document) else record
    for name, (count, first) in failures.items():
        reason = f"field {name!r}: {count} values are no {types[name]}, such as {first[:80]}: they stay as they are"
        yield BadRecord(str(path), reason, is_note=True)


def _converted(
    document: Document,
    types: Mapping[str, FieldType],
    failed: Callable[[str, JsonValue], None] = lambda _name, _value: None,
) -> Document:
    typed = types.keys() & document.metadata.keys()
    if not typed:
        return document
    metadata = dict(document.metadata)
    for name in typed:
        value = metadata[name]
        values = [_as_type(inner, types[name]) for inner in (value if isinstance(value, list) else [value])]
        if None in values:
            failed(name, value)
        else:
            metadata[name] = values if isinstance(value, list) else values[0]
    return replace(document, metadata=metadata)


def _as_type(value: JsonValue, field_type: FieldType) -> JsonValue:
    """The value as the type; None if it is not of this type."""
    if isinstance(value, dict | list) or value is None:
        return None
    if field_type == "text":
        return value if isinstance(value, str) else json.dumps(value)
    if field_type == "number":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if is_number else parse_number(str(value).strip())
    return value if isinstance(value, bool) else parse_boolean(str(value).strip())
