"""Suggestions of what to label: the order of the queries, the results to mark, and why there may be none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from semsearch.domains.registry import DomainRegistry
from semsearch.domains.suggesting import disagreement, documents_to_mark, suggest
from semsearch.encoders.encoder import Encoder
from semsearch.errors import QueryError, StateError
from semsearch.search.engine import SearchEngine
from semsearch.storage.kept_queries import FILE
from semsearch.types import Click, Label, Vectors

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry(animals: Path, tmp_path: Path, tiny_encoder: Encoder) -> Iterator[DomainRegistry]:
    folder = shutil.copytree(animals, tmp_path / "zoo")
    engine = SearchEngine.open(folder, encoder=tiny_encoder, threads=1)
    registry = DomainRegistry(folder, engine, None)
    yield registry
    registry.close()
    engine.close()


def keep(registry: DomainRegistry, *texts: str) -> None:
    registry.kept.add("team", [(text, registry.engine.encode_label(text).vector) for text in texts], days=30)


def label(registry: DomainRegistry, query: str, document: str = "bee") -> None:
    registry.log.append([Label(f"l {query} {document}", "team", query, document, 1.0, "", "test", NOW)])


def click(registry: DomainRegistry, query: str, times: int = 1) -> None:
    registry.log.append([Click(f"c {query} {n}", "team", query, "bee", 1, (), "", "test", NOW) for n in range(times)])


def suggested(registry: DomainRegistry, k: int = 5) -> list[tuple[str, int]]:
    return [(query.text, query.times_asked) for query in registry.suggest("team", k).queries]


def test_disagreement_is_one_minus_the_mean_overlap_of_the_first_ten() -> None:
    assert disagreement([(1, 2, 3, 4), (4, 3, 2, 1)]) == 0
    assert disagreement([(1, 2), (3, 4)]) == 1
    assert disagreement([(1, 2, 3, 4), (1, 2)]) == 0.5
    assert disagreement([(1, 2), (1, 2), (3, 4)]) == pytest.approx(2 / 3)
    assert disagreement([tuple(range(10)), (*range(5), *range(20, 30))]) == 0.5
    assert disagreement([(1, 2), ()]) == 1
    assert disagreement([(), ()]) == disagreement([(1, 2)]) == 0


def test_results_to_mark_are_those_that_rankings_disagree_on_and_the_first_of_each() -> None:
    # spreads: 1: 0, 2: 1/2 − 1/3, 3: 1/2 − 1/3, 4: 1/4, 5: 1/5
    assert documents_to_mark([(1, 2, 3, 4), (1, 3, 2, 6, 5)], 5) == [4, 6, 5, 2, 1]
    assert documents_to_mark([(1, 2, 3), (1, 2, 3)], 2) == [1, 2]
    assert documents_to_mark([(1, 2), (3, 2), (4, 2)], 3) == [1, 3, 4]
    assert documents_to_mark([(1, 2), ()], 1) == [1]
    assert documents_to_mark([(), ()], 3) == []


def unit(*numbers: float) -> Vectors:
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


def test_the_order_is_by_popularity_times_novelty_times_uncertainty(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.zeros((5, 32), np.float32)
    for row, vector in zip(rows, [(1, 0, 0), (3, 4, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1)], strict=True):
        row[:3] = unit(*vector)
    labelled = np.zeros((1, 32), np.float32)
    labelled[0, 0] = 1
    times = {"labelled already": 99, "similar": 20, "unlike": 9, "agreed": 60, "the same": 59}
    # of the shortlist: agreed, the same, unlike, similar, labelled already
    disagreements = iter([0.05, 0.05, 0.9, 0.5, 1.0])
    monkeypatch.setattr("semsearch.domains.suggesting.disagreement", lambda _rankings: next(disagreements))
    chosen = suggest(engine, "team", times, rows, labelled, k=5, results=2)
    # 9 · 1 · 0.9 = 8.1; 60 · 1 · 0.1 = 6; 20 · (1 − 0.6) · 0.5 = 4, and after `unlike` 20 · (1 − 0.8) · 0.5 = 2
    assert [query.text for query in chosen] == ["unlike", "agreed", "similar"]
    assert [query.times_asked for query in chosen] == [9, 60, 20]


def test_kept_and_clicked_queries_without_a_label_are_suggested_with_results(registry: DomainRegistry) -> None:
    keep(registry, "purrs", "purrs", "purrs", "honey", "soars over mountains")
    click(registry, "purrs", 2)
    click(registry, "swims up rivers", 4)
    label(registry, "honey")
    assert suggested(registry) == [("purrs", 5), ("swims up rivers", 4), ("soars over mountains", 1)]
    assert suggested(registry, 1) == [("purrs", 5)]
    suggestions = registry.suggest("team", 1, results=3)
    assert suggestions.reason == ""
    [query] = suggestions.queries
    assert len(query.hits) == 3
    assert "cat" in [hit.id for hit in query.hits]
    label(registry, "purrs", "cat")
    assert suggested(registry, 1) == [("swims up rivers", 4)]


def test_an_adapted_domain_compares_its_adapted_ranking_too(registry: DomainRegistry) -> None:
    keep(registry, "soars")
    before = registry.suggest("team", 1, results=6).queries[0].hits
    for text in ("sweet", "sugar"):
        label(registry, text)
    assert registry.adapt("team").state is not None
    after = registry.suggest("team", 1, results=6).queries[0].hits
    assert {hit.id for hit in before} == {hit.id for hit in after}


def test_the_reason_says_why_nothing_is_suggested(registry: DomainRegistry) -> None:
    def reason() -> str:
        suggestions = registry.suggest("team")
        assert suggestions.queries == ()
        return suggestions.reason

    assert "start the server with --keep-queries DAYS" in reason()
    keep(registry, "honey")
    label(registry, "honey")
    assert reason() == "all 1 known queries of 'team' are labelled, or nearly the same as a labelled one"
    keep(registry, "Honey")  # the encoder does not tell upper from lower case
    assert reason().startswith("all 2 known queries")
    (registry.kept.folder / "team" / FILE).write_bytes(b"damaged")
    assert reason() == "the kept queries of 'team' cannot be used: `semsearch domains list` says why"
    click(registry, "purrs")
    assert suggested(registry) == [("purrs", 1)]


def test_numbers_and_names_out_of_range_are_refused(registry: DomainRegistry) -> None:
    for k, results in ((0, 5), (51, 5), (5, 0), (5, 51)):
        with pytest.raises(QueryError, match="ask for 1 to 50"):
            registry.suggest("team", k, results=results)
    with pytest.raises(StateError, match="cannot be a domain's name"):
        registry.suggest("../team")
