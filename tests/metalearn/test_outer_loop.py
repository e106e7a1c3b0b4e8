"""The outer loop: it improves, repeats itself, and goes on where it stood."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from semsearch.errors import LabelError
from semsearch.metalearn.episodes import Dataset
from semsearch.metalearn.outer_loop import OuterLoopResult, OuterLoopSettings, Step, run_outer_loop, split_families
from tests.adapters.worlds import domain

FEW = OuterLoopSettings(learners=("listwise", "film_reptile"), steps=12, episodes=2, every=4)


def worlds(count: int = 4) -> list[Dataset]:
    return [domain(seed, name=f"w{seed}", family=f"f{seed}") for seed in range(count)]


def run(
    domains: Sequence[Dataset], settings: OuterLoopSettings, checkpoint: Path | None = None
) -> tuple[list[Step], OuterLoopResult]:
    *steps, learned = run_outer_loop(domains, settings, checkpoint=checkpoint)
    assert isinstance(learned, OuterLoopResult)
    return [step for step in steps if isinstance(step, Step)], learned


def same(one: OuterLoopResult, two: OuterLoopResult) -> bool:
    return all(
        torch.equal(value, two.meta_parameters[name][key])
        for name, start in one.meta_parameters.items()
        for key, value in start.items()
    )


def test_it_lowers_the_loss_on_families_it_does_not_train_on() -> None:
    settings = OuterLoopSettings(learners=("displacement", "listwise"), steps=24, episodes=4, every=6)
    steps, learned = run(worlds(6), settings)
    looks = [step.validation for step in steps if step.validation]
    for name in settings.learners:
        assert learned.validation[name] == min(look[name] for look in looks)
        assert learned.validation[name] < 0.97
    assert looks[-1]["listwise"] < looks[0]["listwise"]


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    one, two = run(worlds(), FEW)[1], run(worlds(), FEW)[1]
    other = run(worlds(), OuterLoopSettings(learners=FEW.learners, steps=12, episodes=2, every=4, seed=1))[1]
    assert same(one, two)
    assert not same(one, other)


def test_it_goes_on_where_it_stood(tmp_path: Path) -> None:
    whole_steps, whole = run(worlds(), FEW)
    events = run_outer_loop(worlds(), FEW, checkpoint=tmp_path / "notes")
    for event in events:
        if isinstance(event, Step) and event.number == 10:  # the last note was taken at 8
            break
    steps, resumed = run(worlds(), FEW, tmp_path / "notes")
    assert [step.number for step in steps] == [9, 10, 11, 12]
    assert [step.losses for step in steps] == [step.losses for step in whole_steps[8:]]
    assert same(whole, resumed)


def test_it_refuses_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    run(worlds(), FEW, tmp_path / "notes")
    with pytest.raises(LabelError, match="other settings or other domains"):
        run(worlds(3), FEW, tmp_path / "notes")
    (tmp_path / "notes").write_bytes(b"nothing")
    with pytest.raises(LabelError, match="cannot be read"):
        run(worlds(), FEW, tmp_path / "notes")


def test_it_stops_when_nothing_gets_better() -> None:
    settings = OuterLoopSettings(learners=("contraction",), steps=400, episodes=1, every=1, patience=2)
    steps, learned = run(worlds(), settings)
    assert learned.steps == len(steps) < 400


def test_families_are_held_out_whole() -> None:
    domains = [domain(seed, name=f"w{seed}", family=f"f{seed // 2}") for seed in range(10)]
    training, watched = split_families(domains, OuterLoopSettings())
    assert {one.family for one in training} & {one.family for one in watched} == set()
    assert len(training) + len(watched) == 10
    assert len(watched) == 2


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(LabelError, match="no domain"):
        next(run_outer_loop([], FEW))
    with pytest.raises(LabelError, match="different dimensions"):
        next(run_outer_loop([domain(0), domain(1, dimension=12)], FEW))
