"""The last minutes: percentiles that are right, and that forget."""

from __future__ import annotations

import pytest

from semsearch.server.runtime.rolling_stats import MINUTES, RollingStats


def test_percentiles_are_right_to_a_few_percent() -> None:
    recent = RollingStats(clock=lambda: 0.0)
    for ms in range(1, 101):
        recent.stage("encode", ms / 1000)
    its = recent.times()["encode"]
    assert its.count == 100
    assert its.median == pytest.approx(0.050, rel=0.07)
    assert its.p95 == pytest.approx(0.095, rel=0.07)
    assert its.p99 == pytest.approx(0.099, rel=0.07)
    assert its.slowest == 0.100
    assert its.median <= its.p95 <= its.p99 <= its.slowest


def test_what_is_older_than_the_last_minutes_is_forgotten() -> None:
    now = [0.0]
    recent = RollingStats(clock=lambda: now[0])
    recent.stage("encode", 9.0)
    recent.batch(8)
    now[0] = 60.0 * (MINUTES - 1)
    recent.stage("encode", 0.001)
    recent.batch(1)
    recent.batch(1)
    assert (recent.times()["encode"].count, recent.times()["encode"].slowest) == (2, 9.0)
    assert recent.batches() == [(1, 2), (8, 1)]
    now[0] = 60.0 * MINUTES
    assert (recent.times()["encode"].count, recent.times()["encode"].slowest) == (1, 0.001)
    assert recent.batches() == [(1, 2)]
    now[0] = 60.0 * 100
    assert (recent.times(), recent.batches()) == ({}, [])


def test_a_time_of_nothing_is_counted() -> None:
    recent = RollingStats(clock=lambda: 0.0)
    recent.stage("rescale", 0.0)
    assert recent.times()["rescale"].slowest == 0.0
