"""Recommendations: near what was liked, liked by others, and unlike one another."""

from __future__ import annotations

from collections.abc import Iterator
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


def ids(engine: SearchEngine, liked: list[str], *, k: int = 4, diversity: float = 0.0, **others: int) -> list[str]:
    named = {name.replace("_", "-"): count for name, count in others.items()}
    found = recommend(engine, liked, seen=liked, others=named, k=k, diversity=diversity)
    assert found is not None
    return [hit.id for hit in found.hits]


def test_what_is_near_and_unseen_comes_first(engine: SearchEngine) -> None:
    assert {one.split("-")[0] for one in ids(engine, ["river-0", "river-1"])} == {"river"}
    found = ids(engine, ["river-0", "tiger-1"], k=8)
    assert {one.split("-")[0] for one in found} == {"river", "tiger"}
    assert not {"river-0", "tiger-1"} & set(found)


def test_what_many_others_like_rises(engine: SearchEngine) -> None:
    assert "engine-5" not in ids(engine, ["river-0"], k=5)
    assert ids(engine, ["river-0"], k=5, engine_5=1_000_000)[0] == "engine-5"


def test_diversity_mixes_what_is_liked(engine: SearchEngine) -> None:
    liked = ["river-0", "river-1", "river-2", "tiger-0"]
    plain, mixed = (ids(engine, liked, k=3, diversity=diversity) for diversity in (0.0, 0.6))
    assert plain[0] == mixed[0]
    kinds = [{one.split("-")[0] for one in found} for found in (plain, mixed)]
    assert len(kinds[1]) > len(kinds[0])


def test_nothing_is_recommended_from_nothing_and_everything_can_be_seen(engine: SearchEngine) -> None:
    assert recommend(engine, ["unknown"], seen=[], others={}, k=3, diversity=0.3) is None
    everything = [str(record["id"]) for record in RECORDS]
    found = recommend(engine, everything[:2], seen=everything, others={}, k=3, diversity=0.3)
    assert found is not None
    assert (found.hits, found.liked) == ([], 2)
    assert len(ids(engine, ["river-0"], k=100)) == len(RECORDS) - 1
