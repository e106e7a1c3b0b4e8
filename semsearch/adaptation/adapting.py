"""Adapts a domain of an opened index to its judged queries; knows nothing of how they were collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import JsonValue

from semsearch.adaptation.judged import JudgedQuery
from semsearch.basis import SpectralBasis
from semsearch.engine import SearchEngine
from semsearch.learning.guard import Reason, Verdict
from semsearch.learning.memory import remember
from semsearch.learning.support import Judgments, Support, gather
from semsearch.records import LabelError, Vectors
from semsearch.state import MAX_KEYS, DomainState

Encode = Callable[[str], Vectors]
"""A query's text → (1, dim) float32, encoded alone."""
Solve = Callable[[SpectralBasis, Support, DomainState | None], Verdict]
"""`Weights.adapt`, wherever it runs."""

INSTEAD = 3
"""Documents that take the place of those a query was judged not to be answered by, where nobody said what does."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a domain's labels led to."""

    state: DomainState | None
    """What the domain is to be served with; None: what it inherits, or nothing."""
    learner: str
    """What made the state, or `none`."""
    words: str
    """Why, for people."""
    labels: int
    """Judged queries."""
    gone: int = 0
    """Judgments on documents that the index does not have."""
    verdict: Verdict | None = None
    """Of the guard; None where it had nothing to judge."""

    def as_json(self) -> dict[str, JsonValue]:
        """For files and programs."""
        return {} if self.verdict is None else {**self.verdict.as_json(), "gone": self.gone}


def adapt(
    engine: SearchEngine,
    solve: Solve | None,
    judged: Sequence[JudgedQuery],
    *,
    encode: Encode,
    parent: DomainState | None = None,
) -> Outcome:
    """What to serve a domain with, from its judged queries, guarded; nothing of the engine changes.

    Of a document that was cut into passages the one nearest to the query counts as the answer. Where the guard finds
    too little to adapt by, and there is no parent, the judged queries alone are remembered. The same queries and
    judgments give the same state, bit for bit.

    solve: None where nothing was learned beforehand for this encoder. parent: the state that the inner loop starts
    from.

    Raises LabelError where a text is judged twice.
    """
    if len({query.text for query in judged}) < len(judged):
        raise LabelError("a query is judged twice: take its judgments together")
    documents = engine.vectors.all()
    found = [_rows(engine, documents, encode(query.text)[0], query) for query in judged]
    gone = sum(len(query.gains) + len(query.against) for query in judged) - sum(len(rows) for _, rows in found)
    answered = [(vector, rows) for vector, rows in found if any(gain > 0 for gain in rows.values())]
    verdict = None
    if answered and solve is not None:
        support = gather(documents, np.stack([vector for vector, _ in answered]), [rows for _, rows in answered])
        verdict = solve(engine.adapter.basis, support, parent)
        if verdict.candidate is not None:
            learner = verdict.candidate.member
            return Outcome(verdict.state, learner, verdict.words(), len(answered), gone, verdict)
    found = [(vector, rows) for vector, rows in found if rows]
    refusal = "Not adapted: no query is labelled." if verdict is None else verdict.words()
    if parent is not None or not found or (verdict is not None and verdict.reason is Reason.ONE_DOCUMENT):
        return Outcome(None, "none", refusal, len(answered), gone, verdict)
    kept = [
        (vector, rows if any(rows.values()) else {**rows, **_instead(documents, vector, rows)})
        for vector, rows in found
    ]
    with torch.no_grad():
        support = gather(documents, np.stack([vector for vector, _ in kept]), [rows for _, rows in kept])
        state = remember(support).compact()
    # more than fit a state: those that were farthest from their answers are kept
    number = f"{MAX_KEYS} of {len(kept)}" if len(kept) > MAX_KEYS else f"{len(kept)}"
    words = f"Remembered: {number} judged queries. Only they, and queries much like them, change."
    if len(kept) == 1:
        words = "Remembered: 1 judged query. Only it, and queries much like it, change."
    if solve is None:
        words = f"{words} Beyond that: nothing was learned beforehand for this encoder, see semsearch learn."
    if verdict is not None:
        words = f"{words} Beyond that: {verdict.words()[:1].lower()}{verdict.words()[1:]}"
    return Outcome(state, "memory", words, len(answered), gone, verdict)


def _rows(
    engine: SearchEngine, documents: Vectors, vector: Vectors, query: JudgedQuery
) -> tuple[Vectors, dict[int, float]]:
    """A query's vector and its judgments by passage row; those of documents that are gone are left out."""
    rows: dict[int, float] = {}
    judged: Mapping[str, float] = {**query.gains, **dict.fromkeys(sorted(query.against), 0.0)}
    for identity, gain in judged.items():
        passages = engine.documents.passage_rows(identity)
        if len(passages):
            rows[int(passages[np.argmax(documents[passages] @ vector)])] = gain
    return vector, rows


def _instead(documents: Vectors, vector: Vectors, rows: Judgments) -> dict[int, float]:
    """What a query finds first that it was not judged on."""
    order = np.argsort(-(documents @ vector), kind="stable")
    return {row: 1.0 for row in order[: INSTEAD + len(rows)].tolist() if row not in rows}
