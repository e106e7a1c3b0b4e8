"""Adapts a domain of an opened index to its labels; knows nothing of how they were collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semsearch.engine import SearchEngine
from semsearch.learning.guard import Verdict
from semsearch.learning.support import Judgments, gather
from semsearch.learning.weights import Weights
from semsearch.records import LabelError


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """What somebody asked, and which documents answer it."""

    text: str
    gains: Mapping[str, float]
    """Document id → gain > 0."""


def adapt(engine: SearchEngine, weights: Weights, judged: Sequence[JudgedQuery]) -> Verdict:
    """A domain's state from its judged queries, guarded; nothing of the engine changes.

    Of a document that was cut into passages the one nearest to the query counts as the answer. Judgments of one and
    the same text are taken together. Raises LabelError for a document that the index does not have, or no query.
    """
    together: dict[str, dict[str, float]] = {}
    for query in judged:
        together.setdefault(query.text, {}).update(query.gains)
    together = {text: gains for text, gains in together.items() if gains}
    if not together:
        raise LabelError("no query has a relevant document: give at least one judgment with a gain above 0")
    queries = engine.encoder.encode_queries(list(together))
    documents = engine.vectors.all()
    rows: list[Judgments] = []
    for vector, (text, gains) in zip(queries, together.items(), strict=True):
        answers: dict[int, float] = {}
        for identity, gain in gains.items():
            passages = engine.documents.passage_rows(identity)
            if not len(passages):
                raise LabelError(f"the query {text[:60]!r} is judged on {identity!r}, which the index does not have")
            answers[int(passages[np.argmax(documents[passages] @ vector)])] = gain
        rows.append(answers)
    return weights.adapt(engine.adapter.basis, gather(documents, queries, rows))
