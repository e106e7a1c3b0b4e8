"""Adapts a domain of an open index to its judged queries. Does not depend on how judgments were collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.memory import generalises, max_keys_next_to_learner, memorize
from semsearch.adapters.meta_parameters import scale_of
from semsearch.adapters.state import DomainState, key_rows
from semsearch.adapters.states import State, axes_of, transform
from semsearch.adapters.support import Support, build_support
from semsearch.adapters.verdict import Reason, Verdict
from semsearch.adapters.votes import Votes, held_out_votes
from semsearch.domains.judgments import JudgedQuery
from semsearch.domains.lexical_weight import choose_lexical_weight, with_lexical_weight
from semsearch.domains.token_weight import RankedQuery, choose_token_weight
from semsearch.domains.vote_weight import choose_vote_weight
from semsearch.encoders.encoder import EncodedQuery
from semsearch.errors import LabelError
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import FUSION_DEPTH, token_boosts_of
from semsearch.types import LexicalWeight, Mode, Rows, Scores, Vectors

Encode = Callable[[str], EncodedQuery]
"""A query's text → the query, encoded without other queries."""
Match = Callable[[str], tuple[Rows, Scores]]
"""A query's text → passage rows (n,) and BM25 scores (n,) > 0 of keyword search, best first."""
AdaptFunction = Callable[[SpectralBasis, Support, DomainState | None, Sequence[str] | None], Verdict]
"""`Weights.adapt`, in this process or another one: runs the inner loops and the guard on a support set."""

MAX_LABELS_WITH_TOKENS = 96
"""Most labelled queries from which a learner learns what cosines must add to late interaction too. With more, it does
better what late interaction does: docs/search.md has figures."""
REPLACEMENTS = 3
"""Documents that are memorized as relevant to a query with negative judgments only: its nearest unjudged ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """The outcome of adapting a domain to its labels."""

    state: DomainState | None
    """The state to serve the domain with; None: its parent's state, or none."""
    learner: str
    """The learner that made the state: `memory` if queries are only memorized, `none` without a state."""
    explanation: str
    """The reason, for users."""
    labels: int
    """Number of judged queries with a relevant document."""
    missing_documents: int = 0
    """Number of judgments on documents that the index does not have."""
    verdict: Verdict | None = None
    """The guard's verdict; None if the guard did not run."""

    def as_json(self) -> dict[str, JsonValue]:
        """Return the guard's verdict and the missing documents as a JSON object, empty without a verdict."""
        return {} if self.verdict is None else {**self.verdict.as_json(), "gone": self.missing_documents}


def adapt(
    engine: SearchEngine,
    adapt_support: AdaptFunction | None,
    judged: Sequence[JudgedQuery],
    *,
    encode: Encode,
    match: Match | None = None,
    parent: DomainState | None = None,
) -> Adaptation:
    """Compute the state to serve a domain with, from its judged queries; the engine is not changed.

    The guard decides whether a learner is used. The judged queries themselves are memorized: next to the learned state,
    next to the parent's state, or alone. A judgment on a document with several passages applies to the passage nearest
    to the query. For hybrid search the lexical weight is chosen first, then the learner adapts the dense part to it.
    The same queries and judgments give the same state, bit for bit.

    adapt_support: None if there are no weights for this encoder; queries are then memorized only.
    encode: encodes a query. match: searches a query by keywords; by default `engine.match_label`.
    parent: the state that the inner loop starts from, and that is kept next to the memorized queries if the guard
    declines.

    Raises LabelError if two judged queries have the same text.
    """
    if len({query.text for query in judged}) < len(judged):
        raise LabelError("a query is judged twice: merge its judgments into one")
    # batches of vectors, and so their last bits, do not depend on the order of the labels
    judged = sorted(judged, key=lambda query: query.text)
    evidence = _collect(engine, judged, encode, match or engine.match_label)
    decision = _decide(engine, adapt_support, evidence, parent)
    state = None
    if evidence.judged and not decision.one_document:
        state = _memorize(engine, evidence, decision, parent)
    return Adaptation(
        state=state,
        learner="none" if state is None else decision.learner,
        explanation=decision.refusal if state is None else _explain(engine, adapt_support, evidence, decision, parent),
        labels=len(evidence.answered),
        missing_documents=evidence.missing_documents,
        verdict=decision.verdict,
    )


