"""Reads files of many records: JSON lines, CSV, TSV and Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from semsearch.errors import first_line
from semsearch.ingest.readers.content import MAX_PACKED_BYTES, iso_date
from semsearch.ingest.readers.delimited import column_names, read_rows
from semsearch.ingest.readers.files import (
    MAX_RECORD_BYTES,
    UNREADABLE,
    BadRecord,
    Reading,
    as_json,
    checked,
    clean,
    lines,
    missing,
    open_text,
    read_bytes,
    unreadable,
    wrong_encoding,
)
from semsearch.ingest.readers.json_text import BLANK, NOT_AN_OBJECT, parse_object, split_records
from semsearch.ingest.recipe import FieldNames, Source
from semsearch.system.compression import COMPRESSED
from semsearch.types import Document, is_unicode

MAX_NUMBER = 10**300
"""A number in place of a text is below it."""
BATCH_ROWS = 1_000
"""Rows of a Parquet file that are in memory at a time."""


def read_jsonl(path: Path, name: str, source: Source) -> Reading:
    """JSON lines: one object per line."""
    for number, line in lines(path, source.encoding):
        if isinstance(line, BadRecord):
            yield line
        elif line.strip(BLANK):
            yield from _from_json(line, source, location=f"{path}:{number}", default_id=f"{name}:{number}")


def read_json(path: Path, name: str, source: Source) -> Reading:
    """JSON: an array of objects, objects one after the other, or one object; each is a document, counted from 1.

    A file that was read whole, and of which no record is an object with a text, holds no documents, such as a settings
    file. If one is, the others are bad records.
    """
    waiting: list[BadRecord] = []
    """The first records without a text, until there is another record."""
    count = 0
    """Number of records without a text so far."""
    is_decided = False
    for record in _json_records(path, name, source):
        if not is_decided and isinstance(record, BadRecord) and _is_without_text(record, source.fields):
            count += 1
            if count <= BATCH_ROWS:
                waiting.append(record)
            continue
        if not is_decided:
            is_decided = True
            yield from waiting
            if count > len(waiting):
                yield BadRecord(str(path), f"{count - len(waiting):,} more of its first records have no text")
        yield record
    if count and not is_decided:
        reason = f"it holds no documents: {_no_text(source.fields)}; if they are in a list within it, write that alone"
        yield BadRecord(str(path), reason, whole_file=True, is_empty=True)


def _json_records(path: Path, name: str, source: Source) -> Reading:
    try:
        with open_text(path, source.encoding) as file:
            for number, record in enumerate(split_records(file), start=1):
                location = f"{path}:{record.line}"
                if record.is_cut_off:
                    yield BadRecord(location, "cut off: its array has no end", whole_file=True)
                elif record.reason:
                    yield BadRecord(location, record.reason)
                elif record.text is None:
                    yield BadRecord(location, f"longer than {MAX_RECORD_BYTES} characters: split it")
                elif not is_unicode(record.text):
                    yield BadRecord(location, wrong_encoding(source.encoding))
                else:
                    yield from _from_json(record.text, source, location=location, default_id=f"{name}:{number}")
                if record.is_rest:
                    reason = "from here on no record was found, because of what is not JSON before: correct that"
                    yield BadRecord(location, reason, whole_file=True)
    except UnicodeError:
        yield BadRecord(str(path), wrong_encoding(source.encoding), whole_file=True)
    except UNREADABLE as error:
        yield unreadable(path, error)


def _is_without_text(record: BadRecord, fields: FieldNames) -> bool:
    return record.reason.endswith((_no_text(fields), NOT_AN_OBJECT))


def _no_text(fields: FieldNames) -> str:
    return f"none of its fields {', '.join((*fields.text, *fields.titles))} holds any text"


def _from_json(text: str, source: Source, *, location: str, default_id: str) -> Reading:
    """The document of a JSON object, and what is missing from it."""
    try:
        values, repeated = parse_object(text.strip(BLANK))
    except ValueError as error:
        yield BadRecord(location, str(error))
        return
    document = document_from_fields(values, source.fields, location=location, default_id=default_id)
    yield document
    if repeated and isinstance(document, Document):
        names = ", ".join(map(repr, repeated))[:200]
        yield BadRecord(location, f"{names} occurs more than once: only the last value was read", is_loss=True)


def read_csv(path: Path, name: str, source: Source) -> Reading:
    """CSV or TSV: one document per row; the first row names the columns."""
    names: list[str] = []
    known = (*source.fields.text, *source.fields.titles, *source.fields.id)
    for row in read_rows(path, source.encoding, delimiter=source.delimiter, known=known):
        if isinstance(row, BadRecord):
            yield row
            continue
        location = f"{path}:{row.first_line}"
        if not names:
            names, renamed = column_names(row.cells)
            if bad := _without_text(names, source.fields, location, "the first row names"):
                yield bad
                return
            yield from _renamed(renamed, location)
        else:
            values = dict(zip(names, row.cells, strict=True))
            yield document_from_fields(values, source.fields, location=location, default_id=f"{name}:{row.line}")


def read_parquet(path: Path, name: str, source: Source) -> Reading:
    """Parquet: one document per row; columns are fields."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        yield BadRecord(str(path), missing("pyarrow", "parquet"), whole_file=True)
        return
    try:
        # compressed as a whole, although the format compresses its parts
        raw = read_bytes(path, max_bytes=MAX_PACKED_BYTES) if path.suffix.lower() in COMPRESSED else None
        if isinstance(raw, BadRecord):
            yield raw
            return
        with ParquetFile(path if raw is None else BytesIO(raw)) as file:
            names, renamed = column_names(file.schema_arrow.names)
            if bad := _without_text(names, source.fields, str(path), "its columns are"):
                yield bad
                return
            yield from _renamed(renamed, str(path))
            number = 0
            for group in range(file.num_row_groups):
                yield from _row_group(file, group, names, (path, name, source), first=number + 1)
                number += file.metadata.row_group(group).num_rows
    except Exception as error:  # noqa: BLE001 - a parser may raise anything for a damaged file
        yield BadRecord(str(path), f"cannot be read as Parquet ({first_line(error)[:200]})", whole_file=True)


