"""Reads labels and clicks from files, and writes them. What cannot be read of a file is counted, with its reason.

JSON lines hold labels and clicks with all their fields. Tables hold labels, and clicks in a column `kind`; qrels name
queries by ids, whose texts are in another file.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from semsearch.domains.judgments import label_relevance
from semsearch.errors import LabelError
from semsearch.metalearn.datasets import parse_records
from semsearch.metalearn.tables import (
    EXPECTED,
    FIRST_LINES,
    BadLine,
    Layout,
    json_problem,
    numbered,
    parse_number,
    read_rows,
)
from semsearch.storage.entries import click_position, entry_problems, parse_time
from semsearch.storage.former_names import accept_former_names
from semsearch.system.files import atomic_write
from semsearch.types import Click, Label

Row: TypeAlias = tuple[str, Mapping[str, Any]]
"""`file:line`, and the values of an entry by field; a query may be given as `query_id`."""


@dataclass(slots=True)
class Reading:
    """What was read of a file or folder."""

    entries: list[Label | Click] = field(default_factory=list)
    locations: list[str] = field(default_factory=list)
    """`file:line` of each entry."""
    left_out: list[BadLine] = field(default_factory=list)
    """Lines that were not read."""
    notes: list[str] = field(default_factory=list)
    """What was read in another way than it was written."""

    @property
    def count(self) -> int:
        """Number of lines that were read or left out."""
        return len(self.entries) + len(self.left_out)

    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Leave out entries. reasons: by the entry's index."""
        self.left_out += [BadLine(self.locations[index], reason) for index, reason in reasons.items()]
        kept = [index for index in range(len(self.entries)) if index not in reasons]
        self.entries = [self.entries[index] for index in kept]
        self.locations = [self.locations[index] for index in kept]

    def leave_out_missing(self, existing: Collection[str]) -> None:
        """Leave out the entries about other documents than the existing ones."""
        self.leave_out(
            {
                index: f"the index has no document {entry.document[:80]!r}"
                for index, entry in enumerate(self.entries)
                if entry.document is not None and entry.document not in existing
            }
        )

    def check(self, *, strict: bool) -> None:
        """Raise LabelError for the first line that was left out, if `strict`, or if nothing was read."""
        if self.left_out and (strict or not self.entries):
            what = "stopped at the first bad line, because of --strict" if strict else "nothing can be imported"
            raise LabelError(f"{self.left_out[0]} ({what})")


class _Record(BaseModel):
    # logs also have numbers as ids
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    id: str | None = None
    domain: str | None = None
    query: str
    user: str = ""
    source: str | None = None
    at: Annotated[datetime | None, BeforeValidator(lambda value: None if value is None else parse_time(value))] = None


class _LabelRecord(_Record):
    _former = model_validator(mode="before")(accept_former_names(gain="relevance"))

    kind: Literal["label"] = "label"
    document: str
    relevance: float = Field(1.0, allow_inf_nan=False)


class _ClickRecord(_Record):
    kind: Literal["click"]
    document: str | None = None
    position: int | None = None
    shown: tuple[str, ...] = ()


