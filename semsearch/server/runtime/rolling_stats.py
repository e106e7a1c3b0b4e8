"""Statistics of the last minutes: durations by stage and batch sizes. Does not depend on search."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

MINUTES = 5
"""Length of the window."""
MIN_S = 1e-5
"""Lower bound of the first bin; shorter durations count as this one."""
BINS_PER_DECADE = 20
"""Logarithmic bins of durations per power of ten: percentiles are accurate to 6%."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Durations of one stage, in seconds."""

    count: int
    median: float
    p95: float
    p99: float
    slowest: float


@dataclass(slots=True)
class _Minute:
    number: int
    """Minutes of the clock."""
    durations: dict[str, Counter[int]] = field(default_factory=dict)
    """By stage, the number of durations in each bin."""
    slowest: dict[str, float] = field(default_factory=dict)
    batches: Counter[int] = field(default_factory=Counter)
    """Number of batches of each size."""


class RollingStats:
    """Statistics over a sliding window of whole minutes. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Create empty statistics. clock: returns a monotonic time in seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._minutes: deque[_Minute] = deque(maxlen=MINUTES)

    def observe_stage(self, name: str, seconds: float) -> None:
        """Record the duration of a stage."""
        bin_number = max(0, round(BINS_PER_DECADE * math.log10(max(seconds, MIN_S) / MIN_S)))
        with self._lock:
            minute = self._current_minute()
            minute.durations.setdefault(name, Counter())[bin_number] += 1
            minute.slowest[name] = max(minute.slowest.get(name, 0.0), seconds)

    def observe_batch(self, size: int) -> None:
        """Record a batch of `size` queries."""
        with self._lock:
            self._current_minute().batches[size] += 1

    def times(self) -> dict[str, StageTimes]:
        """Return the durations by stage over the window."""
        times: dict[str, StageTimes] = {}
        with self._lock:
            minutes = self._recent_minutes()
            for name in dict.fromkeys(name for minute in minutes for name in minute.durations):
                bins = sum((minute.durations.get(name, Counter()) for minute in minutes), Counter[int]())
                slowest = max(minute.slowest.get(name, 0.0) for minute in minutes)
                median, p95, p99 = (min(_percentile(bins, share), slowest) for share in (0.5, 0.95, 0.99))
                times[name] = StageTimes(bins.total(), median, p95, p99, slowest)
        return times

    def batches(self) -> list[tuple[int, int]]:
        """Return (batch size, number of batches) over the window, in ascending order of size."""
        with self._lock:
            return sorted(sum((minute.batches for minute in self._recent_minutes()), Counter[int]()).items())

    def _current_minute(self) -> _Minute:
        number = int(self._clock() // 60)
        if not self._minutes or self._minutes[-1].number != number:
            self._minutes.append(_Minute(number))
        return self._minutes[-1]

    def _recent_minutes(self) -> list[_Minute]:
        since = int(self._clock() // 60) - MINUTES
        return [minute for minute in self._minutes if minute.number > since]


def _percentile(bins: Counter[int], share: float) -> float:
    remaining = share * bins.total()
    for bin_number in sorted(bins):
        remaining -= bins[bin_number]
        if remaining <= 0:
            return float(MIN_S * 10 ** (bin_number / BINS_PER_DECADE))
    return 0.0
