"""Chooses what late interaction counts in a domain, on its labelled queries.

The queries are ranked as they are served, each adapted without its own label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semsearch.adapters.ndcg import DEPTH, ndcg
from semsearch.domains.model_selection import one_standard_error_rule
from semsearch.types import Rows, Scores

WEIGHTS = (0.0, 0.3, 1.0, 2.0, 4.0)
"""Weights to choose from, on the scale of all-MiniLM-L6-v2."""
CAUTION = 1.0
"""Standard errors by which a weight must be better than the default."""
PENALTY = 0.2
"""nDCG@10 by which it must be better beyond that, divided by the number of labelled queries."""


@dataclass(frozen=True, slots=True, eq=False)
class RankedQuery:
    """A labelled query, with the passages that it is answered from."""

    candidates: Rows
    """(n,) passages."""
    scores: Scores
    """(n,) float32, without late interaction."""
    boosts: Scores
    """(n,) float32 ≥ 0, what late interaction adds with a weight of 1."""
    relevance: Mapping[int, float]
    """Passage → relevance ≥ 0, of the judged ones."""
    partially_judged: bool
    """Whether the relevance of all others is unknown; they are then left out of the ranking."""

    def ndcg(self, weight: float) -> float:
        """Return nDCG@10 with a weight of late interaction."""
        ranked = self.candidates[np.argsort(-(self.scores + np.float32(weight) * self.boosts), kind="stable")].tolist()
        if self.partially_judged:
            ranked = [passage for passage in ranked if passage in self.relevance]
        found = [self.relevance.get(passage, 0.0) for passage in ranked[:DEPTH]]
        return float(ndcg(found, list(self.relevance.values())))


def choose_token_weight(queries: Sequence[RankedQuery], default: float) -> float:
    """Return the weight that ranks the queries best, or the default if none is better by a margin."""
    weights = [default, *(weight for weight in WEIGHTS if weight != default)]
    values = np.array([[query.ndcg(weight) for weight in weights] for query in queries])
    return weights[one_standard_error_rule(values, caution=CAUTION, penalty=PENALTY)]
