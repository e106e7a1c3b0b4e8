"""Which thread answers a request: one that searches, or, where all of them are taken, one that only refuses."""

from __future__ import annotations

from typing import Any

from waitress.task import ErrorTask, ThreadedTaskDispatcher

from semsearch.server.runtime.metrics import Metrics
from semsearch.server.schemas.search import Problem

SPARED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are answered however busy the server is: a monitor must not take the server for dead."""
MOST_QUEUED = 8
"""Requests that may wait for a thread."""


class _Refusal:
    """What is answered for a request that nothing was done about, in the form of waitress's errors."""

    problem = Problem(
        title="Service Unavailable",
        status=503,
        detail="more requests are waiting than can be answered in time: try again later",
    )
    body = problem.model_dump_json().encode()

    def to_response(self, _ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Status, headers, body."""
        headers = [("Content-Type", "application/problem+json"), ("Retry-After", "1"), ("Cache-Control", "no-store")]
        return "503 Service Unavailable", headers, self.body


class _RefusalTask(ErrorTask):  # type: ignore[misc]
    """Answers an error, and leaves the connection open: the client is to try again by it."""

    def execute(self) -> None:
        self.status, headers, body = self.request.error.to_response()
        self.response_headers.extend(headers)
        self.content_length = len(body)
        self.write(body)


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Hands requests to threads, and where all are taken and some requests wait already, refuses what comes at once,
    before anything is done for it."""

    def __init__(self, threads: int, metrics: Metrics) -> None:
        """Start so many threads, and one that refuses."""
        super().__init__()
        self._metrics = metrics
        self._refusing = ThreadedTaskDispatcher()
        self._refusing.set_thread_count(1)
        self.set_thread_count(threads)

    def add_task(self, task: Any) -> None:
        """Have a channel's next request answered."""
        if len(self.queue) < MOST_QUEUED:
            super().add_task(task)
            return
        request = task.requests[0]
        if request.path not in SPARED and not request.error:
            self._metrics.requests.labels("refused", 503).inc()
            request.error, task.error_task_class = _Refusal(), _RefusalTask
        self._refusing.add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """Stop all threads."""
        self._refusing.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))
