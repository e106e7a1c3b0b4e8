"""What happened in the last minutes: times by stage and sizes of batches. Does not depend on what was timed."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

MINUTES = 5
SHORTEST_S = 1e-5
A_DECADE = 20
"""Classes of times for each power of ten: what is told of a time is right to 6%."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Of one stage, in seconds."""

    count: int
    median: float
    p95: float
    p99: float
    slowest: float


@dataclass(slots=True)
class _Minute:
    number: int
    times: dict[str, Counter[int]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    batches: Counter[int] = field(default_factory=Counter)


class RollingStats:
    """The last minutes; any number of threads may tell and ask."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """clock: seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._minutes: deque[_Minute] = deque(maxlen=MINUTES)

    def stage(self, name: str, seconds: float) -> None:
        """A stage took so long."""
        number = max(0, round(A_DECADE * math.log10(max(seconds, SHORTEST_S) / SHORTEST_S)))
        with self._lock:
            minute = self._present()
            minute.times.setdefault(name, Counter())[number] += 1
            minute.slowest[name] = max(minute.slowest.get(name, 0.0), seconds)

    def batch(self, size: int) -> None:
        """So many queries were encoded together."""
        with self._lock:
            self._present().batches[size] += 1

    def times(self) -> dict[str, StageTimes]:
        """By stage, of the last minutes."""
        found: dict[str, StageTimes] = {}
        with self._lock:
            minutes = self._last()
            for name in dict.fromkeys(name for minute in minutes for name in minute.times):
                classes = sum((minute.times.get(name, Counter()) for minute in minutes), Counter[int]())
                slowest = max(minute.slowest.get(name, 0.0) for minute in minutes)
                median, p95, p99 = (min(_percentile(classes, share), slowest) for share in (0.5, 0.95, 0.99))
                found[name] = StageTimes(classes.total(), median, p95, p99, slowest)
        return found

    def batches(self) -> list[tuple[int, int]]:
        """(queries encoded together, how often), the smallest first, of the last minutes."""
        with self._lock:
            return sorted(sum((minute.batches for minute in self._last()), Counter[int]()).items())

    def _present(self) -> _Minute:
        number = int(self._clock() // 60)
        if not self._minutes or self._minutes[-1].number != number:
            self._minutes.append(_Minute(number))
        return self._minutes[-1]

    def _last(self) -> list[_Minute]:
        since = int(self._clock() // 60) - MINUTES
        return [minute for minute in self._minutes if minute.number > since]


def _percentile(classes: Counter[int], share: float) -> float:
    left = share * classes.total()
    for number in sorted(classes):
        left -= classes[number]
        if left <= 0:
            return float(SHORTEST_S * 10 ** (number / A_DECADE))
    return 0.0
