"""Reads labelled data sets. Does not depend on vectors.

A data set is a folder in BEIR's layout (Thakur et al. 2021, arXiv:2104.08663): corpus.jsonl, queries.jsonl, qrels.tsv.
Without qrels.tsv the corpus labels itself: each title, or first sentence, is a query for the rest of its document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json

from semsearch.adapters.support import Judgments
from semsearch.errors import LabelError
from semsearch.metalearn.tables import BadLine, Layout, json_problem, numbered, parse_number, read_rows


@dataclass(frozen=True)
class LabelledTexts:
    """The texts and judgments of a data set."""

    name: str
    family: str
    """Data sets of one family resemble each other: weights trained on one must not be evaluated on another."""
    open_licence: bool
    """Whether weights that are distributed may be trained on it; False unless its description says so."""
    documents: Sequence[str]
    queries: Sequence[str]
    """Judged queries only."""
    judgments: Sequence[Judgments]
    """One for each query, by row in `documents`."""
    labelled: bool
    """False if the corpus labelled itself."""
    language: str = ""
    """Primary subtag of the language of its texts, such as `en`; empty if its description has none."""


def find_datasets(paths: Sequence[Path]) -> list[Path]:
    """Return the folders with a corpus.jsonl among `paths`, or directly inside them.

    Raises LabelError for a path without one, or two folders of one name.
    """
    folders: list[Path] = []
    for path in paths:
        if (path / "corpus.jsonl").is_file():
            folders.append(path)
            continue
        children = sorted(child.parent for child in path.glob("*/corpus.jsonl"))
        if not children:
            raise LabelError(f"{path} is no data set and contains none: a data set is a folder with corpus.jsonl")
        folders += children
    folders = list(dict.fromkeys(folder.resolve() for folder in folders))
    names = [folder.name for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise LabelError(f"two data sets are called {name!r}: rename one of the folders")
    return folders


def read_texts(folder: Path) -> LabelledTexts:
    """Read a data set.

    Raises LabelError, with file and line, if it cannot be read or has fewer than 2 judged queries.
    """
    documents = read_records(folder / "corpus.jsonl")
    rows = {doc_id: row for row, doc_id in enumerate(documents)}
    description = _description(folder)
    family, open_licence = str(description.get("family", folder.name)), description.get("open_licence") is True
    language = _language(description, folder)
    if not (folder / "qrels.tsv").exists():
        queries, targets = _self_labels(documents.values())
        if len(queries) < 2:
            raise LabelError(f"{folder} has no qrels.tsv, and fewer than 2 documents have a title or two sentences")
        judgments = [{row: 1.0} for row in range(len(queries))]
        return LabelledTexts(
            folder.name, family, open_licence, targets, queries, judgments, labelled=False, language=language
        )
    records = read_records(folder / "queries.jsonl")
    qrels = read_qrels(folder / "qrels.tsv", set(records), rows)
    if len(qrels) < 2:
        raise LabelError(f"{folder / 'qrels.tsv'} judges {len(qrels)} queries: at least 2 are needed")
    judged = [query_id for query_id in records if query_id in qrels]
    return LabelledTexts(
        folder.name,
        family,
        open_licence,
        [_full_text(record) for record in documents.values()],
        [records[query_id]["text"] for query_id in judged],
        [{rows[doc_id]: relevance for doc_id, relevance in qrels[query_id].items()} for query_id in judged],
        labelled=True,
        language=language,
    )


def read_labels(folder: Path) -> list[tuple[str, dict[str, float]]]:
    """Read queries.jsonl and qrels.tsv: each judged query's text, with document id → relevance ≥ 0.

    The documents need not exist. Raises LabelError, with file and line, if a file cannot be read.
    """
    records = read_records(folder / "queries.jsonl")
    labels: dict[str, dict[str, float]] = {}
    for query_id, doc_id, relevance in _judgments(folder / "qrels.tsv", set(records), None):
        labels.setdefault(query_id, {})[doc_id] = relevance
    return [(records[query_id]["text"], relevance) for query_id, relevance in labels.items()]


def read_records(path: Path) -> dict[str, dict[str, str]]:
    """Read corpus.jsonl or queries.jsonl: id → title and text. Raises LabelError, with file and line."""
    records: dict[str, dict[str, str]] = {}
    for record in parse_records(path):
        if isinstance(record, BadLine):
            raise LabelError(str(record))
        record_id, values = record
        records[record_id] = values
    return records


def parse_records(path: Path) -> Iterator[tuple[str, dict[str, str]] | BadLine]:
    """Yield (id, title and text) of each line of corpus.jsonl or queries.jsonl, or a BadLine.

    Raises LabelError if the file cannot be read at all.
    """
    seen: set[str] = set()
    for number, line in numbered(path):
        location = f"{path}:{number}"
        record = _parse_record(line, location) if isinstance(line, str) else line
        if not isinstance(record, BadLine):
            if record[0] in seen:
                record = BadLine(location, f"the id {record[0]!r} occurs twice")
            else:
                seen.add(record[0])
        yield record


def _parse_record(line: str, location: str) -> tuple[str, dict[str, str]] | BadLine:
    try:
        record = from_json(line)
    except ValueError as error:
        return BadLine(location, f"{json_problem(error)}: write one object with _id and text on each line")
    if not isinstance(record, dict) or "text" not in record or not isinstance(record.get("_id"), str | int):
        return BadLine(location, "not an object with _id and text")
    text, title = record["text"], record.get("title") or ""
    if not isinstance(text, str) or not isinstance(title, str):
        return BadLine(location, "title and text must be texts")
    return str(record["_id"]), {"title": title, "text": text}


def read_qrels(path: Path, queries: set[str], documents: Mapping[str, int] | None) -> dict[str, dict[str, float]]:
    """Read qrels.tsv: query id → document id → relevance > 0. Raises LabelError, with file and line.

    queries: the ids that exist.
    documents: the ids that exist; None: not checked.
    """
    qrels: dict[str, dict[str, float]] = {}
    for query_id, doc_id, relevance in _judgments(path, queries, documents):
        if relevance > 0:
            qrels.setdefault(query_id, {})[doc_id] = relevance
    return qrels


def _judgments(path: Path, queries: set[str], documents: Mapping[str, int] | None) -> Iterator[tuple[str, str, float]]:
    """Yield query id, document id and relevance ≥ 0 of each line; a negative relevance, as TREC has it, is 0."""
    for row in read_rows(path):
        if isinstance(row, Layout):
            continue
        if isinstance(row, BadLine):
            raise LabelError(str(row))
        location, values = row
        query_id, doc_id, score = values.get("query_id", ""), values.get("document", ""), values.get("relevance", "1")
        relevance = parse_number(score)
        if relevance is None:
            raise LabelError(f"{location}: the relevance is {score!r}, not a finite number")
        if query_id not in queries:
            raise LabelError(f"{location}: no query has the id {query_id!r}")
        if documents is not None and doc_id not in documents:
            raise LabelError(f"{location}: no document has the id {doc_id!r}")
        yield query_id, doc_id, max(relevance, 0.0)


def _description(folder: Path) -> dict[str, object]:
    """Read domains.json, in one of the two folders above, over the folder's meta.json, key by key.

    "family" names the family, "open_licence" is true or false, "language" is a language tag such as `en` or `pt-BR`.
    """
    meta = folder / "meta.json"
    description = _read_json(meta) if meta.exists() else {}
    if not isinstance(description, dict):
        raise LabelError(f"{meta} is not an object")
    for path in (folder.parent / "domains.json", folder.parent.parent / "domains.json"):
        rows = _read_json(path) if path.exists() else []
        if not isinstance(rows, list):
            raise LabelError(f"{path} is not a list of objects")
        for row in rows:
            if isinstance(row, dict) and row.get("name") == folder.name:
                return {**description, **row}
    return description


def _language(description: Mapping[str, object], folder: Path) -> str:
    language = description.get("language") or ""
    if not isinstance(language, str):
        raise LabelError(f'the language of {folder} is {language!r}: give a tag such as "en"')
    return re.split(r"[-_/]", language.strip().lower())[0]


def _read_json(path: Path) -> object:
    try:
        return from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LabelError(f"{path} cannot be read as JSON ({error})") from error


def _full_text(record: Mapping[str, str]) -> str:
    return f"{record['title']} {record['text']}".strip()


_SENTENCE = re.compile(r"(?<=[.!?。!?؟])\s+|\n+")


def _self_labels(records: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """Return queries and their documents: titles and texts, or first sentences and the sentences after them."""
    queries, documents = [], []
    for record in records:
        title, text = record["title"].strip(), record["text"].strip()
        if not title:
            title, text = _split_first_sentence(text)
        if title and text:
            queries.append(title)
            documents.append(text)
    return queries, documents


def _split_first_sentence(text: str) -> tuple[str, str]:
    """Return the first sentence and the rest; an empty first sentence if the text has only one."""
    parts = _SENTENCE.split(text, maxsplit=1)
    return (parts[0], parts[1]) if len(parts) == 2 else ("", text)
