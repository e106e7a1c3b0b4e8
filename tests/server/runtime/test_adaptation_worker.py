"""The adaptation worker: a request that arrives during an adaptation is not lost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace
from typing import Any

import pytest

from semsearch.errors import OverloadedError
from semsearch.server.runtime import adaptation_worker
from semsearch.server.runtime.adaptation_worker import AdaptationWorker


class Registry:
    """A fake registry: `adapt` blocks until it is allowed to return, and records its calls."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.adapted: list[str] = []
        self.log = SimpleNamespace(changed=lambda after: (after, []))

    def adapt(self, domain: str) -> Any:
        self.began.release()
        assert self.allowed.acquire(timeout=10)
        self.adapted.append(domain)
        if domain == "broken":
            raise ValueError(domain)
        return SimpleNamespace(event="adapted", number=len(self.adapted))

    def refresh(self) -> None: ...

    def descendants(self, _domain: str) -> list[str]:
        return []


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def worker(registry: Registry) -> Iterator[AdaptationWorker]:
    worker = AdaptationWorker({"zoo": registry}, after=0)  # type: ignore[dict-item]
    yield worker
    registry.allowed.release(10)
    worker.close()


def test_a_request_during_an_adaptation_queues_another_one(worker: AdaptationWorker, registry: Registry) -> None:
    first = worker.adapt("zoo", "team")
    assert registry.began.acquire(timeout=10)
    second, third = worker.adapt("zoo", "team"), worker.adapt("zoo", "team")
    assert first is not second
    assert second is third
    assert (worker.waiting, worker.busy("zoo", "team"), worker.busy("zoo", "other")) == (2, True, False)
    registry.allowed.release(2)
    assert (first.result(10).number, second.result(10).number) == (1, 2)
    assert registry.adapted == ["team", "team"]
    assert (worker.waiting, worker.busy("zoo", "team")) == (0, False)


def test_a_failure_reaches_its_own_request_only(worker: AdaptationWorker, registry: Registry) -> None:
    failing, other = worker.adapt("zoo", "broken"), worker.adapt("zoo", "team")
    registry.allowed.release(2)
    with pytest.raises(ValueError, match="broken"):
        failing.result(10)
    assert other.result(10).number == 2
    assert not worker.busy("zoo", "broken")


def test_without_torch_adapting_fails_and_polling_goes_on(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(adaptation_worker, "POLL_INTERVAL_S", 0.01)
    polled, outcomes = threading.Event(), list[str]()

    def refresh(_index: str) -> bool:
        polled.set()
        return True

    worker = AdaptationWorker(
        {"zoo": registry},  # type: ignore[dict-item]
        after=0,
        on_adapted=lambda outcome, _seconds: outcomes.append(outcome),
        refresh=refresh,
    )
    with pytest.raises(OverloadedError, match=r"adapting needs torch, which cannot be imported \("):
        worker.adapt("zoo", "team").result(10)
    polled.clear()
    assert polled.wait(10)
    registry.allowed.release()
    monkeypatch.undo()
    assert worker.adapt("zoo", "team").result(10).number == 1
    worker.close()
    assert outcomes == ["failed", "adapted"]


def test_closing_interrupts_an_adaptation_that_does_not_end(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adaptation_worker, "GRACE_S", 0.1)
    interrupted = threading.Event()

    def adapt(_domain: str) -> Any:
        registry.began.release()
        assert interrupted.wait(10)
        raise BrokenProcessPool

    monkeypatch.setattr(registry, "adapt", adapt)
    worker = AdaptationWorker({"zoo": registry}, after=0, interrupt=interrupted.set)  # type: ignore[dict-item]
    future, waiting = worker.adapt("zoo", "team"), worker.adapt("zoo", "other")
    assert registry.began.acquire(timeout=10)
    worker.close()
    for stopped in (future, waiting, worker.adapt("zoo", "late")):
        with pytest.raises(OverloadedError, match="the service is stopping"):
            stopped.result(0)
    assert "Traceback" not in capsys.readouterr().out


def test_an_index_whose_folder_cannot_be_read_keeps_its_domains(registry: Registry) -> None:
    checked, refreshed = threading.Event(), list[str]()
    registry.refresh = lambda: refreshed.append("zoo")  # type: ignore[method-assign]

    def refresh(_index: str) -> bool:
        checked.set()
        return False

    worker = AdaptationWorker({"zoo": registry}, after=1, refresh=refresh)  # type: ignore[dict-item]
    assert checked.wait(10)
    worker.close()
    assert refreshed == []


def test_every_request_ends_though_the_worker_is_closed_during_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "adapt", lambda _domain: SimpleNamespace(event="adapted", number=1))
    worker = AdaptationWorker({"zoo": registry}, after=0)  # type: ignore[dict-item]
    futures: list[Future[Any]] = []

    def request() -> None:
        futures.extend(worker.adapt("zoo", f"d{number % 50}") for number in range(5_000))

    threads = [threading.Thread(target=request) for _ in range(4)]
    for thread in threads:
        thread.start()
    worker.close()
    for thread in threads:
        thread.join(30)
    assert len(futures) == 20_000
    assert all(isinstance(future.exception(10), OverloadedError | None) for future in futures)
    assert worker.waiting == 0