def read_entries(path: Path, *, domain: str, source: str, queries: Path | None = None) -> Reading:
    """Read the labels and clicks of a file, or the labels of a folder with queries.jsonl and qrels.tsv.

    domain, source: of entries that name none. queries: file with the texts of queries that are named by ids: JSON lines
    with _id and text, or a table of id and text without a header.

    An entry without an id gets a hash as its id, so that reading a file twice gives the same entries: of its content
    and time, or, without a time, of its content and the number of the same lines before it. An entry without a time
    gets the present one. A relevance below 0, as TREC has it, is 0. Raises LabelError if nothing can be read.
    """
    reading = Reading()
    texts: dict[str, str] | None
    if path.is_dir():
        texts = _read_queries(queries or path / "queries.jsonl", reading)
        rows: Iterator[Row | BadLine | Layout] = (row for file in _qrels_files(path) for row in read_rows(file))
    else:
        texts = None if queries is None else _read_queries(queries, reading)
        rows = _read_json(path) if _is_json(path) else read_rows(path)
    builder = _Builder(domain, source, texts)
    for row in rows:
        if isinstance(row, Layout):
            reading.notes += [f"the column {name!r} of {path} is not used" for name in row.unused]
            if "query_id" in row.fields and texts is None:
                raise LabelError(f"{path} names queries by ids: give the file of their texts with --queries FILE")
            continue
        entry = row if isinstance(row, BadLine) else builder.build(*row)
        if isinstance(entry, BadLine):
            reading.left_out.append(entry)
        else:
            reading.entries.append(entry)
            reading.locations.append(row[0] if isinstance(row, tuple) else "")
    if builder.negatives:
        were = "relevance below 0 was" if builder.negatives == 1 else "relevances below 0 were"
        reading.notes.append(f"{builder.negatives:,} {were} read as 0, not relevant")
    if not (reading.entries or reading.left_out):
        raise LabelError(f"{path} holds no labels or clicks: {EXPECTED}")
    return reading


def write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write records as JSON lines, atomically. Raises LabelError if the file cannot be written."""
    try:
        with atomic_write(path) as unfinished:
            unfinished.write_text(
                "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8"
            )
    except OSError as error:
        raise LabelError(f"{path} cannot be written ({error.strerror}): choose another path") from error


def write_qrels(folder: Path, labels: Sequence[Label]) -> int:
    """Write the merged labels (`label_relevance`) as queries.jsonl and qrels.tsv, and return their number.

    Labels without a query are left out. Raises LabelError if the files cannot be written, or if a document's id
    contains a tab or a line break.
    """
    merged = label_relevance(labels)
    judgments = [
        (number, document, relevance)
        for number, documents in enumerate(merged.values(), start=1)
        for document, relevance in documents.items()
    ]
    for _, document, _ in judgments:
        if any(separator in document for separator in "\t\r\n"):
            raise LabelError(f"the id {document!r} contains a tab or a line break: export JSON lines instead")
    rows = [f"{number}\t{document}\t{relevance:g}" for number, document, relevance in judgments]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_lines(
            folder / "queries.jsonl", [{"_id": str(n), "text": query} for n, query in enumerate(merged, start=1)]
        )
        with atomic_write(folder / "qrels.tsv") as unfinished:
            unfinished.write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n", encoding="utf-8")
    except OSError as error:
        raise LabelError(f"{folder} cannot be written ({error.strerror}): choose another path") from error
    return len(judgments)


def _qrels_files(folder: Path) -> list[Path]:
    """The qrels of a folder in BEIR's layout: qrels.tsv, or every file of the folder qrels."""
    single = folder / "qrels.tsv"
    return [single] if single.exists() else sorted((folder / "qrels").glob("*.tsv")) or [single]


def _read_queries(path: Path, reading: Reading) -> dict[str, str]:
    """Return the texts of queries by id. Lines that cannot be read are added to `reading.left_out`."""
    texts: dict[str, str] = {}
    for record in parse_records(path) if _is_json(path) else _tabbed_queries(path):
        if isinstance(record, BadLine):
            reading.left_out.append(record)
        else:
            texts[record[0]] = record[1]["text"]
    return texts


def _tabbed_queries(path: Path) -> Iterator[tuple[str, dict[str, str]] | BadLine]:
    for number, line in numbered(path):
        if isinstance(line, BadLine):
            yield line
            continue
        query_id, tab, text = line.partition("\t")
        if tab and text.strip():
            yield query_id.strip(), {"text": text.strip()}
        else:
            yield BadLine(f"{path}:{number}", "not an id and a query's text, separated by a tab")


def _is_json(path: Path) -> bool:
    """Whether one of the first lines begins as a JSON object. Raises LabelError for an array."""
    first = [line.lstrip() for _, line in islice(numbered(path), FIRST_LINES) if isinstance(line, str)]
    if first and first[0].startswith("["):
        raise LabelError(f"{path} is a JSON array: write one object on each line")
    return any(line.startswith("{") for line in first)