def _row_group(file: Any, group: int, names: list[str], origin: tuple[Path, str, Source], *, first: int) -> Reading:
    """The documents of a row group; if it is damaged, the others are still read. first: number of its first row."""
    path, name, source = origin
    known = {*source.fields.text, *source.fields.titles, *source.fields.id}
    number = first - 1
    try:
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group]):
            for row in zip(*map(_plain_values, batch.columns), strict=True):
                number += 1
                values = {
                    column: as_json(_decoded(value) if column in known else value)
                    for column, value in zip(names, row, strict=True)
                }
                location = f"{path}:{number}"
                yield document_from_fields(values, source.fields, location=location, default_id=f"{name}:{number}")
    except Exception as error:  # noqa: BLE001 - a parser may raise anything for a damaged file
        reason = f"its rows from {number + 1} to the end of a group cannot be read ({first_line(error)[:200]})"
        yield BadRecord(str(path), reason, whole_file=True)


def _decoded(value: Any) -> Any:
    """The text of bytes, as which some programs write texts; other values as they are."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _plain_values(column: Any) -> list[Any]:
    """The values of a column in Python; one that Python does not have, such as a time in nanoseconds, as text."""
    try:
        return cast("list[Any]", column.to_pylist())
    except (ValueError, OverflowError, ArithmeticError, LookupError):
        return [_plain_value(scalar) for scalar in column]


def _plain_value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, ArithmeticError, LookupError):
        import pyarrow

        try:
            return iso_date(scalar.cast(pyarrow.string()).as_py())
        except (pyarrow.ArrowException, ValueError, LookupError):
            # the number behind it, of a time in an unknown zone
            return getattr(scalar, "value", None)


def _renamed(columns: Mapping[str, str], location: str) -> Reading:
    """A note for each column that has the name of an earlier one. columns: former names by new name."""
    for new, name in columns.items():
        reason = f"column {name!r} occurs more than once: a later one is read as {new!r}"
        yield BadRecord(location, reason, is_note=True)


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
        " which one it is (sources.fields.text) and what separates the columns (sources.delimiter)",
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
            value = metadata[name]
            is_number = isinstance(value, int | float) and abs(value) < MAX_NUMBER
            if not isinstance(value, str) and not is_number:
                return BadRecord(location, f"its field {name!r} is not text: the {role} must be text or a number")
        parts[role] = clean("\n\n".join(str(metadata.pop(name)) for name in used))
    if not parts["title"] and not parts["text"]:
        return BadRecord(location, f"an empty document: {_no_text(fields)}")
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
