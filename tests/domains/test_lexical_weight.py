"""The lexical weight of a domain changes only with enough evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from semsearch.domains.lexical_weight import CAUTION, PENALTY, WEIGHTS, choose_lexical_weight, with_lexical_weight
from semsearch.domains.model_selection import one_standard_error_rule
from tests.adapters.worlds import domain


def choose(values: np.ndarray, baseline: int = 0) -> int:
    return one_standard_error_rule(values, baseline, caution=CAUTION, penalty=PENALTY)


@pytest.mark.parametrize(("labels", "expected"), [(1, 0.1), (3, 0.1), (8, 0.4), (40, 0.4)])
def test_a_weight_that_is_better_for_every_query_is_chosen_with_enough_labels(labels: int, expected: float) -> None:
    values = np.full((labels, len(WEIGHTS)), 0.5)
    values[:, WEIGHTS.index(0.4)] += 0.06
    assert WEIGHTS[choose(values, WEIGHTS.index(0.1))] == expected


def test_a_weight_that_is_better_by_chance_is_rarely_chosen() -> None:
    rng = np.random.default_rng(0)
    chosen = [choose(rng.normal(0.5, 0.2, size=(16, len(WEIGHTS)))) for _ in range(100)]
    assert sum(column > 0 for column in chosen) < 40


def test_the_weight_follows_how_well_lexical_scores_match_the_labels() -> None:
    support = domain(0).support(np.arange(40), max_documents=500)
    assert choose_lexical_weight(support, 0.2) == 0.2
    right = (support.relevance > 0).float()
    wrong = right.roll(1, dims=1) * (1 - right)
    assert choose_lexical_weight(replace(support, lexical_scores=right), 0.03) in WEIGHTS[WEIGHTS.index(0.2) :]
    assert choose_lexical_weight(replace(support, lexical_scores=wrong), 1.6) in WEIGHTS[:4]
    assert choose_lexical_weight(replace(support, lexical_scores=wrong), "rrf") != "rrf"
    noise = torch.rand(support.relevance.shape, generator=torch.Generator().manual_seed(0))
    assert choose_lexical_weight(replace(support, lexical_scores=noise), 0.0) == 0.0


def test_a_weight_scales_lexical_scores_and_rank_fusion_has_none() -> None:
    support = domain(0).support(np.arange(4), max_documents=500)
    with_scores = replace(support, lexical_scores=torch.ones_like(support.relevance))
    assert torch.equal(with_lexical_weight(with_scores, 0.4).lexical_scores, with_scores.lexical_scores * 0.4)  # type: ignore[arg-type, operator]
    assert with_lexical_weight(with_scores, "rrf").lexical_scores is None
    assert with_lexical_weight(support, 0.4).lexical_scores is None
