"""The outer loop: learns the meta-parameters of every learner over many data sets. Does not depend on the guard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from semsearch.adapters.learners import LEARNERS, LearnerSpec
from semsearch.adapters.losses import listwise_loss
from semsearch.adapters.meta_parameters import MetaParameters, scale_of
from semsearch.adapters.states import State, axes_of, transform
from semsearch.adapters.tensor_names import CONTEXT_SLOPE, current_key
from semsearch.errors import LabelError
from semsearch.metalearn.episodes import Dataset, Episode, draw_episode
from semsearch.system.files import atomic_write

SLOPE_DECAY = 0.003
"""L2 penalty on the context slopes in the outer loss."""
TEMPERATURE = 0.05
"""Of the listwise loss of held-out queries, in cosine."""
VALIDATION_EPISODES = 20
"""Episodes of the held-out families, the same at every validation."""


@dataclass(frozen=True, slots=True)
class OuterLoopSettings:
    """Settings of the outer loop. Weight files and checkpoints hold them as JSON, with these names."""

    learners: tuple[str, ...] = ("gains", "contraction", "displacement", "listwise")
    steps: int = 150
    episodes: int = 4
    """Episodes per step."""
    seed: int = 0
    held_out_families: float = 0.2
    """Share of the families that are used for validation only."""
    every: int = 15
    """Steps between two validations."""
    patience: int = 4
    """The loop stops after this number of successive validations without an improvement of any learner."""


@dataclass(frozen=True, slots=True)
class Step:
    """Progress: a step of the outer loop."""

    number: int
    """From 1."""
    total: int
    losses: Mapping[str, float]
    """Learner → loss on held-out queries, divided by the frozen encoder's: below 1 is an improvement."""
    validation: Mapping[str, float] | None
    """The same on the held-out families, if the step was followed by a validation."""


@dataclass(frozen=True, slots=True)
class OuterLoopResult:
    """The outcome of the outer loop."""

    meta_parameters: Mapping[str, MetaParameters]
    """By learner: those with the lowest validation loss."""
    validation: Mapping[str, float]
    """By learner: the lowest validation loss."""
    steps: int


def split_families(datasets: Sequence[Dataset], settings: OuterLoopSettings) -> tuple[list[Dataset], list[Dataset]]:
    """Split the data sets by family, for training and for validation; with fewer than 3 families both get all."""
    families = sorted({dataset.family for dataset in datasets})
    if len(families) < 3:
        return list(datasets), list(datasets)
    rng = np.random.default_rng([settings.seed, 2])
    count = max(1, round(settings.held_out_families * len(families)))
    held_out = {families[index] for index in rng.permutation(len(families))[:count]}
    return [d for d in datasets if d.family not in held_out], [d for d in datasets if d.family in held_out]


def run_outer_loop(
    datasets: Sequence[Dataset], settings: OuterLoopSettings, *, checkpoint: Path | None = None
) -> Iterator[Step | OuterLoopResult]:
    """Minimise, for each learner, the loss on held-out queries after its inner loop.

    Yields a Step after each step, then an OuterLoopResult. The result is reproducible from the seed.

    checkpoint: a file that is written after every validation; if it exists, the loop resumes from it.

    Raises LabelError without data sets, for vectors of different dimensions, or for a checkpoint of other settings or
    data sets.
    """
    if not datasets:
        raise LabelError("no data set to learn from: give at least one folder")
    training, validating = split_families(datasets, settings)
    run = _Run.start(settings, datasets)
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    validation_episodes = [
        draw_episode(validating, np.random.default_rng([settings.seed, 3, number]))
        for number in range(VALIDATION_EPISODES)
    ]
    while run.step < settings.steps and run.bad_checks < settings.patience:
        rng = np.random.default_rng([settings.seed, 4, run.step])
        losses = run.advance([draw_episode(training, rng) for _ in range(settings.episodes)])
        validation = None
        if run.step % settings.every == 0 or run.step == settings.steps:
            validation = run.validate(validation_episodes)
            if checkpoint is not None:
                run.save(checkpoint)
        yield Step(run.step, settings.steps, losses, validation)
    yield OuterLoopResult(run.best, run.best_loss, run.step)


def outer_loss(spec: LearnerSpec, parameters: MetaParameters, episode: Episode) -> Tensor:
    """Loss on the held-out queries after the inner loop, divided by the frozen encoder's."""
    return _relative_loss(spec.learn(parameters, episode.dataset.basis, episode.support), episode)


def _relative_loss(state: State, episode: Episode) -> Tensor:
    held_out = episode.held_out
    basis = episode.dataset.basis
    axes, temperature = axes_of(basis, held_out.queries), TEMPERATURE * scale_of(basis, held_out)
    adapted = listwise_loss(transform(state, axes, held_out.queries), held_out, temperature).mean()
    return adapted / listwise_loss(held_out.queries, held_out, temperature).mean().clamp_min(0.05)


