"""Documents that a program passes: mappings, `Document` objects, and paths of files and folders, in any mixture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from semsearch.errors import InputError
from semsearch.ingest.readers.files import BadRecord, Record, as_json, checked
from semsearch.ingest.readers.sources import read
from semsearch.ingest.readers.tables import document_from_fields
from semsearch.ingest.recipe import FieldNames, Source
from semsearch.types import Document

Item: TypeAlias = Mapping[str, Any] | Document | str | os.PathLike[str]
"""A mapping with `text`, and perhaps `id`, `title`, `source` and `metadata`; a document; or a path to read."""
Documents: TypeAlias = Item | Iterable[Item]


def records_of(documents: Documents, *, strict: bool = True) -> Iterator[Record]:
    """The documents that a program gives, one after the other.

    Other fields of a mapping than those of `Item` become metadata. A mapping without an id gets `document-N`, N counted
    from 1. strict: whether a mapping or a document that cannot be indexed is an error; otherwise it becomes a
    BadRecord, as what cannot be read of a file is in any case.

    Raises InputError for what is no document, and for a path at which there is nothing to read.
    """
    first: dict[str, int] = {}
    single = isinstance(documents, Mapping | Document | str | os.PathLike)
    items = cast("Iterable[object]", [documents] if single else documents)
    for number, item in enumerate(items, start=1):
        if isinstance(item, Document | Mapping):
            record = checked(item, f"document {number}") if isinstance(item, Document) else _from_mapping(item, number)
            if strict and isinstance(record, BadRecord):
                raise InputError(f"{record} (with strict=False, such documents are left out and listed)")
            if strict and isinstance(record, Document) and first.setdefault(record.id, number) != number:
                raise InputError(
                    f"document {number}: a second document of id {record.id!r}; the first one is document"
                    f" {first[record.id]}: ids are unique"
                )
            yield record
        elif isinstance(item, str | os.PathLike):
            yield from read(Source(path=Path(item)))
        else:
            raise InputError(
                f"item {number} of the documents is of type {type(item).__name__}: give mappings with a `text`,"
                " Document objects, or paths of files and folders"
            )


def _from_mapping(item: Mapping[str, Any], number: int) -> Document | BadRecord:
    values = {str(key): as_json(value) for key, value in item.items() if key not in {"metadata", "source"}}
    metadata = item.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        return BadRecord(f"document {number}", f"its metadata is of type {type(metadata).__name__}: give a mapping")
    document = document_from_fields(
        values, FieldNames(), location=f"document {number}", default_id=f"document-{number}"
    )
    if isinstance(document, BadRecord):
        return document
    own = {str(key): as_json(value) for key, value in metadata.items()}
    source = str(item.get("source") or document.id)
    return checked(replace(document, source=source, metadata={**document.metadata, **own}), f"document {number}")