class _LivePassages:
    """The passages of an index that are not deleted, as documents of a support set: row i is the i-th of them."""

    def __init__(self, engine: SearchEngine) -> None:
        self._corpus = engine.corpus
        self._ef_search = engine.manifest.search.ef_search
        self._rows = engine.corpus.live_rows
        self._of_document: dict[str, Rows] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def indices(self, rows: Rows) -> Rows:
        """The indices, (n,), of passages in these rows of the index."""
        return np.searchsorted(self._rows, rows)

    def of_document(self, doc_id: str) -> Rows:
        """The indices, (n,), of a document's passages, which are looked up once; empty if there is no such document."""
        indices = self._of_document.get(doc_id)
        if indices is None:
            indices = self._of_document[doc_id] = self.indices(self._corpus.passage_rows(doc_id))
        return indices

    def rows(self, indices: Rows) -> Rows:
        """The rows of the index, (n,), of passages."""
        return self._rows[indices]

    def vectors(self, indices: Rows) -> Vectors:
        return self._corpus.vectors(self._rows[indices])

    def nearest(self, queries: Vectors, k: int) -> Rows:
        _, rows = self._corpus.search_vectors(queries, k, ef_search=self._ef_search)
        return np.where(rows < 0, rows, self.indices(rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A judged query over an index's live passages; rows are indices into these."""

    query: JudgedQuery
    encoded: EncodedQuery
    relevance: Mapping[int, float]
    """Passage row → relevance ≥ 0, for documents that the index has."""
    lexical_scores: Mapping[int, float] | None
    """Passage row → BM25 as a share of the query's best score; None without hybrid search."""

    @property
    def vector(self) -> Vectors:
        """(dim,) float32."""
        return self.encoded.vector

    @property
    def answered(self) -> bool:
        """Whether the index has a relevant document."""
        return any(self.relevance.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """A domain's judgments over the index's live passages."""

    documents: _LivePassages
    judged: Sequence[_Judged]
    """Queries with a judgment on a document that the index has."""
    missing_documents: int
    """Number of judgments on documents that it does not have."""

    @property
    def answered(self) -> list[_Judged]:
        """The judged queries with a relevant document."""
        return [query for query in self.judged if query.answered]

    def support(self, queries: Sequence[_Judged]) -> Support:
        """Build the support set of some of the judged queries, at least one."""
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
    """The lexical weight of a domain, the guard's verdict, and votes."""

    lexical_weight: LexicalWeight
    verdict: Verdict | None
    """None if no query is answered, or no learner may be used."""
    votes: Votes | None = None
    """Those of the domain's own labels, else the parent's; None if there are none, or they would not help."""
    token_weight: float = 0.0
    """What late interaction counts; 0 also without it."""

    @property
    def learner(self) -> str:
        return "memory" if self.verdict is None or self.verdict.candidate is None else self.verdict.candidate.learner

    @property
    def one_document(self) -> bool:
        """Whether one document is relevant to most queries; they are then not even memorized."""
        return self.verdict is not None and self.verdict.reason is Reason.ONE_DOCUMENT

    @property
    def refusal(self) -> str:
        return "Not adapted: no query is labelled." if self.verdict is None else self.verdict.explanation()

    def max_keys(self, basis: SpectralBasis) -> int:
        """Most keys of the domain's state."""
        return key_rows(basis.dimension, with_votes=self.votes is not None)

    def base_state(self, parent: DomainState | None) -> DomainState | None:
        """The state that judged queries are memorized next to."""
        return self.verdict.state if self.verdict is not None and self.verdict.adapted else parent


def _collect(engine: SearchEngine, judged: Sequence[JudgedQuery], encode: Encode, match: Match) -> _Evidence:
    """Look up the vectors, judged passages and keyword matches of the judged queries."""
    documents = _LivePassages(engine)
    hybrid = engine.manifest.search.mode is Mode.HYBRID
    queries = []
    missing_documents = 0
    for query in judged:
        encoded = encode(query.text)
        lexical_scores = _lexical_shares(documents, *match(query.text)) if hybrid else None
        relevance = _passage_relevance(documents, query, encoded.vector)
        missing_documents += len(query.relevance) + len(query.negatives) - len(relevance)
        if relevance:
            queries.append(_Judged(query, encoded, relevance, lexical_scores))
    return _Evidence(documents, queries, missing_documents)


def _lexical_shares(documents: _LivePassages, rows: Rows, scores: Scores) -> dict[int, float]:
    """Return BM25 scores as shares of the best one, by index into the live passages."""
    return dict(zip(documents.indices(rows).tolist(), (scores / scores.max(initial=1e-9)).tolist(), strict=True))


def _passage_relevance(documents: _LivePassages, query: JudgedQuery, vector: Vectors) -> dict[int, float]:
    """Return a query's judgments by index into the live passages, without those on missing documents."""
    judgments: Mapping[str, float] = {**query.relevance, **dict.fromkeys(sorted(query.negatives), 0.0)}
    relevance: dict[int, float] = {}
    for doc_id, value in judgments.items():
        passages = documents.of_document(doc_id)
        if len(passages):
            relevance[int(passages[np.argmax(documents.vectors(passages) @ vector)])] = value
    return relevance


def _decide(
    engine: SearchEngine, adapt_support: AdaptFunction | None, evidence: _Evidence, parent: DomainState | None
) -> _Decision:
    """Choose the lexical weight, and let the guard choose a learner for it."""
    default_weight, inherited = engine.lexical_weight(parent), None if parent is None else parent.votes
    if not evidence.answered:
        return _Decision(default_weight, None, inherited, _default_token_weight(engine, default_weight, parent))
    support = evidence.support(evidence.answered)
    weight = choose_lexical_weight(support, default_weight)
    default_token_weight = _default_token_weight(engine, weight, parent)
    if engine.manifest.adaptation.learners == ():
        return _Decision(weight, None, inherited, default_token_weight)
    verdict = None

    def learn(weight: LexicalWeight) -> Verdict:
        assert adapt_support is not None
        # a state that only memorizes does not generalize, so a learner does not start from it
        base_state = parent if parent is not None and generalises(engine.adapter.basis, parent) else None
        if default_token_weight and len(support) <= MAX_LABELS_WITH_TOKENS:
            seen = _Decision(weight, None, token_weight=default_token_weight)
            scored = evidence.support(_with_added_scores(engine, evidence.documents, evidence.answered, seen, parent))
        else:
            scored = with_lexical_weight(support, weight)
        return adapt_support(engine.adapter.basis, scored, base_state, engine.manifest.adaptation.learners)

    if adapt_support is not None:
        verdict = learn(weight)
        if verdict.held_out is not None:
            # adapted vectors may make BM25 more useful, or less
            adapted_weight = choose_lexical_weight(replace(support, queries=verdict.held_out), weight)
            if adapted_weight != weight:
                weight = adapted_weight
                verdict = learn(weight)
    held_out = None if verdict is None else verdict.held_out
    if held_out is None:
        held_out = _transformed(engine, parent, support.queries)
    votes = _votes(engine, evidence, support, weight, held_out)
    decision = _Decision(weight, verdict, votes or inherited)
    if not _uses_tokens(engine, weight):
        return decision
    ranked = _rank_held_out(engine, evidence, decision, held_out, own_votes=votes)
    return replace(decision, token_weight=choose_token_weight(ranked, engine.token_weight(parent)))


def _transformed(engine: SearchEngine, state: DomainState | None, queries: Tensor) -> Tensor:
    """(n, dim) queries as a state transforms them."""
    if state is None:
        return queries
    return transform(State.from_domain_state(state, queries), axes_of(engine.adapter.basis, queries), queries)


def _votes(
    engine: SearchEngine,
    evidence: _Evidence,
    support: Support,
    lexical_weight: LexicalWeight,
    held_out: Tensor,
) -> Votes | None:
    """Return the votes of the answered queries, if they help.

    support: of these queries. held_out: (n, dim) they, each adapted without its label.
    """
    if _fuses_ranks(engine, lexical_weight):
        return None
    scale = scale_of(engine.adapter.basis, support)
    weight = choose_vote_weight(with_lexical_weight(support, lexical_weight), held_out, scale)
    if not weight:
        return None
    voters = evidence.answered
    known = engine.corpus.existing_ids(doc_id for voter in voters for doc_id in voter.query.relevance)
    answers = [
        [doc_id for doc_id, value in voter.query.relevance.items() if value > 0 and doc_id in known] for voter in voters
    ]
    return Votes.of(np.stack([voter.vector for voter in voters]), answers, weight, scale)


def _rank_held_out(
    engine: SearchEngine, evidence: _Evidence, decision: _Decision, held_out: Tensor, *, own_votes: Votes | None
) -> list[RankedQuery]:
    """Rank passages for each answered query without its label.

    held_out: (n, dim) the answered queries, sorted by their vectors, each adapted without its label. own_votes: those
    of the answered queries, if they vote.
    """
    vectors = np.stack([query.vector for query in evidence.answered])
    order = np.lexsort(vectors.T[::-1])
    answered = [evidence.answered[index] for index in order.tolist()]
    answers = np.array(sorted({row for query in answered for row, value in query.relevance.items() if value > 0}))
    boosts = np.zeros((len(answered), 0), np.float32)
    if own_votes is not None:
        # a query's own label must not vote for its answer
        of_query = [[query.relevance.get(row, 0.0) for row in answers.tolist()] for query in answered]
        relevance = np.array(of_query, np.float32)
        boosts = own_votes.weight * held_out_votes(vectors[order], relevance, own_votes.scale)
    ranked = []
    for query, vector, votes_for_query in zip(answered, held_out.float().numpy(), boosts, strict=True):
        inherited = decision.votes if own_votes is None else None
        added = _added_scores(evidence.documents, query, decision.lexical_weight, inherited)
        voted = np.flatnonzero(votes_for_query)
        for row, boost in zip(answers[voted].tolist(), votes_for_query[voted].tolist(), strict=True):
            added[row] = added.get(row, 0.0) + boost
        ranked.append(_rank(engine, evidence.documents, query, vector, added))
    return ranked


def _rank(
    engine: SearchEngine, documents: _LivePassages, query: _Judged, vector: Vectors, added: Mapping[int, float]
) -> RankedQuery:
    """Rank passages for a query as a search does. vector: (dim,) as it is served. added: to cosines, by passage."""
    [nearest] = documents.nearest(vector[np.newaxis], FUSION_DEPTH)
    candidates = np.union1d(nearest[nearest >= 0], np.array(list(added), np.int64))
    scores = documents.vectors(candidates) @ vector
    scores += np.array([added.get(row, 0.0) for row in candidates.tolist()], np.float32)
    assert query.encoded.tokens is not None
    boosts = token_boosts_of(query.encoded.tokens, documents.rows(candidates), scores, 1.0, engine.corpus)
    return RankedQuery(candidates, scores, boosts, query.relevance, query.query.partially_judged)


def _memorize(
    engine: SearchEngine, evidence: _Evidence, decision: _Decision, parent: DomainState | None
) -> DomainState:
    """Return the state that serves the domain: its memorized queries, next to the learned or the parent's state."""
    queries = [
        query
        if query.answered
        else replace(query, relevance={**query.relevance, **_replacements(evidence.documents, query)})
        for query in evidence.judged
    ]
    base_state = decision.base_state(parent)
    if _fuses_ranks(engine, decision.lexical_weight):
        support = with_lexical_weight(evidence.support(queries), decision.lexical_weight)
    else:
        # the displacement learns what all that is added to cosines leaves to be done
        support = evidence.support(_with_added_scores(engine, evidence.documents, queries, decision, base_state))
    with torch.no_grad():
        state = memorize(engine.adapter.basis, support, base_state, max_keys=decision.max_keys(engine.adapter.basis))
    state = replace(state, votes=decision.votes)
    uses_tokens = _uses_tokens(engine, decision.lexical_weight)
    if uses_tokens and decision.token_weight != engine.manifest.search.token_weight:
        state = replace(state, token_weight=decision.token_weight)
    if decision.lexical_weight == engine.manifest.lexical_weight:
        return state
    assert decision.lexical_weight != "rrf"  # it is never chosen for a domain
    return replace(state, lexical_weight=decision.lexical_weight)


def _fuses_ranks(engine: SearchEngine, lexical_weight: LexicalWeight) -> bool:
    """Whether results are fused by ranks, to which votes cannot be added."""
    return engine.manifest.search.mode is Mode.HYBRID and lexical_weight == "rrf"


def _uses_tokens(engine: SearchEngine, lexical_weight: LexicalWeight) -> bool:
    """Whether results are ranked by late interaction as well."""
    return engine.uses_tokens and engine.manifest.search.mode is Mode.HYBRID and lexical_weight != "rrf"


def _default_token_weight(engine: SearchEngine, weight: LexicalWeight, parent: DomainState | None) -> float:
    """What late interaction counts without labels; 0 also without it."""
    return engine.token_weight(parent) if _uses_tokens(engine, weight) else 0.0


def _with_added_scores(
    engine: SearchEngine,
    documents: _LivePassages,
    queries: Sequence[_Judged],
    decision: _Decision,
    base_state: DomainState | None,
) -> list[_Judged]:
    """Return the queries with all that is added to their cosines as lexical scores: those, votes, late interaction.

    base_state: what the queries are transformed with.
    """
    vectors = _transformed(engine, base_state, torch.from_numpy(np.stack([query.vector for query in queries])))
    scored = []
    for query, vector in zip(queries, vectors.float().numpy(), strict=True):
        added = _added_scores(documents, query, decision.lexical_weight, decision.votes)
        if decision.token_weight:
            ranked = _rank(engine, documents, query, vector, added)
            for row, boost in zip(ranked.candidates.tolist(), ranked.boosts.tolist(), strict=True):
                if boost:
                    added[row] = added.get(row, 0.0) + decision.token_weight * boost
        scored.append(replace(query, lexical_scores=added))
    return scored


def _added_scores(
    documents: _LivePassages, query: _Judged, weight: LexicalWeight, votes: Votes | None
) -> dict[int, float]:
    """Return what is added to a query's cosines by passage: weighted keyword scores and votes."""
    lexical = {} if query.lexical_scores is None or weight == "rrf" else query.lexical_scores
    scores = {row: float(weight) * share for row, share in lexical.items()}
    if votes is None:
        return scores
    for doc_id, share in zip(votes.doc_ids, votes.shares(query.vector).tolist(), strict=True):
        for row in documents.of_document(doc_id).tolist():
            scores[row] = scores.get(row, 0.0) + votes.weight * share
    return scores


def _replacements(documents: _LivePassages, query: _Judged) -> dict[int, float]:
    """Return the nearest passages without a judgment for the query, as relevant."""
    [best] = documents.nearest(query.vector[np.newaxis], REPLACEMENTS + len(query.relevance)).tolist()
    return {row: 1.0 for row in best if row >= 0 and row not in query.relevance}


def _explain(
    engine: SearchEngine,
    adapt_support: AdaptFunction | None,
    evidence: _Evidence,
    decision: _Decision,
    parent: DomainState | None,
) -> str:
    """Explain a state to users."""
    max_keys = decision.max_keys(engine.adapter.basis)
    if decision.base_state(parent) is not None:
        max_keys = max_keys_next_to_learner(max_keys)
    sentences = [_explain_memory(len(evidence.judged), max_keys)]
    if parent is not None:
        sentences.append("The parent's adaptation is used as well.")
    if decision.verdict is not None and decision.verdict.adapted:
        sentences = [decision.verdict.explanation(), "The judged queries are memorized as well."]
    elif engine.manifest.adaptation.learners == ():
        sentences.append("The index asks for no learner.")
    elif adapt_support is None:
        sentences.append("No learner is used: there are no weights for this encoder, see semsearch learn.")
    else:
        sentences.append(f"No learner is used: {decision.refusal.removeprefix('Not adapted: ')}")
    if decision.votes is not None:
        sentences.append(f"Documents that answered similar queries gain up to {decision.votes.weight}.")
    default_weight = engine.lexical_weight(parent)
    default_token_weight = engine.token_weight(parent)
    if _uses_tokens(engine, decision.lexical_weight) and decision.token_weight != default_token_weight:
        sentences.append(f"Comparing tokens counts {decision.token_weight:g} here instead of {default_token_weight:g}.")
    if decision.lexical_weight != default_weight:
        sentences.append(f"The lexical weight is {decision.lexical_weight} here instead of {default_weight}.")
    return " ".join(sentences)


def _explain_memory(judged: int, max_keys: int) -> str:
    if judged == 1:
        return "Memorized 1 judged query. Only this query, and very similar ones, change."
    number = f"{max_keys} of {judged}" if judged > max_keys else f"{judged}"
    return f"Memorized {number} judged queries. Only these, and very similar ones, change."