class _Run:
    """Everything that changes while the loop runs; a checkpoint holds it."""

    def __init__(
        self, settings: OuterLoopSettings, identity: str, meta_parameters: dict[str, dict[str, Tensor]]
    ) -> None:
        self.settings = settings
        self.identity = identity
        self.meta_parameters = meta_parameters
        self.step = 0
        self.bad_checks = 0
        self.best: dict[str, dict[str, Tensor]] = {
            name: _detached(parameters) for name, parameters in meta_parameters.items()
        }
        self.best_loss = dict.fromkeys(meta_parameters, float("inf"))
        self.optimizers = {
            name: torch.optim.Adam(
                [{"params": [value], "lr": LEARNERS[name].outer_lr(key)} for key, value in parameters.items()]
            )
            for name, parameters in meta_parameters.items()
        }

    @classmethod
    def start(cls, settings: OuterLoopSettings, datasets: Sequence[Dataset]) -> _Run:
        """Initialize every learner's meta-parameters."""
        dimension = datasets[0].documents.shape[1]
        if any(dataset.documents.shape[1] != dimension for dataset in datasets):
            raise LabelError("the data sets have vectors of different dimensions: encode them with one encoder")
        meta_parameters = {name: LEARNERS[name].init(dimension) for name in settings.learners}
        for parameters in meta_parameters.values():
            for value in parameters.values():
                value.requires_grad_()
        identity = json.dumps([asdict(settings), sorted(dataset.name for dataset in datasets)])
        return cls(settings, identity, meta_parameters)

    def advance(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Update every learner on the same episodes. Returns their losses before the update."""
        losses = {}
        for name, parameters in self.meta_parameters.items():
            spec = LEARNERS[name]
            if spec.reptile:
                losses[name] = _reptile_step(spec, parameters, episodes)
            else:
                losses[name] = _gradient_step(spec, parameters, self.optimizers[name], episodes)
        self.step += 1
        return losses

    def validate(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Return the losses on the held-out families, and keep the meta-parameters that improved."""
        validation = {}
        with torch.no_grad():
            for name, parameters in self.meta_parameters.items():
                losses = [float(outer_loss(LEARNERS[name], parameters, episode)) for episode in episodes]
                validation[name] = float(np.mean(losses))
        improved = [name for name, loss in validation.items() if loss < self.best_loss[name] - 1e-4]
        for name in improved:
            self.best_loss[name] = validation[name]
            self.best[name] = _detached(self.meta_parameters[name])
        self.bad_checks = 0 if improved else self.bad_checks + 1
        return validation

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        tensors: dict[str, Tensor] = {}
        for name, parameters in self.meta_parameters.items():
            moments = self.optimizers[name].state
            for key, value in parameters.items():
                tensors[f"start/{name}/{key}"] = value.detach().clone()
                tensors[f"best/{name}/{key}"] = self.best[name][key].detach().clone()
                for moment, tensor in moments.get(value, {}).items():
                    tensors[f"adam/{name}/{key}/{moment}"] = torch.as_tensor(tensor).detach().clone()
        # `start` and `stale` are the names of semsearch 0.1, whose checkpoints are still read
        header = {
            "identity": self.identity,
            "step": self.step,
            "stale": self.bad_checks,
            "best_loss": self.best_loss,
        }
        with atomic_write(path) as unfinished:
            save_file(tensors, unfinished, metadata={"semsearch": json.dumps(header)})

    def load(self, path: Path) -> None:
        """Resume from a checkpoint. Raises LabelError if it cannot be read, or is of other settings or data sets."""
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["semsearch"])
                tensors = {current_key(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except Exception as error:
            raise LabelError(f"the checkpoint {path} cannot be read ({error}): remove it to start over") from error
        if header["identity"] != self.identity:
            raise LabelError(f"the checkpoint {path} is of other settings or data sets: remove it to start over")
        self.step, self.bad_checks, self.best_loss = header["step"], header["stale"], header["best_loss"]
        for name, parameters in self.meta_parameters.items():
            for key, value in parameters.items():
                with torch.no_grad():
                    value.copy_(tensors[f"start/{name}/{key}"])
                self.best[name][key] = tensors[f"best/{name}/{key}"]
                prefix = f"adam/{name}/{key}/"
                moments = {
                    tensor_name.removeprefix(prefix): tensor
                    for tensor_name, tensor in tensors.items()
                    if tensor_name.startswith(prefix)
                }
                if moments:
                    self.optimizers[name].state[value] = moments


def _gradient_step(
    spec: LearnerSpec, parameters: dict[str, Tensor], optimizer: torch.optim.Adam, episodes: Sequence[Episode]
) -> float:
    """Update the meta-parameters along the gradient of the mean outer loss. Returns this loss."""
    optimizer.zero_grad()
    total = 0.0
    for episode in episodes:
        loss = outer_loss(spec, parameters, episode) / len(episodes)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    # slopes learned on few families generalise badly to other families: they are penalised
    slopes = [value for key, value in parameters.items() if key.startswith(CONTEXT_SLOPE)]
    if slopes:
        penalty = SLOPE_DECAY * torch.cat(slopes).square().sum()
        penalty.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
    optimizer.step()
    return total


def _reptile_step(spec: LearnerSpec, parameters: dict[str, Tensor], episodes: Sequence[Episode]) -> float:
    """Move the meta-parameters toward the adapted values (Reptile, Nichol et al. 2018, arXiv:1803.02999).

    Returns the mean outer loss.
    """
    changes = {key: torch.zeros_like(value) for key, value in parameters.items()}
    total = 0.0
    with torch.no_grad():
        for episode in episodes:
            state = spec.learn(parameters, episode.dataset.basis, episode.support)
            total += float(_relative_loss(state, episode)) / len(episodes)
            changes["scale"] += (state.spectral_gains.log() - parameters["scale"]) / len(episodes)
            changes["shift"] += (state.shift - parameters["shift"]) / len(episodes)
        for key, change in changes.items():
            parameters[key] += 0.1 * change
    return total


def _detached(parameters: MetaParameters) -> dict[str, Tensor]:
    """Return a copy without gradients."""
    return {key: value.detach().clone() for key, value in parameters.items()}
