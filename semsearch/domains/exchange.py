"""Labels and clicks in and out of a log as files: JSON lines of both, or judgments as queries.jsonl and qrels.tsv."""

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
    """What a file of JSON lines, or a folder with queries.jsonl and qrels.tsv, holds.

    domain, source: where an entry names none. An entry without an id gets one made of its content, so that reading a
    file twice gives the same entries. Raises LabelError, naming file and line, for anything else.
    """
    if path.is_dir():
        return [
            _entry(_LabelRecord(query=query, document=document, relevance=gain), domain, source)
            for query, gains in read_labels(path)
            for document, gain in gains.items()
        ]
    return [_entry(record, domain, source) for record in _lines(path)]


def write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Entries as JSON lines, whole or not at all. Raises LabelError if the disk refuses."""
    try:
        with atomic_write(path) as unfinished:
            unfinished.write_text(
                "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8"
            )
    except OSError as error:
        raise LabelError(f"{path} cannot be written ({error.strerror}): choose another place") from error


def write_qrels(folder: Path, labels: Sequence[Label]) -> int:
    """The last judgment of each query and document as queries.jsonl and qrels.tsv; how many. What was judged without a
    query is left out. Raises LabelError if the disk refuses, or where an id holds a tab or a line's end."""
    judged: dict[tuple[str, str], float] = {}
    for label in labels:
        if label.query.strip():
            if any(sign in label.document for sign in "\t\r\n"):
                raise LabelError(f"the id {label.document!r} holds a tab or a line's end: export JSON lines instead")
            judged[label.query, label.document] = label.relevance
    queries = {query: number for number, query in enumerate(dict.fromkeys(query for query, _ in judged), start=1)}
    rows = [f"{queries[query]}\t{document}\t{gain:g}" for (query, document), gain in judged.items()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_lines(folder / "queries.jsonl", [{"_id": str(n), "text": query} for query, n in queries.items()])
        with atomic_write(folder / "qrels.tsv") as unfinished:
            unfinished.write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n", encoding="utf-8")
    except OSError as error:
        raise LabelError(f"{folder} cannot be written ({error.strerror}): choose another place") from error
    return len(judged)


def _lines(path: Path) -> Iterator[_LabelRecord | _ClickRecord]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    kind = json.loads(line).get("kind")
                    yield (_ClickRecord if kind == "click" else _LabelRecord).model_validate_json(line)
                except (ValueError, AttributeError) as error:
                    if not isinstance(error, ValidationError):
                        raise LabelError(f"{path}:{number}: not a JSON object ({error})") from error
                    first = error.errors(include_input=False, include_url=False)[0]
                    field = ".".join(str(part) for part in first["loc"])
                    raise LabelError(f"{path}:{number}: {field + ': ' if field else ''}{first['msg']}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            f"{path} cannot be read ({error}): give JSON lines, or a folder with queries.jsonl and qrels.tsv"
        ) from error


def _entry(record: _LabelRecord | _ClickRecord, domain: str, source: str) -> Label | Click:
    named = record.domain or domain
    at = record.at or datetime.now(UTC)
    come = record.source or source
    document = record.document
    if isinstance(record, _LabelRecord):
        content: list[object] = ["label", named, record.query, document, record.relevance, record.user, come]
        return Label(
            record.id or _identity(content),
            named,
            record.query,
            record.document,
            record.relevance,
            record.user,
            come,
            at,
        )
    content = ["click", named, record.query, document, record.position, record.shown, record.user, come]
    position = record.position
    if position is None and document in record.shown:
        position = record.shown.index(document) + 1
    return Click(
        record.id or _identity(content), named, record.query, document, position, record.shown, record.user, come, at
    )


def _identity(content: list[object]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
