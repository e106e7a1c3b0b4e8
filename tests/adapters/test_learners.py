"""The learners: gradients, closed forms, symmetries, and the reduction of their states."""

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
from semsearch.adapters.meta_parameters import scale_of, task_features
from semsearch.adapters.shrinkage import scatter, shrinkage
from semsearch.adapters.state import MAX_KEYS
from semsearch.adapters.states import State, kernel, transform
from semsearch.adapters.support import Support, build_support
from tests.adapters.worlds import domain, unit


def small(seed: int = 0, *, labels: int = 5) -> tuple[SpectralBasis, Support, Support]:
    """Basis, support and held-out queries, in float64."""
    world = domain(seed, dimension=6, documents=20, queries=labels + 4)
    labelled = world.support(np.arange(labels + 4), max_documents=20).to(torch.float64)
    return world.basis, labelled.select(torch.arange(labels)), labelled.select(torch.arange(labels, labels + 4))


def perturbed(name: str) -> dict[str, Tensor]:
    """Initial meta-parameters of a learner with noise, in float64."""
    torch.manual_seed(0)
    parameters = LEARNERS[name].init(6)
    return {key: (value.double() + 0.05 * torch.rand_like(value.double())) for key, value in parameters.items()}


@pytest.mark.parametrize("name", ["gains", "contraction", "displacement", "listwise", "film"])
def test_the_meta_gradient_is_right(name: str) -> None:
    basis, support, held_out = small()
    parameters = perturbed(name)

    def loss(*values: Tensor) -> Tensor:
        state = LEARNERS[name].learn(dict(zip(parameters, values, strict=True)), basis, support)
        axes = torch.from_numpy(basis.axes).double()
        return listwise_loss(transform(state, axes, held_out.queries), held_out, 0.1).mean()

    assert torch.autograd.gradcheck(loss, tuple(value.requires_grad_() for value in parameters.values()), atol=1e-6)


def test_first_order_maml_leaves_the_second_derivative_out() -> None:
    basis, support, _ = small()
    gradients = []
    for name in ("film", "film_first_order"):
        parameters = {key: value.requires_grad_() for key, value in perturbed("film").items()}
        LEARNERS[name].learn(parameters, basis, support).shift.sum().backward()  # type: ignore[no-untyped-call]
        assert parameters["shift"].grad is not None
        gradients.append(parameters["shift"].grad.clone())
    # without second derivatives, the derivative of the adapted shift by its initial value is 1
    torch.testing.assert_close(gradients[1], torch.ones(6, dtype=torch.float64))
    assert not torch.allclose(gradients[0], gradients[1])


def test_the_listwise_residual_is_the_negative_gradient_of_the_loss() -> None:
    _, support, _ = small()
    queries = support.queries.clone().requires_grad_()
    temperature = torch.tensor(0.2, dtype=torch.float64)
    listwise_loss(queries, support, temperature).sum().backward()  # type: ignore[no-untyped-call]
    assert queries.grad is not None
    torch.testing.assert_close(-queries.grad * 0.2, residuals(support.queries, support, temperature))


def test_gradient_descent_converges_to_the_closed_form() -> None:
    basis, support, _ = small(labels=6)
    parameters = {key: value.double() for key, value in LEARNERS["displacement"].init(6).items()}
    # with a very large prior the displacement is scaled by 1
    parameters |= {"log_prior": torch.tensor(40.0).double(), "log_ridge": torch.tensor(0.5).double().log()}
    parameters["log_gain"] = torch.zeros((), dtype=torch.float64)
    state = learn_displacement(parameters, basis, support)
    x, targets = (
        support.queries,
        residuals(support.queries, support, parameters["log_temperature"].exp() * scale_of(basis, support)),
    )
    matrix = torch.zeros((6, 6), dtype=torch.float64)
    for _ in range(4000):
        matrix = matrix - 0.05 * (x.T @ (x @ matrix - targets) + 0.5 * matrix)
    torch.testing.assert_close(state.keys.T @ state.values, matrix, atol=1e-9, rtol=1e-6)


def test_shrinkage_is_the_regularized_inverse_of_the_scatter() -> None:
    _, support, _ = small(labels=5)
    rows = shrinkage(torch.tensor(0.7, dtype=torch.float64), support)
    assert len(rows) == 3
    variances, axes = torch.linalg.eigh(torch.eye(6, dtype=torch.float64) + 0.7 * scatter(support))
    # the three axes of least scatter shrink by a common factor, which is left out
    factors = torch.cat((torch.ones(3, dtype=torch.float64), variances[:3].mean() / variances[3:]))
    shrunk = torch.eye(6, dtype=torch.float64) - rows.T @ rows
    torch.testing.assert_close(shrunk, axes @ torch.diag(factors) @ axes.T, atol=1e-3, rtol=1e-3)


