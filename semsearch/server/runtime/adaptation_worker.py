"""Adapts domains in the background, one at a time, on its own thread. Does not depend on HTTP."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from time import perf_counter

import structlog

from semsearch.domains.process import NICENESS
from semsearch.domains.registry import DomainRegistry
from semsearch.errors import OverloadedError, SemsearchError, StateError, first_line
from semsearch.server.runtime.batching import stopping_error
from semsearch.storage.domains import Version

log = structlog.get_logger("semsearch.server")

POLL_INTERVAL_S = 1.0
"""Seconds between two checks for changes by other processes."""

GRACE_S = 3.0
"""Seconds that a running adaptation has to end when the worker is closed."""

RETRY_AFTER_S = 30
"""Seconds after which a client should request an adaptation again if torch could not be imported."""

AdaptationObserver = Callable[[str, float], None]
"""Called with the outcome of an adaptation and its duration in seconds."""


class AdaptationWorker:
    """A queue of domains to adapt, each queued at most once, in the order of the requests."""

    def __init__(
        self,
        domains: Mapping[str, DomainRegistry],
        *,
        after: int,
        before_adapting: Callable[[str, str], None] = lambda _index, _domain: None,
        on_adapted: AdaptationObserver = lambda _outcome, _seconds: None,
        refresh: Callable[[str], bool] = lambda _index: True,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread.

        domains: registries by index. after: new labels and clicks after which a domain is adapted automatically; 0:
        never. before_adapting: called with the index and the domain; does not raise. refresh: called with each index
        before its domains are checked for changes on disk; false if its folder cannot be read. interrupt: called on
        `close` if the running adaptation does not end soon; ends it.
        """
        self._refresh_index = refresh
        self._interrupt = interrupt
        self._domains = dict(domains)
        self._after = after
        self._before_adapting = before_adapting
        self._on_adapted = on_adapted
        self._queue: deque[tuple[str, str]] = deque()
        self._futures: dict[tuple[str, str], Future[Version]] = {}
        """Futures of the queued domains."""
        self._running: tuple[str, str] | None = None
        self._new_entries: deque[tuple[str, str, tuple[str, ...]]] = deque()
        """Index, domain and queries of entries that were just stored."""
        self._last_seen = dict.fromkeys(domains, 0)
        """By index, the number of the last log entry that was checked."""
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="adapting", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of domains that are queued or being adapted."""
        with self._changed:
            return len(self._futures) + (self._running is not None)

    def busy(self, index: str, domain: str) -> bool:
        """Whether a domain is queued or being adapted."""
        with self._changed:
            return (index, domain) in self._futures or self._running == (index, domain)

    def adapt(self, index: str, domain: str) -> Future[Version]:
        """Queue a domain for adaptation. If it is queued already, return the future of the earlier call.

        A domain that is being adapted is queued again, because that adaptation may have read the log before the newest
        entries. The future raises OverloadedError if the worker is closed before the domain's turn.
        """
        with self._changed:
            if self._closed:
                return _stopped(Future())
            future = self._futures.get((index, domain))
            if future is None:
                future = self._futures[index, domain] = Future()
                self._queue.append((index, domain))
                self._changed.notify()
        return future

    def entries_added(self, index: str, domain: str, queries: Sequence[str]) -> None:
        """Schedule the encoding of newly labelled queries, and the domain's adaptation if it is due."""
        with self._changed:
            self._new_entries.append((index, domain, tuple(queries)))
            self._changed.notify()

    def is_due(self, index: str, domain: str) -> bool:
        """Whether a domain has enough new entries to be adapted automatically.

        It needs at least `after` new entries, and a tenth of all its entries, so that a large domain is not adapted
        over and over.
        """
        if not self._after:
            return False
        status = self._domains[index].status(domain)
        return status.pending >= max(self._after, (status.labels + status.clicks) / 10)

    def close(self) -> None:
        """Stop after the running adaptation, or interrupt it after GRACE_S.

        Domains that are still due are adapted after the next start.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(GRACE_S)
        if self._thread.is_alive():
            self._interrupt()
            self._thread.join(GRACE_S)
        with self._changed:
            queued, self._futures = self._futures, {}
        for future in queued.values():
            _stopped(future)

    def _work(self) -> None:
        # searches have priority: the batcher sets its own number of threads, and this thread yields the cores
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._queue or self._new_entries, POLL_INTERVAL_S)
                if self._closed:
                    return
                # requested adaptations come before new entries, because a client may be waiting for them
                queued = self._queue.popleft() if self._queue else None
                added = self._new_entries.popleft() if queued is None and self._new_entries else None
            try:
                if queued is not None:
                    self._adapt(*queued)
                elif added is not None:
                    self._prefetch(*added)
                else:
                    self._poll()
            except Exception:
                # the thread must survive
                if not self._closed:
                    log.exception("adapting failed")

    def _poll(self) -> None:
        """Read changes on disk: entries from before a stop or crash, and the work of other processes."""
        for index, domains in self._domains.items():
            if not self._refresh_index(index):
                continue  # what was read before is served
            domains.refresh()
            self._last_seen[index], changed_domains = domains.log.changed(self._last_seen[index])
            for domain in changed_domains:
                # a damaged domain does not keep the others from being adapted
                with suppress(StateError):
                    if self.is_due(index, domain):
                        self.adapt(index, domain)

    def _prefetch(self, index: str, domain: str, queries: Sequence[str]) -> None:
        for query in queries:
            self._domains[index].prefetch(query)
        # labels of a damaged domain are stored, but it cannot be adapted
        with suppress(StateError):
            if self.is_due(index, domain):
                self.adapt(index, domain)

    def _adapt(self, index: str, domain: str) -> None:
        with self._changed:
            future = self._futures.pop((index, domain), None)
            if future is None:  # closed meanwhile
                return
            self._running = (index, domain)
        started = perf_counter()
        try:
            _prepare_torch()
            self._before_adapting(index, domain)
            version = self._domains[index].adapt(domain)
        except Exception as error:
            self._clear_running()
            if self._closed:
                _stopped(future)
                log.info("adapting was interrupted", index=index)
                return
            future.set_exception(error)
            self._on_adapted("failed", perf_counter() - started)
            # an error of the project says what is wrong
            trace = None if isinstance(error, SemsearchError) else error
            log.error("adapting failed", index=index, error=str(error), exc_info=trace)  # noqa: TRY400
            return
        self._clear_running()
        future.set_result(version)
        seconds = perf_counter() - started
        self._on_adapted(version.event, seconds)
        log.info("adapted", index=index, version=version.number, how=version.event, ms=round(1000 * seconds, 1))
        # descendants start from the parent's state, which has changed
        for descendant in self._domains[index].descendants(domain):
            self.adapt(index, descendant)

    def _clear_running(self) -> None:
        with self._changed:
            self._running = None


def _prepare_torch() -> None:
    """Import torch, which takes a second that a start need not wait for, and give it one thread.

    Raises OverloadedError if it cannot be imported, such as for lack of memory.
    """
    try:
        import torch
    except (ImportError, OSError, MemoryError) as error:
        raise OverloadedError(
            f"adapting needs torch, which cannot be imported ({first_line(error)}): free memory, or install semsearch"
            " again",
            retry_after_s=RETRY_AFTER_S,
        ) from error
    torch.set_num_threads(1)


def _stopped(future: Future[Version]) -> Future[Version]:
    """Return a future with the error of the service's end."""
    future.set_exception(stopping_error())
    return future
