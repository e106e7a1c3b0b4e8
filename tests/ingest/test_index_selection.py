"""The type of an index: chosen by what was measured, and never below the recall that was asked for."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.errors import InputError
from semsearch.ingest import index_selection, inverted_file
from semsearch.ingest.index_selection import SelectedIndex, recall_of, select_index
from semsearch.ingest.inverted_file import LinkingGraph
from semsearch.ingest.recipe import IndexOptions
from semsearch.ingest.updating import UpdateResult, compact, delete, update
from semsearch.search.engine import SearchEngine
from semsearch.storage.checking import check
from semsearch.storage.generations import read_manifest
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Document, Mode, Query, Vectors
from tests.adapters.test_adapter import unit_rows
from tests.conftest import Command, build_index, hits_of, write_jsonl

VECTORS, QUERIES = unit_rows(6000, dimension=16), unit_rows(40, dimension=16, seed=9)


def sized(**options: object) -> tuple[list[LinkingGraph], SelectedIndex]:
    *linking, last = select_index(VECTORS, lambda: QUERIES, IndexOptions.model_validate(options), threads=1)
    assert isinstance(last, SelectedIndex)
    return [event for event in linking if isinstance(event, LinkingGraph)], last


@pytest.mark.parametrize(("options", "why"), [({"type": "exact"}, "asked for"), ({"exact_ms": 1e6}, "ms a query here")])
def test_a_quick_index_stays_exact(options: dict[str, object], why: str) -> None:
    linking, found = sized(**options)
    assert not linking
    assert (found.record.type, found.record.ef_search, found.record.recall) == ("exact", None, None)
    assert why in found.record.reason


@pytest.mark.parametrize(
    ("options", "why"), [({"type": "hnsw"}, "asked for"), ({"exact_ms": 0}, "ms a query here, over 0")]
)
def test_a_slow_one_gets_a_graph_of_the_recall_that_was_asked_for(options: dict[str, object], why: str) -> None:
    linking, found = sized(recall=0.95, **options)
    assert [event.rows for event in linking] == [0, 5000, 6000]
    record = found.record
    assert (record.type, record.queries) == ("hnsw", 40)
    assert why in record.reason
    truth = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]
    rows = found.index.search(QUERIES, 100, ef_search=record.ef_search)[1][:, :10]
    share = np.mean([np.isin(true, row).mean() for true, row in zip(truth, rows, strict=True)])
    assert record.recall == pytest.approx(share, abs=1e-4)
    assert share >= 0.95


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ({"vectors": "float16"}, "float16"),
        ({"vectors": "int8"}, "int8"),
        ({"memory_mib": 2.5}, "float32"),
        ({"memory_mib": 1.8}, "float16"),
        ({"memory_mib": 1.65}, "int8"),
    ],
)
def test_vectors_are_kept_as_exactly_as_memory_allows(kind: str, options: dict[str, Any], precision: str) -> None:
    # 6,000 vectors of 16 numbers take 0.37 MiB as float32, and a graph 1.53 more
    if kind == "exact" and "memory_mib" in options:
        options = {"memory_mib": options["memory_mib"] - 1.53}
    _, found = sized(type=kind, recall=0.8, **options)
    record = found.record
    assert (record.type, record.vectors) == (kind, precision)
    if precision != "float32":
        assert f"{precision} vectors take" in record.reason
        truth = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]
        rows = found.index.search(QUERIES, 100, ef_search=record.ef_search)[1][:, :10]
        share = np.mean([np.isin(true, row).mean() for true, row in zip(truth, rows, strict=True)])
        assert record.recall == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("options", [{"exact_ms": 1e6}, {"exact_ms": 0}, {"type": "exact"}, {"type": "hnsw"}])
def test_vectors_are_held_once_and_only_as_they_are_stored(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], precision: str
) -> None:
    monkeypatch.setattr(inverted_file, "COMPARED_ROWS", 700)
    made: list[tuple[str, weakref.ref[VectorIndex]]] = []
    add = VectorIndex.add

    def making(make: Any) -> Any:
        def noting(*args: Any, precision: str = "float32", **others: Any) -> VectorIndex:
            index: VectorIndex = make(*args, precision=precision, **others)
            made.append((precision, weakref.ref(index)))
            return index

        return noting

    def adding(self: VectorIndex, vectors: Vectors) -> None:
        add(self, vectors)
        held = [(made_as, index.count) for made_as, ref in made if (index := ref()) is not None]
        whole = [made_as for made_as, count in held if count > 700]
        assert whole in ([], [precision])

    monkeypatch.setattr(VectorIndex, "add", adding)
    monkeypatch.setattr(VectorIndex, "exact", making(VectorIndex.exact))
    monkeypatch.setattr(VectorIndex, "hnsw", making(VectorIndex.hnsw))
    _, found = sized(recall=0.8, vectors=precision, **options)
    assert found.record.vectors == precision
    assert found.index.count == 6000


def test_where_a_graph_finds_too_little_it_is_linked_with_more_care(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    make = VectorIndex.hnsw

    def noting(*dimension: int, ef_construction: int, **options: Any) -> VectorIndex:
        seen.append(ef_construction)
        return make(*dimension, ef_construction=ef_construction, **options)

    monkeypatch.setattr(VectorIndex, "hnsw", noting)
    monkeypatch.setattr(index_selection, "EF_SEARCH_STEPS", (1,))
    monkeypatch.setattr(index_selection, "EF_CONSTRUCTION_STEPS", (2, 200))
    monkeypatch.setattr(index_selection, "FUSION_DEPTH", 10)
    linking, found = sized(type="hnsw", recall=0.8)
    assert seen == [2, 200]
    assert [event.rows for event in linking] == [0, 5000, 6000] * 2
    assert "linked with 200 candidates" in found.record.reason


def test_an_inverted_file_is_selected_where_no_graph_reaches_the_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_selection, "EF_SEARCH_STEPS", (1,))
    monkeypatch.setattr(index_selection, "EF_CONSTRUCTION_STEPS", (2,))
    monkeypatch.setattr(index_selection, "FUSION_DEPTH", 10)
    encoded: list[int] = []

    def encode_queries() -> Vectors:
        encoded.append(len(QUERIES))
        return QUERIES

    options = IndexOptions.model_validate({"exact_ms": 0, "recall": 0.9})
    *_, found = select_index(VECTORS, encode_queries, options, threads=1)
    assert isinstance(found, SelectedIndex)
    # the queries and their true neighbours are those of the graph
    assert encoded == [len(QUERIES)]
    assert (found.record.type, found.record.vectors) == ("ivf", "float16")
    assert found.record.recall is not None
    assert found.record.recall > 0.9
    assert found.record.reason.startswith("a graph over 6000 vectors as float32 reaches a recall@10 of 0.")


def test_what_fits_no_memory_or_finds_too_little_is_refused() -> None:
    with pytest.raises(InputError, match=r"6000 vectors as int8 take 2 MiB, index.memory_mib allows 1"):
        sized(type="hnsw", memory_mib=1)
    with pytest.raises(InputError, match=r"6000 vectors as float32 take 0 MiB"):
        sized(type="exact", vectors="float32", memory_mib=0.3)
    with pytest.raises(InputError, match=r"6000 vectors compared as int8 reach a recall@10 of 0.9\d+, not surely 1"):
        sized(type="exact", vectors="int8", recall=1)


def test_an_index_in_fewer_bits_is_built_changed_and_made_one_piece(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder
) -> None:
    records = [{"id": str(n), "text": f"word{n} other{n % 7} third{n % 11}"} for n in range(300)]
    index = build_index(
        tmp_path / "index",
        write_jsonl(tmp_path / "a.jsonl", records),
        model=tiny_model,
        index={"vectors": "float16", "recall": 0.9},
    ).folder
    assert read_manifest(index).index.vectors == "float16"
    *_, last = update(index, [Document("new", "", "word301 quite new", "", {})], device="cpu")
    assert isinstance(last, UpdateResult)
    delete(index, ["7"])
    for step in (None, compact(index, device="cpu")):
        for _ in step or ():
            pass
        assert check(index).problems == ()
        engine = SearchEngine.open(index, encoder=tiny_encoder)
        assert hits_of(engine, [Query("word301 quite new", mode=Mode.SEMANTIC)])[0][0].id == "new"
        assert len(engine.corpus.live_rows) == 300
        engine.close()
    assert [one.index.vectors for one in read_manifest(index).segments] == ["float16"]


def test_of_equal_documents_any_will_do_and_a_missing_one_counts_against() -> None:
    truth = np.array([[0.9, 0.5, 0.5], [0.8, 0.7, -np.inf]], np.float32)
    found = np.array([[0.9, 0.5, 0.4, 0.4], [0.8, -np.inf, -np.inf, -np.inf]], np.float32)
    assert recall_of(truth, truth).tolist() == [1.0, 1.0]
    assert recall_of(found, truth).tolist() == [pytest.approx(2 / 3), 0.5]


def test_below_the_recall_that_was_asked_for_nothing_is_published(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semsearch.ingest.index_selection.recall_of", lambda *_: np.full(9, 0.9))
    source = write_jsonl(tmp_path / "a.jsonl", ({"id": str(n), "text": f"word{n} other{n % 7}"} for n in range(50)))
    with pytest.raises(InputError, match=r"reaches a recall@10 of 0.9000 with 800 candidates, not surely 0.98"):
        build_index(tmp_path / "index", source, model=tiny_model, index={"type": "hnsw"})
    # what was encoded is kept for a build that asks for less
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["unfinished.sqlite"]


def test_an_index_with_a_graph_is_built_opened_searched_and_checked(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, command: Command
) -> None:
    records = [{"id": str(n), "text": f"word{n} other{n % 7} third{n % 11}"} for n in range(400)]
    source = write_jsonl(tmp_path / "a.jsonl", records)
    build_index(tmp_path / "exact", source, model=tiny_model, index={"type": "exact"})
    build_index(tmp_path / "graph", source, model=tiny_model, index={"type": "hnsw"})
    manifest = read_manifest(tmp_path / "graph")
    assert "s-000001/graph.faiss" in manifest.files
    assert f"hnsw, ef_search {manifest.index.ef_search}, recall@10" in command("info", tmp_path / "graph").stdout
    queries = [Query(f"word{n} third3", k=5, mode=Mode.SEMANTIC) for n in range(30)]
    found = {}
    for name in ("exact", "graph"):
        engine = SearchEngine.open(tmp_path / name, encoder=tiny_encoder, threads=1)
        found[name] = hits_of(engine, queries)
        assert len(hits_of(engine, [Query("word1", k=400, mode=Mode.SEMANTIC)])[0]) == 400
        engine.close()
    same = [
        len({hit.id for hit in one} & {hit.id for hit in other}) / 5
        for one, other in zip(found["exact"], found["graph"], strict=True)
    ]
    assert np.mean(same) > 0.95
    next((tmp_path / "graph").glob("g-*/*/graph.faiss")).unlink()
    done = command("search", "word1", "-i", tmp_path / "graph")
    assert done.returncode == 1
    assert "graph.faiss cannot be read" in " ".join(done.stderr.split())
