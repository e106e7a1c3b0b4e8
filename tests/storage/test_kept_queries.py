"""Kept queries on disk: counts, age, size, damage, deletion, several writers."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from semsearch.adapters.state import DomainState
from semsearch.errors import StateError, StateFileError, StorageError
from semsearch.storage import kept_queries
from semsearch.storage.domains import DomainStore
from semsearch.storage.kept_queries import FILE, MAX_BYTES, MAX_QUERIES, KeptQueries, KeptQuery, KeptSummary
from semsearch.types import Vectors

START = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> KeptQueries:
    return KeptQueries(tmp_path, dimension=4, encoder_sha256="e", clock=clock)


def axis(number: int, dimension: int = 4) -> Vectors:
    vector = np.zeros(dimension, np.float32)
    vector[number] = 1
    return vector


def path_of(kept: KeptQueries, domain: str = "team") -> Path:
    return kept.folder / domain / FILE


def test_queries_are_counted_and_the_last_one_asked_comes_first(kept: KeptQueries, clock: Clock) -> None:
    assert kept.add("team", [("tea", axis(0)), ("coffee ", axis(1)), (" tea\n", axis(0))], days=30) == 3
    clock.pass_days(1)
    kept.add("team", [("milk", axis(2))], days=30)
    later = START + timedelta(days=1)
    assert kept.queries("team") == [
        KeptQuery("milk", 1, later),
        KeptQuery("tea", 2, START),
        KeptQuery("coffee", 1, START),
    ]
    assert kept.vectors("team").tolist() == [axis(2).tolist(), axis(0).tolist(), axis(1).tolist()]
    assert kept.vectors("team").dtype == np.float32
    clock.pass_days(1)
    kept.add("team", [("coffee", axis(1))], days=30)
    assert [(query.text, query.count) for query in kept.queries("team")] == [("coffee", 2), ("milk", 1), ("tea", 2)]
    assert kept.summary("team") == KeptSummary(3, START)
    assert kept.queries("other") == []
    assert kept.vectors("other").shape == (0, 4)
    assert kept.summary("other") == KeptSummary(0, None)
    assert kept.names() == ["team"]


def test_vectors_are_rounded_to_16_bits_and_of_unit_length(kept: KeptQueries) -> None:
    vector = np.array([0.1, 0.2, 0.3, 0.9273618], np.float32)
    kept.add("team", [("tea", vector)], days=1)
    [row] = kept.vectors("team")
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)
    assert row == pytest.approx(vector / np.linalg.norm(vector), abs=1e-3)


def test_a_query_that_is_too_old_is_never_returned_and_leaves_the_disk(
    kept: KeptQueries, clock: Clock, tmp_path: Path
) -> None:
    kept.add("team", [("old secret", axis(0))], days=7)
    clock.pass_days(6.9)
    assert len(kept.queries("team")) == 1
    kept.add("team", [("new", axis(1))], days=7)
    clock.pass_days(0.2)
    assert [query.text for query in kept.queries("team")] == ["new"]
    assert kept.summary("team").count == len(kept.vectors("team")) == 1
    assert b"old secret" in path_of(kept).read_bytes()
    kept.drop_expired(30)
    assert b"old secret" not in path_of(kept).read_bytes()
    assert [query.text for query in kept.queries("team")] == ["new"]
    clock.pass_days(2)
    kept.drop_expired(1)  # the server was started again with a shorter time
    assert not path_of(kept).exists()
    kept.add("team", [("next", axis(0))], days=7)
    clock.pass_days(8)
    kept.add("team", [("now", axis(0))], days=7)
    assert b"next" not in path_of(kept).read_bytes()


def test_a_wrong_clock_does_not_keep_a_query_for_ever(kept: KeptQueries, clock: Clock) -> None:
    clock.pass_days(20_000)
    kept.add("team", [("from the future", axis(0))], days=7)
    clock.now = START
    kept.add("team", [("now", axis(1))], days=7)
    clock.pass_days(8)
    assert kept.queries("team") == []


def test_the_queries_not_asked_for_the_longest_time_are_dropped(kept: KeptQueries, clock: Clock) -> None:
    for day in range(4):
        kept.add("team", [(f"day {day}, query {number}", axis(0)) for number in range(100)], days=30)
        clock.pass_days(1)
    texts = [query.text for query in kept.queries("team")]
    assert len(texts) == MAX_QUERIES
    assert {text[:5] for text in texts} == {"day 1", "day 2", "day 3"}


@pytest.mark.parametrize(("dimension", "length"), [(1024, 20), (4096, 20), (384, 10_000), (4, 10_000)])
def test_a_file_never_exceeds_its_size(tmp_path: Path, dimension: int, length: int) -> None:
    kept = KeptQueries(tmp_path, dimension=dimension, encoder_sha256="e" * 64)
    for start in (0, 150):
        entries = [(f"{number:05}{'ü' * (length - 5)}", axis(0, dimension)) for number in range(start, start + 150)]
        kept.add("team", entries, days=30)
    size = path_of(kept).stat().st_size
    row = 2 * dimension + 24 + 5 + 2 * (length - 5)
    assert MAX_BYTES - 4096 - row < size <= MAX_BYTES or len(kept.queries("team")) == MAX_QUERIES
    texts = [query.text for query in kept.queries("team")]
    assert texts[0].startswith("00299")
    assert 5 < len(texts) <= MAX_QUERIES


def test_odd_texts_are_kept_as_they_are_and_impossible_ones_are_not(kept: KeptQueries) -> None:
    odd = ["a\0b", "line\nbreak", '"quoted" \\ {}', "日本語 🦉", "e\u0301", "\u202egnirts"]
    refused = ["", " \n", "\ud800", "x" * 10_001]
    assert kept.add("team", [(text, axis(0)) for text in [*odd, *refused]], days=1) == len(odd)
    assert [query.text for query in kept.queries("team")] == odd[::-1]
    assert kept.add("other", [(text, axis(0)) for text in refused], days=1) == 0
    assert kept.names() == ["team"]


def test_a_vector_that_is_not_finite_is_not_kept_and_one_of_another_dimension_is_refused(kept: KeptQueries) -> None:
    assert kept.add("team", [("tea", axis(0) * np.float32("nan"))], days=1) == 0
    with pytest.raises(ValueError, match=r"has shape \(5,\), not \(4,\)"):
        kept.add("team", [("tea", axis(0, 5))], days=1)
    for days in (0, -1, 3_651):
        with pytest.raises(ValueError, match="cannot be kept for"):
            kept.add("team", [("tea", axis(0))], days=days)
    with pytest.raises(StateError, match="cannot be a domain's name"):
        kept.add("../x", [("tea", axis(0))], days=1)
    assert not kept.folder.exists()


def test_only_the_owner_can_read_the_file(kept: KeptQueries) -> None:
    kept.add("team", [("tea", axis(0))], days=1)
    assert stat.S_IMODE(path_of(kept).stat().st_mode) == 0o600


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def enlarge(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * MAX_BYTES)


def rewrite(**arrays: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        save_file({**load_file(path), **{name: np.array(value) for name, value in arrays.items()}}, path, metadata)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        empty,
        enlarge,
        rewrite(ends=[3, 99]),
        rewrite(ends=[6, 3]),
        rewrite(counts=[0, 1]),
        rewrite(counts=[1]),
        rewrite(times=[2**62, 2**62]),
        rewrite(texts=np.frombuffer(b"\xff" * 9, np.uint8)),
        rewrite(vectors=np.full((2, 4), np.nan, np.float16)),
        rewrite(vectors=np.zeros((2, 5), np.float16)),
        rewrite(vectors=np.zeros(4, np.float16)),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy_and_replaced_by_the_next_queries(
    kept: KeptQueries, damage: Callable[[Path], None]
) -> None:
    kept.add("team", [("tea", axis(0)), ("coffee", axis(1))], days=1)
    damage(path_of(kept))
    for read in (kept.queries, kept.vectors):
        with pytest.raises(StateFileError, match=r"queries\.safetensors .*: delete it with `semsearch domains forget-"):
            read("team")
    kept.drop_expired(1)
    kept.add("team", [("milk", axis(2))], days=1)
    assert [query.text for query in kept.queries("team")] == ["milk"]


def test_queries_of_another_encoder_or_dimension_are_not_used(kept: KeptQueries, tmp_path: Path) -> None:
    kept.add("team", [("tea", axis(0))], days=1)
    for other, message in (
        (KeptQueries(tmp_path, dimension=4, encoder_sha256="f"), "of another encoder"),
        (KeptQueries(tmp_path, dimension=3, encoder_sha256="e"), "for vectors of 4 dimensions, the index has 3"),
    ):
        with pytest.raises(StateFileError, match=message):
            other.summary("team")


def test_a_folder_that_two_names_share_is_refused_and_unchanged(kept: KeptQueries) -> None:
    kept.add("team", [("tea", axis(0))], days=1)
    (kept.folder / "TEAM").symlink_to(kept.folder / "team")
    with pytest.raises(StateError, match="belongs to the domain 'team'"):
        kept.add("TEAM", [("mine", axis(0))], days=1)
    assert [query.text for query in kept.queries("team")] == ["tea"]


def test_forgetting_deletes_the_file_damaged_or_unfinished(kept: KeptQueries, tmp_path: Path) -> None:
    assert not kept.forget("team")
    assert not kept.folder.exists()
    for domain in ("a", "b", "c/d"):
        kept.add(domain, [("tea", axis(0))], days=1)
    empty(path_of(kept, "b"))
    (kept.folder / "e").mkdir()
    (kept.folder / "e" / f".{FILE}.123").write_bytes(b"unfinished")
    assert kept.forget("a")
    assert not kept.forget("a")
    assert kept.forget_all() == ["b", "c/d"]
    assert kept.forget_all() == []
    assert [path.name for path in kept.folder.iterdir()] == ["lock"]


def test_a_failed_write_leaves_the_queries_as_they_were(kept: KeptQueries, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.add("team", [("tea", axis(0))], days=1)
    before = path_of(kept).read_bytes()

    def fail(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\): free disk space"):
            kept.add("team", [("coffee", axis(1))], days=1)
    assert path_of(kept).read_bytes() == before
    assert [path.name for path in path_of(kept).parent.iterdir()] == [FILE]


def test_an_index_that_was_deleted_is_not_replaced_by_an_empty_folder(tmp_path: Path) -> None:
    kept = KeptQueries(tmp_path / "moved", dimension=4, encoder_sha256="e")
    with pytest.raises(StorageError, match="cannot be written"):
        kept.add("team", [("tea", axis(0))], days=1)
    assert kept.queries("team") == []


def test_writers_at_the_same_time_lose_nothing(kept: KeptQueries) -> None:
    def add(number: int) -> None:
        kept.add("team", [("tea", axis(0)), (f"query {number}", axis(1))], days=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    counts = {query.text: query.count for query in kept.queries("team")}
    assert counts == {"tea": 40, **{f"query {number}": 1 for number in range(40)}}


def test_versions_of_a_domain_and_its_kept_queries_do_not_touch_each_other(kept: KeptQueries, tmp_path: Path) -> None:
    store = DomainStore(tmp_path, encoder_sha256="e", dimension=4)
    kept.add("team", [("tea", axis(0))], days=1)
    for number in range(3):
        store.append("team", "adapted", explanation=str(number), state=DomainState.identity(4))
    store.append("team", "reset", explanation="", state=None)
    assert len(kept.queries("team")) == 1
    assert kept.forget("team")
    assert len(store.record("team").versions) == 4
    assert kept_queries.FILE not in {path.name for path in (store.folder / "team").iterdir()}
