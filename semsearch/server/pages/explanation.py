"""Why a document stands where it stands: what meaning, adaptation and words add to its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from semsearch.server.runtime.service import SearchService
from semsearch.types import Mode, Query, ScoreBreakdown


@dataclass(frozen=True, slots=True)
class Explanation:
    """A document's score in its parts."""

    mode: Mode
    """How the search was done."""
    rank: int
    """In the ranking, from 1."""
    of: int
    """Documents of the ranking that were looked at."""
    score: float
    dense: float | None
    """Cosine of the query and the passage, as the encoder made them; None for keyword search."""
    adaptation: float | None
    """What the domain's adaptation adds to that."""
    lexical: float | None
    """What words add: the rest of the score; None where they do not add up, because ranks decide."""
    score_breakdown: ScoreBreakdown
    token_attributions: Sequence[tuple[str, float]]
    """Words of the passage and what each added to the cosine, the most first; none where that is not known."""


def explain(
    service: SearchService, index: str | None, query: Query, doc_id: str, *, abandoned: Callable[[], bool]
) -> Explanation | None:
    """Why a document is found; None where it is not among the first `query.k`. Raises as `SearchService.search`."""
    found = service.search(index, [replace(query, compare=True)], abandoned=abandoned)
    [outcome], engine = found.outcomes, found.engine
    rows = np.flatnonzero(np.isin(outcome.page.passages, engine.corpus.passage_rows(doc_id)))
    if not len(rows):
        return None
    place = int(rows[0])
    page = outcome.page.select([place])
    [breakdown], score = page.breakdowns, float(page.scores[0])
    dense = None
    if outcome.dense is not None and outcome.dense.frozen is not None:
        dense = float(engine.corpus.cosine(outcome.dense.frozen.vector, page.passages)[0])
    adds_up = page.mode is not Mode.HYBRID or page.lexical_weight != "rrf"
    [attributions] = service.token_attributions(engine, [page], abandoned=abandoned)
    return Explanation(
        mode=page.mode,
        rank=query.offset + place + 1,
        of=query.offset + len(outcome.page.passages),
        score=score,
        dense=dense,
        adaptation=None if dense is None or breakdown.similarity is None else breakdown.similarity - dense,
        lexical=score - (breakdown.similarity or 0.0) if adds_up else None,
        score_breakdown=breakdown,
        token_attributions=attributions[0] if attributions else (),
    )
