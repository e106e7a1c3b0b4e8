"""Documents that answered similar labelled queries rank higher in their domain, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.state import DomainState
from semsearch.adapters.votes import Votes
from semsearch.encoders.encoder import Encoder
from semsearch.filters.expression import parse_filter
from semsearch.search.engine import SearchEngine
from semsearch.types import Mode, Query
from tests.conftest import build_index, hits_of, write_jsonl

TEXT = "sweet food from flowers"


def voting(engine: SearchEngine, encoder: Encoder, answers: list[str], weight: float = 0.6) -> SearchEngine:
    """The engine with a domain `team` in which this text was labelled."""
    votes = Votes.of(encoder.encode_queries([TEXT]), [answers], weight)
    state = replace(DomainState.identity(encoder.dimension), votes=votes)
    engine.adapter = Adapter(engine.adapter.basis, {"team": DomainAdapter(state, domain="team")})
    return engine


@pytest.mark.parametrize("mode", [Mode.SEMANTIC, Mode.HYBRID])
def test_the_answers_of_a_similar_query_rise(engine: SearchEngine, tiny_encoder: Encoder, mode: Mode) -> None:
    queries = [Query(TEXT, mode=mode, domain=domain) for domain in ("team", "other")]
    [before, other] = hits_of(engine, queries)
    worst = before[-1].id
    [after, unchanged] = hits_of(voting(engine, tiny_encoder, [worst]), queries)
    assert after[0].id == worst
    assert {hit.id for hit in after} == {hit.id for hit in before}
    assert [replace(hit, score_breakdown=None) for hit in unchanged] == [
        replace(hit, score_breakdown=None) for hit in other
    ]
    for hit in after:
        assert hit.score_breakdown is not None
        assert hit.score_breakdown.vote_boost is not None
        was = next(one for one in before if one.id == hit.id)
        assert hit.score == pytest.approx(was.score + hit.score_breakdown.vote_boost, abs=2e-6)
        assert (hit.score_breakdown.vote_boost > 0) is (hit.id == worst)
    assert all(hit.score_breakdown is not None and hit.score_breakdown.vote_boost is None for hit in unchanged)


def test_pages_of_a_domain_with_votes_never_overlap(engine: SearchEngine, tiny_encoder: Encoder) -> None:
    voting(engine, tiny_encoder, ["salmon", "whale"])
    [everything] = hits_of(engine, [Query(TEXT, domain="team")])
    pages = hits_of(engine, [Query(TEXT, k=2, offset=offset, domain="team") for offset in (0, 2, 4)])
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in everything]


def test_votes_neither_pass_a_filter_nor_name_documents_that_are_gone(
    engine: SearchEngine, tiny_encoder: Encoder
) -> None:
    voting(engine, tiny_encoder, ["eagle", "not there any more"])
    [hits] = hits_of(engine, [Query(TEXT, domain="team", filter=parse_filter("kind = mammal"))])
    assert {hit.id for hit in hits} == {"cat", "dog", "whale"}


def test_keyword_search_and_the_frozen_ranking_have_no_votes(engine: SearchEngine, tiny_encoder: Encoder) -> None:
    query = Query(TEXT, domain="team", compare=True)
    [before] = engine.search([query])
    [after] = voting(engine, tiny_encoder, ["salmon"]).search([query])
    assert after.hits[0].id == "salmon"
    assert before.frozen is not None
    assert after.frozen is not None
    assert [hit.id for hit in after.frozen] == [hit.id for hit in before.frozen]
    [keyword] = hits_of(engine, [Query("honey", domain="team", mode=Mode.KEYWORD)])
    assert [hit.id for hit in keyword] == ["bee"]


def test_reciprocal_ranks_are_not_mixed_with_votes(engine: SearchEngine, tiny_encoder: Encoder) -> None:
    voting(engine, tiny_encoder, ["salmon"])
    by_ranks = engine.manifest.search.model_copy(update={"lexical_weight": "rrf"})
    engine.manifest = engine.manifest.model_copy(update={"search": by_ranks})
    team, other = hits_of(engine, [Query(TEXT, domain=domain) for domain in ("team", "other")])
    assert [(hit.id, hit.score) for hit in team] == [(hit.id, hit.score) for hit in other]


def test_every_passage_of_a_voted_document_gains(tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder) -> None:
    filler = [f"Paragraph {number} speaks of chairs, tables and garden number {number}." for number in range(300)]
    records = [
        {"id": "long", "text": "\n\n".join([*filler, "Nectar makes honey sweet."])},
        {"id": "other", "text": "Lasers emit light."},
    ]
    source = write_jsonl(tmp_path / "long.jsonl", records)
    chunking = {"max_tokens": 16, "overlap_tokens": 0}
    index = build_index(tmp_path / "index", source, model=tiny_model, chunking=chunking).folder
    engine = SearchEngine.open(index, encoder=tiny_encoder, threads=1)
    query = Query("nectar makes honey sweet", domain="team")
    [before] = hits_of(engine, [query])
    votes = Votes.of(tiny_encoder.encode_queries([query.text]), [["long"]], 0.1)
    state = replace(DomainState.identity(tiny_encoder.dimension), votes=votes)
    engine.adapter = Adapter(engine.adapter.basis, {"team": DomainAdapter(state, domain="team")})
    [after] = hits_of(engine, [query])
    assert before[0].passage == after[0].passage
    assert "Nectar" in after[0].passage.text
    assert after[0].score > before[0].score + 0.08
    engine.close()
