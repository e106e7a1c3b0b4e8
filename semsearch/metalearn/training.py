"""Learns weights from labelled data sets: the outer loop, then the guard's prior, with a checkpoint for each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from semsearch.adapters.candidates import CANDIDATES
from semsearch.adapters.weights import Weights
from semsearch.errors import LabelError
from semsearch.metalearn.episodes import Dataset
from semsearch.metalearn.guard_prior import SIZES, Trial, fit_prior, run_trials
from semsearch.metalearn.outer_loop import OuterLoopResult, OuterLoopSettings, Step, run_outer_loop
from semsearch.system.files import atomic_write

OUTER_LOOP = "outer-loop.safetensors"
"""File of the outer loop in a checkpoint."""
_TRIAL_ARRAYS = ("frozen", "seen", "true")
"""Fields of Trial that are arrays."""


@dataclass(frozen=True, slots=True)
class GuardTrial:
    """Progress: the guard's candidates were tried on a data set."""

    dataset: str
    number: int
    """From 1."""
    total: int


def train(
    datasets: Sequence[Dataset],
    settings: OuterLoopSettings,
    *,
    about: Mapping[str, JsonValue],
    left_out: Sequence[str] = (),
    checkpoint: Path | None = None,
    trial_seeds: int = 3,
) -> Iterator[Step | GuardTrial | Weights]:
    """Learn weights. Yields a Step for each step of the outer loop, a GuardTrial for each data set, then the Weights.

    about: entries of the weights' metadata, in addition to data sets and settings.
    left_out: families that are not learned from.
    checkpoint: a folder that progress is saved in and resumed from.
    trial_seeds: random halvings of each data set for the guard's prior.

    Raises LabelError if no labelled data set is left, or the checkpoint belongs to other settings or data sets.
    """
    used = [dataset for dataset in datasets if dataset.family not in set(left_out)]
    labelled = [dataset for dataset in used if dataset.texts.labelled]
    if not labelled:
        raise LabelError("no labelled data set is left to learn from: the guard's prior needs judged queries")
    if checkpoint is not None:
        checkpoint.mkdir(parents=True, exist_ok=True)
    result = None
    for event in run_outer_loop(used, settings, checkpoint=checkpoint / OUTER_LOOP if checkpoint else None):
        if isinstance(event, OuterLoopResult):
            result = event
        else:
            yield event
    assert result is not None
    trials: list[Trial] = []
    identity = json.dumps([asdict(settings), sorted(dataset.name for dataset in used), trial_seeds])
    for number, dataset in enumerate(labelled, start=1):
        path = checkpoint / f"trials-{dataset.name}.json" if checkpoint else None
        dataset_trials = _load_trials(path, identity) if path else None
        if dataset_trials is None:
            dataset_trials = list(run_trials(CANDIDATES, result.meta_parameters, [dataset], seeds=trial_seeds))
            if path:
                _save_trials(path, identity, dataset_trials)
        trials += dataset_trials
        yield GuardTrial(dataset.name, number, len(labelled))
    yield Weights.of(
        result.meta_parameters,
        fit_prior(trials),
        {
            **about,
            "dimension": labelled[0].documents.shape[1],
            "domains": list[JsonValue](dataset.name for dataset in used),
            "families": list[JsonValue](sorted({dataset.family for dataset in used})),
            "left_out": list[JsonValue](sorted(left_out)),
            "open_licence": all(dataset.texts.open_licence for dataset in used),
            "steps": result.steps,
            "settings": asdict(settings) | {"learners": list(settings.learners)},
            "validation": dict(result.validation),
            "trials": len(trials),
            "sizes": list(SIZES),
        },
    )


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove the files that `train` wrote, and the folder if it is then empty."""
    for path in (checkpoint / OUTER_LOOP, *checkpoint.glob("trials-*.json")):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        checkpoint.rmdir()


def folds(datasets: Sequence[Dataset], count: int | None, seed: int) -> list[list[str]]:
    """Split the families at random into `count` folds of about equal size; None: a fold for each family.

    Raises LabelError for a count below 2 or above the number of families.
    """
    families = sorted({dataset.family for dataset in datasets})
    if count is None:
        return [[family] for family in families]
    if not 2 <= count <= len(families):
        raise LabelError(f"{count} folds of {len(families)} families: choose from 2 to {len(families)}, or `family`")
    order = np.random.default_rng([seed, 6]).permutation(len(families))
    return [sorted(families[index] for index in order[start::count]) for start in range(count)]


def _save_trials(path: Path, identity: str, trials: Sequence[Trial]) -> None:
    rows = [asdict(trial) | {name: getattr(trial, name).tolist() for name in _TRIAL_ARRAYS} for trial in trials]
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps({"identity": identity, "trials": rows}), encoding="utf-8")


def _load_trials(path: Path, identity: str) -> list[Trial] | None:
    """Read the trials; None if there are none, or those of other settings or data sets."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["identity"] != identity:
            return None
        return [Trial(**row | {name: np.array(row[name]) for name in _TRIAL_ARRAYS}) for row in content["trials"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
