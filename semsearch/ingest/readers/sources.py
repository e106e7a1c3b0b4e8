"""Reads documents from files and folders. Does not depend on chunking, encoding or storage.

A reader yields documents, and a BadRecord for each one that it cannot read; the caller decides whether that ends the
build.
"""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from semsearch.errors import InputError
from semsearch.ingest.readers import python_docs
from semsearch.ingest.readers.column_types import typed_columns, with_types
from semsearch.ingest.readers.files import COMPRESSED, BadRecord, PassedOver, Reader, Reading, Record, kind, unreadable
from semsearch.ingest.readers.pages import read_docx, read_epub, read_html, read_markdown, read_pdf, read_text
from semsearch.ingest.readers.tables import read_csv, read_jsonl, read_parquet
from semsearch.ingest.recipe import Source
from semsearch.types import Document

READERS: Mapping[str, Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": typed_columns(read_csv),
    ".tsv": typed_columns(read_csv),
    ".parquet": read_parquet,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".epub": read_epub,
    ".txt": read_text,
    ".text": read_text,
    ".rst": read_text,
}
"""By suffix, how a file is read."""


def read(source: Source, root: Path | None = None) -> Iterator[Record]:
    """Read the documents of one source, in a fixed order; a folder ends with a count of the files passed over, if any.

    root: folder relative to whose parent the documents are named; by default the source's path.

    Raises InputError at once for a path that does not exist or whose format is unknown, and while reading for a folder
    without a file to index.
    """
    if source.path is None:
        return _read_python(source)
    parent = (root or source.path).parent
    if source.path.is_dir():
        return _read_folder(source.path, source, parent)
    if not source.path.is_file():
        raise InputError(f"{source.path}: no such file or folder")
    if kind(source.path) not in READERS:
        raise InputError(f"{source.path}: files ending in {source.path.suffix!r} cannot be read; {_known()}")
    return _read_file(source.path, _name(source.path, parent), source, named=True)


def _read_file(path: Path, name: str, source: Source, *, named: bool = False) -> Reading:
    """The records of one file; a file without any yields a bad record that says so."""
    is_empty = True
    for record in with_types(READERS[kind(path)](path, name, source), source.types, path):
        is_empty = False
        if isinstance(record, BadRecord):
            yield replace(record, file=name, named=named)
        elif source.id_prefix:
            yield replace(record, id=source.prefixed_id(record.id, file=name))
        else:
            yield record
    if is_empty:
        yield BadRecord(
            str(path), "an empty file: it holds no record", whole_file=True, is_empty=True, file=name, named=named
        )


def _read_python(source: Source) -> Reading:
    for record in python_docs.records():
        metadata = {"module": record["module"], "kind": record["kind"]}
        yield Document(
            source.prefixed_id(record["id"], file=record["source"]),
            record["title"],
            record["text"],
            record["source"],
            metadata,
        )


def _read_folder(path: Path, source: Source, parent: Path) -> Iterator[Record]:
    errors: list[OSError] = []
    unknown: Counter[str] = Counter()
    is_empty = True
    for file in _files(path, source, errors, unknown):
        is_empty = False
        yield from _read_file(file, _name(file, parent), source)
    for error in errors:
        folder = Path(error.filename)
        yield replace(unreadable(folder, error), file=_name(folder, parent), named=folder == path)
    if unknown:
        yield PassedOver(path, dict(unknown.most_common()))
    if is_empty and not errors:
        raise InputError(f"{path}: no file to index in this folder; {_known()}")


def _name(file: Path, parent: Path) -> str:
    return file.relative_to(parent).as_posix()


def _files(folder: Path, source: Source, errors: list[OSError], unknown: Counter[str]) -> Iterator[Path]:
    """Files of a known format under a folder, sorted by name, without hidden files and links to folders.

    errors: receives an error for each folder that cannot be read. unknown: receives the number of files of unknown
    formats, by suffix.
    """
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            included = not source.include or any(fnmatch.fnmatch(name, pattern) for pattern in source.include)
            excluded = any(fnmatch.fnmatch(name, pattern) for pattern in source.exclude)
            path = Path(parent, name)
            if not included or excluded or name.startswith("."):
                continue
            if kind(path) in READERS:
                yield path
            else:
                unknown[kind(path)] += 1


def _known() -> str:
    return f"known are {', '.join(READERS)}, and the same compressed ({', '.join(COMPRESSED)})"
