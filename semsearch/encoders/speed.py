"""How fast each runtime runs a model on this machine: measures it, and says which one is the fastest and why.

Other load on the machine only ever makes a run slower. The runtimes therefore take turns, the best of several rounds
counts, and rounds are added until the best figures have been reached twice.
"""

from __future__ import annotations

import math
import platform
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from time import perf_counter

import numpy as np
from pydantic import BaseModel, ConfigDict

from semsearch.encoders.runtime import Batch, Runtime
from semsearch.system.threads import available_cores

EXPORT_LIBRARIES = ("torch", "sentence-transformers", "onnxscript", "onnxruntime")
"""Libraries that a graph and its speed depend on: with other versions the model is exported and measured again."""
MIN_INT8_SPEEDUP = 1.2
"""8-bit integers change the vectors slightly: they are used only if this many times as fast as float32."""
QUERY = "how do I reset my lost card pin"
BATCH_SIZES = (1, 4, 16, 32)
"""Numbers of queries in the batches that are measured."""
MIN_ROUNDS, MAX_ROUNDS = 3, 10
MAX_S = 30.0
"""Seconds after which no round is added, so that a start on a busy machine does not wait for a quiet moment."""
ROUND_S = 0.2
"""Seconds of each throughput measurement in each round."""
SINGLE_QUERIES = 10
"""Single queries timed in each round; their median is the round's figure."""
NEARLY = 0.97
"""The smallest batches whose rate is at least this share of the highest rate are used."""
MAX_SPREAD = 0.1
"""Rounds are added while the two best rounds differ by more than this share in any figure."""
UNSURE_FOR = timedelta(minutes=10)
"""Age from which on an unsure measurement is repeated."""


class Speed(BaseModel):
    """Speed of a runtime on a machine, for queries of ten tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lone_ms: float
    """Milliseconds of a single query."""
    rate: float
    """Queries per second with all cores busy."""
    batch_tokens: int
    """Tokens of the smallest batches that nearly reach this rate."""
    overhead_tokens: int
    """The fixed cost of a batch, in tokens."""

    @property
    def score(self) -> float:
        """Queries per second: geometric mean of one query at a time and of all cores busy."""
        return math.sqrt(self.rate * 1000 / self.lone_ms)


class SpeedRecord(BaseModel):
    """`measured-….json`: the speeds of a model's runtimes, and what they were measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    speeds: Mapping[str, Speed]
    """By runtime; only those whose vectors are close enough to torch's."""
    cores: int = 0
    """Cores that were used; 0 in records of earlier versions, which are measured again."""
    versions: Mapping[str, str] = {}
    """Of EXPORT_LIBRARIES."""
    measured_at: datetime = datetime.fromtimestamp(0, UTC)
    rounds: int = 0
    spread: float = 1.0
    """Largest relative difference between the two best rounds, over all figures."""

    @property
    def sure(self) -> bool:
        """Whether figures that are wrong by the spread would give the same order of runtimes."""
        scores = [speed.score for speed in self.speeds.values()]
        pairs = [max(pair) / min(pair) for pair in combinations(scores, 2)]
        return self.spread <= MAX_SPREAD or all(ratio > 1 + 2 * self.spread for ratio in pairs)

    def is_current(self, now: datetime) -> bool:
        """Whether the record fits this process's cores and libraries, and is sure or a few minutes old."""
        if (self.machine, self.cores, dict(self.versions)) != (machine(), available_cores(), library_versions()):
            return False
        return self.sure or abs(now - self.measured_at) < UNSURE_FOR

    def best(self, *, exact: bool) -> str:
        """The fastest runtime. exact: leave out 8-bit integers."""
        fastest = max((name for name in ("torch", "onnx") if name in self.speeds), key=self._score)
        int8 = not exact and "onnx-int8" in self.speeds
        return "onnx-int8" if int8 and self._score("onnx-int8") > MIN_INT8_SPEEDUP * self._score(fastest) else fastest

    def reason(self, *, exact: bool) -> str:
        """Why `best` is the best, with figures: a clause whose subject is the runtime."""
        best = self.best(exact=exact)
        others = [name for name in self.speeds if name != best and not (exact and name == "onnx-int8")]
        if not others:
            return "no other runtime can run this model"
        next_best = max(others, key=self._score)
        mine, other = self.speeds[best], self.speeds[next_best]
        ratio = self._score(best) / self._score(next_best)
        comparison = (
            f"{ratio:.2f} times as fast as {next_best}"
            if ratio >= 1
            else f"{next_best} is only {1 / ratio:.2f} times as fast, and is used from {MIN_INT8_SPEEDUP:g} times on"
        )
        unsure = "" if self.sure else f"; rounds differed by {self.spread:.0%}, so it will be measured again"
        return (
            f"{comparison}: {mine.lone_ms:.2f} ms against {other.lone_ms:.2f} for a query alone,"
            f" {mine.rate:,.0f} queries/s against {other.rate:,.0f} with all cores busy (the geometric mean decides;"
            f" best of {self.rounds} rounds on {self.cores} {'core' if self.cores == 1 else 'cores'},"
            f" {self.measured_at:%Y-%m-%d %H:%M} UTC{unsure})"
        )

    def _score(self, name: str) -> float:
        return self.speeds[name].score


