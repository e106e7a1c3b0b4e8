"""Why a document stands where it stands: what meaning, adaptation and words add to its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from semsearch.server.runtime.service import SearchService
from semsearch.types import Mode, Parts, Query


@dataclass(frozen=True, slots=True)
class Explanation:
    """A document's score in its parts."""

    mode: Mode
    """What the search went by."""
    place: int
    """In the ranking, from 1."""
    of: int
    """Documents of the ranking that were looked at."""
    score: float
    meaning: float | None
    """Cosine of the query and the passage, as the encoder made them; None where meaning was not gone by."""
    adaptation: float | None
    """What the domain's adaptation adds to that."""
    words: float | None
    """What words add: the rest of the score; None where they do not add up, because ranks decide."""
    parts: Parts
    carried: Sequence[tuple[str, float]]
    """Words of the passage and what each added to the cosine, the most first; none where that is not known."""


def explain(
    service: SearchService, index: str | None, query: Query, identity: str, *, abandoned: Callable[[], bool]
) -> Explanation | None:
    """Why this document is found; None where it is not among the first `query.k`. Raises as `SearchService.search`."""
    engine, ranking, nearest = service.ranked(index, replace(query, compare=True), abandoned=abandoned)
    found = np.flatnonzero(np.isin(ranking.passages, engine.corpus.passage_rows(identity)))
    if not len(found):
        return None
    place = int(found[0])
    alone = ranking.at([place])
    [parts], score = alone.parts, float(alone.scores[0])
    meaning = None
    if nearest is not None and nearest.frozen is not None:
        meaning = float(engine.corpus.similarity(nearest.frozen.vector, alone.passages)[0])
    summed = ranking.mode is not Mode.HYBRID or ranking.weight != "rrf"
    carried = service.carried(engine, alone) if alone.vector is not None else None
    return Explanation(
        mode=ranking.mode,
        place=query.offset + place + 1,
        of=query.offset + len(ranking.passages),
        score=score,
        meaning=meaning,
        adaptation=None if meaning is None or parts.similarity is None else parts.similarity - meaning,
        words=score - (parts.similarity or 0.0) if summed else None,
        parts=parts,
        carried=carried[0] if carried else (),
    )
