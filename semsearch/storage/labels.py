"""The append-only log of labels and clicks of an index, in one SQLite file. Does not depend on learning.

`append` and `retract` return once their entries are on the disk: SQLite in WAL mode with synchronous=FULL flushes
the log before a commit returns. No row is ever changed or removed: retracting an entry appends another row.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from semsearch.errors import ConflictError, LabelError, StorageError
from semsearch.storage.entries import as_utc, check_entry
from semsearch.types import Click, Label, is_unicode

FILE = "labels.sqlite"
LOG_VERSION = 1
BUSY_S = 10.0
"""Seconds that a writer waits for another one."""

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('label', 'click', 'withdrawal')),
    id TEXT NOT NULL UNIQUE,
    domain TEXT NOT NULL,
    query TEXT NOT NULL,
    document TEXT,
    gain REAL,
    position INTEGER,
    shown TEXT NOT NULL,
    user TEXT NOT NULL,
    source TEXT NOT NULL,
    at TEXT NOT NULL,
    withdraws INTEGER UNIQUE REFERENCES events (seq)
) STRICT;
CREATE INDEX IF NOT EXISTS by_domain ON events (domain, kind, seq);
CREATE INDEX IF NOT EXISTS by_query ON events (domain, query, kind, seq);
CREATE TRIGGER IF NOT EXISTS nothing_changes BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS nothing_goes BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
PRAGMA user_version = {LOG_VERSION};
"""
_COLUMNS = "id, domain, query, document, gain, position, shown, user, source, at"
_NOT_RETRACTED = "NOT EXISTS (SELECT 1 FROM events AS later WHERE later.withdraws = events.seq)"
_BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Selects entries of the log by equality; a field that is None matches every entry."""

    id: str | None = None
    domain: str | None = None
    query: str | None = None
    document: str | None = None
    user: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        """Raise LabelError for a text that is not valid Unicode: no entry can have it, and SQLite cannot read it."""
        for name, value in self._terms().items():
            if not is_unicode(value):
                raise LabelError(f"the {name} {value[:80]!r} holds half of a surrogate pair: give valid Unicode")

    @property
    def empty(self) -> bool:
        """Whether this matches every entry."""
        return not self._terms()

    def _terms(self) -> dict[str, str]:
        fields = ("id", "domain", "query", "document", "user", "source")
        return {name: value for name in fields if (value := getattr(self, name)) is not None}

    def where(self) -> tuple[str, list[str]]:
        """Return the filter as SQL terms, each after ` AND `, and their parameters."""
        terms = self._terms()
        return "".join(f" AND {name} = ?" for name in terms), list(terms.values())


@dataclass(frozen=True, slots=True)
class Annotator:
    """A user whose labels or clicks a domain has."""

    user: str
    """The client's name for the user; empty if none was given."""
    source: str
    """Name of the API key that the entries were sent with, or of the import."""
    labels: int
    clicks: int
    last: datetime


