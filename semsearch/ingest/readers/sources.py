"""Files and folders to documents, one at a time. Does not depend on cutting, encoding or storing.

A reader yields documents and, in their place, what is wrong with the ones that it cannot read: the caller decides
whether that ends the build.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from semsearch.errors import InputError
from semsearch.ingest.readers import python_docs
from semsearch.ingest.readers.files import COMPRESSED, BadRecord, Reader, Reading, kind, unreadable
from semsearch.ingest.readers.pages import read_docx, read_epub, read_html, read_markdown, read_pdf, read_text
from semsearch.ingest.readers.tables import read_csv, read_jsonl, read_parquet
from semsearch.ingest.recipe import Source
from semsearch.types import Document

READERS: Mapping[str, Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
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
"""How files are read, by the end of their names."""


def read(source: Source, root: Path | None = None) -> Reading:
    """The documents of one source, in an order that does not change.

    root: a folder above it from whose name on its files are named, as if all of it were read; by default its own.

    Raises InputError at once for a path that does not exist or whose kind is unknown, and while reading for a folder
    in which there is nothing to index.
    """
    if source.path is None:
        return _read_python()
    above = (root or source.path).parent
    if source.path.is_dir():
        return _read_folder(source.path, source, above)
    if not source.path.is_file():
        raise InputError(f"{source.path}: no such file or folder")
    reader = READERS.get(kind(source.path))
    if reader is None:
        raise InputError(f"{source.path}: files ending in {source.path.suffix!r} cannot be read; {_known()}")
    return _alone(reader(source.path, _name(source.path, above), source))


def _alone(reading: Reading) -> Reading:
    """As it is, but that a file which was named itself must be readable."""
    for one in reading:
        yield BadRecord(one.location, one.reason) if isinstance(one, BadRecord) else one


def _read_python() -> Reading:
    for record in python_docs.records():
        metadata = {"module": record["module"], "kind": record["kind"]}
        yield Document(record["id"], record["title"], record["text"], record["source"], metadata)


def _read_folder(path: Path, source: Source, above: Path) -> Reading:
    closed: list[OSError] = []
    found = False
    for file in _files(path, source, closed):
        found = True
        yield from READERS[kind(file)](file, _name(file, above), source)
    for error in closed:
        yield unreadable(Path(error.filename), error)
    if not found and not closed:
        raise InputError(f"{path}: no file to index in this folder; {_known()}")


def _name(file: Path, above: Path) -> str:
    return file.relative_to(above).as_posix()


def _files(folder: Path, source: Source, closed: list[OSError]) -> Iterator[Path]:
    """Files of a known kind under a folder, by name, hidden ones and links to folders left out.

    Folders that may not be read are added to `closed`.
    """
    for parent, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            wanted = not source.include or any(fnmatch.fnmatch(name, pattern) for pattern in source.include)
            unwanted = any(fnmatch.fnmatch(name, pattern) for pattern in source.exclude)
            path = Path(parent, name)
            if wanted and not unwanted and not name.startswith(".") and kind(path) in READERS:
                yield path


def _known() -> str:
    return f"known are {', '.join(READERS)}, and the same packed ({', '.join(COMPRESSED)})"
