"""Rolling statistics: accurate percentiles over the last minutes."""

from __future__ import annotations

import pytest

from semsearch.server.runtime.rolling_stats import MINUTES, RollingStats


def test_percentiles_are_accurate_to_a_few_percent() -> None:
    stats = RollingStats(clock=lambda: 0.0)
    for ms in range(1, 101):
        stats.observe_stage("encode", ms / 1000)
    times = stats.times()["encode"]
    assert times.count == 100
    assert times.median == pytest.approx(0.050, rel=0.07)
    assert times.p95 == pytest.approx(0.095, rel=0.07)
    assert times.p99 == pytest.approx(0.099, rel=0.07)
    assert times.slowest == 0.100
    assert times.median <= times.p95 <= times.p99 <= times.slowest


def test_older_minutes_are_dropped() -> None:
    now = [0.0]
    stats = RollingStats(clock=lambda: now[0])
    stats.observe_stage("encode", 9.0)
    stats.observe_batch(8)
    now[0] = 60.0 * (MINUTES - 1)
    stats.observe_stage("encode", 0.001)
    stats.observe_batch(1)
    stats.observe_batch(1)
    assert (stats.times()["encode"].count, stats.times()["encode"].slowest) == (2, 9.0)
    assert stats.batches() == [(1, 2), (8, 1)]
    now[0] = 60.0 * MINUTES
    assert (stats.times()["encode"].count, stats.times()["encode"].slowest) == (1, 0.001)
    assert stats.batches() == [(1, 2)]
    now[0] = 60.0 * 100
    assert (stats.times(), stats.batches()) == ({}, [])


def test_a_duration_of_zero_is_counted() -> None:
    stats = RollingStats(clock=lambda: 0.0)
    stats.observe_stage("adapt", 0.0)
    assert stats.times()["adapt"].slowest == 0.0
