"""Adapts a domain of an open index to its judged queries. Does not depend on how these were collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import JsonValue

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.guard import Reason, Verdict
from semsearch.adapters.memory import MAX_KEYS_NEXT_TO_LEARNER, generalises, memorize
from semsearch.adapters.state import MAX_KEYS, DomainState
from semsearch.adapters.support import Support, build_support
from semsearch.domains.judgments import JudgedQuery
from semsearch.domains.lexical_weight import choose_lexical_weight, with_lexical_weight
from semsearch.errors import LabelError
from semsearch.search.engine import SearchEngine
from semsearch.types import LexicalWeight, Mode, Rows, Scores, Vectors

Encode = Callable[[str], Vectors]
"""A query's text → (1, dim) float32, encoded alone."""
Match = Callable[[str], tuple[Rows, Scores]]
"""A query's text → passage rows (n,) and BM25 scores (n,) > 0 that keyword search finds, best first."""
AdaptFunction = Callable[[SpectralBasis, Support, DomainState | None, Sequence[str] | None], Verdict]
"""`Weights.adapt`, in this process or in another one."""

REPLACEMENTS = 3
"""Documents that are memorized as answers of a query that has only negative judgments: the best of the unjudged."""


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """The outcome of adapting a domain to its labels."""

    state: DomainState | None
    """The state to serve the domain with; None: the parent's state, or none."""
    learner: str
    """The learner that made the state: `memory` where queries are only memorized, `none` without a state."""
    explanation: str
    """The reason, for users."""
    labels: int
    """Judged queries with a relevant document."""
    missing_documents: int = 0
    """Judgments on documents that the index does not have."""
    verdict: Verdict | None = None
    """The guard's; None where it was not asked."""

    def as_json(self) -> dict[str, JsonValue]:
        """For files and programs."""
        return {} if self.verdict is None else {**self.verdict.as_json(), "gone": self.missing_documents}


