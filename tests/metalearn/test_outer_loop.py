"""The outer loop: it lowers the validation loss, is reproducible, and resumes from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from semsearch.errors import LabelError
from semsearch.metalearn.episodes import Dataset
from semsearch.metalearn.outer_loop import OuterLoopResult, OuterLoopSettings, Step, run_outer_loop, split_families
from tests.adapters.worlds import domain

BRIEF = OuterLoopSettings(learners=("listwise", "film_reptile"), steps=12, episodes=2, every=4)


def worlds(count: int = 4) -> list[Dataset]:
    return [domain(seed, name=f"w{seed}", family=f"f{seed}") for seed in range(count)]


def run(
    datasets: Sequence[Dataset], settings: OuterLoopSettings, checkpoint: Path | None = None
) -> tuple[list[Step], OuterLoopResult]:
    *steps, result = run_outer_loop(datasets, settings, checkpoint=checkpoint)
    assert isinstance(result, OuterLoopResult)
    return [step for step in steps if isinstance(step, Step)], result


def equal(first: OuterLoopResult, second: OuterLoopResult) -> bool:
    return all(
        torch.equal(value, second.meta_parameters[name][key])
        for name, parameters in first.meta_parameters.items()
        for key, value in parameters.items()
    )


def with_former_keys(checkpoint: Path) -> None:
    """Rewrite a checkpoint with the keys of semsearch 0.1."""
    with safe_open(checkpoint, framework="pt") as file:
        header = file.metadata()
        tensors = {name.replace("/context_slope_", "/tilt_"): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    assert any("/tilt_" in name for name in tensors)
    save_file(tensors, checkpoint, metadata=header)


def test_it_lowers_the_loss_on_families_it_does_not_train_on() -> None:
    settings = OuterLoopSettings(learners=("displacement", "listwise"), steps=24, episodes=4, every=6)
    steps, result = run(worlds(6), settings)
    validations = [step.validation for step in steps if step.validation]
    for name in settings.learners:
        assert result.validation[name] == min(validation[name] for validation in validations)
        assert result.validation[name] < 0.97
    assert validations[-1]["listwise"] < validations[0]["listwise"]


def test_the_result_is_reproducible_and_depends_on_the_seed() -> None:
    first, second = run(worlds(), BRIEF)[1], run(worlds(), BRIEF)[1]
    other = run(worlds(), OuterLoopSettings(learners=BRIEF.learners, steps=12, episodes=2, every=4, seed=1))[1]
    assert equal(first, second)
    assert not equal(first, other)


@pytest.mark.parametrize("former", [False, True], ids=["current", "former"])
def test_it_resumes_from_a_checkpoint(tmp_path: Path, former: bool) -> None:
    expected_steps, expected = run(worlds(), BRIEF)
    checkpoint = tmp_path / "checkpoint"
    for event in run_outer_loop(worlds(), BRIEF, checkpoint=checkpoint):
        if isinstance(event, Step) and event.number == 10:  # the last checkpoint was written at 8
            break
    if former:
        with_former_keys(checkpoint)
    steps, resumed = run(worlds(), BRIEF, checkpoint)
    assert [step.number for step in steps] == [9, 10, 11, 12]
    assert [step.losses for step in steps] == [step.losses for step in expected_steps[8:]]
    assert equal(expected, resumed)


def test_it_refuses_a_checkpoint_of_other_data_sets_and_other_files(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    run(worlds(), BRIEF, checkpoint)
    with pytest.raises(LabelError, match="other settings or data sets"):
        run(worlds(3), BRIEF, checkpoint)
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(LabelError, match="cannot be read"):
        run(worlds(), BRIEF, checkpoint)


def test_it_stops_without_improvement() -> None:
    settings = OuterLoopSettings(learners=("contraction",), steps=400, episodes=1, every=1, patience=2)
    steps, result = run(worlds(), settings)
    assert result.steps == len(steps) < 400


def test_a_family_is_not_split() -> None:
    datasets = [domain(seed, name=f"w{seed}", family=f"f{seed // 2}") for seed in range(10)]
    training, validating = split_families(datasets, OuterLoopSettings())
    assert {dataset.family for dataset in training} & {dataset.family for dataset in validating} == set()
    assert len(training) + len(validating) == 10
    assert len(validating) == 2


def test_no_data_sets_and_different_dimensions_are_errors() -> None:
    with pytest.raises(LabelError, match="no data set"):
        next(run_outer_loop([], BRIEF))
    with pytest.raises(LabelError, match="different dimensions"):
        next(run_outer_loop([domain(0), domain(1, dimension=12)], BRIEF))
