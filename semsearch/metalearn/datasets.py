"""Labelled domains as they stand on disk. Does not depend on vectors.

A domain is a folder in BEIR's layout (Thakur et al. 2021, arXiv:2104.08663): corpus.jsonl, queries.jsonl, qrels.tsv.
Without qrels.tsv the corpus labels itself: titles, or first sentences, are queries for the rest of their documents.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semsearch.adapters.support import Judgments
from semsearch.errors import LabelError


@dataclass(frozen=True)
class LabelledTexts:
    """A domain as it stands on disk."""

    name: str
    family: str
    """Domains of one family resemble each other: what is measured on one must not be learned on another."""
    open_licence: bool
    """Whether weights that are given away may be trained on it; False where nothing says so."""
    documents: Sequence[str]
    queries: Sequence[str]
    """Judged queries only."""
    judgments: Sequence[Judgments]
    """One a query."""
    labelled: bool
    """False where the corpus labelled itself."""


def find_datasets(paths: Sequence[Path]) -> list[Path]:
    """Folders that hold a corpus.jsonl: those named, and those inside them. Raises LabelError where there is none, or
    where two have one name."""
    found: list[Path] = []
    for path in paths:
        if (path / "corpus.jsonl").is_file():
            found.append(path)
            continue
        inside = sorted(child.parent for child in path.glob("*/corpus.jsonl"))
        if not inside:
            raise LabelError(f"{path} is no domain and holds none: a domain is a folder with corpus.jsonl")
        found += inside
    found = list(dict.fromkeys(path.resolve() for path in found))
    names = [path.name for path in found]
    for name in names:
        if names.count(name) > 1:
            raise LabelError(f"two domains are called {name!r}: rename one's folder")
    return found


def read_texts(folder: Path) -> LabelledTexts:
    """A domain's folder. Raises LabelError, naming file and line, for one that cannot be read or has no judgments."""
    documents = read_records(folder / "corpus.jsonl")
    rows = {identity: row for row, identity in enumerate(documents)}
    about = _about(folder)
    family, open_licence = str(about.get("family", folder.name)), about.get("open_licence") is True
    if not (folder / "qrels.tsv").exists():
        queries, bodies = _self_labels(documents.values())
        if len(queries) < 2:
            raise LabelError(f"{folder} has no qrels.tsv, and fewer than 2 documents have a title or two sentences")
        judgments = [{row: 1.0} for row in range(len(queries))]
        return LabelledTexts(folder.name, family, open_licence, bodies, queries, judgments, labelled=False)
    asked = read_records(folder / "queries.jsonl")
    judged = read_qrels(folder / "qrels.tsv", set(asked), rows)
    if len(judged) < 2:
        raise LabelError(f"{folder / 'qrels.tsv'} judges {len(judged)} queries: at least 2 are needed")
    chosen = [identity for identity in asked if identity in judged]
    return LabelledTexts(
        folder.name,
        family,
        open_licence,
        [_whole(record) for record in documents.values()],
        [asked[identity]["text"] for identity in chosen],
        [{rows[document]: gain for document, gain in judged[identity].items()} for identity in chosen],
        labelled=True,
    )


def read_labels(folder: Path) -> list[tuple[str, dict[str, float]]]:
    """Judged queries by text, with their documents' ids and gains ≥ 0, from queries.jsonl and qrels.tsv. Raises
    LabelError as `read_texts` does; whether the documents exist is not known here."""
    asked = read_records(folder / "queries.jsonl")
    judged = read_qrels(folder / "qrels.tsv", set(asked), None, above=-1e-9)
    return [(asked[identity]["text"], gains) for identity, gains in judged.items()]


def read_records(path: Path) -> dict[str, dict[str, str]]:
    """id → title and text of a file of records. Raises LabelError with file and line for anything else."""
    records: dict[str, dict[str, str]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = json.loads(line)
                    identity, text, title = str(record["_id"]), record["text"], record.get("title") or ""
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise LabelError(f"{path}:{number}: not a record with _id and text ({error})") from error
                if not isinstance(text, str) or not isinstance(title, str):
                    raise LabelError(f"{path}:{number}: title and text must be strings")
                if identity in records:
                    raise LabelError(f"{path}:{number}: the id {identity!r} stands there twice")
                records[identity] = {"title": title, "text": text}
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            f"{path} cannot be read ({error}): give a folder with corpus.jsonl and queries.jsonl"
        ) from error
    return records


def read_qrels(
    path: Path, queries: set[str], documents: Mapping[str, int] | None, *, above: float = 0
) -> dict[str, dict[str, float]]:
    """Query id → document id → gain, larger ones only; documents: those that exist, where that is known."""
    judged: dict[str, dict[str, float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for number, columns in enumerate(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
                if number == 1 and columns[:1] == ["query-id"]:
                    continue
                try:
                    query, document, score = columns
                    gain = float(score)
                except ValueError as error:
                    raise LabelError(f"{path}:{number}: not query-id, corpus-id and score ({error})") from error
                if not math.isfinite(gain):
                    raise LabelError(f"{path}:{number}: the score is {score}, not a finite number")
                if query not in queries or (documents is not None and document not in documents):
                    missing = query if query not in queries else document
                    raise LabelError(f"{path}:{number}: nothing has the id {missing!r}")
                if gain > above:
                    judged.setdefault(query, {})[document] = gain
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path} cannot be read ({error}): give query-id, corpus-id and score, by tab") from error
    return judged


def _about(folder: Path) -> dict[str, object]:
    """Family and licence: from domains.json beside or above the folder, else from its own meta.json."""
    for path in (folder.parent / "domains.json", folder.parent.parent / "domains.json"):
        if path.exists():
            for row in json.loads(path.read_text(encoding="utf-8")):
                if row.get("name") == folder.name:
                    return dict(row)
    own = folder / "meta.json"
    return dict(json.loads(own.read_text(encoding="utf-8"))) if own.exists() else {}


def _whole(record: Mapping[str, str]) -> str:
    return f"{record['title']} {record['text']}".strip()


_SENTENCE = re.compile(r"(?<=[.!?。!?؟])\s+|\n+")


def _self_labels(records: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """(queries, documents): each title asks for its text, or each first sentence for what follows it."""
    queries, documents = [], []
    for record in records:
        title, text = record["title"].strip(), record["text"].strip()
        if not title:
            title, text = _split(text)
        if title and text:
            queries.append(title)
            documents.append(text)
    return queries, documents


def _split(text: str) -> tuple[str, str]:
    """(first sentence, what follows it); no first sentence where nothing follows."""
    parts = _SENTENCE.split(text, maxsplit=1)
    return (parts[0], parts[1]) if len(parts) == 2 else ("", text)
