"""Memory: judged queries find their answers, others stay, and what was learned beside it stays too."""

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


def found(state: DomainState, judged: Support, world_seed: int = 0) -> torch.Tensor:
    adapter = Adapter.from_states(domain(world_seed).basis, {"d": state})
    moved = adapter.transform(judged.queries.numpy(), ["d"] * len(judged))
    return support_ndcg(torch.from_numpy(moved), judged)


@pytest.mark.parametrize("labels", [1, 8, 40])
def test_judged_queries_find_their_answers_and_others_hardly_move(labels: int) -> None:
    world = domain(0)
    judged, others = world.support(np.arange(labels), most=500), world.support(np.arange(80, 160), most=500)
    state = memorize(world.basis, judged)
    assert float(found(state, judged).mean()) > 0.98
    before = support_ndcg(others.queries, others)
    assert abs(float((found(state, others) - before).mean())) < 0.03
    assert len(state.keys) == labels
    assert not generalises(state)


def test_beside_a_learner_both_hold() -> None:
    world = domain(0)
    judged, others = world.support(np.arange(60), most=500), world.support(np.arange(80, 160), most=500)
    # some were judged against what the others say: no learner that generalises follows them
    turned = judged.relevance.clone()
    turned[:10] = turned[:10].roll(37, dims=1)
    judged = replace(judged, relevance=turned)
    with torch.no_grad():
        learned = (
            LEARNERS["listwise"].learn(LEARNERS["listwise"].init(DIMENSION), world.basis, judged).to_domain_state()
        )
    both = memorize(world.basis, judged, learned)
    assert len(both.keys) <= MAX_KEYS
    assert (both.sharpness == 32).sum() == MAX_KEYS_NEXT_TO_LEARNER
    assert generalises(both)
    assert float(found(both, judged).mean()) > float(found(learned, judged).mean())
    assert float(found(both, others).mean()) == pytest.approx(float(found(learned, others).mean()), abs=0.02)


def test_without_labels_left_over_a_full_state_makes_room() -> None:
    world = domain(0, queries=300)
    judged = world.support(np.arange(200), most=500)
    with torch.no_grad():
        learned = (
            LEARNERS["listwise"].learn(LEARNERS["listwise"].init(DIMENSION), world.basis, judged).to_domain_state()
        )
    assert len(learned.keys) == MAX_KEYS
    assert len(memorize(world.basis, judged, learned).keys) == MAX_KEYS
    assert len(memorize(world.basis, judged).keys) == MAX_KEYS


def test_what_was_judged_comes_first_although_words_say_otherwise() -> None:
    world = domain(0)
    judged = world.support(np.arange(8), most=500)
    judged = replace(judged, lexical_scores=0.2 * (judged.relevance.roll(37, dims=1) > 0).float())
    assert float(support_ndcg(judged.queries, judged).mean()) < 0.8
    assert float(found(memorize(world.basis, judged), judged).mean()) > 0.98
