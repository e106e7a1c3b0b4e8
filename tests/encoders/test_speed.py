"""Which runtime is the fastest: measured against a clock that other load on the machine slows down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from semsearch.encoders import speed
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.runtime import Batch, ModelInfo
from semsearch.encoders.speed import MAX_ROUNDS, MAX_SPREAD, MIN_ROUNDS, UNSURE_FOR, Speed, SpeedRecord, measure
from semsearch.types import Vectors

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that only the fake runtimes advance."""

    seconds: float = 0.0
    slowdown: Callable[[float, int], float] = lambda _seconds, _calls: 1.0
    """By time and number of calls, the factor by which other load slows the machine down."""
    calls: int = 0

    def __call__(self) -> float:
        return self.seconds

    def spend(self, seconds: float) -> None:
        self.calls += 1
        self.seconds += seconds * self.slowdown(self.seconds, self.calls)


@dataclass
class FakeRuntime:
    """A runtime whose batches take a fixed time and a time for each token."""

    clock: Clock
    info: ModelInfo
    batch_s: float
    token_s: float
    name: str = "fake"
    reason: str = "a test"
    workers: int = 1
    query_tokens: int = 1
    document_tokens: int = 1
    overhead_tokens: int = 1
    calls: list[int] = field(default_factory=list)

    def vectors(self, batch: Batch) -> Vectors:
        self.calls.append(len(batch.texts))
        self.clock.spend(self.batch_s + self.token_s * int(batch.lengths.sum()))
        return None  # type: ignore[return-value]

    def vectors_and_tokens(self, batch: Batch) -> tuple[Vectors, list[Vectors]]:
        return self.vectors(batch), self.tokens(batch)

    def tokens(self, batch: Batch) -> list[Vectors]:
        raise NotImplementedError

    def release_memory(self) -> None:
        raise NotImplementedError


def measured(
    encoder: Encoder, clock: Clock, costs: Mapping[str, tuple[float, float]]
) -> tuple[SpeedRecord, dict[str, FakeRuntime]]:
    runtimes = {name: FakeRuntime(clock, encoder.runtime.info, *cost) for name, cost in costs.items()}
    return measure(runtimes, clock=clock, now=lambda: NOON), runtimes


COSTS = {"torch": (0.004, 0.0002), "onnx": (0.001, 0.0002)}
BUSY: dict[str, Callable[[float, int], float]] = {
    "idle": lambda _s, _n: 1.0,
    "busy at first": lambda s, _n: 5.0 if s < 3 else 1.0,
    "busy in between": lambda s, _n: 4.0 if 1 < s < 2.5 else 1.0,
    "always busy": lambda _s, _n: 3.0,
    "interrupted now and then": lambda _s, n: 20.0 if n % 9 == 0 else 1.0,
    "busy every other half second": lambda s, _n: 3.0 if int(2 * s) % 2 else 1.0,
}


@pytest.mark.parametrize("load", BUSY)
def test_the_faster_runtime_is_found_whatever_else_the_machine_does(tiny_encoder: Encoder, load: str) -> None:
    record, _ = measured(tiny_encoder, Clock(slowdown=BUSY[load]), COSTS)
    assert record.best(exact=True) == "onnx"
    assert record.sure
    assert MIN_ROUNDS <= record.rounds <= MAX_ROUNDS


def test_the_best_of_several_rounds_counts(tiny_encoder: Encoder) -> None:
    record, runtimes = measured(tiny_encoder, Clock(slowdown=BUSY["busy at first"]), COSTS)
    quiet, _ = measured(tiny_encoder, Clock(), COSTS)
    for name, best in quiet.speeds.items():
        assert record.speeds[name].lone_ms == best.lone_ms
        assert record.speeds[name].rate == pytest.approx(best.rate, rel=0.02)
    assert record.rounds > quiet.rounds == MIN_ROUNDS
    assert record.spread <= MAX_SPREAD
    # the query has 12 tokens with its prompt
    assert quiet.speeds["onnx"].lone_ms == round(1000 * (0.001 + 0.0002 * 12), 3)
    assert quiet.speeds["onnx"].overhead_tokens == pytest.approx(0.001 / 0.0002, abs=1)
    assert all(len(runtime.calls) > 100 for runtime in runtimes.values())


