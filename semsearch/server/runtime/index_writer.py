"""Changes of served indexes, one at a time for each; knows nothing of HTTP or of how searches move to the new state."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from semsearch.domains.process import NICENESS
from semsearch.errors import BundleError, OverloadedError
from semsearch.ingest.updating import Changed, Opened, delete, update
from semsearch.types import Document

log = structlog.get_logger("semsearch.server")

RETRY_AFTER_S = 5
"""When somebody should come again who found the index being written."""


@dataclass(frozen=True, slots=True)
class Changing:
    """An index that may be changed."""

    folder: Path
    opened: Callable[[], Opened]
    """What the server has open of it just now."""
    moved: Callable[[], object]
    """To be called when the index on disk has changed: searches move to it."""


class Changes:
    """Writes indexes for the requests that ask for it."""

    def __init__(self, indexes: dict[str, Changing], *, patience_s: float) -> None:
        """By name. patience_s: for how long a change waits for the one before it."""
        self._indexes = indexes
        self._patience_s = patience_s
        self._locks = {name: threading.Lock() for name in indexes}
        self._compacting: dict[str, Future[None]] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._indexes

    def update(self, name: str, documents: Sequence[Document]) -> Changed:
        """Add or replace documents; searches find them when this returns.

        Raises OverloadedError where another change takes too long, BusyError where another process is at it, and what
        `indexing.changing.update` raises.
        """
        with self._turn(name) as index:
            *_, last = update(index.folder, documents, opened=index.opened())
            index.moved()
        assert isinstance(last, Changed)
        return last

    def delete(self, name: str, identities: Sequence[str]) -> Changed:
        """Delete documents; searches do not find them when this returns. Raises as `update`."""
        with self._turn(name) as index:
            done = delete(index.folder, identities, opened=index.opened())
            index.moved()
        return done

    def compact(self, name: str) -> Future[None]:
        """Have an index made one piece, in a process of its own: the future is that of the call before where one is
        under way already. Raises as `update`."""
        running = self._compacting.get(name)
        if running is not None and not running.done():
            return running
        lock = self._wait(name)
        future = self._compacting[name] = Future()
        threading.Thread(target=self._compact, args=(name, lock, future), name="compacting", daemon=True).start()
        return future

    def close(self) -> None:
        """End what is being compacted; the indexes stay as they were."""
        for process in list(self._processes.values()):
            process.terminate()
        for future in list(self._compacting.values()):
            with suppress(BundleError):
                future.result(timeout=30)

    def _compact(self, name: str, lock: threading.Lock, future: Future[None]) -> None:
        index = self._indexes[name]
        failure: Exception | None = None
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "semsearch", "compact", str(index.folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            self._processes[name] = process
            with suppress(OSError):
                # searches go first
                os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            _, said = process.communicate()
            if process.returncode:
                raise BundleError(f"{index.folder} could not be compacted: {said.strip()[-500:]}")  # noqa: TRY301
            index.moved()
        except Exception as error:
            log.exception("compacting failed", index=name, error=str(error))
            failure = error
        self._processes.pop(name, None)
        lock.release()
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)

    @contextmanager
    def _turn(self, name: str) -> Iterator[Changing]:
        lock = self._wait(name)
        try:
            yield self._indexes[name]
        finally:
            lock.release()

    def _wait(self, name: str) -> threading.Lock:
        lock = self._locks[name]
        if not lock.acquire(timeout=self._patience_s):
            raise OverloadedError(f"the index {name!r} is being written: try again later", retry_after_s=RETRY_AFTER_S)
        return lock