def _read_json(path: Path) -> Iterator[Row | BadLine]:
    for number, line in numbered(path):
        if isinstance(line, BadLine):
            yield line
            continue
        location = f"{path}:{number}"
        try:
            values = from_json(line)
        except ValueError as error:
            yield BadLine(location, json_problem(error))
            continue
        yield (location, values) if isinstance(values, dict) else BadLine(location, "not a JSON object")


class _Builder:
    """Turns the rows of one file into labels and clicks."""

    def __init__(self, domain: str, source: str, queries: Mapping[str, str] | None) -> None:
        self._domain = domain
        self._source = source
        self._queries = queries
        self._now = datetime.now(UTC)
        self._seen: Counter[str] = Counter()
        """Number of entries without a time by their content."""
        self.negatives = 0
        """Number of labels whose relevance was below 0."""

    def build(self, location: str, values: Mapping[str, Any]) -> Label | Click | BadLine:
        """Return the entry of a row, or the reason that there is none."""
        try:
            record = self._parse(values)
        except ValidationError as error:
            return BadLine(location, _first_problem(error, "click" if values.get("kind") == "click" else "label"))
        except ValueError as error:
            return BadLine(location, str(error))
        entry = self._entry(record)
        for name, reason in entry_problems(entry):
            return BadLine(location, f"{name}: {reason}")
        return entry

    def _parse(self, values: Mapping[str, Any]) -> _LabelRecord | _ClickRecord:
        """Raises ValueError, of which ValidationError is one, with the reason."""
        values = {name: value for name, value in values.items() if name != "iteration"}
        query_id = values.pop("query_id", None)
        if query_id is not None and "query" not in values:
            values["query"] = (self._queries or {}).get(str(query_id))
            if values["query"] is None:
                raise ValueError(f"no query has the id {str(query_id)[:80]!r}")
        if isinstance(values.get("shown"), str):
            values["shown"] = values["shown"].split()
        if values.get("kind") == "click":
            return _ClickRecord.model_validate(values)
        relevance = values.get("relevance")
        if isinstance(relevance, str) and parse_number(relevance) is None:
            raise ValueError(f"the relevance is {relevance[:40]!r}, not a number")
        return _LabelRecord.model_validate(values)

    def _entry(self, record: _LabelRecord | _ClickRecord) -> Label | Click:
        domain, source = record.domain or self._domain, record.source or self._source
        at = record.at or self._now
        if isinstance(record, _LabelRecord):
            self.negatives += record.relevance < 0
            relevance = max(record.relevance, 0.0)
            content = ["label", domain, record.query, record.document, relevance, record.user, source]
            entry_id = self._id(record, content)
            return Label(entry_id, domain, record.query, record.document, relevance, record.user, source, at)
        document, shown = record.document, record.shown
        content = ["click", domain, record.query, document, record.position, shown, record.user, source]
        position = click_position(document, record.position, shown)
        return Click(
            self._id(record, content), domain, record.query, document, position, shown, record.user, source, at
        )

    def _id(self, record: _LabelRecord | _ClickRecord, content: list[Any]) -> str:
        """Return the record's id, else a hash.

        Of a first entry without a time it is the hash that semsearch 0.1 gave, so that its imports are recognized.
        """
        if record.id is not None:
            return record.id
        if record.at is not None:
            return _hash([*content, record.at.isoformat()])
        plain = _hash(content)
        self._seen[plain] += 1
        return plain if self._seen[plain] == 1 else _hash([*content, self._seen[plain]])


_SENTENCES = {
    "missing": "missing",
    "string_type": "not a text",
    "float_type": "not a number",
    "float_parsing": "not a number",
    "finite_number": "not a finite number",
    "int_type": "not a whole number",
    "int_parsing": "not a whole number",
    "int_from_float": "not a whole number",
    "tuple_type": "not a list",
    "literal_error": "neither label nor click",
}
"""What is wrong with a field, by the type of pydantic's error."""


def _first_problem(error: ValidationError, kind: str) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{name}: a {kind} has no field of this name"
    sentence = _SENTENCES.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{name}: {sentence}" if name else sentence


def _hash(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