class LabelLog:
    """The log of one index. Any number of threads and processes may use it."""

    def __init__(self, index: Path) -> None:
        """Use the log in the index's folder; the first entry creates the file."""
        self.path = index / FILE
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None

    def append(self, entries: Sequence[Label | Click]) -> int:
        """Append entries, all or none, and return the number of new ones once they are on the disk.

        An entry whose id the log has already is not appended again. Raises LabelError for an entry that is not valid
        (`entries.check_entry`), ConflictError if the log has the id with other content, StorageError if the file cannot
        be written.
        """
        for entry in entries:
            check_entry(entry)
        with self._writing() as connection:
            new, conflicting = _split(entries, self._known(connection, [entry.id for entry in entries]))
            if conflicting:
                raise ConflictError(conflict(entries[conflicting[0]]))
            connection.executemany(
                f"INSERT INTO events (kind, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                [_row(entry) for entry in new.values()],
            )
        return len(new)

    def conflicting(self, entries: Sequence[Label | Click]) -> list[int]:
        """Return the indices of entries whose id the log, or an earlier one of them, has with other content."""
        with self._lock:
            try:
                ids = [entry.id for entry in entries]
                known = self._known(self._open(), ids) if self._connection or self.path.exists() else {}
            except sqlite3.Error as error:
                raise StorageError(f"{self.path} cannot be read ({error}): restore it from a backup") from error
        return _split(entries, known)[1]

    def retract(self, kind: str, entry_filter: EntryFilter, *, source: str) -> dict[str, list[int]]:
        """Retract the `label`s or `click`s that the filter selects. Returns the numbers of those retracted, by domain.

        kind: `label` or `click`. source: name of the API key, or of the import, that retracts them.
        Raises StorageError if the file cannot be written.
        """
        where, values = entry_filter.where()
        if not self.path.exists():
            return {}
        with self._writing() as connection:
            rows = connection.execute(
                f"SELECT seq, domain FROM events WHERE kind = ?{where} AND {_NOT_RETRACTED}",  # noqa: S608
                [kind, *values],
            ).fetchall()
            now = datetime.now(UTC).isoformat()
            connection.executemany(
                "INSERT INTO events (kind, id, domain, query, shown, user, source, at, withdraws)"
                " VALUES ('withdrawal', ?, ?, '', '[]', '', ?, ?, ?)",
                [(uuid4().hex, domain, source, now, seq) for seq, domain in rows],
            )
        retracted: dict[str, list[int]] = {}
        for seq, domain in rows:
            retracted.setdefault(domain, []).append(seq)
        return retracted

    def labels(
        self, where: EntryFilter, *, after: int = 0, limit: int = -1, newest: bool = False
    ) -> list[tuple[int, Label]]:
        """Return (number, label) of labels that are not retracted, oldest first.

        after: only numbers above it. limit: at most this many; -1 for all. newest: newest first instead.
        """
        rows = self._not_retracted("label", where, after, limit, newest=newest)
        return [(seq, entry) for seq, entry in rows if isinstance(entry, Label)]

    def clicks(self, where: EntryFilter, *, after: int = 0, limit: int = -1) -> list[tuple[int, Click]]:
        """Return (number, click) of clicks that are not retracted, as `labels` does."""
        rows = self._not_retracted("click", where, after, limit)
        return [(seq, entry) for seq, entry in rows if isinstance(entry, Click)]

    def last_number(self, domain: str) -> int:
        """Return the number of the domain's last entry or retraction; 0 if it has none."""
        rows = self._select("SELECT coalesce(max(seq), 0) FROM events WHERE domain = ?", [domain])
        return int(rows[0][0]) if rows else 0

    def count_since(self, domain: str, number: int) -> int:
        """Count the domain's entries and retractions after this number."""
        rows = self._select("SELECT count(*) FROM events WHERE domain = ? AND seq > ?", [domain, number])
        return int(rows[0][0]) if rows else 0

    def changed(self, after: int) -> tuple[int, list[str]]:
        """Return the number of the last entry or retraction, and the domains that changed after `after`."""
        rows = self._select("SELECT domain, max(seq) FROM events WHERE seq > ? GROUP BY domain", [after])
        return max((seq for _, seq in rows), default=after), [domain for domain, _ in rows]

    def counts(self, domain: str | None = None) -> dict[str, dict[str, int]]:
        """Count the labels and clicks that are not retracted, by domain and kind. domain: count only this one."""
        counts: dict[str, dict[str, int]] = {}
        where, values = EntryFilter(domain=domain).where()
        rows = self._select(
            f"SELECT domain, kind, count(*) FROM events WHERE kind != 'withdrawal'{where} AND {_NOT_RETRACTED}"  # noqa: S608
            " GROUP BY domain, kind ORDER BY domain",
            values,
        )
        for name, kind, number in rows:
            counts.setdefault(name, {"label": 0, "click": 0})[kind] = number
        return counts

    def like_counts(self, *, excluded_domain: str) -> dict[str, int]:
        """Return, by document, how many domains except one have a label above 0 or a click on it.

        Of an annotator's labels for a query and a document, the latest counts.
        """
        rows = self._select(
            "SELECT document, count(DISTINCT domain) FROM (SELECT domain, document, kind, gain, row_number() OVER"  # noqa: S608
            " (PARTITION BY kind, domain, query, document, user, source ORDER BY at DESC, seq DESC) AS age FROM events"
            f" WHERE kind IN ('label', 'click') AND document IS NOT NULL AND domain != ? AND {_NOT_RETRACTED})"
            " WHERE kind = 'click' OR (gain > 0 AND age = 1) GROUP BY document",
            [excluded_domain],
        )
        return dict(rows)

    def past_queries(self, domain: str, part: str, limit: int) -> list[str]:
        """Return up to `limit` queries of the domain's labels and clicks that contain `part`, most frequent first.

        Ties are ordered by recency.
        """
        pattern = "".join("\\" * (character in "\\%_") + character for character in part)
        rows = self._select(
            "SELECT query FROM events WHERE domain = ? AND kind != 'withdrawal' AND query LIKE ? ESCAPE '\\'"  # noqa: S608
            f" AND trim(query) != '' AND {_NOT_RETRACTED} GROUP BY query ORDER BY count(*) DESC, max(seq) DESC LIMIT ?",
            [domain, f"%{pattern}%", limit],
        )
        return [query for (query,) in rows]

    def query_counts(self, domain: str) -> list[tuple[str, int, int]]:
        """Return the domain's queries with their numbers of labels and clicks, the last labelled or clicked one first.

        Queries are without white space at either end; blank ones are left out.
        """
        rows = self._select(
            "SELECT query, kind = 'label' FROM events"  # noqa: S608
            f" WHERE domain = ? AND kind != 'withdrawal' AND {_NOT_RETRACTED} ORDER BY seq DESC",
            [domain],
        )
        counts: dict[str, list[int]] = {}
        for query, is_label in rows:
            if query.strip():
                counts.setdefault(query.strip(), [0, 0])[0 if is_label else 1] += 1
        return [(query, labels, clicks) for query, (labels, clicks) in counts.items()]

    def annotators(self, domain: str) -> list[Annotator]:
        """Return the domain's annotators, the one with the most entries first."""
        rows = self._select(
            "SELECT user, source, sum(kind = 'label'), sum(kind = 'click'), max(at) FROM events"  # noqa: S608
            f" WHERE domain = ? AND kind != 'withdrawal' AND {_NOT_RETRACTED}"
            " GROUP BY user, source ORDER BY count(*) DESC",
            [domain],
        )
        return [
            Annotator(user, source, labels, clicks, as_utc(datetime.fromisoformat(at)))
            for user, source, labels, clicks, at in rows
        ]

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _not_retracted(
        self, kind: str, entry_filter: EntryFilter, after: int, limit: int, *, newest: bool = False
    ) -> list[tuple[int, Label | Click]]:
        where, values = entry_filter.where()
        rows = self._select(
            f"SELECT seq, kind, {_COLUMNS} FROM events"  # noqa: S608
            f" WHERE kind = ? AND seq > ?{where} AND {_NOT_RETRACTED}"
            f" ORDER BY seq {'DESC' if newest else 'ASC'} LIMIT ?",
            [kind, after, *values, limit],
        )
        return [(seq, _entry(row)) for seq, *row in rows]

    def _known(self, connection: sqlite3.Connection, ids: Sequence[str]) -> Mapping[str, Label | Click]:
        known: dict[str, Label | Click] = {}
        for start in range(0, len(ids), _BATCH_ROWS):
            batch = ids[start : start + _BATCH_ROWS]
            for row in connection.execute(
                f"SELECT kind, {_COLUMNS} FROM events WHERE id IN ({','.join('?' * len(batch))})",  # noqa: S608
                batch,
            ):
                known[row[1]] = _entry(row)
        return known

    def _select(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                if not self.path.exists():
                    return []
                return self._open().execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise StorageError(f"{self.path} cannot be read ({error}): restore it from a backup") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction: commit it to the disk at the end, or roll it back after an error."""
        with self._lock:
            try:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StorageError(
                    f"{self.path} cannot be written ({error}) and is unchanged: free disk space, or make the folder"
                    " writable"
                ) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and _file_id(self.path) != self._file_id:
            # the folder was moved, deleted or replaced: entries in its former file would be lost
            self._connection.close()
            self._connection = None
        if self._connection is None:
            with suppress(OSError):
                # other users of the machine must not read the queries; SQLite reports a file that cannot be created
                self.path.touch(0o600)
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
            try:
                _prepare_with_retries(connection, self.path)
            except BaseException:
                connection.close()
                raise
            self._connection, self._file_id = connection, _file_id(self.path)
        return self._connection


def _file_id(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _prepare_with_retries(connection: sqlite3.Connection, path: Path) -> None:
    """Run `_prepare` until no other process does: SQLite's busy timeout does not cover the switch to WAL mode."""
    deadline = monotonic() + BUSY_S
    while True:
        try:
            return _prepare(connection, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or monotonic() > deadline:
                raise
            sleep(0.01)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in {0, LOG_VERSION}:
        raise StorageError(
            f"{path} has version {version}, but this semsearch reads {LOG_VERSION}: use the semsearch that wrote it"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if version == 0:
        connection.executescript(_SCHEMA)


def as_record(entry: Label | Click) -> dict[str, Any]:
    """Return an entry as the JSON object that an import reads."""
    if isinstance(entry, Label):
        specific: dict[str, Any] = {"kind": "label", "document": entry.document, "relevance": entry.relevance}
    else:
        specific = {"kind": "click", "document": entry.document, "position": entry.position, "shown": list(entry.shown)}
    return {
        "id": entry.id,
        "domain": entry.domain,
        "query": entry.query,
        **specific,
        "user": entry.user,
        "source": entry.source,
        "at": as_utc(entry.at).isoformat(),
    }


def _row(entry: Label | Click) -> tuple[Any, ...]:
    leading = (entry.id, entry.domain, entry.query, entry.document)
    trailing = (entry.user, entry.source, as_utc(entry.at).isoformat())
    if isinstance(entry, Label):
        return ("label", *leading, entry.relevance, None, "[]", *trailing)
    return ("click", *leading, None, entry.position, json.dumps(entry.shown), *trailing)


def _entry(row: Sequence[Any]) -> Label | Click:
    kind, entry_id, domain, query, document, relevance, position, shown, user, source, at = row
    time = as_utc(datetime.fromisoformat(at))  # semsearch 0.1 also stored times without an offset
    if kind == "label":
        return Label(entry_id, domain, query, document, relevance, user, source, time)
    return Click(entry_id, domain, query, document, position, tuple(json.loads(shown)), user, source, time)


def conflict(entry: Label | Click) -> str:
    """The reason given for an entry whose id is known with other content."""
    return (
        f"the id {entry.id[:80]!r} is known with another content: send a new id, or retract that entry and send this"
        " one under a new id"
    )


def _split(
    entries: Sequence[Label | Click], known: Mapping[str, Label | Click]
) -> tuple[dict[str, Label | Click], list[int]]:
    """Return the new entries by id, and the indices of those whose id has other content. known: entries of the log."""
    new: dict[str, Label | Click] = {}
    conflicting = []
    for index, entry in enumerate(entries):
        earlier = new.get(entry.id) or known.get(entry.id)
        if earlier is None:
            new[entry.id] = entry
        elif _content(earlier) != _content(entry):
            conflicting.append(index)
    return new, conflicting


def _content(entry: Label | Click) -> tuple[Any, ...]:
    """The fields that must agree for two entries of one id: all but the source and the time."""
    return _row(entry)[:9]
