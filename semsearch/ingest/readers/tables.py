"""Files of many records to documents: JSON lines, tables, Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import JsonValue

from semsearch.errors import first_line
from semsearch.ingest.readers.files import (
    LONGEST_RECORD,
    UNREADABLE,
    BadRecord,
    Reading,
    as_json,
    checked,
    clean,
    kind,
    lines,
    missing,
    opened_text,
    unreadable,
    wrong_encoding,
)
from semsearch.ingest.recipe import FieldNames, Source
from semsearch.types import Document, is_unicode

ROWS_AT_ONCE = 1_000
"""Rows of a Parquet file that are in memory together."""


def read_jsonl(path: Path, name: str, source: Source) -> Reading:
    """A JSON object a line."""
    for number, line in lines(path, source.encoding):
        place = f"{path}:{number}"
        if isinstance(line, BadRecord):
            yield line
        elif line.strip():
            try:
                values = json.loads(line, parse_constant=_refuse_constant)
            except ValueError as error:
                yield BadRecord(place, f"not JSON ({error}): each line must hold one object")
                continue
            if isinstance(values, dict):
                yield document_from_fields(values, source.fields, place=place, default_id=f"{name}:{number}")
            else:
                yield BadRecord(place, f"a JSON {type(values).__name__}, not an object with a text")


def read_csv(path: Path, name: str, source: Source) -> Reading:
    """A row a document, by comma or by tab; the first row names the columns."""
    csv.field_size_limit(LONGEST_RECORD)
    try:
        with opened_text(path, source.encoding) as file:
            rows = csv.reader(file, csv.excel_tab if kind(path) == ".tsv" else csv.excel, strict=True)
            yield from _rows(rows, path, name, source)
    except UNREADABLE as error:
        yield unreadable(path, error)


def _rows(rows: Any, path: Path, name: str, source: Source) -> Reading:
    header: list[str] | None = None
    while True:
        place = f"{path}:{rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRecord(place, f"not a row of comma- or tab-separated values ({error})")
            continue
        except UnicodeError:
            yield BadRecord(place, wrong_encoding(source.encoding))
            return
        if not row:
            continue
        if not all(map(is_unicode, row)):
            yield BadRecord(place, wrong_encoding(source.encoding))
        elif header is None:
            header = [column.strip() for column in row]
            if bad := _without_text(header, source.fields, place, "the first row names"):
                yield bad
                return
        elif len(row) != len(header):
            yield BadRecord(place, f"{len(row)} fields in a table of {len(header)} columns")
        else:
            values = dict(zip(header, row, strict=True))
            yield document_from_fields(values, source.fields, place=place, default_id=f"{name}:{rows.line_num}")


def read_parquet(path: Path, name: str, source: Source) -> Reading:
    """A row a document; columns are fields."""
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
            for batch in file.iter_batches(ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    values = {key: as_json(value) for key, value in row.items()}
                    place = f"{path}:{number}"
                    yield document_from_fields(values, source.fields, place=place, default_id=f"{name}:{number}")
    except Exception as error:  # noqa: BLE001 (of a damaged file a parser may complain in any way)
        yield BadRecord(str(path), f"cannot be read as Parquet ({first_line(error)[:200]})", whole_file=True)


def _without_text(columns: list[str], fields: FieldNames, place: str, said: str) -> BadRecord | None:
    """What is wrong with a table that has no column for the text."""
    if set(columns) & {*fields.text, *fields.titles}:
        return None
    wanted = ", ".join((*fields.text, *fields.titles))
    return BadRecord(
        place,
        f"no column for the text: {said} {', '.join(columns)[:200]}; name one of them {wanted}, or say in the recipe"
        " which one it is (sources.fields.text)",
    )


def document_from_fields(
    values: Mapping[str, JsonValue], fields: FieldNames, *, place: str, default_id: str
) -> Document | BadRecord:
    """A record as a document: the fields that mean something taken out, the rest its metadata."""
    rest = dict(values)
    parts: dict[str, str] = {}
    for meaning, names in (("id", fields.id), ("title", fields.titles), ("text", fields.text)):
        present = [name for name in names if rest.get(name) not in (None, "")]
        taken = present if meaning == "text" and fields.joined else present[:1]
        for name in taken:
            if not isinstance(rest[name], str | int | float):
                return BadRecord(place, f"its field {name!r} is no text: the {meaning} must be text or a number")
        parts[meaning] = clean("\n\n".join(str(rest.pop(name)) for name in taken))
    if not parts["title"] and not parts["text"]:
        looked_for = ", ".join((*fields.text, *fields.titles))
        return BadRecord(place, f"an empty document: none of its fields {looked_for} holds any text")
    return checked(
        Document(
            id=parts["id"] or default_id,
            title=parts["title"],
            text=parts["text"],
            source=default_id,
            metadata={key: value for key, value in rest.items() if value not in (None, "")},
        ),
        place,
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
