"""The scale of cosines: what is learned from the same corpus does not depend on how an encoder spreads its vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.cosine_scale import LEAST_CONTRAST, REFERENCE_CONTRAST, REFERENCE_SPREAD, cosine_scale
from semsearch.adapters.losses import support_ndcg
from semsearch.adapters.memory import generalises, memorize
from semsearch.adapters.meta_parameters import task_features
from semsearch.adapters.state import MAX_SHARPNESS, DomainState
from semsearch.adapters.states import State
from semsearch.adapters.support import Support
from semsearch.adapters.weights import Weights
from semsearch.metalearn.episodes import Dataset
from semsearch.types import Vectors, unit_rows
from tests.adapters.worlds import domain

COMMON = (0.0, 1.0, 3.0)
"""Length of a vector that is added to all texts, before they are normalised: their mean cosine is 0, 0.5 and 0.9."""


def narrowed(world: Dataset, common: float) -> Dataset:
    """The same texts by an encoder whose vectors all point in about one direction: one more coordinate is common."""

    def with_common(vectors: Vectors) -> Vectors:
        return unit_rows(np.hstack([vectors, np.full((len(vectors), 1), common, np.float32)]))

    return replace(world, documents=with_common(world.documents), queries=with_common(world.queries))


def improvement(world: Dataset, state: DomainState, others: Support) -> float:
    adapted = Adapter.from_states(world.basis, {"d": state}).transform(others.queries.numpy(), ["d"] * len(others))
    return float((support_ndcg(torch.from_numpy(adapted), others) - support_ndcg(others.queries, others)).mean())


def test_contrast_and_spread_are_those_of_the_cosines() -> None:
    world = domain(0)
    cosines = world.queries @ world.documents.T
    scale = cosine_scale(world.basis, world.queries)
    assert scale.background == pytest.approx(cosines.mean(), abs=1e-5)
    assert scale.contrast == pytest.approx(1 - cosines.mean(), abs=1e-5)
    shares = (1 - cosines.mean()) / REFERENCE_CONTRAST, cosines.std(axis=1).mean() / REFERENCE_SPREAD
    assert scale.factor == pytest.approx(min(shares), abs=1e-3)


@pytest.mark.parametrize("common", COMMON[1:])
def test_the_scale_follows_the_encoder(common: float) -> None:
    world = domain(0)
    plain = cosine_scale(world.basis, world.queries)
    other = narrowed(world, common)
    narrow = cosine_scale(other.basis, other.queries)
    # a common coordinate divides every difference of cosines by 1 + its square
    assert narrow.contrast == pytest.approx(plain.contrast / (1 + common**2), rel=1e-3)
    assert narrow.factor <= narrow.contrast / REFERENCE_CONTRAST + 1e-6


def test_documents_that_are_all_alike_leave_a_scale_above_0() -> None:
    vectors = np.eye(1, 8, dtype=np.float32).repeat(20, axis=0)
    same = replace(domain(0, dimension=8), documents=vectors, queries=vectors)
    scale = cosine_scale(same.basis, same.queries)
    assert scale.contrast == LEAST_CONTRAST
    assert scale.factor == LEAST_CONTRAST


@pytest.mark.parametrize("common", COMMON)
def test_task_features_hardly_depend_on_a_common_direction(common: float) -> None:
    world, other = domain(0), narrowed(domain(0), common)
    rows = np.arange(24)
    features = [task_features(each.basis, each.support(rows, max_documents=300)) for each in (world, other)]
    torch.testing.assert_close(features[0], features[1], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("common", COMMON)
def test_the_shipped_weights_adapt_an_encoder_whose_cosines_are_all_high(common: float) -> None:
    world = narrowed(domain(0), common)
    others = world.support(np.arange(80, 160), max_documents=300)
    verdict = Weights.open().adapt(world.basis, world.support(np.arange(40), max_documents=300))
    assert verdict.adapted
    assert improvement(world, verdict.state, others) > 0.08


@pytest.mark.parametrize("common", COMMON)
def test_memory_is_as_local_for_every_encoder(common: float) -> None:
    world = narrowed(domain(0), common)
    judged, others = (world.support(rows, max_documents=300) for rows in (np.arange(40), np.arange(80, 160)))
    state = memorize(world.basis, judged)
    assert not generalises(world.basis, state)
    assert (state.sharpness <= MAX_SHARPNESS).all()
    assert improvement(world, state, judged) > 0.1
    assert abs(improvement(world, state, others)) < 0.03


def test_memory_of_texts_that_are_hardly_told_apart_does_not_generalise() -> None:
    world = narrowed(domain(0), 12.0)
    state = memorize(world.basis, world.support(np.arange(12), max_documents=300))
    assert (state.sharpness == MAX_SHARPNESS).all()
    assert not generalises(world.basis, state)


def test_a_sharp_kernel_is_1_at_its_own_query_after_rounding() -> None:
    world = narrowed(domain(0), 3.0)
    judged = world.support(np.arange(12), max_documents=300)
    state = memorize(world.basis, judged)
    products = np.einsum("nd,nd->n", state.keys, judged.queries.numpy()[_same_order(state.keys, judged)])
    np.testing.assert_allclose(products, 1, atol=1e-5)


def _same_order(keys: Vectors, judged: Support) -> list[int]:
    return [int(row) for row in (keys @ judged.queries.numpy().T).argmax(axis=1)]


def test_more_common_direction_less_scale() -> None:
    factors = []
    for common in np.linspace(0, 4, 9):
        world = narrowed(domain(0), float(common))
        factors.append(cosine_scale(world.basis, world.queries).factor)
    assert spearmanr(factors, range(9)).statistic == pytest.approx(-1)


@pytest.mark.parametrize("max_keys", [1, 2, 5, 40])
def test_keys_of_many_sharpnesses_are_reduced_to_those_that_fit(max_keys: int) -> None:
    world = domain(0)
    state = State.from_domain_state(
        memorize(world.basis, world.support(np.arange(40), max_documents=300)), torch.zeros(1)
    )
    varied = replace(state, sharpness=torch.linspace(20, 30, len(state.keys)).round(decimals=0))
    assert len(varied.truncated(max_keys).keys) <= max_keys
    assert not len(varied.truncated(0).keys)


@pytest.mark.parametrize("common", COMMON)
def test_a_memory_of_earlier_versions_does_not_generalise(common: float) -> None:
    world = narrowed(domain(0), common)
    state = memorize(world.basis, world.support(np.arange(12), max_documents=300))
    former = replace(state, sharpness=np.full(len(state.keys), 32, np.float32))
    assert not generalises(world.basis, former)
    assert generalises(world.basis, replace(state, sharpness=np.full(len(state.keys), 2, np.float32)))
