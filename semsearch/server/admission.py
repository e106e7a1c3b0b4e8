"""Admission control: dispatches requests to threads, and refuses requests at once when too many are waiting."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import Error as WaitressError

from semsearch.server.errors import too_large
from semsearch.server.root_path import without_root
from semsearch.server.runtime.metrics import Metrics
from semsearch.server.schemas.search import Problem

NEVER_REFUSED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are answered even under overload, so that a monitor does not consider the server dead."""
MAX_QUEUED = 8
"""Requests that may wait for a thread."""


class _ProblemError:
    """An error response in the format of the API, with the interface of waitress's errors."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.status = status
        self._headers = [("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"), *headers]
        self._body = Problem(title=status.phrase, status=status.value, detail=detail).model_dump_json().encode()

    def to_response(self, _ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return the status line, the headers and the body."""
        return f"{self.status.value} {self.status.phrase}", list(self._headers), self._body


_REFUSAL = _ProblemError(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "more requests are waiting than can be answered in time: try again later",
    [("Retry-After", "1")],
)


class _RefusalTask(ErrorTask):  # type: ignore[misc]
    """Sends an error; after a refusal the connection stays open, so that the client can try again on it."""

    def execute(self) -> None:
        """Write the response."""
        self.status, headers, body = self.request.error.to_response("semsearch")
        if self.request.error is not _REFUSAL:
            self.set_close_on_finish()
        self.response_headers.extend(headers)
        self.content_length = len(body)
        self.write(body)


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Dispatches requests to threads. Refuses a request at once if all threads are busy and the queue is full.

    A separate thread sends the refusals.
    """

    def __init__(self, threads: int, metrics: Metrics, *, max_body_bytes: int, root_path: str = "") -> None:
        """Start `threads` threads for requests, and one for refusals.

        max_body_bytes: the limit that messages about bodies name. root_path: the server's path behind a proxy.
        """
        super().__init__()
        self._max_body_bytes = max_body_bytes
        self._root_path = root_path
        self._metrics = metrics
        self._refusing = ThreadedTaskDispatcher()
        self._refusing.set_thread_count(1)
        self.set_thread_count(threads)

    def add_task(self, task: Any) -> None:
        """Queue or refuse the next request of a channel."""
        request = task.requests[0]
        if isinstance(request.error, WaitressError):
            request.error = self._problem(request)
        if len(self.queue) < MAX_QUEUED:
            super().add_task(task)
            return
        if not request.error and without_root(request.path, self._root_path) not in NEVER_REFUSED:
            self._metrics.requests.labels("refused", 503).inc()
            request.error, task.error_task_class = _REFUSAL, _RefusalTask
        self._refusing.add_task(task)

    def _problem(self, request: Any) -> _ProblemError:
        """Return the response to a request that could not be read."""
        status = HTTPStatus(request.error.code)
        detail = f"the request cannot be read: {str(request.error.body).strip().rstrip('.')}"
        if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            detail = too_large(request.content_length or None, self._max_body_bytes)
        elif status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            limit = request.adj.max_request_header_size
            detail = f"the address and the headers have more than {limit:,} bytes: send a long query in a body, by POST"
        return _ProblemError(status, detail)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """Stop all threads."""
        self._refusing.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))
