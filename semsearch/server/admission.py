"""Admission control: dispatches requests to threads, and refuses requests at once when too many are waiting."""

from __future__ import annotations

from typing import Any

from waitress.task import ErrorTask, ThreadedTaskDispatcher

from semsearch.server.runtime.metrics import Metrics
from semsearch.server.schemas.search import Problem

NEVER_REFUSED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are answered even under overload, so that a monitor does not consider the server dead."""
MAX_QUEUED = 8
"""Requests that may wait for a thread."""


class _Refusal:
    """The response to a refused request, with the interface of waitress's errors."""

    problem = Problem(
        title="Service Unavailable",
        status=503,
        detail="more requests are waiting than can be answered in time: try again later",
    )
    body = problem.model_dump_json().encode()

    def to_response(self, _ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return the status line, the headers and the body."""
        headers = [("Content-Type", "application/problem+json"), ("Retry-After", "1"), ("Cache-Control", "no-store")]
        return "503 Service Unavailable", headers, self.body


class _RefusalTask(ErrorTask):  # type: ignore[misc]
    """Sends an error and leaves the connection open, so that the client can try again on it."""

    def execute(self) -> None:
        self.status, headers, body = self.request.error.to_response()
        self.response_headers.extend(headers)
        self.content_length = len(body)
        self.write(body)


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Dispatches requests to threads. Refuses a request at once if all threads are busy and the queue is full.

    A separate thread sends the refusals.
    """

    def __init__(self, threads: int, metrics: Metrics) -> None:
        """Start `threads` threads for requests, and one for refusals."""
        super().__init__()
        self._metrics = metrics
        self._refusing = ThreadedTaskDispatcher()
        self._refusing.set_thread_count(1)
        self.set_thread_count(threads)

    def add_task(self, task: Any) -> None:
        """Queue or refuse the next request of a channel."""
        if len(self.queue) < MAX_QUEUED:
            super().add_task(task)
            return
        request = task.requests[0]
        if request.path not in NEVER_REFUSED and not request.error:
            self._metrics.requests.labels("refused", 503).inc()
            request.error, task.error_task_class = _Refusal(), _RefusalTask
        self._refusing.add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """Stop all threads."""
        self._refusing.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))
