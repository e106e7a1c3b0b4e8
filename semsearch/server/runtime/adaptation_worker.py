"""Adapts domains in the background, one at a time, on a thread of its own. Does not depend on HTTP."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from time import perf_counter

import structlog
import torch

from semsearch.domains.process import NICENESS
from semsearch.domains.registry import DomainRegistry
from semsearch.storage.domains import Version

log = structlog.get_logger("semsearch.server")

LOOK_EVERY_S = 1.0
"""How often it is looked whether another process changed a domain."""

Adapted = Callable[[str, float], None]
"""Told how an adaptation ended and the seconds it took."""


class AdaptationWorker:
    """Domains that wait to be adapted, each once, in the order they were asked for."""

    def __init__(
        self,
        domains: Mapping[str, DomainRegistry],
        *,
        after: int,
        adapted: Adapted = lambda _how, _seconds: None,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread.

        domains: by index. after: new labels and clicks after which a domain is adapted without a request; 0: never.
        refresh: called before each look for changes on disk.
        """
        self._refresh_indexes = refresh
        self._domains = dict(domains)
        self._after = after
        self._adapted = adapted
        self._waiting: deque[tuple[str, str]] = deque()
        self._futures: dict[tuple[str, str], Future[Version]] = {}
        """Of domains whose adaptation has not begun."""
        self._running: tuple[str, str] | None = None
        self._unread: deque[tuple[str, str, tuple[str, ...]]] = deque()
        self._seen = dict.fromkeys(domains, 0)
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="adapting", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Domains that wait, or are being adapted."""
        with self._changed:
            return len(self._futures) + (self._running is not None)

    def busy(self, index: str, domain: str) -> bool:
        """Whether this domain waits, or is being adapted."""
        with self._changed:
            return (index, domain) in self._futures or self._running == (index, domain)

    def adapt(self, index: str, domain: str) -> Future[Version]:
        """Have a domain adapted; where it waits already, the future is that of the earlier call.

        An adaptation that is running does not count: it may have read the log before the newest entries.
        """
        with self._changed:
            future = self._futures.get((index, domain))
            if future is None:
                future = self._futures[index, domain] = Future()
                self._waiting.append((index, domain))
                self._changed.notify()
        return future

    def noted(self, index: str, domain: str, queries: Sequence[str]) -> None:
        """Something was said about these queries: have them encoded, and the domain adapted if it is time."""
        with self._changed:
            self._unread.append((index, domain, tuple(queries)))
            self._changed.notify()

    def due(self, index: str, domain: str) -> bool:
        """Whether so much is new that the domain is adapted without being asked to: `after` entries, and a tenth of
        those it was adapted on, so that a large domain is not adapted again and again."""
        if not self._after:
            return False
        standing = self._domains[index].status(domain)
        return standing.pending >= max(self._after, (standing.labels + standing.clicks) / 10)

    def close(self) -> None:
        """Stop after what is being done; what waits is taken up at the next start, from the log."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for future in self._futures.values():
            future.cancel()

    def _work(self) -> None:
        # searches go first: the batcher keeps its own number of threads, and the cores where there are too few
        torch.set_num_threads(1)
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting or self._unread, LOOK_EVERY_S)
                if self._closed:
                    return
                # asked for before noted: a request waits for it
                asked = self._waiting.popleft() if self._waiting else None
                noted = self._unread.popleft() if asked is None and self._unread else None
            try:
                if asked is not None:
                    self._adapt(*asked)
                elif noted is not None:
                    self._read(*noted)
                else:
                    self._look()
            except Exception:
                # the thread must live
                log.exception("adapting failed")

    def _look(self) -> None:
        """Take up what is new on disk: what was said before a stop or a crash, and what other processes do."""
        self._refresh_indexes()
        for index, domains in self._domains.items():
            domains.refresh()
            self._seen[index], spoken_of = domains.log.changed(self._seen[index])
            for domain in spoken_of:
                if self.due(index, domain):
                    self.adapt(index, domain)

    def _read(self, index: str, domain: str, queries: Sequence[str]) -> None:
        for query in queries:
            self._domains[index].prefetch(query)
        if self.due(index, domain):
            self.adapt(index, domain)

    def _adapt(self, index: str, domain: str) -> None:
        with self._changed:
            future = self._futures.pop((index, domain))
            self._running = (index, domain)
        started = perf_counter()
        try:
            version = self._domains[index].adapt(domain)
        except Exception as error:
            self._done()
            future.set_exception(error)
            self._adapted("failed", perf_counter() - started)
            log.exception("adapting failed", index=index, error=str(error))
            return
        self._done()
        future.set_result(version)
        seconds = perf_counter() - started
        self._adapted(version.event, seconds)
        log.info("adapted", index=index, version=version.number, how=version.event, ms=round(1000 * seconds, 1))
        # those below it started from what it was
        for heir in self._domains[index].descendants(domain):
            self.adapt(index, heir)

    def _done(self) -> None:
        with self._changed:
            self._running = None
