"""Explains a document's rank: what encoder, adaptation, votes, late interaction and BM25 contribute to its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from semsearch.server.runtime.service import SearchService
from semsearch.types import Mode, Query, ScoreBreakdown


@dataclass(frozen=True, slots=True)
class Explanation:
    """The components of a document's score."""

    mode: Mode
    """Mode that the search used."""
    rank: int
    """From 1."""
    matching: int
    """Documents that the query's filter allows, as above the results."""
    score: float
    dense: float | None
    """Cosine of the frozen query vector and the passage, in [-1, 1]; None for keyword search."""
    adaptation: float | None
    """What the domain's adaptation adds to that cosine; None for keyword search."""
    votes: float | None
    """What similar labelled queries add that the document answered; None in a domain without votes."""
    tokens: float | None
    """What late interaction adds; None without it."""
    lexical: float | None
    """What BM25 adds: the rest of the score. None for reciprocal rank fusion, whose scores are not sums."""
    score_breakdown: ScoreBreakdown
    token_attributions: Sequence[tuple[str, float]]
    """Words of the passage and what each added to the cosine, largest first; empty if they are unknown."""


def explain(
    service: SearchService, index: str | None, query: Query, doc_id: str, *, abandoned: Callable[[], bool]
) -> Explanation | None:
    """Explain the document's rank; None if it is not among the first `query.k`. Raises as `SearchService.search`."""
    answer = service.search(index, [replace(query, compare=True)], abandoned=abandoned)
    [outcome], engine = answer.outcomes, answer.engine
    positions = np.flatnonzero(np.isin(outcome.page.passages, engine.corpus.passage_rows(doc_id)))
    if not len(positions):
        return None
    position = int(positions[0])
    page = outcome.page.select([position])
    [breakdown], score = page.breakdowns, float(page.scores[0])
    dense = None
    if outcome.dense is not None and outcome.dense.frozen is not None:
        dense = float(engine.corpus.cosine(outcome.dense.frozen.vector, page.passages)[0])
    adds_up = page.mode is not Mode.HYBRID or page.lexical_weight != "rrf"
    others = sum(part or 0.0 for part in (breakdown.similarity, breakdown.vote_boost, breakdown.token_boost))
    [attributions] = answer.stages.token_attributions([page])
    return Explanation(
        mode=page.mode,
        rank=query.offset + position + 1,
        matching=answer.matching,
        score=score,
        dense=dense,
        adaptation=None if dense is None or breakdown.similarity is None else breakdown.similarity - dense,
        votes=breakdown.vote_boost,
        tokens=breakdown.token_boost,
        lexical=score - others if adds_up else None,
        score_breakdown=breakdown,
        token_attributions=attributions[0] if attributions else (),
    )
