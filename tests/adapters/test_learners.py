"""The learners: gradients, closed forms, symmetries, and that what is compacted is what was learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.displacement import learn_displacement
from semsearch.adapters.learners import LEARNERS
from semsearch.adapters.losses import listwise_loss, residuals, support_ndcg
from semsearch.adapters.meta_parameters import task_features
from semsearch.adapters.shrinkage import scatter, shrinkage
from semsearch.adapters.state import MAX_KEYS
from semsearch.adapters.states import State, kernel, transform
from semsearch.adapters.support import Support, build_support
from tests.adapters.worlds import domain, unit


def small(seed: int = 0, *, labels: int = 5) -> tuple[SpectralBasis, Support, Support]:
    """Basis, support and held-out queries, in float64."""
    world = domain(seed, dimension=6, documents=20, queries=labels + 4)
    whole = world.support(np.arange(labels + 4), most=20).to(torch.float64)
    return world.basis, whole.of(torch.arange(labels)), whole.of(torch.arange(labels, labels + 4))


def doubled(name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    begin = LEARNERS[name].init(6)
    return {key: (value.double() + 0.05 * torch.rand_like(value.double())) for key, value in begin.items()}


@pytest.mark.parametrize("name", ["gains", "contraction", "displacement", "listwise", "film"])
def test_the_meta_gradient_is_right(name: str) -> None:
    basis, support, held_out = small()
    start = doubled(name)

    def loss(*values: Tensor) -> Tensor:
        state = LEARNERS[name].learn(dict(zip(start, values, strict=True)), basis, support)
        axes = torch.from_numpy(basis.axes).double()
        return listwise_loss(transform(state, axes, held_out.queries), held_out, 0.1).mean()

    assert torch.autograd.gradcheck(loss, tuple(value.requires_grad_() for value in start.values()), atol=1e-6)


def test_first_order_maml_leaves_the_second_derivative_out() -> None:
    basis, support, _ = small()
    slopes = []
    for name in ("film", "film_first_order"):
        start = {key: value.requires_grad_() for key, value in doubled("film").items()}
        LEARNERS[name].learn(start, basis, support).shift.sum().backward()  # type: ignore[no-untyped-call]
        assert start["shift"].grad is not None
        slopes.append(start["shift"].grad.clone())
    # without second derivatives the adapted shift depends on its start as 1 : 1
    torch.testing.assert_close(slopes[1], torch.ones(6, dtype=torch.float64))
    assert not torch.allclose(slopes[0], slopes[1])


def test_the_listwise_residual_is_the_losss_downhill_direction() -> None:
    _, support, _ = small()
    queries = support.queries.clone().requires_grad_()
    temperature = torch.tensor(0.2, dtype=torch.float64)
    listwise_loss(queries, support, temperature).sum().backward()  # type: ignore[no-untyped-call]
    assert queries.grad is not None
    torch.testing.assert_close(-queries.grad * 0.2, residuals(support.queries, support, temperature))


def test_the_closed_form_is_where_gradient_descent_ends() -> None:
    basis, support, _ = small(labels=6)
    start = {key: value.double() for key, value in LEARNERS["displacement"].init(6).items()}
    # so heavy a prior that the gain is the learned one
    start |= {"log_prior": torch.tensor(40.0).double(), "log_ridge": torch.tensor(0.5).double().log()}
    start["log_gain"] = torch.zeros((), dtype=torch.float64)
    state = learn_displacement(start, basis, support)
    x, wanted = support.queries, residuals(support.queries, support, start["log_temperature"].exp())
    matrix = torch.zeros((6, 6), dtype=torch.float64)
    for _ in range(4000):
        matrix = matrix - 0.05 * (x.T @ (x @ matrix - wanted) + 0.5 * matrix)
    torch.testing.assert_close(state.keys.T @ state.values, matrix, atol=1e-9, rtol=1e-6)


def test_a_contraction_is_the_shrunk_inverse_of_the_scatter() -> None:
    _, support, _ = small(labels=5)
    rows = shrinkage(torch.tensor(0.7, dtype=torch.float64), support)
    shrunk = torch.eye(6, dtype=torch.float64) - rows.T @ rows
    inverse = torch.linalg.inv(torch.eye(6, dtype=torch.float64) + 0.7 * scatter(support))
    # with every axis kept nothing is left over to shrink alike
    torch.testing.assert_close(shrunk, inverse, atol=1e-8, rtol=1e-6)


def test_the_scatter_of_two_documents_by_hand() -> None:
    documents = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # the query is the unit mean: only the documents differ, by (1, -1) / sqrt(2) around their mean
    support = Support(torch.tensor([[0.5**0.5, 0.5**0.5]]), documents, torch.ones(1, 2), torch.zeros(2))
    torch.testing.assert_close(scatter(support), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))


@pytest.mark.parametrize("name", list(LEARNERS))
def test_permuting_the_support_set_changes_nothing(name: str) -> None:
    world, rng = domain(4), np.random.default_rng(0)
    start, rows = LEARNERS[name].init(24), np.arange(30)
    states = [
        LEARNERS[name].learn(start, world.basis, world.support(turn, most=100))
        for turn in (rows, rng.permutation(rows))
    ]
    for part in State.__slots__:
        assert torch.equal(getattr(states[0], part), getattr(states[1], part))


def test_scaling_all_gains_changes_nothing() -> None:
    world = domain(4)
    axes, queries = torch.from_numpy(world.basis.axes), torch.from_numpy(world.queries)
    state = LEARNERS["listwise"].learn(
        LEARNERS["listwise"].init(24), world.basis, world.support(np.arange(20), most=99)
    )
    state = replace(state, spectral_gains=torch.rand(24) + 0.5)
    torch.testing.assert_close(
        transform(state, axes, queries),
        transform(replace(state, spectral_gains=7 * state.spectral_gains), axes, queries),
    )


def test_gains_turn_down_an_axis_that_means_nothing() -> None:
    rng = np.random.default_rng(8)
    loud = np.eye(24)[:, :1]
    bodies = unit(rng.normal(size=(300, 24)) + 4 * rng.normal(size=(300, 1)) * loud.T)
    asked = unit(
        bodies[:80] * (1 - loud.T) + 0.05 * rng.normal(size=(80, 24)) + 0.9 * rng.normal(size=(80, 1)) * loud.T
    )
    support = build_support(bodies, asked, [{row: 1.0} for row in range(80)])
    taught, asked_of = support.of(torch.arange(40)), support.of(torch.arange(40, 80))
    basis = SpectralBasis.from_vectors(bodies)
    state = LEARNERS["gains"].learn(LEARNERS["gains"].init(24), basis, taught)
    moved = transform(state, torch.from_numpy(basis.axes), asked_of.queries)
    assert float(state.spectral_gains[0]) < 0.8 * float(state.spectral_gains[1:].mean())
    assert float(support_ndcg(moved, asked_of).mean()) > float(support_ndcg(asked_of.queries, asked_of).mean()) + 0.02


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "gains"])
def test_each_learner_helps_where_there_is_something_to_learn(name: str) -> None:
    world = domain(5)
    with torch.no_grad():
        state = LEARNERS[name].learn(LEARNERS[name].init(24), world.basis, world.support(np.arange(60), most=200))
    held_out = world.support(np.arange(60, 160), most=200)
    moved = torch.from_numpy(
        Adapter.from_states(world.basis, {"d": state.to_domain_state()}).transform(
            held_out.queries.numpy(), ["d"] * 100
        )
    )
    assert float((support_ndcg(moved, held_out) - support_ndcg(held_out.queries, held_out)).mean()) > 0.02


@pytest.mark.parametrize("name", ["displacement", "listwise"])
def test_a_compacted_state_moves_queries_as_the_whole_one(name: str) -> None:
    world = domain(6, queries=400, dimension=384, documents=300)
    state = LEARNERS[name].learn(LEARNERS[name].init(384), world.basis, world.support(np.arange(200), most=300))
    assert len(state.keys) == 200
    compact = state.to_domain_state()
    assert len(compact.keys) == MAX_KEYS
    queries = world.queries[200:]
    whole = transform(state, torch.from_numpy(world.basis.axes), torch.from_numpy(queries)).numpy()
    served = Adapter.from_states(world.basis, {"d": compact}).transform(queries, ["d"] * 200)
    way = np.linalg.norm(whole - queries, axis=1).mean()
    assert np.linalg.norm(whole - served, axis=1).mean() < 0.35 * way


def test_the_kernel_tends_to_the_cosine() -> None:
    near = torch.tensor([-0.3, 0.0, 0.5, 1.0])
    torch.testing.assert_close(kernel(near, torch.tensor(0.0)), near)
    torch.testing.assert_close(kernel(near, torch.tensor(1e-3)), near, atol=1e-3, rtol=0)


def test_the_context_stays_within_bounds_on_odd_corpora() -> None:
    one = unit(np.ones((3, 8)))
    support = build_support(one, one[:1], [{0: 1.0}])
    assert (task_features(SpectralBasis.from_vectors(one), support).abs() <= 1.5).all()
