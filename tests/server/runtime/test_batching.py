"""The batcher: concurrent calls share batches, every call gets its own results, and no call waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from semsearch.errors import DeadlineError, OverloadedError
from semsearch.server.runtime.batching import AbandonedError, Batcher, Failed

LONG_S = 20.0


@dataclass
class Gate:
    """Squares numbers. Each batch waits until `released`."""

    batches: list[list[int]] = field(default_factory=list)
    running: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    released: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def square(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.running.release()
        assert self.released.acquire(timeout=LONG_S)
        if -1 in numbers:
            raise ValueError("minus one")
        return [number * number for number in numbers]


@dataclass
class Setting:
    gate: Gate
    batcher: Batcher[int, int]
    pool: ThreadPoolExecutor
    sizes: list[int]

    def start(self, *numbers: int, timeout_s: float = LONG_S) -> Future[list[int]]:
        """Make a call on another thread. It is queued when this returns."""
        before = self.batcher.waiting
        future = self.pool.submit(self.batcher.submit, numbers, timeout_s=timeout_s)
        while self.batcher.waiting < before + len(numbers) and not future.done():
            threading.Event().wait(0.001)
        return future

    def occupy(self) -> Future[list[int]]:
        """Start a batch that runs until the gate releases it."""
        future = self.pool.submit(self.batcher.submit, (1,), timeout_s=LONG_S)
        assert self.gate.running.acquire(timeout=LONG_S)
        return future


@pytest.fixture
def setting() -> Iterator[Setting]:
    gate, sizes = Gate(), list[int]()
    batcher: Batcher[int, int] = Batcher(
        gate.square, max_batch=4, max_waiting=5, on_batch=lambda items, _seconds: sizes.append(len(items))
    )
    with ThreadPoolExecutor(32) as pool:
        yield Setting(gate, batcher, pool, sizes)
        gate.released.release(1000)
        batcher.close()


def test_a_lone_call_runs_at_once(setting: Setting) -> None:
    setting.gate.released.release()
    assert setting.batcher.submit([3], timeout_s=LONG_S) == [9]
    assert (setting.gate.batches, setting.sizes) == ([[3]], [1])


def test_calls_during_a_batch_form_the_next_batch(setting: Setting) -> None:
    first = setting.occupy()
    others = [setting.start(2), setting.start(3, 4)]
    setting.gate.released.release(2)
    assert [future.result(LONG_S) for future in (first, *others)] == [[1], [4], [9, 16]]
    assert setting.gate.batches == [[1], [2, 3, 4]]


def test_a_call_larger_than_a_batch_is_answered_in_order(setting: Setting) -> None:
    setting.gate.released.release(3)
    assert setting.batcher.submit(range(10), timeout_s=LONG_S) == [n * n for n in range(10)]
    assert setting.sizes == [4, 4, 2]


def test_a_call_without_items_returns_no_results(setting: Setting) -> None:
    assert setting.batcher.submit([], timeout_s=LONG_S) == []


def test_each_of_many_concurrent_calls_gets_its_own_results() -> None:
    batcher: Batcher[int, int] = Batcher(
        lambda numbers: [7 * number for number in numbers], max_batch=8, max_waiting=10_000
    )
    calls = [list(range(start, start + start % 5 + 1)) for start in range(600)]
    with ThreadPoolExecutor(32) as pool:
        results = list(pool.map(lambda call: batcher.submit(call, timeout_s=LONG_S), calls))
    batcher.close()
    assert results == [[7 * number for number in call] for call in calls]


@pytest.mark.parametrize("items", [(2,), (2, 3, 4)], ids=["single", "many"])
def test_calls_with_one_and_with_many_items_are_refused_alike(setting: Setting, items: tuple[int, ...]) -> None:
    setting.occupy()
    setting.start(1, 1, 1, 1, 1)
    with pytest.raises(OverloadedError, match="5 queries are waiting") as caught:
        setting.batcher.submit(items, timeout_s=LONG_S)
    assert caught.value.retry_after_s >= 1


def test_expired_items_never_run(setting: Setting) -> None:
    first = setting.occupy()
    with pytest.raises(DeadlineError):
        setting.batcher.submit([5], timeout_s=0.01)
    setting.gate.released.release(2)
    assert first.result(LONG_S) == [1]
    assert setting.batcher.submit([2], timeout_s=LONG_S) == [4]
    assert setting.gate.batches == [[1], [2]]


def test_abandoned_items_never_run(setting: Setting) -> None:
    first = setting.occupy()
    abandoned = setting.pool.submit(setting.batcher.submit, (5, 6), timeout_s=LONG_S, abandoned=lambda: True)
    while setting.batcher.waiting < 2:
        threading.Event().wait(0.001)
    later = setting.start(2)
    setting.gate.released.release(2)
    assert (first.result(LONG_S), later.result(LONG_S)) == ([1], [4])
    with pytest.raises(AbandonedError):
        abandoned.result(LONG_S)
    assert setting.gate.batches == [[1], [2]]


def test_an_error_is_raised_in_all_calls_of_the_batch_and_the_thread_survives(setting: Setting) -> None:
    setting.occupy()
    both = [setting.start(-1), setting.start(2)]
    setting.gate.released.release(3)
    for future in both:
        with pytest.raises(ValueError, match="minus one"):
            future.result(LONG_S)
    assert setting.batcher.submit([3], timeout_s=LONG_S) == [9]
    assert setting.batcher.alive


def test_a_wrong_number_of_results_is_an_error() -> None:
    batcher: Batcher[int, int] = Batcher(lambda _: [1], max_batch=4, max_waiting=4)
    with pytest.raises(RuntimeError, match="2 items gave 1 results"):
        batcher.submit([1, 2], timeout_s=LONG_S)
    batcher.close()


def test_closing_refuses_waiting_and_later_calls(setting: Setting) -> None:
    first = setting.occupy()
    waiting = setting.start(2)
    closing = setting.pool.submit(setting.batcher.close)
    while setting.batcher.alive:
        threading.Event().wait(0.001)
    setting.gate.released.release()
    closing.result(LONG_S)
    assert first.result(LONG_S) == [1]
    for call in (waiting.result, lambda _: setting.batcher.submit([1], timeout_s=LONG_S)):
        with pytest.raises(OverloadedError, match="stopping"):
            call(LONG_S)


def test_waiting_items_are_shared_among_idle_workers() -> None:
    """Each of two workers takes two of four items."""
    gate = Gate()
    batcher = Batcher(gate.square, max_batch=8, max_waiting=20, workers=2)
    with ThreadPoolExecutor(8) as pool:
        call = pool.submit(batcher.submit, [1, 2, 3, 4], timeout_s=LONG_S)
        assert gate.running.acquire(timeout=LONG_S)
        assert gate.running.acquire(timeout=LONG_S)
        assert sorted(gate.batches) == [[1, 2], [3, 4]]
        gate.released.release(100)
        assert call.result(LONG_S) == [1, 4, 9, 16]
    batcher.close()


def test_a_batch_stays_within_the_cost_limit_unless_a_single_item_exceeds_it() -> None:
    gate = Gate()
    batcher = Batcher(gate.square, max_batch=8, max_waiting=20, cost=lambda number: number, max_cost=10)
    gate.released.release(100)
    assert batcher.submit([4, 6, 1, 50, 2], timeout_s=LONG_S) == [16, 36, 1, 2500, 4]
    assert gate.batches == [[4, 6], [1], [50], [2]]
    batcher.close()


def test_an_item_that_fails_fails_its_own_call_only(setting: Setting) -> None:
    def halve(numbers: Sequence[int]) -> list[int | Failed]:
        return [Failed(ValueError(f"{number} is odd")) if number % 2 else number // 2 for number in numbers]

    batcher: Batcher[int, int] = Batcher(halve, max_batch=4, max_waiting=100)
    calls = [(2, 4), (6, 7), (8,), (9, 10)]
    futures = [setting.pool.submit(batcher.submit, call, timeout_s=LONG_S) for call in calls]
    assert (futures[0].result(LONG_S), futures[2].result(LONG_S)) == ([1, 2], [4])
    for future, message in ((futures[1], "7 is odd"), (futures[3], "9 is odd")):
        with pytest.raises(ValueError, match=message):
            future.result(LONG_S)
    batcher.close()
