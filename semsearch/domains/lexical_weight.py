"""Chooses the lexical weight of a domain on its labelled queries.

The queries are ranked by vectors that were not adapted to their own labels. Does not depend on how terms are matched.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from semsearch.adapters.losses import scores_ndcg
from semsearch.adapters.support import Support
from semsearch.domains.model_selection import one_standard_error_rule
from semsearch.search.fusion import fuse
from semsearch.types import LexicalWeight

WEIGHTS = (0.0, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0)
"""Lexical weights to choose from: the cosine that a query's best lexical match is worth; 0 disables BM25."""
CAUTION = 1.5
"""Standard errors by which a weight must be better than the default."""
PENALTY = 0.2
"""nDCG@10 by which it must be better beyond that, divided by the number of labelled queries."""


def choose_lexical_weight(support: Support, default: LexicalWeight) -> LexicalWeight:
    """Return the weight that ranks the support set's queries best, or the default if none is better by a margin.

    support: its lexical scores are shares of each query's best match; None returns the default.
    """
    if support.lexical_scores is None:
        return default
    weights: list[LexicalWeight] = [default, *(weight for weight in WEIGHTS if weight != default)]
    dense, lexical = (support.queries @ support.documents.T).numpy(), support.lexical_scores.numpy()
    values = [
        scores_ndcg(torch.from_numpy(fuse(dense, lexical, weight)), support).double().numpy() for weight in weights
    ]
    return weights[one_standard_error_rule(np.stack(values, axis=1), caution=CAUTION, penalty=PENALTY)]


def with_lexical_weight(support: Support, weight: LexicalWeight) -> Support:
    """Return the support set with its lexical scores multiplied by the weight.

    For `rrf` it has no lexical scores: ranks cannot be added to a cosine.
    """
    if support.lexical_scores is None or weight == "rrf":
        return replace(support, lexical_scores=None)
    return replace(support, lexical_scores=support.lexical_scores * weight)
