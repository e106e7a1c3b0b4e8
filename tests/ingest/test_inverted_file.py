"""An index beyond memory: selected by its size, built block by block, continued after a kill, and changed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.errors import InputError
from semsearch.ingest import index_selection, inverted_file
from semsearch.ingest.building import build
from semsearch.ingest.index_selection import SelectedIndex, select_index
from semsearch.ingest.inverted_file import LinkingGraph, highest_scores, sample_rows
from semsearch.ingest.recipe import IndexOptions, Recipe
from semsearch.ingest.updating import UpdateResult, compact, delete, update
from semsearch.search.engine import SearchEngine
from semsearch.storage import approximate, index_checkpoint
from semsearch.storage.approximate import InvertedFile
from semsearch.storage.checking import check
from semsearch.storage.generations import read_manifest
from semsearch.storage.index_checkpoint import IndexCheckpoint
from semsearch.types import Document, Mode, Query, Vectors
from tests.adapters.test_adapter import unit_rows
from tests.conftest import Command, build_index, hits_of, write_jsonl

VECTORS, QUERIES = unit_rows(6000, dimension=16), unit_rows(40, dimension=16, seed=9)
RECORDS = [{"id": str(n), "text": f"word{n} other{n % 7} third{n % 11}", "group": n % 5} for n in range(400)]


def selected(**options: object) -> SelectedIndex:
    *_, last = select_index(VECTORS, lambda: QUERIES, IndexOptions.model_validate(options), threads=1)
    assert isinstance(last, SelectedIndex)
    return last


def continued(folder: Path, rows: Vectors = VECTORS) -> Iterator[LinkingGraph | SelectedIndex]:
    """Select an inverted file with a checkpoint in the folder."""
    options = IndexOptions(type="ivf", recall=0.9)
    return select_index(
        rows, lambda: QUERIES, options, threads=1, open_checkpoint=lambda: IndexCheckpoint(folder, rows)
    )


@pytest.mark.parametrize(
    ("options", "memory_bytes", "index_type", "reason"),
    [
        # 6,000 vectors of 16 numbers and their graph take 1.9 MiB, the lists 0.15
        ({"memory_mib": 2}, 2**10, "hnsw", "over 0"),
        ({"memory_mib": 1.8}, 2**40, "ivf", "over 2 MiB (index.memory_mib)"),
        ({}, 2**40, "hnsw", "over 0"),
        ({}, 2**20, "ivf", "float32 vectors and a graph would take 2 MiB, over 0 MiB (50% of this machine's memory)"),
        ({"type": "hnsw"}, 2**20, "hnsw", "hnsw was asked for"),
        ({"type": "exact"}, 2**20, "exact", "exact was asked for"),
        ({"type": "ivf"}, 2**40, "ivf", "ivf was asked for"),
    ],
)
def test_vectors_that_do_not_fit_memory_get_an_inverted_file(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], memory_bytes: int, index_type: str, reason: str
) -> None:
    monkeypatch.setattr(index_selection, "machine_memory", lambda: memory_bytes)
    record = selected(recall=0.9, exact_ms=0, **options).record
    assert record.type == index_type
    assert reason in record.reason


@pytest.mark.parametrize("precision", ["auto", "int8", "float32"])
def test_an_inverted_file_has_the_recall_that_was_asked_for(precision: str) -> None:
    found = selected(type="ivf", vectors=precision, recall=0.95)
    record = found.record
    assert (record.type, record.queries) == ("ivf", 40)
    assert record.vectors == ("float16" if precision == "auto" else precision)
    truth = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]
    rows = found.index.search(QUERIES, 100, ef_search=record.ef_search)[1][:, :10]
    share = np.mean([np.isin(true, row).mean() for true, row in zip(truth, rows, strict=True)])
    assert record.recall == pytest.approx(share, abs=1e-4)
    assert share >= 0.95


def test_lists_that_fit_no_memory_or_find_too_little_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for index_type in ("ivf", "auto"):
        with pytest.raises(InputError, match=r"inverted file of 6000 vectors takes 0 MiB besides the vectors on disk"):
            selected(type=index_type, memory_mib=0.1)
    monkeypatch.setattr(index_selection, "LIST_STEPS", (1, 2))
    with pytest.raises(InputError, match=r"6000 vectors as int8 reaches a recall@10 of 0\.\d+ with \d+ of 153 lists"):
        selected(type="ivf", vectors="int8", recall=1)


@pytest.mark.parametrize("index_type", ["ivf", "auto"])
@pytest.mark.parametrize(
    ("precision", "takes", "remedy"),
    [
        # 6,000 vectors of 16 numbers: the lists take 0.11 MiB
        ("float32", 0.48, "set index.vectors to int8, index fewer passages, or build on"),
        ("float16", 0.29, "set index.vectors to int8, index fewer passages, or build on"),
        ("auto", 0.29, "set index.vectors to int8, index fewer passages, or build on"),
        ("int8", 0.20, "memory\\): index fewer passages, or build on a machine with more memory"),
    ],
)
def test_rows_that_do_not_fit_memory_are_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, trained: list[int], index_type: str, precision: str, takes: float, remedy: str
) -> None:
    options = {"type": index_type, "vectors": precision, "recall": 0.3}
    monkeypatch.setattr(index_selection, "machine_memory", lambda: (takes + 0.02) / 0.8 * 2**20)
    assert selected(**options).record.type == "ivf"
    del trained[:]
    monkeypatch.setattr(index_selection, "machine_memory", lambda: (takes - 0.02) / 0.8 * 2**20)
    with pytest.raises(InputError, match=rf"6000 vectors as \w+ takes 0 MiB of memory, over 0 MiB .80%.*{remedy}"):
        selected(**options)
    assert not trained


def test_the_truth_is_that_of_a_brute_force_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted_file, "COMPARED_ROWS", 700)
    expected = -np.sort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]
    np.testing.assert_allclose(highest_scores(VECTORS, QUERIES, 10, threads=1), expected, atol=2e-6)
    few = highest_scores(VECTORS[:3], QUERIES, 10, threads=1)
    assert np.isneginf(few[:, 3:]).all()
    np.testing.assert_allclose(few[:, :3], -np.sort(-(QUERIES @ VECTORS[:3].T), axis=1), atol=2e-6)


def test_a_sample_holds_different_rows_in_their_order() -> None:
    sample = sample_rows(VECTORS, 500)
    rows = [int(np.flatnonzero((row == VECTORS).all(axis=1))[0]) for row in sample]
    assert len(rows) == 500
    assert rows == sorted(set(rows))
    np.testing.assert_array_equal(sample_rows(VECTORS, 10_000), VECTORS)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save an inverted file after every 1,000 rows."""
    monkeypatch.setattr(inverted_file, "ROWS_AT_A_TIME", 500)
    monkeypatch.setattr(inverted_file, "ROWS_PER_CHECKPOINT", 1000)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each training of an inverted file."""
    seen: list[int] = []
    train = InvertedFile.train

    def noting(self: InvertedFile, vectors: Vectors) -> None:
        seen.append(len(vectors))
        train(self, vectors)

    monkeypatch.setattr(InvertedFile, "train", noting)
    return seen


def saved_bytes(found: SelectedIndex, folder: Path) -> tuple[bytes, bytes]:
    found.index.save(folder / "vectors", folder / "lists")
    return (folder / "vectors").read_bytes(), (folder / "lists").read_bytes()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("stop_at", [500, 2500, 6000])
def test_a_stopped_build_continues_and_makes_the_same_index(tmp_path: Path, trained: list[int], stop_at: int) -> None:
    expected = saved_bytes(selected(type="ivf", recall=0.9), tmp_path)
    folder = tmp_path / "index"
    folder.mkdir()
    for event in continued(folder):
        if isinstance(event, LinkingGraph) and event.rows == stop_at:
            break
    del trained[:]
    events = list(continued(folder))
    assert not trained
    added = [event.rows for event in events if isinstance(event, LinkingGraph)]
    # what was saved last: after training, after each 1,000 rows, and after the last one
    assert added == [0, *range(stop_at // 1000 * 1000 - (stop_at == 6000) * 1000 + 500, 6500, 500)]
    assert isinstance(events[-1], SelectedIndex)
    assert saved_bytes(events[-1], tmp_path) == expected


@pytest.mark.usefixtures("small_steps")
def test_what_was_made_of_other_vectors_is_not_continued(tmp_path: Path, trained: list[int]) -> None:
    list(continued(tmp_path))
    changed = VECTORS.copy()
    changed[4321] = VECTORS[0]
    list(continued(tmp_path, changed))
    assert len(trained) == 2


@pytest.fixture(scope="module")
def whole_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    list(continued(folder))
    [path] = folder.iterdir()
    return path.read_bytes()


def flipped(content: bytes, byte: int) -> bytes:
    return content[:byte] + bytes([content[byte] ^ 4]) + content[byte:][1:]


@pytest.mark.parametrize(
    "damage",
    [
        *(partial(flipped, byte=byte) for byte in (0, 4, 9, 14, 33, 60, 100, 5_000, 20_000, 60_000, -17, -16, -1)),
        lambda content: content[:-1],
        lambda content: content[:-100],
        lambda content: content[:10],
        lambda _: b"",
        lambda content: content + b"x",
    ],
)
def test_a_damaged_checkpoint_is_discarded(
    tmp_path: Path, trained: list[int], whole_checkpoint: bytes, damage: Callable[[bytes], bytes]
) -> None:
    checkpoint = IndexCheckpoint(tmp_path, VECTORS)
    checkpoint.save(InvertedFile.empty(16, lists=2))
    [path] = tmp_path.iterdir()
    path.write_bytes(whole_checkpoint)
    *_, last = continued(tmp_path)
    assert isinstance(last, SelectedIndex)
    assert not trained
    path.write_bytes(damage(whole_checkpoint))
    assert checkpoint.load() is None
    assert not path.exists()
    path.write_bytes(damage(whole_checkpoint))
    *_, again = continued(tmp_path)
    assert isinstance(again, SelectedIndex)
    assert len(trained) == 1
    assert again.record.recall == last.record.recall


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (approximate, "LISTS_PER_ROOT", 0.1),
        (approximate, "MIN_TRAINING_ROWS", 30),
        (index_checkpoint, "MIN_TRAINING_ROWS", 38),
        (index_checkpoint, "CODE_BITS", 2),
        (index_checkpoint, "TRAINING_ROWS", 50),
        (index_checkpoint, "ITERATIONS", 9),
    ],
)
def test_what_was_made_in_another_way_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, value: float
) -> None:
    rows = unit_rows(200, dimension=16)
    IndexCheckpoint(tmp_path, rows).save(InvertedFile.empty(16, lists=2))
    assert IndexCheckpoint(tmp_path, np.asfortranarray(rows)).load() is not None
    monkeypatch.setattr(module, name, value)
    assert IndexCheckpoint(tmp_path, rows).load() is None
    assert not list(tmp_path.iterdir())


def recipe(source: Path, model: Path) -> Recipe:
    return Recipe.model_validate(
        {
            "sources": [{"path": source}],
            "encoder": {"model": str(model)},
            "index": {"type": "ivf", "recall": 0.9},
            "map": False,
        }
    )


KILLED_BUILD = """
import os, signal, sys
from pathlib import Path
from semsearch.ingest import inverted_file
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe
inverted_file.ROWS_AT_A_TIME, inverted_file.ROWS_PER_CHECKPOINT = 50, 100
recipe = Recipe.model_validate_json(sys.argv[1])
for event in build(recipe, Path(sys.argv[2]), device="cpu", threads=1):
    if isinstance(event, inverted_file.LinkingGraph) and event.rows == 300:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_build_does_not_train_its_lists_again(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, trained: list[int]
) -> None:
    source, index = write_jsonl(tmp_path / "a.jsonl", RECORDS), tmp_path / "index"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BUILD, recipe(source, tiny_model).model_dump_json(), str(index)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert list(index.glob("unfinished.lists-*"))
    for event in build(recipe(source, tiny_model), index, device="cpu", threads=1):
        if isinstance(event, LinkingGraph) and event.rows:
            assert event.rows > 200
    assert not trained
    assert sorted(path.name[:2] for path in index.iterdir()) == ["cu", "g-", "lo"]
    assert check(index).problems == ()
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    for number in (3, 250, 399):
        [hits] = hits_of(engine, [Query(RECORDS[number]["text"], mode=Mode.SEMANTIC)])  # type: ignore[arg-type]
        assert hits[0].id == str(number)
    engine.close()


