"""Reads files of many records: JSON lines, CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import JsonValue

from semsearch.errors import first_line
from semsearch.ingest.readers.files import (
    MAX_RECORD_BYTES,
    UNREADABLE,
    BadRecord,
    Reading,
    as_json,
    checked,
    clean,
    kind,
    lines,
    missing,
    open_text,
    unreadable,
    wrong_encoding,
)
from semsearch.ingest.recipe import FieldNames, Source
from semsearch.types import Document, is_unicode

BATCH_ROWS = 1_000
"""Rows of a Parquet file that are in memory at a time."""


def read_jsonl(path: Path, name: str, source: Source) -> Reading:
    """JSON lines: one object per line."""
    for number, line in lines(path, source.encoding):
        location = f"{path}:{number}"
        if isinstance(line, BadRecord):
            yield line
        elif line.strip():
            try:
                values = json.loads(line, parse_constant=_refuse_constant)
            except ValueError as error:
                yield BadRecord(location, f"not JSON ({error}): each line must hold one object")
                continue
            if isinstance(values, dict):
                yield document_from_fields(values, source.fields, location=location, default_id=f"{name}:{number}")
            else:
                yield BadRecord(location, f"a JSON {type(values).__name__}, not an object with a text")


def read_csv(path: Path, name: str, source: Source) -> Reading:
    """CSV or TSV: one document per row; the first row names the columns."""
    csv.field_size_limit(MAX_RECORD_BYTES)
    try:
        with open_text(path, source.encoding) as file:
            rows = csv.reader(file, csv.excel_tab if kind(path) == ".tsv" else csv.excel, strict=True)
            yield from _rows(rows, path, name, source)
    except UNREADABLE as error:
        yield unreadable(path, error)


def _rows(rows: Any, path: Path, name: str, source: Source) -> Reading:
    header: list[str] | None = None
    while True:
        location = f"{path}:{rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRecord(location, f"not a row of comma- or tab-separated values ({error})")
            continue
        except UnicodeError:
            yield BadRecord(location, wrong_encoding(source.encoding))
            return
        if not row:
            continue
        if not all(map(is_unicode, row)):
            yield BadRecord(location, wrong_encoding(source.encoding))
        elif header is None:
            header = [column.strip() for column in row]
            if bad := _without_text(header, source.fields, location, "the first row names"):
                yield bad
                return
        elif len(row) != len(header):
            yield BadRecord(location, f"{len(row)} fields in a table of {len(header)} columns")
        else:
            values = dict(zip(header, row, strict=True))
            yield document_from_fields(values, source.fields, location=location, default_id=f"{name}:{rows.line_num}")


def read_parquet(path: Path, name: str, source: Source) -> Reading:
    """Parquet: one document per row; columns are fields."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        yield BadRecord(str(path), missing("pyarrow", "parquet"), whole_file=True)
        return
    number = 0
    try:
        with ParquetFile(path) as file:
            if bad := _without_text(file.schema_arrow.names, source.fields, str(path), "its columns are"):
                yield bad
                return
            for batch in file.iter_batches(BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    values = {key: as_json(value) for key, value in row.items()}
                    location = f"{path}:{number}"
                    yield document_from_fields(values, source.fields, location=location, default_id=f"{name}:{number}")
    except Exception as error:  # noqa: BLE001 - a parser may raise anything for a damaged file
        yield BadRecord(str(path), f"cannot be read as Parquet ({first_line(error)[:200]})", whole_file=True)


def _without_text(columns: list[str], fields: FieldNames, location: str, phrase: str) -> BadRecord | None:
    """The bad record of a table without a column for title or text; None for a good table.

    phrase: how the reason introduces the columns.
    """
    if set(columns) & {*fields.text, *fields.titles}:
        return None
    wanted = ", ".join((*fields.text, *fields.titles))
    return BadRecord(
        location,
        f"no column for the text: {phrase} {', '.join(columns)[:200]}; name one of them {wanted}, or say in the recipe"
        " which one it is (sources.fields.text)",
        whole_file=True,
    )


def document_from_fields(
    values: Mapping[str, JsonValue], fields: FieldNames, *, location: str, default_id: str
) -> Document | BadRecord:
    """Make a document of a record: id, title and text are taken from their fields, the others become metadata."""
    metadata = dict(values)
    parts: dict[str, str] = {}
    for role, names in (("id", fields.id), ("title", fields.titles), ("text", fields.text)):
        present = [name for name in names if metadata.get(name) not in (None, "")]
        used = present if role == "text" and fields.joined else present[:1]
        for name in used:
            if not isinstance(metadata[name], str | int | float):
                return BadRecord(location, f"its field {name!r} is not text: the {role} must be text or a number")
        parts[role] = clean("\n\n".join(str(metadata.pop(name)) for name in used))
    if not parts["title"] and not parts["text"]:
        expected = ", ".join((*fields.text, *fields.titles))
        return BadRecord(location, f"an empty document: none of its fields {expected} holds any text")
    return checked(
        Document(
            id=parts["id"] or default_id,
            title=parts["title"],
            text=parts["text"],
            source=default_id,
            metadata={key: value for key, value in metadata.items() if value not in (None, "")},
        ),
        location,
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
