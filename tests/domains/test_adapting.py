"""Adapting a domain over every type of index: it learns from the same documents, and reads few of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import DomainState
from semsearch.adapters.support import HARD_NEGATIVES_PER_QUERY, MAX_DOCUMENTS, Support
from semsearch.adapters.verdict import Reason, Verdict
from semsearch.domains.adapting import adapt
from semsearch.domains.judgments import JudgedQuery
from semsearch.encoders.encoder import EncodedQuery, Encoder
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe
from semsearch.ingest.updating import delete
from semsearch.search.engine import SearchEngine
from semsearch.storage.corpus import Corpus
from semsearch.types import Document, Mode, Query, Rows, Vectors, unit_rows

DOCUMENTS = 6_000
DELETED = range(0, DOCUMENTS, 7)
QUERIES = 20


def documents(dimension: int) -> Vectors:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, dimension), np.float32)
    return unit_rows(centres.repeat(DOCUMENTS // 60, axis=0) + rng.standard_normal((DOCUMENTS, dimension), np.float32))


@pytest.fixture(scope="module", params=["exact", "hnsw", "ivf"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder
) -> SearchEngine:
    """An index of 6,000 documents with given vectors, of which every seventh is deleted."""
    folder = tmp_path_factory.mktemp("index")
    vectors = documents(tiny_encoder.dimension)
    records = [Document(f"d{row}", "", f"number {row}", "made") for row in range(DOCUMENTS)]
    index = {"type": request.param, "vectors": "float32", "recall": 0.9}
    for _ in build(
        Recipe.model_validate({"index": index}), folder, records=records, vectors=vectors, encoder=tiny_encoder
    ):
        pass
    delete(folder, [f"d{row}" for row in DELETED])
    return SearchEngine.open(folder, encoder=tiny_encoder, threads=1)


def test_it_learns_from_the_same_documents_and_reads_few(engine: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = documents(engine.corpus.dimension)
    noise = np.random.default_rng(1).standard_normal((QUERIES, vectors.shape[1]), np.float32)
    queries = unit_rows(vectors[1 : 50 * QUERIES : 50] + np.float32(0.02) * noise)
    judged = [JudgedQuery(f"query {row}", {f"d{1 + 50 * row}": 1.0}) for row in range(QUERIES)]
    # of a query with negative judgments only, its nearest documents count as relevant
    judged.append(JudgedQuery("unhappy", {}, negatives=frozenset({"d1"})))
    encoded = dict(zip([query.text for query in judged], [*queries, queries[0]], strict=True))
    supports: list[Support] = []

    def recorded(
        basis: SpectralBasis, support: Support, parent: DomainState | None, learners: Sequence[str] | None
    ) -> Verdict:
        supports.append(support)
        state = DomainState.identity(basis.dimension)
        return Verdict(state, None, Reason.NO_IMPROVEMENT, len(support), 0.5, 0.0, 0.0, 0.0)

    read = []
    vectors_of = Corpus.vectors

    def counted(corpus: Corpus, rows: Rows) -> Vectors:
        read.append(len(rows))
        return vectors_of(corpus, rows)

    monkeypatch.setattr(Corpus, "vectors", counted)
    adaptation = adapt(engine, recorded, judged, encode=lambda text: EncodedQuery(encoded[text], None))
    assert sum(read) <= 4 * MAX_DOCUMENTS
    support = supports[0]
    live = vectors_of(engine.corpus, engine.corpus.live_rows)
    assert float(support.log_sampling_weight.exp().sum()) == pytest.approx(len(live), rel=1e-4)
    held = {row.tobytes() for row in support.documents.numpy()}
    assert held <= {row.tobytes() for row in live}
    # within the budget, the nearest documents of every query are held
    answered = [row for row in range(QUERIES) if 1 + 50 * row not in DELETED]
    nearest = np.argsort(-(queries[answered] @ live.T), axis=1)[:, :HARD_NEGATIVES_PER_QUERY]
    found = np.mean([row.tobytes() in held for row in live[nearest.ravel()]])
    # queries that tie at the last rank may have another one
    assert found > (0.99 if engine.ef_search is None else 0.95)
    assert adaptation.state is not None
    assert len(adaptation.state.keys) == adaptation.labels + 1


def labelled(dimension: int, *, shared: bool, noise: float = 0.02) -> tuple[list[JudgedQuery], dict[str, EncodedQuery]]:
    """24 queries about 6 topics that no document is near; those of a topic share an answer, or each has its own."""
    topics = unit_rows(np.random.default_rng(2).standard_normal((6, dimension), np.float32))
    drawn = np.random.default_rng(3).standard_normal((24, dimension), np.float32)
    queries = unit_rows(topics.repeat(4, axis=0) + np.float32(noise) * drawn)
    answers = [f"d{1 + 7 * (row // 4 if shared else row)}" for row in range(24)]
    judged = [JudgedQuery(f"query {row}", {doc_id: 1.0}) for row, doc_id in enumerate(answers)]
    return judged, {query.text: EncodedQuery(vector, None) for query, vector in zip(judged, queries, strict=True)}


@pytest.mark.parametrize("shared", [True, False])
def test_documents_get_votes_where_labelled_queries_share_answers(engine: SearchEngine, shared: bool) -> None:
    judged, encoded = labelled(engine.corpus.dimension, shared=shared)
    adaptation = adapt(engine, None, judged, encode=encoded.__getitem__)
    assert adaptation.state is not None
    votes = adaptation.state.votes
    assert ("answered similar queries" in adaptation.explanation) is shared
    if not shared:
        assert votes is None
        return
    assert votes is not None
    assert set(votes.doc_ids) == {f"d{1 + 7 * topic}" for topic in range(6)}
    again = adapt(engine, None, judged[::-1], encode=encoded.__getitem__).state
    assert again is not None
    assert again.to_bytes({}) == adaptation.state.to_bytes({})
    # a child domain with few labels of its own keeps its parent's votes
    child = adapt(engine, None, judged[:1], encode=encoded.__getitem__, parent=adaptation.state).state
    assert child is not None
    assert child.votes is votes


def test_a_judged_query_keeps_its_own_answer_among_votes_for_another(engine: SearchEngine) -> None:
    judged, encoded = labelled(engine.corpus.dimension, shared=True, noise=0.06)
    # a query of two topics has another answer, and the topic's is not relevant to it
    for topic in (1, 4):
        row = 4 * topic
        [shared] = judged[row].relevance
        judged[row] = JudgedQuery(judged[row].text, {f"d{2 + 7 * topic}": 1.0}, negatives=frozenset({shared}))
    state = adapt(engine, None, judged, encode=encoded.__getitem__).state
    assert state is not None
    assert state.votes is not None
    adapter = Adapter(engine.adapter.basis, {"team": DomainAdapter(state.quantized(), domain="team")})
    served = SearchEngine(
        encoder=engine.encoder, adapter=adapter, corpus=engine.corpus, manifest=engine.manifest, folder=None
    )
    first = []
    for query in judged:
        [result] = served.search_encoded([Query(query.text, domain="team")], [encoded[query.text]])
        page = served.rank(Query(query.text, k=1, domain="team", mode=Mode.SEMANTIC), result)
        first += [row in engine.corpus.passage_rows(next(iter(query.relevance))) for row in page.passages.tolist()]
    assert sum(first) >= 23
