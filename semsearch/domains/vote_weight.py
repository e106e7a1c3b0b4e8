"""Chooses what the votes of similar labelled queries count in a domain, on its labelled queries.

Each labelled query is ranked with the votes of all others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from semsearch.adapters.guard import caution
from semsearch.adapters.losses import scores_ndcg
from semsearch.adapters.support import Support
from semsearch.adapters.votes import held_out_votes
from semsearch.domains.model_selection import one_standard_error_rule

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.6)
"""Cosines that a vote of 1 may add, on the scale of all-MiniLM-L6-v2."""
MIN_LABELS = 16
"""Fewest labelled queries that votes are measured on."""
CAUTION = 1.0
"""Standard errors by which votes must be better than none."""
WEAK_BASELINE_CAUTION = 4.0
"""The same if answers are ranked no better than by chance, as with labels that are all wrong: every change then
improves. It rises as that of the guard does."""
PENALTY = 0.1
"""nDCG@10 by which they must be better beyond that, divided by the number of labelled queries."""


def choose_vote_weight(support: Support, adapted: Tensor, scale: float) -> float:
    """Return the weight of votes with which the support set's queries are ranked best; 0 if votes surely help not.

    support: its lexical scores are weighted. adapted: (n, dim) its queries as they are served, each adapted without its
    own label if labels are learned from. scale: the factor of `cosine_scale`; the result is in cosines of this encoder.
    """
    if len(support) < MIN_LABELS or support.has_one_answer:
        return 0.0
    votes = torch.from_numpy(held_out_votes(support.queries.float().numpy(), support.relevance.float().numpy(), scale))
    scores, weights = support.scores(adapted), [round(weight * scale, 4) for weight in WEIGHTS]
    ndcg = [scores_ndcg(scores + weight * votes.to(scores), support).double().numpy() for weight in weights]
    chance = support.chance_ndcg.double().numpy()
    required = caution(ndcg[0], chance, least=CAUTION, most=WEAK_BASELINE_CAUTION)
    return weights[one_standard_error_rule(np.stack(ndcg, axis=1), caution=required, penalty=PENALTY)]
