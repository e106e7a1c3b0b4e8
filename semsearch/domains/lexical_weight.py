"""How much words should count beside meaning, for one domain: a weight chosen on its labels.

Labelled queries are ranked as if the domain had learned nothing: what it learned has seen these very labels. Knows
nothing of how words are matched.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from semsearch.adapters.losses import scores_ndcg
from semsearch.adapters.support import Support
from semsearch.search.fusion import fuse
from semsearch.types import LexicalWeight

WEIGHTS = (0.0, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0)
"""Cosines that a query's best lexical match may be worth; 0 leaves words out."""
CAUTION = 1.5
"""Standard errors that a weight's gain must clear."""
CHARGE = 0.2
"""nDCG@10, divided by the number of labelled queries, that it must clear beyond that."""


def one_standard_error_rule(values: npt.NDArray[np.float64], usual: int = 0) -> int:
    """The column whose gain over the usual one is surest, or the usual one where none is sure.

    values: (n, ways) the measure of each labelled query under each way to rank.
    """
    n = len(values)
    if n < 2:
        return usual
    gains = values - values[:, usual, None]
    sure = gains.mean(axis=0) - CAUTION * gains.std(axis=0, ddof=1) / np.sqrt(n) - CHARGE / n
    sure[usual] = 0.0
    return int(np.argmax(sure))


def choose_lexical_weight(support: Support, usual: LexicalWeight) -> LexicalWeight:
    """The weight that surely helps the support set's queries most, or the usual one.

    support: its words in shares of each query's best match.
    """
    if support.lexical_scores is None:
        return usual
    ways: list[LexicalWeight] = [usual, *(weight for weight in WEIGHTS if weight != usual)]
    dense, words = (support.queries @ support.documents.T).numpy(), support.lexical_scores.numpy()
    values = [scores_ndcg(torch.from_numpy(fuse(dense, words, way)), support).double().numpy() for way in ways]
    return ways[one_standard_error_rule(np.stack(values, axis=1))]


def with_lexical_weight(support: Support, weight: LexicalWeight) -> Support:
    """The support set with words worth so much; without words where they count by ranks, to which nothing adds up."""
    if support.lexical_scores is None or weight == "rrf":
        return replace(support, lexical_scores=None)
    return replace(support, lexical_scores=support.lexical_scores * weight)
