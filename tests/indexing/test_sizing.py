"""The type of an index: chosen by what was measured, and never below the recall that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.encoder import Encoder
from semsearch.engine import SearchEngine
from semsearch.indexing.recipe import IndexOptions
from semsearch.indexing.sizing import Linking, Sized, recall_of, size
from semsearch.records import InputError, Mode, Query
from semsearch.storage.bundle import read_manifest
from tests.conftest import Command, build_index, write_jsonl
from tests.test_adapter import unit_rows

VECTORS, QUERIES = unit_rows(6000, dimension=16), unit_rows(40, dimension=16, seed=9)


def sized(**options: object) -> tuple[list[Linking], Sized]:
    *linking, last = size(VECTORS, lambda: QUERIES, IndexOptions.model_validate(options), threads=1)
    assert isinstance(last, Sized)
    return [event for event in linking if isinstance(event, Linking)], last


@pytest.mark.parametrize(("options", "why"), [({"type": "exact"}, "asked for"), ({"exact_ms": 1e6}, "ms a query here")])
def test_a_quick_index_stays_exact(options: dict[str, object], why: str) -> None:
    linking, found = sized(**options)
    assert not linking
    assert (found.record.type, found.record.effort, found.record.recall) == ("exact", None, None)
    assert why in found.record.why


@pytest.mark.parametrize(("options", "why"), [({"type": "hnsw"}, "asked for"), ({"exact_ms": 0}, "exact took")])
def test_a_slow_one_gets_a_graph_of_the_recall_that_was_asked_for(options: dict[str, object], why: str) -> None:
    linking, found = sized(recall=0.95, **options)
    assert [event.rows for event in linking] == [0, 5000, 6000]
    record = found.record
    assert (record.type, record.queries) == ("hnsw", 40)
    assert why in record.why
    truth = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]
    rows = found.index.nearest(QUERIES, 100, effort=record.effort)[1][:, :10]
    share = np.mean([np.isin(true, row).mean() for true, row in zip(truth, rows, strict=True)])
    assert record.recall == pytest.approx(share, abs=1e-4)
    assert share >= 0.95


def test_of_equal_documents_any_will_do_and_a_missing_one_counts_against() -> None:
    truth = np.array([[0.9, 0.5, 0.5], [0.8, 0.7, -np.inf]], np.float32)
    found = np.array([[0.9, 0.5, 0.4, 0.4], [0.8, -np.inf, -np.inf, -np.inf]], np.float32)
    assert recall_of(truth, truth).tolist() == [1.0, 1.0]
    assert recall_of(found, truth).tolist() == [pytest.approx(2 / 3), 0.5]


def test_below_the_recall_that_was_asked_for_nothing_is_published(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semsearch.indexing.sizing.recall_of", lambda *_: np.full(9, 0.9))
    source = write_jsonl(tmp_path / "a.jsonl", ({"id": str(n), "text": f"word{n} other{n % 7}"} for n in range(50)))
    with pytest.raises(InputError, match=r"reaches a recall@10 of 0.9000 with 800 candidates, not 0.98"):
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
    assert f"hnsw, {manifest.index.effort} candidates, recall@10" in command("info", tmp_path / "graph").stdout
    queries = [Query(f"word{n} third3", k=5, mode=Mode.SEMANTIC) for n in range(30)]
    found = {}
    for name in ("exact", "graph"):
        engine = SearchEngine.open(tmp_path / name, encoder=tiny_encoder, threads=1)
        found[name] = engine.search(queries)
        assert len(engine.search([Query("word1", k=400, mode=Mode.SEMANTIC)])[0]) == 400
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
