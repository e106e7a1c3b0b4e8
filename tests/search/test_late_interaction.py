"""Late interaction: hybrid search compares the tokens of its best results, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.state import DomainState
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.token_vectors import late_interaction
from semsearch.filters.expression import parse_filter
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import TOKEN_DEPTH
from semsearch.storage.manifest import SearchOptions
from semsearch.types import Document, Hit, Mode, Query
from tests.conftest import hits_of

WORDS = (
    *("bee", "honey", "cat", "dog", "house", "river", "sea", "bird", "fish"),
    *("mountain", "flower", "sweet", "hunt", "swim", "old", "large", "small", "air"),
)
TEXT = "sweet bird of the old river"


def documents(count: int = 80) -> list[Document]:
    rng = np.random.default_rng(0)
    return [
        Document(f"d{row}", "", " ".join(rng.choice(WORDS, rng.integers(3, 12))), "test", {"parity": row % 2})
        for row in range(count)
    ]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, token_encoder: Encoder) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "index"
    for _ in build(Recipe(), folder, records=documents(), encoder=token_encoder, threads=1):
        pass
    return folder


@pytest.fixture
def engine(index: Path, token_encoder: Encoder) -> Iterator[SearchEngine]:
    engine = SearchEngine.open(index, encoder=token_encoder, threads=1)
    yield engine
    engine.close()


def options(engine: SearchEngine, **values: object) -> SearchEngine:
    """The engine with other options of search."""
    search = SearchOptions.model_validate(values)
    return SearchEngine(
        encoder=engine.encoder,
        adapter=engine.adapter,
        corpus=engine.corpus,
        manifest=engine.manifest.model_copy(update={"search": search}),
    )


def boost(hit: Hit) -> float | None:
    assert hit.score_breakdown is not None
    return hit.score_breakdown.token_boost


@pytest.mark.parametrize("weight", [0.2, 1.0, 5.0])
def test_the_best_results_gain_by_their_tokens_and_others_follow(engine: SearchEngine, weight: float) -> None:
    [before] = hits_of(options(engine, token_weight=0), [Query(TEXT, k=80)])
    [after] = hits_of(options(engine, token_weight=weight), [Query(TEXT, k=80)])
    assert all(boost(hit) is None for hit in before)
    assert {hit.id for hit in after} == {hit.id for hit in before}
    # the first ones in another order, all others in the same
    assert {hit.id for hit in after[:TOKEN_DEPTH]} == {hit.id for hit in before[:TOKEN_DEPTH]}
    assert [hit.id for hit in after] != [hit.id for hit in before]
    assert [hit.id for hit in after[TOKEN_DEPTH:]] == [hit.id for hit in before[TOKEN_DEPTH:]]
    [encoded] = engine.encoder.encode_for_search([TEXT], with_tokens=True)
    assert encoded.tokens is not None
    rows = np.array([int(engine.corpus.passage_rows(hit.id)[0]) for hit in after[:TOKEN_DEPTH]])
    cosines = late_interaction(encoded.tokens, engine.corpus.token_codes(rows))
    was = {hit.id: hit.score for hit in before}
    for hit, cosine in zip(after, cosines.tolist(), strict=False):
        assert boost(hit) == pytest.approx(weight * (cosine - cosines.min()), abs=1e-5)
        assert hit.score == pytest.approx(was[hit.id] + (boost(hit) or 0.0), abs=2e-6)
    assert all(boost(hit) == 0 for hit in after[TOKEN_DEPTH:])
    assert [hit.score for hit in after] == sorted((hit.score for hit in after), reverse=True)


def test_pages_never_overlap(engine: SearchEngine) -> None:
    [everything] = hits_of(engine, [Query(TEXT, k=80)])
    pages = hits_of(engine, [Query(TEXT, k=16, offset=offset) for offset in range(0, 80, 16)])
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in everything]


def test_a_filter_holds(engine: SearchEngine) -> None:
    [found] = hits_of(engine, [Query(TEXT, k=80, filter=parse_filter("parity = 1"))])
    assert len(found) == 40
    assert all(hit.metadata["parity"] == 1 for hit in found)
    assert max(boost(hit) or 0.0 for hit in found) > 0


@pytest.mark.parametrize(
    ("values", "mode"),
    [({}, Mode.SEMANTIC), ({}, Mode.KEYWORD), ({"lexical_weight": "rrf"}, Mode.HYBRID)],
)
def test_other_searches_are_as_without_token_vectors(
    engine: SearchEngine, values: dict[str, object], mode: Mode
) -> None:
    query = Query(TEXT, k=80, mode=mode)
    [found] = hits_of(options(engine, **values), [query])
    [without] = hits_of(options(engine, token_weight=0, **values), [query])
    assert found == without
    assert all(boost(hit) is None for hit in found)


def test_a_domain_has_its_own_weight(engine: SearchEngine) -> None:
    state = replace(DomainState.identity(engine.corpus.dimension), token_weight=0.0).quantized()
    assert state.token_weight == 0
    engine.adapter = Adapter(engine.adapter.basis, {"team": DomainAdapter(state, domain="team")})
    of_team, others = hits_of(engine, [Query(TEXT, domain="team"), Query(TEXT)])
    [without] = hits_of(options(engine, token_weight=0), [Query(TEXT)])
    assert [hit.id for hit in of_team] == [hit.id for hit in without]
    assert all(boost(hit) is None for hit in of_team)
    assert all(boost(hit) is not None for hit in others)


def test_an_index_without_token_vectors_is_searched_with_queries_that_have_some(
    animals: Path, token_encoder: Encoder
) -> None:
    """A server's cache keeps encoded queries for all indexes of one encoder."""
    engine = SearchEngine.open(animals, encoder=token_encoder, threads=1)
    query, [encoded] = Query(TEXT), token_encoder.encode_for_search([TEXT], with_tokens=True)
    [result] = engine.search_encoded([query], [encoded])
    assert result.tokens is None
    assert len(engine.rank(query, result).passages) == 6
    # a label that was encoded for this index serves one with token vectors too, once it is built again
    assert engine.encode_label(TEXT).tokens is not None
    engine.close()


def test_a_query_without_words_is_answered(engine: SearchEngine) -> None:
    [found] = hits_of(engine, [Query("!?")])
    assert all(boost(hit) == 0 for hit in found)


def test_an_index_with_token_vectors_is_searched_by_an_encoder_without(index: Path, tiny_encoder: Encoder) -> None:
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    [found] = hits_of(engine, [Query(TEXT)])
    assert all(boost(hit) is None for hit in found)
    engine.close()
