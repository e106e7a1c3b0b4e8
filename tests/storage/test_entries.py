"""The rules of labels and clicks, and times as logs write them."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from semsearch.domains.judgments import judged_queries
from semsearch.domains.position_bias import PositionBias
from semsearch.errors import LabelError
from semsearch.storage.entries import as_utc, check_entry, click_position, parse_time
from semsearch.storage.labels import EntryFilter, LabelLog
from semsearch.types import Click, Label

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
LABEL = Label("id", "d", "q", "doc", 1.0, "ann", "key", NOON)


def changed(field: str, value: object) -> Label:
    return replace(LABEL, **{field: value})  # type: ignore[arg-type]


CLICK = Click("id", "d", "q", "doc", 1, ("doc",), "ann", "key", NOON)


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31T12:00:00", NOON),
        ("2026-01-31 12:00", NOON),
        (" 2026-01-31T12:00:00+00:00 ", NOON),
        ("2026-01-31T14:30:00+02:30", NOON),
        ("2026-01-31 07:00:00 -0500", NOON),
        ("2026-01-31 12:00:00 UTC", NOON),
        ("20260131T120000Z", NOON),
        ("2026-01-31T12:00:00,000Z", NOON),
        ("2026-01-31T12:00:00.000000000Z", NOON),
        ("2026-01-31", NOON.replace(hour=0)),
        ("20260131", NOON.replace(hour=0)),
        ("2026-01-31T11:59:60Z", NOON),
        (1769860800, NOON),
        (1769860800.0, NOON),
        ("1769860800", NOON),
        (1769860800_000, NOON),
        ("1769860800000", NOON),
        (1769860800_000_000, NOON),
        (1769860800_000_000_000, NOON),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (datetime(2026, 1, 31, 12, tzinfo=None), NOON),
        (datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2))), NOON),
    ],
)
def test_times_are_read_as_utc(written: object, time: datetime) -> None:
    assert parse_time(written) == time
    assert parse_time(written).tzinfo is UTC


@pytest.mark.parametrize(
    "written",
    [
        *("", "now", "31.01.2026", "2026-02-30", "2026-13-01", "2026-01-31T25:00:00", "0000-01-01", "1e5", "12345"),
        *(
            "9" * 30,
            "2026-01-31T12:00:00+99:00",
            -1,
            -6e16,
            None,
            True,
            [],
            {},
            1e30,
            10**400,
            float("nan"),
            float("inf"),
        ),
    ],
)
def test_what_is_no_time_is_refused_with_the_formats(written: object) -> None:
    with pytest.raises(ValueError, match=r"the time is .*2026-01-31T12:00:00Z"):
        parse_time(written)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (replace(LABEL, relevance=-1.0), "relevance -1.0 is not"),
        (replace(LABEL, relevance=float("nan")), "relevance nan is not"),
        (replace(LABEL, relevance=float("inf")), "relevance inf is not"),
        (replace(LABEL, document=""), "document: is empty"),
        (replace(LABEL, document="x" * 1001), "document: is longer than 1,000"),
        (replace(LABEL, id="x" * 201), "id: is longer"),
        (replace(LABEL, query="x" * 10_001), "query: is longer"),
        (changed("query", None), "query: None is not a text"),
        (replace(LABEL, domain=""), "is blank"),
        (replace(LABEL, domain="../x"), "looks like a path"),
        (replace(LABEL, at=datetime(9999, 1, 1, tzinfo=UTC)), "in the future"),
        (replace(LABEL, at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))), "before 1970"),
        (replace(LABEL, at=datetime(9999, 1, 1)), "in the future"),
        (replace(CLICK, position=None), "has no position"),
        (replace(CLICK, position=0), "position 0 is not"),
        (replace(CLICK, position=2), "not at this `position`"),
        (replace(CLICK, position=10**30, shown=()), "is not a number from 1"),
        (replace(CLICK, document=None), "without a document"),
        (replace(CLICK, document=None, position=None, shown=()), "without a document"),
        (replace(CLICK, query="  "), "query: is blank"),
        (replace(CLICK, shown=("doc",) * 201), "shown: has more than 200"),
        (replace(CLICK, shown=("doc", "")), "shown: is empty"),
        *((changed(field, "\ud800"), "surrogate") for field in ("id", "query", "document", "user", "source")),
        (replace(CLICK, shown=("doc", "\udfff")), "surrogate"),
        (replace(LABEL, domain="\udcff"), "not valid UTF-8"),
    ],
)
def test_an_invalid_entry_is_refused_and_nothing_is_stored(tmp_path: Path, entry: Label | Click, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        check_entry(entry)
    log = LabelLog(tmp_path)
    with pytest.raises(LabelError, match=message):
        log.append([replace(LABEL, id="other"), entry])
    assert list(tmp_path.iterdir()) == []


def test_valid_entries_are_accepted() -> None:
    for entry in (LABEL, CLICK, replace(LABEL, query=""), replace(CLICK, document=None, position=None)):
        check_entry(entry)
    assert click_position("b", None, ["a", "b"]) == 2
    assert (click_position("c", None, ["a"]), click_position("c", 7, ["a"]), click_position(None, None, [])) == (
        None,
        7,
        None,
    )
    assert as_utc(datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2)))).year == 9999


def test_a_time_without_an_offset_is_stored_as_utc_and_an_older_log_with_one_opens(tmp_path: Path) -> None:
    log = LabelLog(tmp_path)
    naive = datetime(2026, 1, 31, 12)
    log.append([replace(LABEL, id="a", at=naive), replace(LABEL, id="b", at=NOON)])
    log.close()
    with sqlite3.connect(tmp_path / "labels.sqlite") as file:
        for number, at in enumerate(["2026-01-31T11:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]):
            # as semsearch 0.1 stored them
            file.execute(
                "INSERT INTO events (kind, id, domain, query, document, gain, shown, user, source, at)"
                " VALUES ('label', ?, 'd', 'q', 'old', 1, '[]', 'bob', 'key', ?)",
                [f"old-{number}", at],
            )
    file.close()
    log = LabelLog(tmp_path)
    labels = [label for _, label in log.labels(EntryFilter())]
    assert [label.at.tzinfo for label in labels] == [UTC] * 5
    assert labels[0].at == labels[1].at == NOON
    [judged] = judged_queries(labels, [], PositionBias())
    assert dict(judged.relevance) == {"doc": 1.0, "old": 1.0}
    assert {annotator.user: annotator.last.tzinfo for annotator in log.annotators("d")} == {"ann": UTC, "bob": UTC}
    log.close()


def test_a_filter_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    for field in ("id", "domain", "query", "document", "user", "source"):
        with pytest.raises(LabelError, match=f"the {field} .* surrogate"):
            EntryFilter(**{field: "\ud800"})
    assert LabelLog(tmp_path).retract("label", EntryFilter(user="nobody"), source="s") == {}
    assert list(tmp_path.iterdir()) == []
