"""Recommendations: near liked documents, popular, and diverse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from semsearch.domains.recommending import recommend
from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from tests.conftest import build_index, write_jsonl

KINDS = ("river stone", "tiger violin", "engine ladder")
RECORDS = [
    {"id": f"{kind.split()[0]}-{n}", "text": f"{kind} {kind} {extra}"}
    for kind in KINDS
    for n, extra in enumerate(("paper", "walnut", "glass", "candle", "jacket", "saddle"))
]


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("shelves")
    build_index(folder / "shelves", write_jsonl(folder / "s.jsonl", RECORDS), model=tiny_model)
    return folder / "shelves"


@pytest.fixture
def engine(shelves: Path, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    opened = SearchEngine.open(shelves, encoder=tiny_encoder)
    yield opened
    opened.close()


def recommended_ids(
    engine: SearchEngine,
    liked: list[str],
    *,
    k: int = 4,
    diversity: float = 0.0,
    like_counts: Mapping[str, int] | None = None,
) -> list[str]:
    result = recommend(engine, liked, seen=liked, like_counts=like_counts or {}, k=k, diversity=diversity)
    assert result is not None
    return [hit.id for hit in result.hits]


def kinds_of(doc_ids: Iterable[str]) -> set[str]:
    return {doc_id.split("-")[0] for doc_id in doc_ids}


def test_unseen_documents_near_liked_ones_rank_first(engine: SearchEngine) -> None:
    assert kinds_of(recommended_ids(engine, ["river-0", "river-1"])) == {"river"}
    doc_ids = recommended_ids(engine, ["river-0", "tiger-1"], k=8)
    assert kinds_of(doc_ids) == {"river", "tiger"}
    assert not {"river-0", "tiger-1"} & set(doc_ids)


def test_a_document_that_many_others_like_ranks_higher(engine: SearchEngine) -> None:
    assert "engine-5" not in recommended_ids(engine, ["river-0"], k=5)
    assert recommended_ids(engine, ["river-0"], k=5, like_counts={"engine-5": 1_000_000})[0] == "engine-5"


def test_diversity_mixes_kinds_of_liked_documents(engine: SearchEngine) -> None:
    liked = ["river-0", "river-1", "river-2", "tiger-0"]
    plain, diverse = (recommended_ids(engine, liked, k=3, diversity=diversity) for diversity in (0.0, 0.6))
    assert plain[0] == diverse[0]
    assert len(kinds_of(diverse)) > len(kinds_of(plain))


def test_without_known_likes_or_unseen_documents_nothing_is_recommended(engine: SearchEngine) -> None:
    assert recommend(engine, ["unknown"], seen=[], like_counts={}, k=3, diversity=0.3) is None
    everything = [str(record["id"]) for record in RECORDS]
    result = recommend(engine, everything[:2], seen=everything, like_counts={}, k=3, diversity=0.3)
    assert result is not None
    assert (result.hits, result.liked) == ([], 2)
    assert len(recommended_ids(engine, ["river-0"], k=100)) == len(RECORDS) - 1
