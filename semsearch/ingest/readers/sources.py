"""Reads documents from files and folders. Does not depend on chunking, encoding or storage.

A reader yields documents, and a BadRecord for each one that it cannot read; the caller decides whether that ends the
build.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from semsearch.errors import InputError, first_line
from semsearch.ingest.readers import python_docs
from semsearch.ingest.readers.column_types import typed_columns, with_types
from semsearch.ingest.readers.files import (
    BadRecord,
    PassedOver,
    Reader,
    Reading,
    Record,
    kind,
    printable,
    unreadable,
)
from semsearch.ingest.readers.pages import read_docx, read_epub, read_html, read_markdown, read_odt, read_pdf, read_text
from semsearch.ingest.readers.tables import read_csv, read_json, read_jsonl, read_parquet
from semsearch.ingest.recipe import Source
from semsearch.system.compression import COMPRESSED
from semsearch.types import Document, is_unicode

TABLES: Mapping[str, Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": typed_columns(read_csv),
    ".tsv": typed_columns(read_csv),
    ".parquet": read_parquet,
}
"""By suffix, how a file of many documents is read; their ids may be anything."""
PAGES: Mapping[str, Reader] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".docm": read_docx,
    ".odt": read_odt,
    ".ott": read_odt,
    ".fodt": read_odt,
    ".epub": read_epub,
    ".txt": read_text,
    ".text": read_text,
    ".rst": read_text,
}
"""By suffix, how a file that is one document is read; its id is the file's name."""
READERS: Mapping[str, Reader] = {**TABLES, **PAGES}
_NOT_REGULAR = "a pipe, socket or device, not a regular file: copy its content into one"


def read(source: Source, root: Path | None = None) -> Iterator[Record]:
    """Read the documents of one source, in a fixed order; a folder ends with a count of the files passed over, if any.

    root: folder relative to whose parent the documents are named; by default the source's path.

    Raises InputError at once for a path that does not exist or whose format is unknown, and while reading for a folder
    without a file to index.
    """
    if source.path is None:
        return _read_python(source)
    name = printable(str(source.path))
    parent = (root or source.path).parent
    try:
        mode = source.path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        if isinstance(error, FileNotFoundError):
            reason = "no such file or folder"
        raise InputError(f"{name}: {reason}") from None
    if not is_unicode(str(source.path.resolve())):
        # the recipe is kept in the index, as JSON
        raise InputError(f"{name}: its path is not UTF-8: rename it")
    if stat.S_ISDIR(mode):
        return _read_folder(source.path, source, parent)
    if not stat.S_ISREG(mode):
        raise InputError(f"{name}: {_NOT_REGULAR}")
    if kind(source.path) not in READERS:
        raise InputError(f"{name}: files ending in {printable(source.path.suffix)!r} cannot be read; {_known()}")
    return _read_file(source.path, _name(source.path, parent), source, named=True)


def is_page(name: str) -> bool:
    """Whether a file of this name is one document, whose id is the file's name."""
    return kind(Path(name)) in PAGES


def _read_file(path: Path, name: str, source: Source, *, named: bool = False) -> Reading:
    """The records of one file; a file without any yields a bad record that says so."""
    is_empty = True
    for record in with_types(READERS[kind(path)](path, name, source), source.types, path):
        is_empty = False
        if isinstance(record, BadRecord):
            location, reason = printable(record.location), record.reason.encode("utf-8", "replace").decode()
            yield replace(record, location=location, reason=reason, file=name, named=named)
        elif source.id_prefix:
            yield replace(record, id=source.prefixed_id(record.id, file=name))
        else:
            yield record
    if is_empty:
        yield BadRecord(
            printable(str(path)),
            "an empty file: it holds no record",
            whole_file=True,
            is_empty=True,
            file=name,
            named=named,
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
        if isinstance(file, BadRecord):
            yield replace(file, file=_name(Path(file.location), parent), location=printable(file.location))
            continue
        is_empty = False
        yield from _read_file(file, _name(file, parent), source)
    for error in errors:
        folder = Path(error.filename)
        bad = unreadable(folder, error)
        name = _name(folder, parent)
        yield replace(bad, location=printable(bad.location), file=name, named=folder == path, is_folder=True)
    if unknown:
        yield PassedOver(Path(printable(str(path))), dict(unknown.most_common()))
    if is_empty and not errors:
        raise InputError(f"{printable(str(path))}: no file to index in this folder; {_known()}")


def _name(file: Path, parent: Path) -> str:
    return printable(file.relative_to(parent).as_posix())


def _files(folder: Path, source: Source, errors: list[OSError], unknown: Counter[str]) -> Iterator[Path | BadRecord]:
    """Files of a known format under a folder, sorted by name, without hidden files; and what is no file, and why.

    Links to folders are not followed: they may lead in a circle.

    errors: receives an error for each folder that cannot be read. unknown: receives the number of files of unknown
    formats, by suffix.
    """
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                yield BadRecord(str(path), "a link to a folder, which is not followed: name the folder", is_note=True)
        for name in sorted(names):
            included = not source.include or any(fnmatch.fnmatch(name, pattern) for pattern in source.include)
            excluded = any(fnmatch.fnmatch(name, pattern) for pattern in source.exclude)
            path = Path(parent, name)
            if not included or excluded or name.startswith("."):
                continue
            if kind(path) not in READERS:
                unknown[printable(kind(path))] += 1
                continue
            try:
                is_regular = stat.S_ISREG(path.stat().st_mode)
            except OSError as error:
                yield unreadable(path, error)
                continue
            yield path if is_regular else BadRecord(str(path), _NOT_REGULAR, whole_file=True)


def _known() -> str:
    return f"known are {', '.join(READERS)}, and the same compressed ({', '.join(COMPRESSED)})"
