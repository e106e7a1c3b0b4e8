"""Combines calls from many threads into batched calls on a few threads. Does not depend on search.

An item of a batch can fail alone, so that no call fails because of another one's items.

A batch holds the items that arrived while the previous batches ran. A lone call therefore starts at once, and batches
grow with the load, up to their limits of size and cost.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

from semsearch.errors import DeadlineError, OverloadedError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Failed:
    """In place of the result of an item that failed."""

    error: Exception


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Result]):
    """The items of one `submit` call. `done` is set when all results or an error are available."""

    items: Sequence[Item]
    deadline: float
    abandoned: Callable[[], bool]
    results: dict[int, Result] = field(default_factory=dict)
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def fail(self, error: BaseException) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()


def stopping_error() -> OverloadedError:
    """Return the error of a call that the end of the service interrupts."""
    return OverloadedError("the service is stopping: try again in a moment", retry_after_s=1)


class AbandonedError(Exception):
    """The client disconnected before its request was answered."""


class Batcher(Generic[Item, Result]):
    """Gathers concurrent `submit` calls into calls of `run`, one at a time on each of its own threads."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result | Failed]],
        *,
        max_batch: int,
        max_waiting: int,
        workers: int = 1,
        cost: Callable[[Item], int] = lambda _item: 0,
        max_cost: int = 1,
        on_batch: Callable[[Sequence[Item], float], None] = lambda _items, _seconds: None,
    ) -> None:
        """Start the threads.

        run: takes 1 to max_batch items and returns a result, or a failure, for each, in the same order. It runs on
        `workers` threads at once.
        cost: the cost of an item. max_cost: largest total cost of a batch; an item that costs more runs alone.
        max_waiting: number of waiting items from which on a call is refused, whatever its size. A call is accepted or
        refused as a whole, so the queue holds at most max_waiting items plus one call.
        on_batch: called with the items of a batch that ran and the seconds it took, on the batcher's threads.

        Raises ValueError if a limit is below 1.
        """
        if min(max_batch, max_waiting, workers) < 1:
            raise ValueError(f"max_batch {max_batch}, max_waiting {max_waiting}, workers {workers}: at least 1 of each")
        self._run = run
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._on_batch = on_batch
        self._waiting: deque[tuple[_Call[Item, Result], int]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds_per_item = 0.0
        self._cost = cost
        self._max_cost = max_cost
        self._idle = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"batcher-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of items that wait for a batch."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether all threads are running, so that calls can be answered."""
        return all(thread.is_alive() for thread in self._threads) and not self._closed

    def submit(
        self, items: Sequence[Item], *, timeout_s: float, abandoned: Callable[[], bool] = lambda: False
    ) -> list[Result]:
        """Run `items` in batches and return their results in the same order.

        abandoned: called when the items are due to run; if it returns true, they are dropped.

        Raises OverloadedError if too many items wait already or the batcher is closed, DeadlineError after timeout_s,
        AbandonedError if the call was abandoned, and the error of an item that failed, or of a batch that did.
        """
        if not items:
            return []
        call: _Call[Item, Result] = _Call(items, monotonic() + timeout_s, abandoned)
        with self._changed:
            if self._closed:
                raise stopping_error()
            if len(self._waiting) >= self._max_waiting:
                raise OverloadedError(
                    f"{len(self._waiting)} queries are waiting already: try again later",
                    retry_after_s=self._retry_after_s(),
                )
            self._waiting.extend((call, index) for index in range(len(items)))
            self._changed.notify(len(items))
        if not call.done.wait(max(0.0, timeout_s)):
            call.fail(self.deadline_error())
        if call.error is not None:
            raise call.error
        return [call.results[index] for index in range(len(items))]

    def close(self) -> None:
        """Stop the threads after their current batches. Calls that still wait raise OverloadedError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for call, _ in self._waiting:
            call.fail(stopping_error())
        self._waiting.clear()

    def deadline_error(self) -> DeadlineError:
        """Return the error of a call that exceeded its deadline."""
        return DeadlineError(
            "the answer was not ready within the time allowed for a request: try again later, or ask for fewer queries,"
            " results or explanations",
            retry_after_s=self._retry_after_s(),
        )

    def _retry_after_s(self) -> int:
        return max(1, math.ceil(len(self._waiting) * self._seconds_per_item / len(self._threads)))

    def _work(self) -> None:
        # a batch is local to _run_next, so that a waiting thread keeps no items or results alive
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Run one batch. Return false only if the batcher is closed."""
        batch = self._next_batch()
        if not batch:
            return False
        started = monotonic()
        try:
            results = self._run([call.items[index] for call, index in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(batch)} items gave {len(results)} results")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - the error is raised in the callers, and the thread must survive
            for call, _ in batch:
                call.fail(error)
            return True
        seconds = monotonic() - started
        # an exponential moving average: it follows a change of load within a few batches
        self._seconds_per_item += 0.2 * (seconds / len(batch) - self._seconds_per_item)
        self._on_batch([call.items[index] for call, index in batch], seconds)
        for (call, index), result in zip(batch, results, strict=True):
            if isinstance(result, Failed):
                call.fail(result.error)
                continue
            call.results[index] = result
            if len(call.results) == len(call.items):
                call.done.set()
        return True

    def _next_batch(self) -> list[tuple[_Call[Item, Result], int]]:
        """Wait for items and take this thread's fair share of them, within the limits of size and cost.

        Items of calls that failed, expired or were abandoned are dropped. The result is empty only if the batcher is
        closed.
        """
        batch: list[tuple[_Call[Item, Result], int]] = []
        cost = 0
        with self._changed:
            while not batch:
                self._idle += 1
                self._changed.wait_for(lambda: self._waiting or self._closed)
                # Invariant: _idle counts the threads between the two updates, this one included, so it is at least 1.
                # If k idle threads each take ceil(waiting / idle) in turn, no item is left and their batches differ by
                # at most one item, unless a limit is reached.
                idle_workers = self._idle
                fair_share = math.ceil(len(self._waiting) / idle_workers)
                self._idle -= 1
                if self._closed:
                    return []
                while self._waiting and len(batch) < min(self._max_batch, fair_share):
                    call, index = self._waiting[0]
                    new_cost = cost + self._cost(call.items[index])
                    if batch and new_cost > self._max_cost:
                        break
                    self._waiting.popleft()
                    if self._is_live(call):
                        batch.append((call, index))
                        cost = new_cost
        return batch

    def _is_live(self, call: _Call[Item, Result]) -> bool:
        """Whether a call still needs results; it fails here if it was abandoned or has expired."""
        if not call.done.is_set():
            if call.abandoned():
                call.fail(AbandonedError())
            elif monotonic() >= call.deadline:
                call.fail(self.deadline_error())
        return not call.done.is_set()
