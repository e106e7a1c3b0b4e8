"""From domains to weights: the outer loop, then the guard's prior, with a checkpoint for each."""

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


@dataclass(frozen=True, slots=True)
class GuardTrial:
    """A domain on which the guard's candidates have been tried."""

    domain: str
    number: int
    """From 1."""
    of: int


def train(
    domains: Sequence[Dataset],
    settings: OuterLoopSettings,
    *,
    about: Mapping[str, JsonValue],
    left_out: Sequence[str] = (),
    checkpoint: Path | None = None,
    trial_seeds: int = 3,
) -> Iterator[Step | GuardTrial | Weights]:
    """Learn weights; yields a Step for each step of the outer loop, a Judged for each domain, at the end the Weights.

    about: what the file shall say of its provenance, beside domains and settings.
    left_out: families that shall not be learned from.
    checkpoint: a folder in which it notes where it stands, and from which it goes on.

    Raises LabelError where no labelled domain is left, or the checkpoint is of other settings or domains.
    """
    used = [domain for domain in domains if domain.family not in set(left_out)]
    labelled = [domain for domain in used if domain.texts.labelled]
    if not labelled:
        raise LabelError("no labelled domain is left to learn from: the guard's prior needs judged queries")
    if checkpoint is not None:
        checkpoint.mkdir(parents=True, exist_ok=True)
    learned = None
    for event in run_outer_loop(used, settings, checkpoint=checkpoint / OUTER_LOOP if checkpoint else None):
        if isinstance(event, OuterLoopResult):
            learned = event
        else:
            yield event
    assert learned is not None
    starts = learned.meta_parameters
    tried: list[Trial] = []
    identity = json.dumps([asdict(settings), sorted(domain.name for domain in used), trial_seeds])
    for number, domain in enumerate(labelled, start=1):
        path = checkpoint / f"trials-{domain.name}.json" if checkpoint else None
        done = _kept(path, identity) if path else None
        if done is None:
            done = list(run_trials(CANDIDATES, starts, [domain], seeds=trial_seeds))
            if path:
                _keep(path, identity, done)
        tried += done
        yield GuardTrial(domain.name, number, len(labelled))
    yield Weights(
        starts,
        fit_prior(tried),
        {
            **about,
            "dimension": labelled[0].documents.shape[1],
            "domains": list[JsonValue](domain.name for domain in used),
            "families": list[JsonValue](sorted({domain.family for domain in used})),
            "left_out": list[JsonValue](sorted(left_out)),
            "open_licence": all(domain.texts.open_licence for domain in used),
            "steps": learned.steps,
            "settings": asdict(settings) | {"learners": list(settings.learners)},
            "validation": dict(learned.validation),
            "trials": len(tried),
            "sizes": list(SIZES),
        },
    )


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove what `train` noted there, and the folder if nothing else is in it."""
    for path in (checkpoint / OUTER_LOOP, *checkpoint.glob("trials-*.json")):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        checkpoint.rmdir()


def folds(domains: Sequence[Dataset], count: int | None, seed: int) -> list[list[str]]:
    """Families in `count` groups as equal as may be, or each on its own: what each weights file leaves out."""
    families = sorted({domain.family for domain in domains})
    if count is None:
        return [[family] for family in families]
    if not 2 <= count <= len(families):
        raise LabelError(f"{count} folds of {len(families)} families: choose from 2 to {len(families)}, or `family`")
    turn = np.random.default_rng([seed, 6]).permutation(len(families))
    return [sorted(families[place] for place in turn[start::count]) for start in range(count)]


def _keep(path: Path, identity: str, done: Sequence[Trial]) -> None:
    rows = [asdict(one) | {name: getattr(one, name).tolist() for name in ("frozen", "seen", "true")} for one in done]
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps({"identity": identity, "trials": rows}), encoding="utf-8")


def _kept(path: Path, identity: str) -> list[Trial] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["identity"] != identity:
            return None
        return [
            Trial(**row | {name: np.array(row[name]) for name in ("frozen", "seen", "true")})
            for row in content["trials"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
