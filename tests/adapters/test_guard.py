"""The guard: it adapts domains that labels help, declines others, and explains its decision."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.candidates import Candidate
from semsearch.adapters.cross_validation import cross_validate
from semsearch.adapters.guard import caution, decide
from semsearch.adapters.learners import LEARNERS
from semsearch.adapters.losses import support_ndcg
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.prior import Prior, headroom, posterior
from semsearch.adapters.state import DomainState
from semsearch.adapters.states import axes_of, transform, with_parent
from semsearch.adapters.support import Support, build_support
from semsearch.adapters.verdict import Reason, Verdict
from semsearch.metalearn.guard_prior import Trial, fit_prior, run_trials
from semsearch.types import Vectors
from tests.adapters.worlds import DIMENSION, domain, unit

CANDIDATES = (Candidate("listwise", 0.0, 1.0), Candidate("listwise", 3.0, 1.0))


def meta_parameters() -> dict[str, MetaParameters]:
    return {"listwise": LEARNERS["listwise"].init(DIMENSION)}


@lru_cache
def prior() -> Prior:
    """Of six data sets, half of which have nothing to learn."""
    worlds = [
        domain(seed, name=f"w{seed}", family=f"f{seed}", dialect=1.0 if seed % 2 else 0.0) for seed in range(20, 26)
    ]
    return fit_prior(list(run_trials(CANDIDATES, meta_parameters(), worlds, seeds=1)))


def judge(support: Support, *, seed: int = 0, parent: DomainState | None = None) -> Verdict:
    return decide(CANDIDATES, meta_parameters(), prior(), domain(seed).basis, support, parent=parent)


@pytest.mark.parametrize("labels", [16, 32, 64])
def test_it_adapts_a_domain_that_labels_help(labels: int) -> None:
    world = domain(0)
    verdict = judge(world.support(np.arange(labels), max_documents=500))
    held_out = world.support(np.arange(80, 160), max_documents=500)
    adapter = Adapter.from_states(world.basis, {"d": verdict.state})
    adapted = torch.from_numpy(adapter.transform(held_out.queries.numpy(), ["d"] * 80))
    improvement = float((support_ndcg(adapted, held_out) - support_ndcg(held_out.queries, held_out)).mean())
    assert verdict.adapted
    assert verdict.reason is Reason.ADAPTED
    assert improvement > 0.01
    assert verdict.low < verdict.estimate < verdict.high
    assert "Adapted: expected +" in verdict.explanation()


@pytest.mark.parametrize("labels", [8, 32, 128])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_declines_random_labels(labels: int, seed: int) -> None:
    world, rng = domain(seed, queries=260), np.random.default_rng(seed)
    judgments = [{int(rng.integers(300)): 1.0} for _ in range(labels)]
    verdict = judge(build_support(world.documents, world.queries[:labels], judgments), seed=seed)
    assert not verdict.adapted
    assert verdict.reason is Reason.NO_IMPROVEMENT
    assert "Not adapted" in verdict.explanation()
    assert not verdict.state.keys.size


@pytest.mark.parametrize("labels", [32, 128])
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6])
def test_it_declines_random_marks_of_the_first_results(labels: int, seed: int) -> None:
    world, rng = domain(seed, queries=260), np.random.default_rng(seed)
    first = np.argsort(-world.queries[:labels] @ world.documents.T, axis=1)[:, :10]
    judgments = [
        {int(row): float(rng.random() < 0.4) for row in rows} | {int(rows[rng.integers(10)]): 1.0} for rows in first
    ]
    support = build_support(world.documents, world.queries[:labels], judgments, partially_judged=[True] * labels)
    # a random order of ten documents, some of which are marked, has a high nDCG@10
    assert float(support_ndcg(support.queries, support).mean()) > 0.5
    assert not judge(support, seed=seed).adapted


def test_caution_rises_from_the_weak_baseline_to_chance() -> None:
    before, chance = np.full(8, 0.8), np.full(8, 0.6)
    assert caution(before, np.zeros(8), least=1, most=3) == 1
    assert caution(before, chance, least=1, most=3) == 1
    assert caution(before, np.full(8, 0.8), least=1, most=3) == 3
    assert caution(before, np.full(8, 0.9), least=1, most=3) == 3
    assert caution(np.full(8, 0.03), np.zeros(8), least=1, most=3) == pytest.approx(2.6)
    assert caution(np.full(8, 0.63), chance, least=1, most=3) == pytest.approx(2.0)
    # of a single click that is the only judged document, nothing can be said
    assert caution(np.ones(8), np.ones(8), least=1, most=3) == 3


@pytest.mark.parametrize("labels", [8, 32, 128])
def test_it_declines_one_document_for_everything(labels: int) -> None:
    world = domain(4, queries=260)
    verdict = judge(build_support(world.documents, world.queries[:labels], [{7: 1.0}] * labels))
    assert verdict.reason is Reason.ONE_DOCUMENT
    assert not verdict.adapted


@pytest.mark.parametrize("labels", [8, 32, 128])
def test_it_declines_contradictions(labels: int) -> None:
    """Pairs of nearly equal queries have unrelated relevant documents."""
    world, rng = domain(5, queries=260), np.random.default_rng(5)
    half = world.queries[: labels // 2]
    near_duplicates = unit(half + 0.01 * rng.normal(size=half.shape))
    judgments = [{int(row): 1.0} for row in rng.choice(300, size=labels, replace=False)]
    verdict = judge(build_support(world.documents, np.concatenate([half, near_duplicates]), judgments), seed=5)
    assert not verdict.adapted


@pytest.mark.parametrize("labels", [1, 3])
def test_with_too_few_labels_the_parents_state_is_served(labels: int) -> None:
    world = domain(0)
    parent = judge(world.support(np.arange(64), max_documents=500)).state
    support = world.support(np.arange(labels), max_documents=500)
    verdict = judge(support, parent=parent)
    assert verdict.reason is Reason.TOO_FEW
    assert verdict.state is parent
    assert not judge(support).state.keys.size
    assert "at least 4 are needed" in verdict.explanation()


def test_a_domain_with_nothing_to_learn_is_not_adapted() -> None:
    world = domain(7, dialect=0.0)
    assert not judge(world.support(np.arange(32), max_documents=500), seed=7).adapted


def test_the_verdict_does_not_depend_on_the_order_of_labels() -> None:
    world, rows = domain(0), np.arange(32)
    verdicts = [judge(world.support(order, max_documents=500)) for order in (rows, rows[::-1].copy())]
    assert verdicts[0].estimate == verdicts[1].estimate
    assert verdicts[0].state.values.tobytes() == verdicts[1].state.values.tobytes()


def test_cross_validation_does_not_learn_from_the_measured_queries() -> None:
    """Unrelated labels, which can only be memorized, bring no improvement."""
    world, rng = domain(8), np.random.default_rng(8)
    documents = unit(rng.normal(size=(300, DIMENSION)))
    support = build_support(documents, world.queries[:40], [{row: 1.0} for row in range(40)])
    _, improvements, _ = cross_validate(CANDIDATES, meta_parameters(), world.basis, support)
    assert float(improvements.mean()) < 0.02


def test_the_posterior_of_one_candidate_by_hand() -> None:
    # headroom 1/2; improvement 0.2 of it, without variance
    # prior: mean 0, variance 0.04 (+2%), noise 16/(16 + 3)/4 of 0.16
    prior = Prior(np.array([4.0]), np.zeros((1, 1)), np.full((1, 1, 1), 0.04), np.full((1, 1, 1), 0.16))
    before = torch.full((4,), (0.5 * 5 - 0.6) / 4)
    assert headroom(before.double().numpy()) == pytest.approx(0.5)
    mean, deviation = posterior(prior, before, torch.full((4, 1), 0.1))
    between, error = 0.04 * 1.02, 0.16 * 16 / 19 / 4
    share = between / (between + error)
    assert mean[0] == pytest.approx(0.5 * 0.2 * share, rel=1e-5)
    assert deviation[0] == pytest.approx(0.5 * (between * (1 - share)) ** 0.5, rel=1e-5)


def test_the_prior_weights_families_equally() -> None:
    def trial(family: str, name: str, true: float) -> Trial:
        return Trial(name, family, 8, np.full(8, 0.4), np.zeros((8, 1)), np.array([true]))

    trials = [trial("large", f"d{number}", 0.1) for number in range(9)] + [trial("small", "s", 0.3)]
    scale = headroom(np.full(8, 0.4))
    assert fit_prior(trials).mean[0, 0] * scale == pytest.approx(0.2)


def test_the_prior_is_interpolated_between_sizes() -> None:
    sizes = np.array([8.0, 32.0])
    prior = Prior(sizes, np.array([[0.0], [1.0]]), np.ones((2, 1, 1)), np.ones((2, 1, 1)))
    assert [prior.interpolate(labels)[0][0] for labels in (4, 8, 16, 32, 500)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_childs_inner_loop_starts_from_its_parents_state_and_the_guard_falls_back_on_it() -> None:
    world = domain(0)
    parent = judge(world.support(np.arange(60), max_documents=500))
    assert parent.adapted
    support = world.support(np.arange(60, 76), max_documents=500)
    held_out = world.support(np.arange(80, 160), max_documents=500)

    def transformed(state: DomainState) -> Vectors:
        adapter = Adapter.from_states(world.basis, {"d": state})
        return adapter.transform(held_out.queries.numpy(), ["d"] * len(held_out))

    def ndcg(state: DomainState) -> float:
        return float(support_ndcg(torch.from_numpy(transformed(state)), held_out).mean())

    alone, child = judge(support), judge(support, parent=parent.state)
    assert ndcg(child.state) > ndcg(alone.state)
    assert ndcg(child.state) >= ndcg(parent.state) - 0.01
    assert child.before > alone.before
    few = judge(support.select(torch.arange(2)), parent=parent.state)
    assert few.state is parent.state
    assert not few.adapted
    # with a rate of almost 0 the inner loop ends where it starts, at the parent's displacement
    parameters = with_parent({**meta_parameters()["listwise"], "log_rate": torch.tensor(-50.0)}, parent.state)
    unchanged = LEARNERS["listwise"].learn(parameters, world.basis, support)
    axes = axes_of(world.basis, held_out.queries)
    queries = transform(unchanged, axes, held_out.queries).numpy()
    np.testing.assert_allclose(queries, transformed(parent.state), atol=2e-6)
