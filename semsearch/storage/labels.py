"""Judgments and clicks of one index, append-only, in one SQLite file; knows nothing of what is learned from them.

What `append` and `withdraw` have returned from is on the disk: SQLite in WAL mode with synchronous=FULL flushes the log
before a commit returns. Nothing is ever changed or removed: what is withdrawn stays, with a row that withdraws it.
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

from semsearch.errors import ConflictError, StorageError
from semsearch.types import Click, Label

FILE = "labels.sqlite"
LOG_VERSION = 1
BUSY_S = 10.0
"""Seconds that one writer waits for another one."""

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
CREATE TRIGGER IF NOT EXISTS nothing_changes BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS nothing_goes BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
PRAGMA user_version = {LOG_VERSION};
"""
_COLUMNS = "id, domain, query, document, gain, position, shown, user, source, at"
_STANDS = "NOT EXISTS (SELECT 1 FROM events AS later WHERE later.withdraws = events.seq)"
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are meant; what is None does not matter."""

    id: str | None = None
    domain: str | None = None
    query: str | None = None
    document: str | None = None
    user: str | None = None
    source: str | None = None

    @property
    def empty(self) -> bool:
        """Whether this chooses everything."""
        return not self._terms()

    def _terms(self) -> dict[str, str]:
        fields = ("id", "domain", "query", "document", "user", "source")
        return {name: value for name in fields if (value := getattr(self, name)) is not None}

    def where(self) -> tuple[str, list[str]]:
        """The same in SQL, with its parameters."""
        terms = self._terms()
        return "".join(f" AND {name} = ?" for name in terms), list(terms.values())


@dataclass(frozen=True, slots=True)
class Annotator:
    """Somebody of whom a domain has labels or clicks."""

    user: str
    """As the sender calls them; empty where nobody was named."""
    source: str
    """The name of the key they came with, or the import."""
    labels: int
    clicks: int
    last: datetime


class LabelLog:
    """The log of one index; any number of threads, and of processes, may use it."""

    def __init__(self, index: Path) -> None:
        """The log beside the index in this folder; the file is made by the first entry."""
        self.path = index / FILE
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def append(self, entries: Sequence[Label | Click]) -> int:
        """Keep entries, all or none, and return once they are on the disk; how many of them were new.

        Raises ConflictError where an id is known with another content; StorageError where the disk refuses.
        """
        with self._writing() as connection:
            known = self._known(connection, [entry.id for entry in entries])
            new: dict[str, Label | Click] = {}
            for entry in entries:
                before = new.get(entry.id) or known.get(entry.id)
                if before is None:
                    new[entry.id] = entry
                elif _content(before) != _content(entry):
                    raise ConflictError(
                        f"the id {entry.id[:80]!r} is known with another content: send a new id, or withdraw that entry"
                        " and send this one under a new id"
                    )
            connection.executemany(
                f"INSERT INTO events (kind, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                [_row(entry) for entry in new.values()],
            )
        return len(new)

    def retract(self, kind: str, chosen: EntryFilter, *, source: str) -> dict[str, list[int]]:
        """Have the chosen `label`s or `click`s count no more; the numbers of those that did, by domain.

        source: who withdraws. Raises StorageError where the disk refuses.
        """
        where, values = chosen.where()
        with self._writing() as connection:
            found = connection.execute(
                f"SELECT seq, domain FROM events WHERE kind = ?{where} AND {_STANDS}",  # noqa: S608
                [kind, *values],
            ).fetchall()
            now = datetime.now(UTC).isoformat()
            connection.executemany(
                "INSERT INTO events (kind, id, domain, query, shown, user, source, at, withdraws)"
                " VALUES ('withdrawal', ?, ?, '', '[]', '', ?, ?, ?)",
                [(uuid4().hex, domain, source, now, seq) for seq, domain in found],
            )
        withdrawn: dict[str, list[int]] = {}
        for seq, domain in found:
            withdrawn.setdefault(domain, []).append(seq)
        return withdrawn

    def labels(
        self, where: EntryFilter, *, after: int = 0, limit: int = -1, newest: bool = False
    ) -> list[tuple[int, Label]]:
        """(number, label) of those that stand, in the order they came; numbers above `after`, at most `most`.

        newest: the last one first.
        """
        found = self._standing("label", where, after, limit, newest=newest)
        return [(seq, entry) for seq, entry in found if isinstance(entry, Label)]

    def clicks(self, where: EntryFilter, *, after: int = 0, limit: int = -1) -> list[tuple[int, Click]]:
        """(number, click) of those that stand, as `labels`."""
        found = self._standing("click", where, after, limit)
        return [(seq, entry) for seq, entry in found if isinstance(entry, Click)]

    def last_number(self, domain: str) -> int:
        """The number of the domain's last entry or withdrawal; 0 where it has none."""
        found = self._select("SELECT coalesce(max(seq), 0) FROM events WHERE domain = ?", [domain])
        return int(found[0][0]) if found else 0

    def count_since(self, domain: str, number: int) -> int:
        """Entries and withdrawals of the domain after this number."""
        found = self._select("SELECT count(*) FROM events WHERE domain = ? AND seq > ?", [domain, number])
        return int(found[0][0]) if found else 0

    def changed(self, after: int) -> tuple[int, list[str]]:
        """The number of the last entry or withdrawal of all, and the domains of those after this number."""
        found = self._select("SELECT domain, max(seq) FROM events WHERE seq > ? GROUP BY domain", [after])
        return max((seq for _, seq in found), default=after), [domain for domain, _ in found]

    def counts(self, domain: str | None = None) -> dict[str, dict[str, int]]:
        """How many labels and clicks stand, by domain; of all, or of one."""
        counted: dict[str, dict[str, int]] = {}
        where, values = EntryFilter(domain=domain).where()
        found = self._select(
            f"SELECT domain, kind, count(*) FROM events WHERE kind != 'withdrawal'{where} AND {_STANDS}"  # noqa: S608
            " GROUP BY domain, kind ORDER BY domain",
            values,
        )
        for name, kind, number in found:
            counted.setdefault(name, {"label": 0, "click": 0})[kind] = number
        return counted

    def like_counts(self, others_than: str) -> dict[str, int]:
        """Document → how many domains but this one have a label above 0 or a click on it."""
        found = self._select(
            "SELECT document, count(DISTINCT domain) FROM events WHERE document IS NOT NULL AND domain != ?"  # noqa: S608
            f" AND (kind = 'click' OR (kind = 'label' AND gain > 0)) AND {_STANDS} GROUP BY document",
            [others_than],
        )
        return dict(found)

    def past_queries(self, domain: str, part: str, most: int) -> list[str]:
        """Queries of the domain's labels and clicks that hold this part, those with most of them first, of equal ones
        the last first."""
        sought = "".join("\\" * (one in "\\%_") + one for one in part)
        found = self._select(
            "SELECT query FROM events WHERE domain = ? AND kind != 'withdrawal' AND query LIKE ? ESCAPE '\\'"  # noqa: S608
            f" AND trim(query) != '' AND {_STANDS} GROUP BY query ORDER BY count(*) DESC, max(seq) DESC LIMIT ?",
            [domain, f"%{sought}%", most],
        )
        return [query for (query,) in found]

    def annotators(self, domain: str) -> list[Annotator]:
        """Who labelled and clicked in the domain, those who said most first."""
        found = self._select(
            "SELECT user, source, sum(kind = 'label'), sum(kind = 'click'), max(at) FROM events"  # noqa: S608
            f" WHERE domain = ? AND kind != 'withdrawal' AND {_STANDS} GROUP BY user, source ORDER BY count(*) DESC",
            [domain],
        )
        return [
            Annotator(user, source, labels, clicks, datetime.fromisoformat(at))
            for user, source, labels, clicks, at in found
        ]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _standing(
        self, kind: str, chosen: EntryFilter, after: int, most: int, *, newest: bool = False
    ) -> list[tuple[int, Label | Click]]:
        where, values = chosen.where()
        found = self._select(
            f"SELECT seq, kind, {_COLUMNS} FROM events"  # noqa: S608
            f" WHERE kind = ? AND seq > ?{where} AND {_STANDS} ORDER BY seq {'DESC' if newest else 'ASC'} LIMIT ?",
            [kind, after, *values, most],
        )
        return [(seq, _entry(row)) for seq, *row in found]

    def _known(self, connection: sqlite3.Connection, ids: Sequence[str]) -> Mapping[str, Label | Click]:
        known: dict[str, Label | Click] = {}
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            for row in connection.execute(
                f"SELECT kind, {_COLUMNS} FROM events WHERE id IN ({','.join('?' * len(part))})",  # noqa: S608
                part,
            ):
                known[row[1]] = _entry(row)
        return known

    def _select(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                if self._connection is None and not self.path.exists():
                    return []
                return self._opened().execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise StorageError(f"{self.path} cannot be read ({error}): restore it from a backup") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk once this is left without an error."""
        with self._lock:
            try:
                connection = self._opened()
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
                    f"{self.path} cannot be written ({error}), nothing of it was kept: make room, or the folder"
                    " writable"
                ) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            with suppress(OSError):
                # what people search for is not for every user of the machine; what cannot be made, SQLite complains of
                self.path.touch(0o600)
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
            try:
                _prepare_in_turn(connection, self.path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _prepare_in_turn(connection: sqlite3.Connection, path: Path) -> None:
    """`_prepare`, once nobody else does: SQLite waits for its turn in everything but this."""
    until = monotonic() + BUSY_S
    while True:
        try:
            return _prepare(connection, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or monotonic() > until:
                raise
            sleep(0.01)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in {0, LOG_VERSION}:
        raise StorageError(
            f"{path} has version {version}, this semsearch knows {LOG_VERSION}: use the semsearch that made it"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if version == 0:
        connection.executescript(_SCHEMA)


def as_record(entry: Label | Click) -> dict[str, Any]:
    """An entry as a JSON object, as importing reads it."""
    if isinstance(entry, Label):
        own: dict[str, Any] = {"kind": "label", "document": entry.document, "relevance": entry.relevance}
    else:
        own = {"kind": "click", "document": entry.document, "position": entry.position, "shown": list(entry.shown)}
    return {
        "id": entry.id,
        "domain": entry.domain,
        "query": entry.query,
        **own,
        "user": entry.user,
        "source": entry.source,
        "at": entry.at.isoformat(),
    }


def _row(entry: Label | Click) -> tuple[Any, ...]:
    common = (entry.id, entry.domain, entry.query, entry.document)
    last = (entry.user, entry.source, entry.at.isoformat())
    if isinstance(entry, Label):
        return ("label", *common, entry.relevance, None, "[]", *last)
    return ("click", *common, None, entry.position, json.dumps(entry.shown), *last)


def _entry(row: Sequence[Any]) -> Label | Click:
    kind, i, domain, query, document, gain, position, shown, user, source, at = row
    when = datetime.fromisoformat(at)
    if kind == "label":
        return Label(i, domain, query, document, gain, user, source, when)
    return Click(i, domain, query, document, position, tuple(json.loads(shown)), user, source, when)


def _content(entry: Label | Click) -> tuple[Any, ...]:
    """What makes two entries of one id the same: all but when and with whose key they came."""
    return _row(entry)[:9]