def test_the_scatter_of_two_documents_by_hand() -> None:
    documents = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # the query is the unit mean: only the documents differ, by (1, -1) / sqrt(2) around their mean
    support = Support(torch.tensor([[0.5**0.5, 0.5**0.5]]), documents, torch.ones(1, 2), torch.zeros(2))
    torch.testing.assert_close(scatter(support), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))


@pytest.mark.parametrize("name", list(LEARNERS))
def test_permuting_the_support_set_changes_nothing(name: str) -> None:
    world, rng = domain(4), np.random.default_rng(0)
    parameters, rows = LEARNERS[name].init(24), np.arange(30)
    states = [
        LEARNERS[name].learn(parameters, world.basis, world.support(order, max_documents=100))
        for order in (rows, rng.permutation(rows))
    ]
    for field in State.__slots__:
        assert torch.equal(getattr(states[0], field), getattr(states[1], field))


def test_scaling_all_gains_changes_nothing() -> None:
    world = domain(4)
    axes, queries = torch.from_numpy(world.basis.axes), torch.from_numpy(world.queries)
    state = LEARNERS["listwise"].learn(
        LEARNERS["listwise"].init(24), world.basis, world.support(np.arange(20), max_documents=99)
    )
    state = replace(state, spectral_gains=torch.rand(24) + 0.5)
    torch.testing.assert_close(
        transform(state, axes, queries),
        transform(replace(state, spectral_gains=7 * state.spectral_gains), axes, queries),
    )


def test_spectral_gains_reduce_an_axis_of_noise() -> None:
    rng = np.random.default_rng(8)
    noisy = np.eye(24)[:, :1]
    documents = unit(rng.normal(size=(300, 24)) + 4 * rng.normal(size=(300, 1)) * noisy.T)
    queries = unit(
        documents[:80] * (1 - noisy.T) + 0.05 * rng.normal(size=(80, 24)) + 0.9 * rng.normal(size=(80, 1)) * noisy.T
    )
    labelled = build_support(documents, queries, [{row: 1.0} for row in range(80)])
    support, held_out = labelled.select(torch.arange(40)), labelled.select(torch.arange(40, 80))
    basis = SpectralBasis.from_vectors(documents)
    state = LEARNERS["gains"].learn(LEARNERS["gains"].init(24), basis, support)
    adapted = transform(state, torch.from_numpy(basis.axes), held_out.queries)
    assert float(state.spectral_gains[0]) < 0.8 * float(state.spectral_gains[1:].mean())
    assert float(support_ndcg(adapted, held_out).mean()) > float(support_ndcg(held_out.queries, held_out).mean()) + 0.02


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "gains"])
def test_each_learner_improves_ndcg_where_there_is_something_to_learn(name: str) -> None:
    world = domain(5)
    with torch.no_grad():
        support = world.support(np.arange(60), max_documents=200)
        state = LEARNERS[name].learn(LEARNERS[name].init(24), world.basis, support)
    held_out = world.support(np.arange(60, 160), max_documents=200)
    adapter = Adapter.from_states(world.basis, {"d": state.to_domain_state()})
    adapted = torch.from_numpy(adapter.transform(held_out.queries.numpy(), ["d"] * 100))
    assert float((support_ndcg(adapted, held_out) - support_ndcg(held_out.queries, held_out)).mean()) > 0.02


@pytest.mark.parametrize("name", ["displacement", "listwise"])
def test_a_reduced_state_approximates_the_full_one(name: str) -> None:
    world = domain(6, queries=400, dimension=384, documents=300)
    support = world.support(np.arange(200), max_documents=300)
    state = LEARNERS[name].learn(LEARNERS[name].init(384), world.basis, support)
    assert len(state.keys) == 200
    reduced = state.to_domain_state()
    assert len(reduced.keys) == MAX_KEYS
    queries = world.queries[200:]
    full = transform(state, torch.from_numpy(world.basis.axes), torch.from_numpy(queries)).numpy()
    served = Adapter.from_states(world.basis, {"d": reduced}).transform(queries, ["d"] * 200)
    distance = np.linalg.norm(full - queries, axis=1).mean()
    assert np.linalg.norm(full - served, axis=1).mean() < 0.35 * distance


def test_the_kernel_tends_to_the_cosine() -> None:
    cosine = torch.tensor([-0.3, 0.0, 0.5, 1.0])
    torch.testing.assert_close(kernel(cosine, torch.tensor(0.0)), cosine)
    torch.testing.assert_close(kernel(cosine, torch.tensor(1e-3)), cosine, atol=1e-3, rtol=0)


def test_task_features_are_bounded_on_a_corpus_of_equal_vectors() -> None:
    documents = unit(np.ones((3, 8)))
    support = build_support(documents, documents[:1], [{0: 1.0}])
    assert (task_features(SpectralBasis.from_vectors(documents), support).abs() <= 1.5).all()