def test_a_measurement_that_does_not_settle_ends_and_is_repeated_later(tiny_encoder: Encoder) -> None:
    alike = {"torch": (0.001, 0.0002), "onnx": (0.00099, 0.0002)}
    grows: Callable[[float, int], float] = lambda s, _n: 1.0 + s / 10  # noqa: E731 - each round is slower
    record, _ = measured(tiny_encoder, Clock(slowdown=grows), alike)
    assert MIN_ROUNDS < record.rounds <= MAX_ROUNDS
    assert not record.sure
    assert "it will be measured again" in record.reason(exact=True)
    assert record.is_current(NOON + UNSURE_FOR / 2)
    assert not record.is_current(NOON + UNSURE_FOR)
    assert not record.is_current(NOON - timedelta(days=400))  # the clock was set


def test_a_busy_machine_is_not_measured_for_long(tiny_encoder: Encoder) -> None:
    clock = Clock(slowdown=lambda _s, calls: 50.0 + 2 * calls)
    record, _ = measured(tiny_encoder, clock, COSTS)
    assert record.rounds == MIN_ROUNDS
    assert not record.sure


def test_a_sure_measurement_is_kept_while_it_fits(tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = measured(tiny_encoder, Clock(), COSTS)
    again = SpeedRecord.model_validate_json(record.model_dump_json())
    assert again == record
    assert record.measured_at == NOON
    assert again.is_current(NOON + timedelta(days=1000))
    for other in (
        record.model_copy(update={"cores": record.cores + 1}),
        record.model_copy(update={"versions": {**record.versions, "onnxruntime": "0.1"}}),
        SpeedRecord(machine=record.machine, speeds=record.speeds),  # of an earlier version
    ):
        assert not other.is_current(NOON)
    monkeypatch.setattr(speed, "available_cores", lambda: 99)
    assert not record.is_current(NOON)


def speeds(**figures: tuple[float, float]) -> dict[str, Speed]:
    return {
        name.replace("_", "-"): Speed(lone_ms=ms, rate=rate, batch_tokens=100, overhead_tokens=10)
        for name, (ms, rate) in figures.items()
    }


@pytest.mark.parametrize(
    ("torch", "onnx", "int8", "exact", "fastest"),
    [
        ((6, 700), (3, 1600), (1, 3000), "onnx", "onnx-int8"),
        ((6, 700), (3, 1600), (3, 1700), "onnx", "onnx"),
        ((3, 1600), (6, 1000), (1, 3000), "torch", "onnx-int8"),
        ((4, 1000), (2, 900), (2, 900), "onnx", "onnx"),
    ],
)
def test_the_fastest_is_chosen_and_the_reason_agrees(
    torch: tuple[float, float], onnx: tuple[float, float], int8: tuple[float, float], exact: str, fastest: str
) -> None:
    record = SpeedRecord(machine="m", speeds=speeds(torch=torch, onnx=onnx, onnx_int8=int8), spread=0.02)
    assert (record.best(exact=True), record.best(exact=False)) == (exact, fastest)
    for is_exact in (True, False):
        reason = record.reason(exact=is_exact)
        ratio = float(reason.split(" times as fast")[0].split()[-1])
        assert ratio >= 1
        assert reason.startswith("onnx-int8 is only") or reason[0].isdigit()
        assert f"{record.speeds[record.best(exact=is_exact)].rate:,.0f} queries/s against" in reason


def test_the_reason_names_both_figures_and_what_they_were_measured_on() -> None:
    record = SpeedRecord(
        machine="m", speeds=speeds(torch=(6, 700), onnx=(3, 1600)), cores=2, measured_at=NOON, rounds=4, spread=0.03
    )
    assert record.reason(exact=True) == (
        "2.14 times as fast as torch: 3.00 ms against 6.00 for a query alone, 1,600 queries/s against 700 with all"
        " cores busy (the geometric mean decides; best of 4 rounds on 2 cores, 2026-01-02 12:00 UTC)"
    )
    alone = SpeedRecord(machine="m", speeds=speeds(torch=(6, 700)))
    assert (alone.best(exact=False), alone.reason(exact=False)) == ("torch", "no other runtime can run this model")
