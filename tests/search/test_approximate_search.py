"""Searches of a graph and of an inverted file: pages and batches agree, and long documents cost no search of all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.filters.expression import parse_optional_filter
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import FUSION_DEPTH
from semsearch.storage.approximate import EXACT_FROM
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Document, Mask, Mode, Query, Rows, Scores, Vectors, unit_rows
from tests.conftest import build_index, write_jsonl

DOCUMENTS = 6_000
PAGE = 10


@pytest.fixture(scope="module", params=["exact", "hnsw", "ivf"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder
) -> SearchEngine:
    """An index of 6,000 documents with given vectors, which a search misses some of."""
    folder = tmp_path_factory.mktemp("index")
    vectors = np.random.default_rng(0).standard_normal((DOCUMENTS, tiny_encoder.dimension), np.float32)
    records = [Document(f"d{row}", "", f"number {row}", "made", {"half": row % 2}) for row in range(DOCUMENTS)]
    recipe = Recipe.model_validate({"index": {"type": request.param, "recall": 0.5}, "map": False})
    for _ in build(recipe, folder, records=records, vectors=unit_rows(vectors), encoder=tiny_encoder):
        pass
    return SearchEngine.open(folder, encoder=tiny_encoder, threads=1)


def found(engine: SearchEngine, queries: list[Query], vectors: Vectors) -> list[list[int]]:
    results = engine.search_vectors(queries, vectors)
    return [engine.rank(query, dense).passages.tolist() for query, dense in zip(queries, results, strict=True)]


@pytest.mark.parametrize("expression", [None, "half = 1"])
@pytest.mark.parametrize("mode", [Mode.SEMANTIC, Mode.HYBRID])
def test_pages_join_and_do_not_depend_on_their_batch(engine: SearchEngine, mode: Mode, expression: str | None) -> None:
    vectors = unit_rows(np.random.default_rng(1).standard_normal((6, engine.corpus.dimension), np.float32))
    for row, vector in enumerate(vectors):
        query = Query(f"number {row}", 500, mode=mode, filter=parse_optional_filter(expression))
        [whole] = found(engine, [query], vector[np.newaxis])
        assert len(set(whole)) == 500
        pages = [
            Query(query.text, PAGE, offset=offset, mode=mode, filter=query.filter) for offset in range(0, 500, PAGE)
        ]
        alone = [found(engine, [page], vector[np.newaxis])[0] for page in pages]
        assert [passage for page in alone for passage in page] == whole
        assert found(engine, pages, np.repeat(vector[np.newaxis], len(pages), axis=0)) == alone


def test_a_query_over_long_documents_compares_no_query_with_all_vectors(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"word{number}" for number in range(300)]
    rng = np.random.default_rng(2)
    source = write_jsonl(
        tmp_path / "a.jsonl",
        ({"id": f"d{row}", "text": " ".join(rng.choice(words, 12_000).tolist())} for row in range(40)),
    )
    index = build_index(
        tmp_path / "index", source, model=tiny_model, index={"type": "hnsw", "recall": 0.5}, map=False
    ).folder
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    assert engine.corpus.passages > 20 * FUSION_DEPTH
    wanted: list[int] = []
    search = VectorIndex.search

    def counted(
        self: VectorIndex, queries: Vectors, k: int, *, ef_search: int | None = None, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        wanted.append(k)
        return search(self, queries, k, ef_search=ef_search, allowed=allowed)

    monkeypatch.setattr(VectorIndex, "search", counted)
    for mode in (Mode.SEMANTIC, Mode.HYBRID):
        [outcome] = engine.search([Query("word7 word8", PAGE, mode=mode)])
        assert len(outcome.hits) == PAGE
        assert max(wanted) < EXACT_FROM
    # all documents are found by those who page to the end
    [outcome] = engine.search([Query("word7 word8", 40, mode=Mode.SEMANTIC)])
    assert len({hit.id for hit in outcome.hits}) == 40
    engine.close()
