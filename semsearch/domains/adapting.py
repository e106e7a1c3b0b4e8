"""Adapts a domain of an opened index to its judged queries; knows nothing of how they were collected."""

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
"""A query's text → passage rows (n,) and BM25 scores (n,) > 0 of what its words find, best first."""
AdaptFunction = Callable[[SpectralBasis, Support, DomainState | None, Sequence[str] | None], Verdict]
"""`Weights.adapt`, wherever it runs."""

REPLACEMENTS = 3
"""Documents that take the place of those a query was judged not to be answered by, where nobody said what does."""


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """What a domain's labels led to."""

    state: DomainState | None
    """What the domain is to be served with; None: what it inherits, or nothing."""
    learner: str
    """What made the state, or `none`."""
    explanation: str
    """Why, for people."""
    labels: int
    """Judged queries."""
    missing_documents: int = 0
    """Judgments on documents that the index does not have."""
    verdict: Verdict | None = None
    """Of the guard; None where it had nothing to judge."""

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
    """What to serve a domain with, from its judged queries, guarded; nothing of the engine changes.

    Of a document that was cut into passages the one nearest to the query counts as the answer. The judged queries
    themselves are remembered: beside what was learned, beside the parent's state, or alone. The same queries and
    judgments give the same state, bit for bit.

    Where the index is searched by meaning and words, both are learned for: first what words are worth to this domain,
    then what meaning must add to them.

    solve: None where nothing was learned beforehand for this encoder. match: by default the engine's own. parent: the
    state that the inner loop starts from, and that serves beside what is remembered where the guard declines.

    Raises LabelError where a text is judged twice.
    """
    if len({query.text for query in judged}) < len(judged):
        raise LabelError("a query is judged twice: take its judgments together")
    live, documents = engine.corpus.live_passages()
    match = match or engine.match_label
    hybrid = engine.manifest.search.mode is Mode.HYBRID
    found = [
        _Found(query, encode(query.text)[0], {}, _shares(live, *match(query.text)) if hybrid else None)
        for query in judged
    ]
    for one in found:
        one.rows.update(_rows(engine, live, documents, one))
    gone = sum(len(one.query.relevance) + len(one.query.negatives) - len(one.rows) for one in found)
    answered = [one for one in found if any(one.rows.values())]
    usual = weight = engine.lexical_weight(parent)
    learners = engine.manifest.adaptation.learners
    verdict = support = None
    if answered:
        support = _support(documents, answered)
        weight, verdict = _learned(engine, None if learners == () else solve, support, parent)
    found = [one for one in found if one.rows]
    learned = verdict is not None and verdict.adapted
    refusal = "Not adapted: no query is labelled." if verdict is None else verdict.explanation()
    if not found or (verdict is not None and verdict.reason is Reason.ONE_DOCUMENT):
        return Adaptation(None, "none", refusal, len(answered), gone, verdict)
    begun = verdict.state if verdict is not None and learned else parent
    kept = [
        one if any(one.rows.values()) else replace(one, rows={**one.rows, **_instead(documents, one)}) for one in found
    ]
    if support is None or len(kept) > len(answered):
        support = _support(documents, kept)
    with torch.no_grad():
        state = memorize(engine.adapter.basis, with_lexical_weight(support, weight), begun)
    if weight != engine.manifest.search.lexical_weight:
        assert weight != "rrf"  # which no domain chooses
        state = replace(state, lexical_weight=weight)
    learner = "memory"
    words = _remembered(len(kept), MAX_KEYS_NEXT_TO_LEARNER if begun is not None else MAX_KEYS)
    words = words if parent is None else f"{words} What is inherited serves beside."
    if verdict is not None and verdict.candidate is not None:
        learner = verdict.candidate.member
        words = f"{verdict.explanation()} What was judged is remembered beside."
    elif learners == ():
        words = f"{words} The index asks for no learner."
    elif solve is None:
        words = f"{words} Beyond that: nothing was learned beforehand for this encoder, see semsearch learn."
    else:
        words = f"{words} Beyond that: {refusal[:1].lower()}{refusal[1:]}"
    if weight != usual:
        words = f"{words} A query's words count {weight} here instead of {usual}."
    return Adaptation(state, learner, words, len(answered), gone, verdict)


def _learned(
    engine: SearchEngine, solve: AdaptFunction | None, support: Support, parent: DomainState | None
) -> tuple[LexicalWeight, Verdict | None]:
    """What words are worth to the domain, and what the guard decided on what meaning is to add to them."""
    weight = choose_lexical_weight(support, engine.lexical_weight(parent))
    if solve is None:
        return weight, None
    # nothing generalises from a memory: a learner starts from a parent that learned more
    start = parent if parent is not None and generalises(parent) else None
    basis, learners = engine.adapter.basis, engine.manifest.adaptation.learners
    verdict = solve(basis, with_lexical_weight(support, weight), start, learners)
    if verdict.held_out is not None:
        # what was learned may leave more for words to do, or less
        again = choose_lexical_weight(replace(support, queries=verdict.held_out), weight)
        if again != weight:
            return again, solve(basis, with_lexical_weight(support, again), start, learners)
    return weight, verdict


def _remembered(judged: int, most: int) -> str:
    if judged == 1:
        return "Remembered: 1 judged query. Only it, and queries much like it, change."
    # of more than fit, those that are farthest from their answers are kept
    number = f"{most} of {judged}" if judged > most else f"{judged}"
    return f"Remembered: {number} judged queries. Only they, and queries much like them, change."


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A judged query over an index's passages."""

    query: JudgedQuery
    vector: Vectors
    """(dim,) float32."""
    rows: dict[int, float]
    """Place among the passages that are there → gain ≥ 0; of documents that are there."""
    words: Mapping[int, float] | None
    """The same → how well its words fit, as a share of the best; None where words do not count."""


def _support(documents: Vectors, judged: Sequence[_Found]) -> Support:
    return build_support(
        documents,
        np.stack([one.vector for one in judged]),
        [one.rows for one in judged],
        partial=[one.query.partially_judged for one in judged],
        words=[one.words or {} for one in judged] if judged[0].words is not None else None,
    )


def _shares(live: Rows, rows: Rows, scores: Scores) -> dict[int, float]:
    places = np.searchsorted(live, rows)
    return dict(zip(places.tolist(), (scores / scores.max(initial=1e-9)).tolist(), strict=True))


def _rows(engine: SearchEngine, live: Rows, documents: Vectors, one: _Found) -> dict[int, float]:
    """The query's judgments by the place of a passage; those of documents that are gone are left out."""
    rows: dict[int, float] = {}
    judged: Mapping[str, float] = {**one.query.relevance, **dict.fromkeys(sorted(one.query.negatives), 0.0)}
    for identity, gain in judged.items():
        passages = np.searchsorted(live, engine.corpus.passage_rows(identity))
        if len(passages):
            rows[int(passages[np.argmax(documents[passages] @ one.vector)])] = gain
    return rows


def _instead(documents: Vectors, one: _Found) -> dict[int, float]:
    """What a query finds first that it was not judged on."""
    order = np.argsort(-(documents @ one.vector), kind="stable")
    return {row: 1.0 for row in order[: REPLACEMENTS + len(one.rows)].tolist() if row not in one.rows}