def adapt(
    engine: SearchEngine,
    solve: AdaptFunction | None,
    judged: Sequence[JudgedQuery],
    *,
    encode: Encode,
    match: Match | None = None,
    parent: DomainState | None = None,
) -> Adaptation:
    """Decide how to serve a domain, from its judged queries; the engine is not changed.

    The guard decides whether a learner is used. The judged queries themselves are memorized: next to what was learned,
    next to the parent's state, or alone. Of a document with several passages the one nearest to the query counts as
    the answer. In an index with hybrid search the lexical weight is chosen first, then the learner adapts the dense
    part to it. The same queries and judgments give the same state, bit for bit.

    solve: None where no weights were learned for this encoder. match: by default the engine's own. parent: the state
    that the inner loop starts from, and that is served with the memorized queries where the guard declines.

    Raises LabelError where a text is judged twice.
    """
    if len({query.text for query in judged}) < len(judged):
        raise LabelError("a query is judged twice: merge its judgments into one")
    evidence = _collect(engine, judged, encode, match or engine.match_label)
    decision = _decide(engine, solve, evidence, parent)
    state = None
    if evidence.judged and not decision.one_document:
        state = _memorize(engine, evidence, decision, parent)
    return Adaptation(
        state=state,
        learner="none" if state is None else decision.learner,
        explanation=decision.refusal if state is None else _explain(engine, solve, evidence, decision, parent),
        labels=len(evidence.answered),
        missing_documents=evidence.missing_documents,
        verdict=decision.verdict,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A judged query over an index's live passages; rows are places among these."""

    query: JudgedQuery
    vector: Vectors
    """(dim,) float32."""
    relevance: Mapping[int, float]
    """Passage row → relevance ≥ 0, for documents that the index has."""
    lexical_scores: Mapping[int, float] | None
    """Passage row → BM25 as a share of the query's best; None without hybrid search."""

    @property
    def answered(self) -> bool:
        """Whether a relevant document is in the index."""
        return any(self.relevance.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """Everything that a domain's judgments say about the index's live passages."""

    documents: Vectors
    """(N, dim) float32, the live passages."""
    judged: Sequence[_Judged]
    """Queries with a judgment on a document that the index has."""
    missing_documents: int

    @property
    def answered(self) -> list[_Judged]:
        """Those with a relevant document."""
        return [query for query in self.judged if query.answered]

    def support(self, queries: Sequence[_Judged]) -> Support:
        """The support set of some of the queries, at least one."""
        return build_support(
            self.documents,
            np.stack([query.vector for query in queries]),
            [query.relevance for query in queries],
            partially_judged=[query.query.partially_judged for query in queries],
            lexical_scores=(
                [query.lexical_scores or {} for query in queries] if queries[0].lexical_scores is not None else None
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Decision:
    """The lexical weight of a domain, and the guard's verdict."""

    lexical_weight: LexicalWeight
    verdict: Verdict | None
    """None where no query is answered, or no learner may be used."""

    @property
    def learner(self) -> str:
        return "memory" if self.verdict is None or self.verdict.candidate is None else self.verdict.candidate.learner

    @property
    def one_document(self) -> bool:
        """Whether one document is the answer to most queries: then they are not even memorized."""
        return self.verdict is not None and self.verdict.reason is Reason.ONE_DOCUMENT

    @property
    def refusal(self) -> str:
        return "Not adapted: no query is labelled." if self.verdict is None else self.verdict.explanation()

    def base_state(self, parent: DomainState | None) -> DomainState | None:
        """The state that judged queries are memorized next to."""
        return self.verdict.state if self.verdict is not None and self.verdict.adapted else parent


def _collect(engine: SearchEngine, judged: Sequence[JudgedQuery], encode: Encode, match: Match) -> _Evidence:
    """Look up vectors, judged passages and keyword matches of the judged queries."""
    live, documents = engine.corpus.live_passages()
    hybrid = engine.manifest.search.mode is Mode.HYBRID
    queries = []
    missing_documents = 0
    for query in judged:
        vector = encode(query.text)[0]
        lexical_scores = _lexical_shares(live, *match(query.text)) if hybrid else None
        relevance = _passage_relevance(engine, live, documents, query, vector)
        missing_documents += len(query.relevance) + len(query.negatives) - len(relevance)
        if relevance:
            queries.append(_Judged(query, vector, relevance, lexical_scores))
    return _Evidence(documents, queries, missing_documents)


def _lexical_shares(live: Rows, rows: Rows, scores: Scores) -> dict[int, float]:
    """BM25 scores by place among the live passages, as shares of the best one."""
    live_rows = np.searchsorted(live, rows)
    return dict(zip(live_rows.tolist(), (scores / scores.max(initial=1e-9)).tolist(), strict=True))


def _passage_relevance(
    engine: SearchEngine, live: Rows, documents: Vectors, query: JudgedQuery, vector: Vectors
) -> dict[int, float]:
    """A query's judgments by place among the live passages; those on missing documents are left out."""
    judgments: Mapping[str, float] = {**query.relevance, **dict.fromkeys(sorted(query.negatives), 0.0)}
    relevance: dict[int, float] = {}
    for doc_id, value in judgments.items():
        passages = np.searchsorted(live, engine.corpus.passage_rows(doc_id))
        if len(passages):
            relevance[int(passages[np.argmax(documents[passages] @ vector)])] = value
    return relevance


def _decide(
    engine: SearchEngine, solve: AdaptFunction | None, evidence: _Evidence, parent: DomainState | None
) -> _Decision:
    """Choose the lexical weight, and let the guard choose a learner for it."""
    usual = engine.lexical_weight(parent)
    if not evidence.answered:
        return _Decision(usual, None)
    support = evidence.support(evidence.answered)
    weight = choose_lexical_weight(support, usual)
    basis, learners = engine.adapter.basis, engine.manifest.adaptation.learners
    if solve is None or learners == ():
        return _Decision(weight, None)
    # memorized queries do not generalize: a learner starts only from a parent that learned more
    start = parent if parent is not None and generalises(parent) else None
    verdict = solve(basis, with_lexical_weight(support, weight), start, learners)
    if verdict.held_out is not None:
        # adapted vectors may make BM25 more useful, or less
        again = choose_lexical_weight(replace(support, queries=verdict.held_out), weight)
        if again != weight:
            return _Decision(again, solve(basis, with_lexical_weight(support, again), start, learners))
    return _Decision(weight, verdict)


def _memorize(
    engine: SearchEngine, evidence: _Evidence, decision: _Decision, parent: DomainState | None
) -> DomainState:
    """The state that serves the domain: the judged queries, next to what was learned or inherited."""
    queries = [
        query
        if query.answered
        else replace(query, relevance={**query.relevance, **_replacements(evidence.documents, query)})
        for query in evidence.judged
    ]
    support = with_lexical_weight(evidence.support(queries), decision.lexical_weight)
    with torch.no_grad():
        state = memorize(engine.adapter.basis, support, decision.base_state(parent))
    if decision.lexical_weight == engine.manifest.search.lexical_weight:
        return state
    assert decision.lexical_weight != "rrf"  # no domain chooses it
    return replace(state, lexical_weight=decision.lexical_weight)


def _replacements(documents: Vectors, query: _Judged) -> dict[int, float]:
    """The nearest passages that the query was not judged on, as its answers."""
    order = np.argsort(-(documents @ query.vector), kind="stable")
    best = order[: REPLACEMENTS + len(query.relevance)].tolist()
    return {row: 1.0 for row in best if row not in query.relevance}


def _explain(
    engine: SearchEngine,
    solve: AdaptFunction | None,
    evidence: _Evidence,
    decision: _Decision,
    parent: DomainState | None,
) -> str:
    """The explanation of a state, for users."""
    most = MAX_KEYS if decision.base_state(parent) is None else MAX_KEYS_NEXT_TO_LEARNER
    sentences = [_memorized(len(evidence.judged), most)]
    if parent is not None:
        sentences.append("The parent's adaptation is used as well.")
    if decision.verdict is not None and decision.verdict.adapted:
        sentences = [decision.verdict.explanation(), "The judged queries are memorized as well."]
    elif engine.manifest.adaptation.learners == ():
        sentences.append("The index asks for no learner.")
    elif solve is None:
        sentences.append("No learner is used: there are no weights for this encoder, see semsearch learn.")
    else:
        sentences.append(f"No learner is used: {decision.refusal.removeprefix('Not adapted: ')}")
    usual = engine.lexical_weight(parent)
    if decision.lexical_weight != usual:
        sentences.append(f"The lexical weight is {decision.lexical_weight} here instead of {usual}.")
    return " ".join(sentences)


def _memorized(judged: int, most: int) -> str:
    if judged == 1:
        return "Memorized 1 judged query. Only this query, and very similar ones, change."
    # of more than fit, those that are farthest from their answers are memorized
    number = f"{most} of {judged}" if judged > most else f"{judged}"
    return f"Memorized {number} judged queries. Only these, and very similar ones, change."
