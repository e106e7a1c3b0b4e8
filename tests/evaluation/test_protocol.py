"""Evaluation from domains to rows, tables and plots, on worlds in which it is known who must win."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.weights import Weights
from semsearch.errors import InputError, LabelError
from semsearch.evaluation.baselines import words
from semsearch.evaluation.plots import draw
from semsearch.evaluation.protocol import BASELINES, METHODS, Measured, Plan, chosen_methods, evaluate
from semsearch.evaluation.report import Gain, save_json, save_markdown, summary
from semsearch.metalearn.outer_loop import OuterLoopSettings
from semsearch.metalearn.training import train
from tests.adapters.worlds import domain

PLAN = Plan(labels=(0, 8, 40), seeds=2, methods=chosen_methods(METHODS))


@pytest.fixture(scope="module")
def weights() -> Weights:
    worlds = [domain(seed, name=f"w{seed}", family=f"f{seed}", queries=90) for seed in range(30, 34)]
    *_, last = train(worlds, OuterLoopSettings(steps=4, episodes=1, learners=("listwise",)), about={}, trial_seeds=1)
    assert isinstance(last, Weights)
    return last


@pytest.fixture(scope="module")
def measured(weights: Weights) -> list[Measured]:
    worlds = [
        domain(0, name="dialect", family="one", queries=120),
        domain(1, name="plain", family="two", dialect=0.0, queries=120),
    ]
    return [one for results in evaluate(worlds, [weights], PLAN) for one in results]


@pytest.fixture(scope="module")
def lines(measured: list[Measured]) -> list[Gain]:
    return summary(measured)


def of(lines: list[Gain], method: str, labels: int, over: str = "frozen") -> Gain:
    [line] = [
        line
        for line in lines
        if (line.method, line.labels, line.over, line.measure) == (method, labels, over, "nDCG@10")
    ]
    return line


def test_every_method_is_measured_on_the_same_queries(measured: list[Measured]) -> None:
    assert len(measured) == 2 * 2 * 3 * len(PLAN.methods)
    for one in measured:
        assert {len(values) for values in one.values.values()} == {60}
        assert one.given == one.labels
        assert not one.seen


def test_without_labels_every_learner_is_the_frozen_encoder(measured: list[Measured], lines: list[Gain]) -> None:
    for method in set(PLAN.methods) - {"bm25", "fused", "frozen"}:
        assert (of(lines, method, 0).low, of(lines, method, 0).high) == (0.0, 0.0)
    zero = {one.method: one for one in measured if one.labels == 0 and one.seed == 0 and one.domain == "dialect"}
    np.testing.assert_array_equal(zero["semsearch"].values["nDCG@10"], zero["frozen"].values["nDCG@10"])


def test_adaptation_helps_where_it_can_and_is_left_where_it_cannot(lines: list[Gain]) -> None:
    guarded = of(lines, "semsearch", 40)
    assert guarded.low > 0.02
    assert guarded.worst > -0.01
    assert of(lines, "semsearch", 40, over="ridge").mean > 0


def test_members_and_baselines_move_the_ranking(lines: list[Gain]) -> None:
    for method in set(PLAN.methods) - {"frozen", "semsearch"}:
        assert of(lines, method, 40).mean != 0.0, method


def test_words_count_where_they_help(lines: list[Gain]) -> None:
    """In these worlds the texts are numbers that say nothing, so words must be left out."""
    assert of(lines, "hybrid", 40).mean == of(lines, "semsearch", 40).mean
    assert of(lines, "fused", 40).mean < 0


def test_rows_hold_what_programs_need(tmp_path: Path, measured: list[Measured], lines: list[Gain]) -> None:
    save_json(tmp_path / "deep" / "out.json", measured, lines, {"seeds": 2})
    content = json.loads((tmp_path / "deep" / "out.json").read_text())
    assert {"domain", "family", "method", "labels", "seed", "measure", "value", "queries"} <= set(content["rows"][0])
    assert len(content["rows"]) == 3 * len(measured)
    assert content["settings"] == {"seeds": 2}
    assert {"mean", "low", "high", "worst", "worst_domain"} <= set(content["table"][0])
    assert any(str(row.get("chosen")).startswith("contraction") for row in content["rows"])


def test_the_table_is_markdown(tmp_path: Path, lines: list[Gain]) -> None:
    table = save_markdown(tmp_path / "table.md", lines, (8, 40)).read_text().splitlines()
    assert table[:4] == ["nDCG@10 over frozen", "", "| | 8 labels | 40 labels |", "|---|---|---|"]
    assert sum(line.startswith("| semsearch | ") for line in table) == 3  # a line for each measure
    assert sum(line.startswith("| ridge | ") for line in table) == 5  # and one for semsearch and hybrid over it


def test_plots_are_drawn(tmp_path: Path, measured: list[Measured], lines: list[Gain]) -> None:
    paths = draw(tmp_path / "plots", measured, lines)
    assert sorted(path.name for path in paths) == ["chosen.png", "forest.png", "gain.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_processes_give_the_same_numbers(weights: Weights) -> None:
    plan = Plan(labels=(8,), seeds=1, methods=("frozen", "semsearch"))
    worlds = [domain(seed, name=f"w{seed}", queries=60) for seed in range(2)]
    alone = {one[0].domain: one for one in evaluate(worlds, [weights], plan)}
    for results in evaluate(worlds, [weights], plan, processes=2):
        for one, other in zip(results, alone[results[0].domain], strict=True):
            np.testing.assert_allclose(one.values["nDCG@10"], other.values["nDCG@10"], atol=1e-6)


def test_folds_are_measured_on_the_family_they_left_out(weights: Weights) -> None:
    def leaving_out(family: str) -> Weights:
        return Weights(
            weights.meta_parameters, weights.prior, {**weights.metadata, "left_out": [family]}, weights.candidates
        )

    plan = Plan(labels=(8,), seeds=1, methods=("frozen", "semsearch"))
    both = [leaving_out("f"), leaving_out("g")]
    assert len(list(evaluate([domain(0, family="g", queries=40)], both, plan))) == 1
    with pytest.raises(LabelError, match="none of 2 weights left out the family 'h'"):
        next(evaluate([domain(0, family="h", queries=40)], both, plan))


def test_a_family_the_weights_have_seen_is_marked(weights: Weights) -> None:
    plan = Plan(labels=(8,), seeds=1, methods=("frozen",))
    [[one]] = evaluate([domain(0, family="f30", queries=40)], [weights], plan)
    assert one.seen


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'magic'"):
        chosen_methods(["magic"])
    assert chosen_methods(["bm25"]) == ("frozen", "bm25")
    assert set(BASELINES) <= set(chosen_methods(METHODS))


def test_words_are_stemmed_and_unspaced_scripts_come_in_pairs() -> None:
    assert words("Cards, a card!") == ["card", "a", "card"]
    assert words("中文检索 x") == ["中文", "文检", "检索", "x"]
