"""Reads and writes labels and clicks as files: JSON lines, or the judgments alone as queries.jsonl and qrels.tsv."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from semsearch.errors import LabelError
from semsearch.metalearn.datasets import read_labels
from semsearch.storage.former_names import accept_former_names
from semsearch.system.files import atomic_write
from semsearch.types import Click, Label


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str | None = Field(None, min_length=1, max_length=200)
    domain: str | None = Field(None, min_length=1, max_length=200)
    query: str
    user: str = ""
    source: str | None = None
    at: datetime | None = None


class _LabelRecord(_Record):
    _former = model_validator(mode="before")(accept_former_names(gain="relevance"))

    kind: Literal["label"] = "label"
    document: str = Field(min_length=1)
    relevance: float = Field(1.0, ge=0, allow_inf_nan=False)


class _ClickRecord(_Record):
    kind: Literal["click"]
    document: str | None = None
    position: int | None = Field(None, ge=1)
    shown: tuple[str, ...] = ()


def read_entries(path: Path, *, domain: str, source: str) -> list[Label | Click]:
    """Read the labels and clicks of a file of JSON lines, or the labels of a folder with queries.jsonl and qrels.tsv.

    domain, source: of entries that name none. An entry without an id gets a hash of its content as id, so that reading
    a file twice gives the same entries. Raises LabelError, which names the file and the line, if it cannot be read.
    """
    if path.is_dir():
        return [
            _entry(_LabelRecord(query=query, document=document, relevance=relevance), domain, source)
            for query, judgments in read_labels(path)
            for document, relevance in judgments.items()
        ]
    return [_entry(record, domain, source) for record in _read_lines(path)]


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
    """Write the last label of each query and document as queries.jsonl and qrels.tsv, and return their number.

    Labels without a query are left out. Raises LabelError if the files cannot be written, or if a document's id
    contains a tab or a line break.
    """
    relevance: dict[tuple[str, str], float] = {}
    for label in labels:
        if label.query.strip():
            if any(separator in label.document for separator in "\t\r\n"):
                raise LabelError(f"the id {label.document!r} contains a tab or a line break: export JSON lines instead")
            relevance[label.query, label.document] = label.relevance
    query_ids = {query: number for number, query in enumerate(dict.fromkeys(query for query, _ in relevance), start=1)}
    rows = [f"{query_ids[query]}\t{document}\t{value:g}" for (query, document), value in relevance.items()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_lines(folder / "queries.jsonl", [{"_id": str(n), "text": query} for query, n in query_ids.items()])
        with atomic_write(folder / "qrels.tsv") as unfinished:
            unfinished.write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n", encoding="utf-8")
    except OSError as error:
        raise LabelError(f"{folder} cannot be written ({error.strerror}): choose another path") from error
    return len(relevance)


def _read_lines(path: Path) -> Iterator[_LabelRecord | _ClickRecord]:
    """Yield the records of a file of JSON lines; blank lines are skipped."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse_line(line, f"{path}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            f"{path} cannot be read ({error}): give JSON lines, or a folder with queries.jsonl and qrels.tsv"
        ) from error


def _parse_line(line: str, location: str) -> _LabelRecord | _ClickRecord:
    """Parse one JSON line. location: `file:line`, for errors."""
    try:
        kind = json.loads(line).get("kind")
        return (_ClickRecord if kind == "click" else _LabelRecord).model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise LabelError(f"{location}: {field + ': ' if field else ''}{first['msg']}") from error
    except (ValueError, AttributeError) as error:
        raise LabelError(f"{location}: not a JSON object ({error})") from error


def _entry(record: _LabelRecord | _ClickRecord, domain: str, source: str) -> Label | Click:
    """Return the label or click of a record. domain, source: used if the record has none."""
    domain = record.domain or domain
    source = record.source or source
    received_at = record.at or datetime.now(UTC)
    document = record.document
    if isinstance(record, _LabelRecord):
        content: list[object] = ["label", domain, record.query, document, record.relevance, record.user, source]
        return Label(
            id=record.id or _content_id(content),
            domain=domain,
            query=record.query,
            document=record.document,
            relevance=record.relevance,
            user=record.user,
            source=source,
            at=received_at,
        )
    content = ["click", domain, record.query, document, record.position, record.shown, record.user, source]
    position = record.position
    if position is None and document in record.shown:
        position = record.shown.index(document) + 1
    return Click(
        id=record.id or _content_id(content),
        domain=domain,
        query=record.query,
        document=document,
        position=position,
        shown=record.shown,
        user=record.user,
        source=source,
        at=received_at,
    )


def _content_id(content: list[object]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
