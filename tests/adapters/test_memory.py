"""Memory: judged queries find their documents, others hardly change, and a learner's state is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.learners import LEARNERS
from semsearch.adapters.losses import support_ndcg
from semsearch.adapters.memory import MAX_KEYS_NEXT_TO_LEARNER, generalises, memorize
from semsearch.adapters.state import MAX_KEYS, DomainState
from semsearch.adapters.support import Support
from tests.adapters.worlds import DIMENSION, domain


def adapted_ndcg(state: DomainState, judged: Support, world_seed: int = 0) -> torch.Tensor:
    adapter = Adapter.from_states(domain(world_seed).basis, {"d": state})
    adapted = adapter.transform(judged.queries.numpy(), ["d"] * len(judged))
    return support_ndcg(torch.from_numpy(adapted), judged)


@pytest.mark.parametrize("labels", [1, 8, 40])
def test_judged_queries_find_their_documents_and_others_hardly_change(labels: int) -> None:
    world = domain(0)
    judged = world.support(np.arange(labels), max_documents=500)
    others = world.support(np.arange(80, 160), max_documents=500)
    state = memorize(world.basis, judged)
    assert float(adapted_ndcg(state, judged).mean()) > 0.98
    before = support_ndcg(others.queries, others)
    assert abs(float((adapted_ndcg(state, others) - before).mean())) < 0.03
    assert len(state.keys) == labels
    assert not generalises(world.basis, state)


def test_a_clicked_document_comes_first_though_no_other_is_judged() -> None:
    world = domain(0)
    judged = world.support(np.arange(20), max_documents=500)
    clicked = replace(judged, unjudged=judged.relevance == 0)
    state = memorize(world.basis, clicked)
    assert float(support_ndcg(judged.queries, judged).mean()) < 0.85
    assert float(adapted_ndcg(state, judged).mean()) > 0.95


def test_next_to_a_learner_both_are_in_effect() -> None:
    world = domain(0)
    judged = world.support(np.arange(60), max_documents=500)
    others = world.support(np.arange(80, 160), max_documents=500)
    # the judgments of some queries contradict the others, so that a learner that generalises does not follow them
    relevance = judged.relevance.clone()
    relevance[:10] = relevance[:10].roll(37, dims=1)
    judged = replace(judged, relevance=relevance)
    with torch.no_grad():
        learned = (
            LEARNERS["listwise"].learn(LEARNERS["listwise"].init(DIMENSION), world.basis, judged).to_domain_state()
        )
    both = memorize(world.basis, judged, learned)
    assert len(both.keys) <= MAX_KEYS
    assert (both.sharpness > 10).sum() == MAX_KEYS_NEXT_TO_LEARNER
    assert generalises(world.basis, both)
    assert float(adapted_ndcg(both, judged).mean()) > float(adapted_ndcg(learned, judged).mean())
    assert float(adapted_ndcg(both, others).mean()) == pytest.approx(
        float(adapted_ndcg(learned, others).mean()), abs=0.02
    )


def test_a_full_state_is_reduced_for_memorized_queries() -> None:
    world = domain(0, queries=300)
    judged = world.support(np.arange(200), max_documents=500)
    with torch.no_grad():
        learned = (
            LEARNERS["listwise"].learn(LEARNERS["listwise"].init(DIMENSION), world.basis, judged).to_domain_state()
        )
    assert len(learned.keys) == MAX_KEYS
    assert len(memorize(world.basis, judged, learned).keys) == MAX_KEYS
    assert len(memorize(world.basis, judged).keys) == MAX_KEYS


def test_judged_documents_come_first_against_lexical_scores() -> None:
    world = domain(0)
    judged = world.support(np.arange(8), max_documents=500)
    judged = replace(judged, lexical_scores=0.2 * (judged.relevance.roll(37, dims=1) > 0).float())
    assert float(support_ndcg(judged.queries, judged).mean()) < 0.8
    assert float(adapted_ndcg(memorize(world.basis, judged), judged).mean()) > 0.98
