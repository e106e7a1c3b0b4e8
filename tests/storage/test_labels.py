"""The label log: acknowledged entries are kept, once, and retracted ones no longer count."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from semsearch.errors import ConflictError, StorageError
from semsearch.storage.labels import EntryFilter, LabelLog
from semsearch.types import Click, Label

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def label(entry_id: str, domain: str = "d", **fields: object) -> Label:
    default = Label(entry_id, domain, "a query", "doc", 1.0, "ann", "key", NOW)
    return replace(default, **fields)  # type: ignore[arg-type]


CLICK = Click("click", "d", "a query", "doc", 2, ("other", "doc"), "ann", "key", NOW)


def test_entries_read_as_they_were_appended_and_in_order_after_reopening(tmp_path: Path) -> None:
    log = LabelLog(tmp_path)
    abandoned: Click = replace(CLICK, id="n", document=None, position=None)
    assert log.append([label("a"), CLICK, label("b", relevance=0.0), abandoned]) == 4
    log.close()
    log = LabelLog(tmp_path)
    assert [entry for _, entry in log.labels(EntryFilter())] == [label("a"), label("b", relevance=0.0)]
    assert [entry for _, entry in log.clicks(EntryFilter())] == [CLICK, abandoned]
    assert (log.last_number("d"), log.count_since("d", 2), log.counts()) == (4, 2, {"d": {"label": 2, "click": 2}})
    # other users of the machine must not read the queries
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    log.close()


def test_a_log_without_entries_is_empty_and_creates_no_file(tmp_path: Path) -> None:
    log = LabelLog(tmp_path)
    assert (log.labels(EntryFilter()), log.last_number("d"), log.count_since("d", 0), log.counts()) == ([], 0, 0, {})
    assert list(tmp_path.iterdir()) == []


def test_an_id_is_appended_once_and_other_content_under_it_refuses_all_entries(tmp_path: Path) -> None:
    log = LabelLog(tmp_path)
    assert log.append([label("a"), label("a")]) == 1
    assert log.append([label("a", at=datetime(2026, 1, 1, tzinfo=UTC), source="another")]) == 0
    with pytest.raises(ConflictError, match="'a' is known with another content"):
        log.append([label("b"), label("a", relevance=2.0)])
    assert [entry.id for _, entry in log.labels(EntryFilter())] == ["a"]
    log.close()


def test_retraction_filters_by_every_field_and_keeps_the_rows_in_the_file(tmp_path: Path) -> None:
    log = LabelLog(tmp_path)
    log.append([label("a"), label("b", domain="e"), label("c", source="bot"), label("d", user="bob"), CLICK])
    assert log.retract("label", EntryFilter(source="bot"), source="ops") == {"d": [3]}
    assert log.retract("label", EntryFilter(source="bot"), source="ops") == {}
    assert log.retract("label", EntryFilter(user="ann", document="doc"), source="ops") == {"d": [1], "e": [2]}
    assert [entry.id for _, entry in log.labels(EntryFilter())] == ["d"]
    assert len(log.clicks(EntryFilter())) == 1
    assert (log.last_number("e"), log.count_since("e", 2)) == (8, 1)
    log.close()
    with sqlite3.connect(tmp_path / "labels.sqlite") as file:
        assert file.execute("SELECT count(*) FROM events").fetchone() == (8,)
        for statement in ("UPDATE events SET gain = 5", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                file.execute(statement)
    file.close()


def test_concurrent_threads_and_logs_lose_no_entry(tmp_path: Path) -> None:
    logs = [LabelLog(tmp_path), LabelLog(tmp_path)]

    def write(part: int) -> None:
        for number in range(25):
            logs[part % 2].append([label(f"{part}-{number}")])

    threads = [threading.Thread(target=write, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(logs[0].labels(EntryFilter())) == 200
    for log in logs:
        log.close()


def test_logs_that_are_created_at_the_same_time_wait_for_one_another(tmp_path: Path) -> None:
    for turn in range(60):
        folder = tmp_path / str(turn)
        folder.mkdir()
        logs = [LabelLog(folder) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda n, logs=logs: logs[n].append([label(str(n))]), range(8))) == [1] * 8
        for log in logs:
            log.close()


def test_likes_of_other_domains_are_counted(tmp_path: Path) -> None:
    log = LabelLog(tmp_path)
    log.append(
        [
            label("a", domain="ann"),
            label("b", domain="bob"),
            label("c", domain="bob", document="bad", relevance=0.0),
            replace(CLICK, domain="cy", document="other", position=1),
            label("e", domain="bob", document="other"),
            label("f", domain="bob", document="back", relevance=0.0, at=datetime(2026, 2, 2, tzinfo=UTC)),
            label("g", domain="bob", document="back", at=datetime(2026, 2, 1, tzinfo=UTC)),
        ]
    )
    assert log.like_counts(excluded_domain="ann") == {"doc": 1, "other": 2}
    log.close()


def test_annotators_are_counted_and_labels_can_be_listed_newest_first(tmp_path: Path) -> None:
    log = LabelLog(tmp_path)
    log.append([label("1"), label("2"), label("3", user="bob"), label("4", "other", user="eve")])
    log.append([Click(entry_id, "d", "q", "x", 1, ("x",), "bob", "key", NOW) for entry_id in "56"])
    log.retract("label", EntryFilter(id="2"), source="s")
    annotators = [(annotator.user, annotator.labels, annotator.clicks) for annotator in log.annotators("d")]
    assert annotators == [("bob", 1, 2), ("ann", 1, 0)]
    assert log.annotators("unknown") == []
    newest = log.labels(EntryFilter(domain="d"), limit=2, newest=True)
    assert [entry.id for _, entry in newest] == ["3", "1"]
    log.close()


def test_a_file_that_is_not_a_log_or_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(StorageError, match=r"labels\.sqlite cannot be read"):
        LabelLog(tmp_path).labels(EntryFilter())
    (tmp_path / "labels.sqlite").unlink()
    with sqlite3.connect(tmp_path / "labels.sqlite") as file:
        file.execute("PRAGMA user_version = 9")
    file.close()
    with pytest.raises(StorageError, match="has version 9, but this semsearch reads 1"):
        LabelLog(tmp_path).append([label("a")])


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        LabelLog(tmp_path / "missing").append([label("a")])