def test_a_build_that_is_to_start_anew_trains_again(tmp_path: Path, tiny_model: Path, trained: list[int]) -> None:
    source, index = write_jsonl(tmp_path / "a.jsonl", RECORDS), tmp_path / "index"
    for event in build(recipe(source, tiny_model), index, device="cpu", threads=1):
        if isinstance(event, LinkingGraph) and event.rows:
            break
    list(build(recipe(source, tiny_model), index, device="cpu", threads=1, resume=False))
    assert len(trained) == 2


def test_an_index_with_an_inverted_file_is_searched_filtered_changed_and_compacted(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, command: Command
) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", RECORDS)
    options = {"type": "ivf", "recall": 0.9}
    index = build_index(tmp_path / "index", source, model=tiny_model, index=options, map=False).folder
    manifest = read_manifest(index)
    assert "s-000001/lists.faiss" in manifest.files
    assert f"ivf, float16 vectors, ef_search {manifest.index.ef_search}" in command("info", index).stdout
    *_, last = update(index, [Document("new", "", "word401 quite new", "", {"group": 1})], device="cpu")
    assert isinstance(last, UpdateResult)
    delete(index, ["7"])
    for step in (None, compact(index, device="cpu")):
        for _ in step or ():
            pass
        assert check(index).problems == ()
        engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
        assert hits_of(engine, [Query("word401 quite new", mode=Mode.SEMANTIC)])[0][0].id == "new"
        [found] = hits_of(engine, [Query("word7 other0 third7", k=400, mode=Mode.SEMANTIC)])
        assert len({hit.id for hit in found}) == 400
        assert "7" not in {hit.id for hit in found}
        engine.close()
    assert [one.index.type for one in read_manifest(index).segments] == ["ivf"]
    assert not list(index.glob("unfinished*"))
    lists = next(index.glob("g-*/*/lists.faiss"))
    lists.write_bytes(lists.read_bytes()[:-8])
    done = command("search", "word1", "-i", index)
    assert done.returncode == 1
    assert "lists.faiss has" in " ".join(done.stderr.split())