def machine() -> str:
    """What speed depends on: the processor and its number of cores."""
    cpu = {"model name": platform.processor()}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            cpu[key.strip()] = value.strip()
    except OSError:
        pass
    # processors of the same name differ in their instructions for small integers
    flags = [flag for flag in cpu.get("flags", "").split() if "vnni" in flag or "amx" in flag or flag == "avx512f"]
    return ", ".join([cpu["model name"], *sorted(flags), f"{available_cores()} cores"])


def library_versions() -> dict[str, str]:
    """Installed versions of EXPORT_LIBRARIES."""
    return {name: version(name) for name in EXPORT_LIBRARIES}


def measure(
    runtimes: Mapping[str, Runtime],
    *,
    clock: Callable[[], float] = perf_counter,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SpeedRecord:
    """Measure the speed of each runtime with queries of ten tokens, in MIN_ROUNDS to MAX_ROUNDS rounds.

    After MAX_S seconds, no round is added to MIN_ROUNDS.

    runtimes: by name. clock: seconds. now: time of day, kept in the record.
    """
    rounds = {name: _Rounds() for name in runtimes}
    info = next(iter(runtimes.values())).info
    batches = {size: Batch.of("query", info.prompts["query"], [QUERY] * size, info) for size in BATCH_SIZES}
    spread, started = math.inf, clock()
    for number in range(MAX_ROUNDS):
        # every second round in the opposite order: what runs first finds the processor at another clock rate
        for name in list(runtimes)[:: 1 if number % 2 == 0 else -1]:
            rounds[name].add(runtimes[name], batches, clock)
        spread = max(each.spread for each in rounds.values())
        if number + 1 >= MIN_ROUNDS and (spread <= MAX_SPREAD or clock() - started > MAX_S):
            break
    tokens = len(batches[1].encodings[0].ids)
    return SpeedRecord(
        machine=machine(),
        speeds={name: rounds[name].speed(tokens, runtime.workers) for name, runtime in runtimes.items()},
        cores=available_cores(),
        versions=library_versions(),
        measured_at=now(),
        rounds=number + 1,
        spread=round(spread, 3),
    )


class _Rounds:
    """The figures of one runtime, round by round."""

    def __init__(self) -> None:
        self._single_s: list[float] = []
        self._rates: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}

    def add(self, runtime: Runtime, batches: Mapping[int, Batch], clock: Callable[[], float]) -> None:
        """Measure another round."""
        self._single_s.append(float(np.median([_seconds(runtime, batches[1], clock) for _ in range(SINGLE_QUERIES)])))
        for size, rates in self._rates.items():
            rates.append(_rate(runtime, batches[size], clock))

    @property
    def spread(self) -> float:
        """Largest relative difference between the two best rounds: of single queries, and of the highest rate."""
        if len(self._single_s) < 2:
            return math.inf
        best_s, next_s = sorted(self._single_s)[:2]
        next_rate, best_rate = sorted(max(self._rates.values(), key=max))[-2:]
        return max(next_s / best_s, best_rate / next_rate) - 1

    def speed(self, tokens: int, workers: int) -> Speed:
        """The best of all rounds. tokens: of a query. workers: threads that ran at once."""
        by_size = {size: max(rates) for size, rates in self._rates.items()}
        best = max(by_size.values())
        smallest = next(size for size in BATCH_SIZES if by_size[size] >= NEARLY * best)
        # the time of a batch is linear in its tokens: two sizes give the slope and the fixed cost
        largest = BATCH_SIZES[-1]
        one_s, full_s = min(self._single_s), largest * workers / by_size[largest]
        token_s = max(1e-9, (full_s - one_s) / ((largest - 1) * tokens))
        return Speed(
            lone_ms=round(1000 * one_s, 3),
            rate=round(best, 1),
            batch_tokens=smallest * tokens,
            overhead_tokens=max(0, round(one_s / token_s - tokens)),
        )


def _seconds(runtime: Runtime, batch: Batch, clock: Callable[[], float]) -> float:
    started = clock()
    runtime.vectors(batch)
    return clock() - started


def _rate(runtime: Runtime, batch: Batch, clock: Callable[[], float]) -> float:
    """Texts per second with as many threads as the runtime has workers."""
    counts: list[int] = []
    started = clock()

    def encode() -> None:
        count = 0
        while clock() < started + ROUND_S:
            runtime.vectors(batch)
            count += len(batch.texts)
        counts.append(count)

    threads = [threading.Thread(target=encode) for _ in range(runtime.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (clock() - started)
