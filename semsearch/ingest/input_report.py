"""Counts what a build or an update could not read, and raises an error if that is too much."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from semsearch.errors import InputError, RecipeError
from semsearch.ingest.readers.files import BadRecord, PassedOver, Record
from semsearch.ingest.readers.sources import is_page
from semsearch.ingest.recipe import DEFAULT_MAX_BAD_SHARE
from semsearch.storage.left_out import LeftOut, LeftOutKind
from semsearch.types import Document

MIN_FILES = 20
"""A folder of fewer files has no largest share of bad ones."""
MAX_ENTRIES = 1_000
"""Files and reasons that a report lists one by one; what comes later is counted together."""
SHOWN_REASONS = 5
"""Reasons that an error names."""

_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9]+")
"""Parts of a reason that differ between rows that are bad for the same reason."""


@dataclass(slots=True)
class _File:
    """What was read of one file."""

    name: str
    documents: int = 0
    bad: int = 0
    """Rows that are not documents."""
    rejected: int = 0
    """Those of them that were read, but have the id of another document."""
    first: BadRecord | None = None
    """The first bad row."""
    unreadable: BadRecord | None = None
    """The record that stands for the file as a whole."""
    named: bool = False


@dataclass(slots=True)
class _Folder:
    """What was read of a folder and the folders in it."""

    files: int = 0
    unreadable: int = 0
    first: list[BadRecord] = field(default_factory=list)
    """The first files that could not be read."""


@dataclass(slots=True)
class _Entry:
    """A `LeftOut` that is being counted."""

    kind: LeftOutKind
    file: str
    location: str
    reason: str
    count: int = 0


class InputReport:
    """Counts the records of one build or update as they are read."""

    def __init__(self, *, skip_bad: bool | None = None, max_bad_share: float | None = None) -> None:
        """Start an empty report.

        skip_bad: False makes the first bad record an error, True allows any number of them.
        max_bad_share: from 0 to 1, the largest share of a table's rows, and of a folder's files, that may be bad; by
        default DEFAULT_MAX_BAD_SHARE, or 1 if `skip_bad` is True. Raises RecipeError if it is no share.
        """
        if max_bad_share is None:
            max_bad_share = 1.0 if skip_bad else DEFAULT_MAX_BAD_SHARE
        if not 0 <= max_bad_share <= 1:
            raise RecipeError(f"max_bad_share is {max_bad_share}: give a share from 0 to 1")
        self._strict = skip_bad is False
        self._max_bad_share = max_bad_share
        self._entries: dict[tuple[str, str, str], _Entry] = {}
        self._file = _File("")
        self._folders: dict[str, _Folder] = {}
        self._too_much: list[str] = []
        self.files: set[str] = set()
        """Files and folders that were read or could not be read, as the `source` of their documents names them."""
        self._incomplete: set[str] = set()
        self._has_bad_documents = False
        """Whether a document of a program is bad, which has no file."""
        self._has_bad_rows = False
        self._has_unread_rows = False
        """Whether a table was not read to its end, or a folder not at all, so that any number of rows is missing."""
        self._read_whole = False

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records and count them. Raises InputError for the first bad record, if strict."""
        for record in records:
            if isinstance(record, Document):
                self._enter(file_of(record.source)).documents += 1
            elif isinstance(record, BadRecord):
                self._add_bad(record)
            else:
                self._add_passed_over(record)
            yield record
        self._end_file()

    def reject(self, record: BadRecord) -> None:
        """Count the document that `watch` has just yielded as a bad record. Raises InputError if strict."""
        self._file.documents -= 1
        self._file.rejected += 1
        self._add_bad(record)

    def check(self) -> None:
        """Raise InputError if more was bad than may be; call it when everything has been read."""
        share = self._max_bad_share
        too_much = list(self._too_much)
        for name, folder in self._folders.items():
            if folder.files >= MIN_FILES and folder.unreadable > share * folder.files:
                where = f"in {name}/" if name else "of the input"
                reasons = _listed([str(record) for record in folder.first], folder.unreadable)
                too_much.append(f"{folder.unreadable:,} of {folder.files:,} files {where} cannot be read: {reasons}")
        if too_much and share < 1:
            raise InputError(
                f"{_listed(too_much, len(too_much))} (nothing was written: correct these files, leave them out (in a"
                " recipe: sources.exclude), or index what can be read with --skip-bad, or with a larger share of bad"
                f" records than {share:g}, --max-bad-share N (in a recipe: skip_bad = true, max_bad_share = N))"
            )

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What was left out, by file and reason, in the order of reading."""
        return tuple(
            LeftOut(kind=entry.kind, file=entry.file, location=entry.location, reason=entry.reason, count=entry.count)
            for entry in self._entries.values()
        )

    @property
    def was_read_whole(self) -> bool:
        """Whether some file was read to its end and nothing was bad, so that what is missing is not in the input."""
        return self._read_whole and not self._incomplete

    def may_be_unread(self, document: Document) -> bool:
        """Whether the input may hold a document that was not read.

        It may, if something of its file or folder could not be read. It may also have moved to another file, unless its
        id names its file: to a table that was not read to its end, or, if its own file was not read whole either, to a
        bad row.
        """
        file = file_of(document.source)
        path = PurePosixPath(file)
        if self._has_bad_documents or any(str(one) in self._incomplete for one in (path, *path.parents)):
            return True
        if file and re.search(rf"(?<!\w){re.escape(file)}(?!\w)", document.id):
            return False
        return self._has_unread_rows or (self._has_bad_rows and file not in self.files)

    def _add_bad(self, record: BadRecord) -> None:
        name = record.file or file_of(record.location)
        file = self._enter(name)
        file.named = record.named
        kind = _kind(record)
        self._list(kind, name, record.location, record.reason)
        if record.is_empty:
            self._read_whole = True
            return
        if record.is_loss or record.is_note:
            return
        if self._strict:
            raise InputError(f"{record} (stopped at the first bad record, because strict is set)")
        # the path too: a file that was indexed in a folder may be named alone now
        path = PurePosixPath(file_of(record.location))
        self._incomplete.update({name, *("/".join(path.parts[start:]) for start in range(len(path.parts)))})
        if record.whole_file:
            file.unreadable = record
            self._has_unread_rows |= record.is_folder or not is_page(name)
        else:
            file.bad += 1
            file.first = file.first or record
            self._has_bad_rows = True
        self._has_bad_documents |= not record.file

    def _add_passed_over(self, record: PassedOver) -> None:
        self._end_file()
        folder = record.folder.as_posix()
        self.files.add(folder)
        for suffix, count in record.suffixes.items():
            what = f"ending in {suffix}" if suffix else "without a suffix"
            self._list("format", folder, folder, f"files {what} are of an unknown format ({count:,} not read)", count)

    def _list(self, kind: LeftOutKind, file: str, location: str, reason: str, count: int = 1) -> None:
        key = (kind, file, _VARIABLE.sub("", reason))
        if key not in self._entries and len(self._entries) >= MAX_ENTRIES:
            key, file, location, reason = (kind, "", ""), "", "other files", "for these and other reasons"
        self._entries.setdefault(key, _Entry(kind, file, location, reason)).count += count

    def _enter(self, name: str) -> _File:
        """Return the counts of the file that is being read; files are read one after another."""
        if name != self._file.name:
            self._end_file()
            self._file = _File(name)
            self.files.add(name)
        return self._file

    def _end_file(self) -> None:
        file, self._file = self._file, _File("")
        if not file.name:
            return
        rows = file.documents + file.bad
        bad = file.unreadable or (file.first if not file.documents else None)
        # in a folder, a table without a readable row is a bad file
        is_table = file.documents or file.rejected or file.named
        if is_table and file.bad > self._max_bad_share * rows:
            self._too_much.append(f"{file.bad:,} of {rows:,} rows of {file.name} cannot be read: {file.first}")
        elif bad is not None and file.named and not file.documents:
            self._too_much.append(f"{bad}")
        folder = self._folders.setdefault(file.name.partition("/")[0] if "/" in file.name else "", _Folder())
        folder.files += 1
        if bad is not None:
            folder.unreadable += 1
            if len(folder.first) < SHOWN_REASONS:
                folder.first.append(bad)
        else:
            self._read_whole = True


def file_of(location: str) -> str:
    """Return the file of a location such as `file` or `file:line`."""
    file, _, line = location.rpartition(":")
    return file if line.isdecimal() else location


def _kind(record: BadRecord) -> LeftOutKind:
    if record.is_note:
        return "note"
    if record.is_loss:
        return "part"
    if record.is_empty:
        return "empty"
    return "file" if record.whole_file else "record"


def _listed(texts: list[str], total: int) -> str:
    """The first texts, and how many there are more."""
    rest = total - SHOWN_REASONS
    return "; ".join(texts[:SHOWN_REASONS]) + (f"; and {rest:,} more" if rest > 0 else "")
