"""Collects the queries of named domains in memory and writes them in the background. Does not depend on HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import structlog

from semsearch.domains.registry import DomainRegistry
from semsearch.errors import SemsearchError, StateError
from semsearch.search.engine import Outcome
from semsearch.types import DEFAULT_DOMAIN, Vectors

log = structlog.get_logger("semsearch.server")

FLUSH_INTERVAL_S = 30.0
"""Seconds between two writes."""
EXPIRE_INTERVAL_S = 3_600.0
"""Seconds between two searches for queries that are too old."""
TYPING_S = 5.0
"""The page searches while a query is typed: one that another extends or shortens within this time was not meant."""
MAX_PENDING = 4_096
"""Queries in memory, over all domains; until the next write, further ones are not kept."""

KeptObserver = Callable[[str, int], None]
"""Called with an outcome (`kept`, `dropped` or `failed`) and a number of queries."""


@dataclass(slots=True)
class _Pending:
    """A query that is not written yet."""

    vector: Vectors
    """(dim,) float32, before adaptation."""
    count: int
    last: float
    """When it was last asked, on the monotonic clock."""


class QueryCollector:
    """The queries that a server keeps. Thread-safe; nothing here can fail a search or an adaptation."""

    def __init__(
        self,
        domains: Mapping[str, DomainRegistry],
        *,
        days: int,
        observe: KeptObserver = lambda _outcome, _queries: None,
    ) -> None:
        """Start the thread that writes, unless `days` is 0: then nothing is collected or written.

        domains: registries by index. days: queries that are not asked for this long are deleted.
        """
        self._domains = dict(domains)
        self._days = days
        self._observe = observe
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, str], dict[str, _Pending]] = {}
        """By index and domain, then by text; the last one asked comes last."""
        self._count = 0
        """Number of queries in `_pending`."""
        self._failure = ""
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if days:
            self._thread = threading.Thread(target=self._work, name="keeping", daemon=True)
            self._thread.start()
        else:
            self._log_earlier()

    @property
    def days(self) -> int:
        """Days for which queries are kept; 0: none are."""
        return self._days

    def collect(self, index: str, outcomes: Sequence[Outcome], *, typed: bool = False) -> None:
        """Collect the queries of searches, in memory. The queries of the default domain are never kept.

        Nor are later pages, completed queries, or keyword searches, which have no vector. typed: whether the query may
        be unfinished.
        """
        if not self._days or index not in self._domains:
            return
        now, dropped = monotonic(), 0
        with self._lock:
            for outcome in outcomes:
                query, text = outcome.query, outcome.query.text.strip()
                if query.domain == DEFAULT_DOMAIN or query.offset or outcome.dense is None:
                    continue
                if outcome.completed is not None:
                    continue  # a guess at what is being typed
                pending = self._pending.get((index, query.domain), {})
                if typed:
                    self._count -= _remove_unfinished(pending, text, now)
                earlier = pending.pop(text, None)
                if earlier is not None:
                    pending[text] = _Pending(earlier.vector, earlier.count + 1, now)
                elif self._count < MAX_PENDING:
                    # a view would keep the vectors of the whole batch in memory
                    pending[text] = _Pending(outcome.dense.encoded.copy(), 1, now)
                    self._pending[index, query.domain] = pending
                    self._count += 1
                else:
                    dropped += 1
        if dropped:
            self._observe("dropped", dropped)

    def flush(self, index: str, domain: str) -> None:
        """Write the collected queries of a domain; a failure is logged and changes nothing else."""
        self._flush((index, domain), everything=False)

    def close(self) -> None:
        """Write everything and stop the thread."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        for key in self._keys():
            self._flush(key, everything=True)

    def _work(self) -> None:
        next_expiry = monotonic()
        while True:
            if monotonic() >= next_expiry:
                self._drop_expired()
                next_expiry = monotonic() + EXPIRE_INTERVAL_S
            if self._closed.wait(FLUSH_INTERVAL_S):
                return
            for key in self._keys():
                self._flush(key, everything=False)

    def _keys(self) -> list[tuple[str, str]]:
        with self._lock:
            return list(self._pending)

    def _flush(self, key: tuple[str, str], *, everything: bool) -> None:
        """Write the queries of an index and domain. everything: also those that may still be typed."""
        index, domain = key
        entries = self._take(key, monotonic() if everything else monotonic() - TYPING_S)
        if not entries:
            return
        registry = self._domains[index]
        try:
            # searching an unknown domain stores nothing: clients could fill the disk with names
            kept = registry.kept.add(domain, entries, days=self._days) if registry.exists(domain) else 0
        except StateError:
            self._observe("dropped", len(entries))  # the domain is damaged, as `semsearch domains list` says
        except Exception as error:
            self._observe("failed", len(entries))
            if self._failure != str(error):
                trace = None if isinstance(error, SemsearchError) else error
                log.error(  # noqa: TRY400 - an error of the project says what is wrong
                    "queries cannot be kept", index=index, error=str(error), exc_info=trace
                )
            self._failure = str(error)
        else:
            self._failure = ""
            self._observe("kept", kept)
            self._observe("dropped", len(entries) - kept)

    def _take(self, key: tuple[str, str], until: float) -> list[tuple[str, Vectors]]:
        """Remove and return the pending queries that were last asked until a time, as `KeptQueries.add` takes them."""
        with self._lock:
            pending = self._pending.get(key, {})
            taken = {text: query for text, query in pending.items() if query.last <= until}
            for text in taken:
                del pending[text]
            self._count -= len(taken)
            if not pending:
                self._pending.pop(key, None)
        return [(text, query.vector) for text, query in taken.items() for _ in range(query.count)]

    def _drop_expired(self) -> None:
        for index, registry in self._domains.items():
            try:
                registry.kept.drop_expired(self._days)
            except (SemsearchError, OSError) as error:
                log.error("kept queries cannot be deleted", index=index, error=str(error))  # noqa: TRY400

    def _log_earlier(self) -> None:
        """Log that queries were kept earlier, and how to delete them."""
        for index, registry in self._domains.items():
            if domains := registry.kept.names():
                log.info(
                    "queries of an earlier start are kept",
                    index=index,
                    domains=len(domains),
                    delete_them_with=f"semsearch domains forget-queries {registry.folder}",
                )


def _remove_unfinished(pending: dict[str, _Pending], text: str, now: float) -> int:
    """Uncount the queries of the last seconds that begin with a text or that the text begins with.

    Returns the number of queries that were removed.
    """
    removed = 0
    for other, query in reversed(list(pending.items())):
        if now - query.last >= TYPING_S:
            break  # the others were asked before
        if text.startswith(other) or other.startswith(text):
            query.count -= 1
            # of the text itself the vector is needed again
            if not query.count and other != text:
                del pending[other]
                removed += 1
    return removed
