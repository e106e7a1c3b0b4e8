"""Writes to a served index, one change at a time. Does not depend on HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from semsearch.domains.process import NICENESS
from semsearch.errors import IndexBusyError, IndexFolderError, OverloadedError
from semsearch.ingest.updating import OpenIndex, UpdateResult, delete, update
from semsearch.server.runtime.batching import stopping_error
from semsearch.types import Document

log = structlog.get_logger("semsearch.server")

RETRY_AFTER_S = 5
"""Seconds after which a client should try again if the index is being written."""

CLOSE_TIMEOUT_S = 10
"""Seconds that a compaction has to end after its process was told to."""


class IndexWriter:
    """Changes and compacts one index on behalf of requests."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        open_index: Callable[[], OpenIndex],
        on_change: Callable[[], object],
        on_failure: Callable[[Exception], Exception],
        lock_timeout_s: float,
    ) -> None:
        """Create a writer of the index in `folder`.

        open_index: returns the parts of the index that the server holds open. on_change: called after each change of
        the index on disk, so that searches switch to it. on_failure: returns the error to raise if the folder cannot be
        read or written. lock_timeout_s: seconds that a change waits for the previous
        one.
        """
        self._name = name
        self._folder = folder
        self._open_index = open_index
        self._on_change = on_change
        self._on_failure = on_failure
        self._lock_timeout_s = lock_timeout_s
        self._lock = threading.Lock()
        self._compaction: Future[None] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    def update(self, documents: Sequence[Document]) -> UpdateResult:
        """Add or replace documents. Searches find them when this returns.

        Raises OverloadedError if a previous change takes too long, IndexBusyError if another process is writing, what
        `on_failure` returns, and as `ingest.updating.update`.
        """
        with self._exclusive():
            *_, last = update(self._folder, documents, opened=self._open_index())
            self._on_change()
        assert isinstance(last, UpdateResult)
        return last

    def delete(self, doc_ids: Sequence[str]) -> UpdateResult:
        """Delete documents. Searches do not find them any more when this returns. Raises as `update`."""
        with self._exclusive():
            result = delete(self._folder, doc_ids, opened=self._open_index())
            self._on_change()
        return result

    def compact(self) -> Future[None]:
        """Start compacting the index in a separate process. If a compaction is running, return its future.

        Raises as `update`.
        """
        if self._compaction is not None and not self._compaction.done():
            return self._compaction
        self._acquire()
        future = self._compaction = Future()
        threading.Thread(target=self._compact, args=(future,), name="compacting", daemon=True).start()
        return future

    def close(self) -> None:
        """Stop a running compaction; the index then stays unchanged."""
        self._closed = True
        if self._process is not None:
            self._process.terminate()
        if self._compaction is not None:
            wait([self._compaction], timeout=CLOSE_TIMEOUT_S)

    def _compact(self, future: Future[None]) -> None:
        failure: Exception | None = None
        try:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "semsearch", "compact", str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            with suppress(OSError):
                # searches have priority
                os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            _, stderr = process.communicate()
            if process.returncode:
                raise IndexFolderError(  # noqa: TRY301
                    f"{self._folder} could not be compacted: {stderr.strip()[-500:]}"
                )
            self._on_change()
        except Exception as error:
            if self._closed:
                failure = stopping_error()
            elif isinstance(error, IndexFolderError | OSError):
                failure = self._on_failure(error)
            else:
                log.exception("compacting failed", index=self._name)
                failure = error
        self._process = None
        self._lock.release()
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._acquire()
        try:
            yield
        except IndexBusyError:
            raise
        except (IndexFolderError, OSError) as error:
            raise self._on_failure(error) from error
        finally:
            self._lock.release()

    def _acquire(self) -> None:
        if not self._lock.acquire(timeout=self._lock_timeout_s):
            raise OverloadedError(
                f"the index {self._name!r} is being written: try again later", retry_after_s=RETRY_AFTER_S
            )
