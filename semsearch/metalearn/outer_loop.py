"""The outer loop: over many domains, improves what every learner starts from. Does not depend on the guard."""

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
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.states import State, axes_of, transform
from semsearch.errors import LabelError
from semsearch.metalearn.episodes import Dataset, Episode, draw_episodes
from semsearch.system.files import atomic_write

SLOPE_DECAY = 0.003
"""Weight of the squared tilts in the outer loss."""
VALIDATION_SIZES = 0.05
"""Temperature of the loss on held-out queries, in cosine."""


@dataclass(frozen=True, slots=True)
class OuterLoopSettings:
    """How the outer loop runs."""

    learners: tuple[str, ...] = ("gains", "contraction", "displacement", "listwise")
    steps: int = 150
    episodes: int = 4
    """Episodes a step."""
    seed: int = 0
    held_out_families: float = 0.2
    """Share of the families that are not trained on, but tell when to stop."""
    every: int = 15
    """Steps between two looks at the held-out families."""
    patience: int = 4
    """Looks without improvement of any learner after which the loop stops."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of the outer loop did."""

    number: int
    """From 1."""
    of: int
    losses: Mapping[str, float]
    """Loss on held-out queries of each learner, as a share of the frozen one; below 1 is better than frozen."""
    validation: Mapping[str, float] | None
    """The same on the held-out families, where this step looked at them."""


@dataclass(frozen=True, slots=True)
class OuterLoopResult:
    """Where the loop ended."""

    meta_parameters: Mapping[str, MetaParameters]
    """By learner, those that did best on the held-out families."""
    validation: Mapping[str, float]
    steps: int


def split_families(domains: Sequence[Dataset], settings: OuterLoopSettings) -> tuple[list[Dataset], list[Dataset]]:
    """Domains to train on, and those of held-out families; with fewer than 3 families the same for both."""
    families = sorted({domain.family for domain in domains})
    if len(families) < 3:
        return list(domains), list(domains)
    rng = np.random.default_rng([settings.seed, 2])
    count = max(1, round(settings.held_out_families * len(families)))
    held = {families[place] for place in rng.permutation(len(families))[:count]}
    return [d for d in domains if d.family not in held], [d for d in domains if d.family in held]


def run_outer_loop(
    domains: Sequence[Dataset], settings: OuterLoopSettings, *, checkpoint: Path | None = None
) -> Iterator[Step | OuterLoopResult]:
    """Minimise L(M) = Σ L(mᵢ), each taken on held-out queries after the learner's inner loop.

    Yields a Step after each step and Learned at the end. Reproducible from the seed; with `checkpoint` it writes
    where it stands there after every look, and goes on from there if the file exists. Raises LabelError for no domains,
    or for a checkpoint of other settings or domains.
    """
    if not domains:
        raise LabelError("no domain to learn from: give at least one folder")
    training, watched = split_families(domains, settings)
    run = _Run.begin(settings, domains)
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    looks = [draw_episodes(watched, np.random.default_rng([settings.seed, 3, number])) for number in range(20)]
    while run.step < settings.steps and run.stale < settings.patience:
        rng = np.random.default_rng([settings.seed, 4, run.step])
        losses = run.advance([draw_episodes(training, rng) for _ in range(settings.episodes)])
        validation = None
        if run.step % settings.every == 0 or run.step == settings.steps:
            validation = run.look(looks)
            if checkpoint is not None:
                run.save(checkpoint)
        yield Step(run.step, settings.steps, losses, validation)
    yield OuterLoopResult(run.best, run.best_loss, run.step)


def loss_after(member: LearnerSpec, start: MetaParameters, episode: Episode) -> Tensor:
    """Loss of the held-out queries after the inner loop, as a share of the frozen one."""
    return _loss_of(member.learn(start, episode.dataset.basis, episode.support), episode)


def _loss_of(state: State, episode: Episode) -> Tensor:
    axes = axes_of(episode.dataset.basis, episode.held_out.queries)
    adapted = listwise_loss(transform(state, axes, episode.held_out.queries), episode.held_out, VALIDATION_SIZES).mean()
    return adapted / listwise_loss(episode.held_out.queries, episode.held_out, VALIDATION_SIZES).mean().clamp_min(0.05)


class _Run:
    """All that changes while the loop runs, and nothing else: what a checkpoint holds."""

    def __init__(self, settings: OuterLoopSettings, identity: str, starts: dict[str, dict[str, Tensor]]) -> None:
        self.settings = settings
        self.identity = identity
        self.starts = starts
        self.step = 0
        self.stale = 0
        self.best: dict[str, dict[str, Tensor]] = _copied(starts)
        self.best_loss = dict.fromkeys(starts, float("inf"))
        self.optimizers = {
            name: torch.optim.Adam(
                [{"params": [value], "lr": LEARNERS[name].outer_lr(key)} for key, value in start.items()]
            )
            for name, start in starts.items()
        }

    @classmethod
    def begin(cls, settings: OuterLoopSettings, domains: Sequence[Dataset]) -> _Run:
        dimension = domains[0].documents.shape[1]
        if any(domain.documents.shape[1] != dimension for domain in domains):
            raise LabelError("the domains have vectors of different dimensions: encode them with one encoder")
        starts = {name: LEARNERS[name].init(dimension) for name in settings.learners}
        for start in starts.values():
            for value in start.values():
                value.requires_grad_()
        identity = json.dumps([asdict(settings), sorted(domain.name for domain in domains)])
        return cls(settings, identity, starts)

    def advance(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """One step of every learner on the same episodes."""
        losses = {}
        for name, start in self.starts.items():
            member, optimizer = LEARNERS[name], self.optimizers[name]
            if member.reptile:
                losses[name] = _reptile(member, start, episodes)
                continue
            optimizer.zero_grad()
            total = 0.0
            for episode in episodes:
                loss = loss_after(member, start, episode) / len(episodes)
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
            # few families cannot tell much about contexts: the fewer numbers depend on one, the better they carry over
            tilts = [value for key, value in start.items() if key.startswith("tilt_")]
            if tilts:
                pull = SLOPE_DECAY * torch.cat(tilts).square().sum()
                pull.backward()  # type: ignore[no-untyped-call]
            parameters = list(start.values())
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses[name] = total
        self.step += 1
        return losses

    def look(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """The losses on the held-out families; keeps what is best there."""
        validation = {}
        with torch.no_grad():
            for name, start in self.starts.items():
                losses = [float(loss_after(LEARNERS[name], start, episode)) for episode in episodes]
                validation[name] = float(np.mean(losses))
        better = [name for name, loss in validation.items() if loss < self.best_loss[name] - 1e-4]
        for name in better:
            self.best_loss[name] = validation[name]
            self.best[name] = _copied({name: self.starts[name]})[name]
        self.stale = 0 if better else self.stale + 1
        return validation

    def save(self, path: Path) -> None:
        tensors: dict[str, Tensor] = {}
        for name, start in self.starts.items():
            slots = self.optimizers[name].state
            for key, value in start.items():
                tensors[f"start/{name}/{key}"] = value.detach().clone()
                tensors[f"best/{name}/{key}"] = self.best[name][key].detach().clone()
                for slot, held in slots.get(value, {}).items():
                    tensors[f"adam/{name}/{key}/{slot}"] = torch.as_tensor(held).detach().clone()
        header = {"identity": self.identity, "step": self.step, "stale": self.stale, "best_loss": self.best_loss}
        with atomic_write(path) as unfinished:
            save_file(tensors, unfinished, metadata={"semsearch": json.dumps(header)})

    def load(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["semsearch"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except Exception as error:
            raise LabelError(f"the checkpoint {path} cannot be read ({error}): remove it to begin anew") from error
        if header["identity"] != self.identity:
            raise LabelError(f"the checkpoint {path} is of other settings or other domains: remove it to begin anew")
        self.step, self.stale, self.best_loss = header["step"], header["stale"], header["best_loss"]
        for name, start in self.starts.items():
            for key, value in start.items():
                with torch.no_grad():
                    value.copy_(tensors[f"start/{name}/{key}"])
                self.best[name][key] = tensors[f"best/{name}/{key}"]
                prefix = f"adam/{name}/{key}/"
                slots = {slot.removeprefix(prefix): held for slot, held in tensors.items() if slot.startswith(prefix)}
                if slots:
                    self.optimizers[name].state[value] = slots


def _reptile(member: LearnerSpec, start: dict[str, Tensor], episodes: Sequence[Episode]) -> float:
    """Move the start toward what adaptation made of it (Reptile, Nichol et al. 2018, arXiv:1803.02999)."""
    moves = {key: torch.zeros_like(value) for key, value in start.items()}
    total = 0.0
    with torch.no_grad():
        for episode in episodes:
            state = member.learn(start, episode.dataset.basis, episode.support)
            total += float(_loss_of(state, episode)) / len(episodes)
            moves["scale"] += (state.spectral_gains.log() - start["scale"]) / len(episodes)
            moves["shift"] += (state.shift - start["shift"]) / len(episodes)
        for key, move in moves.items():
            start[key] += 0.1 * move
    return total


def _copied(starts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    return {name: {key: value.detach().clone() for key, value in start.items()} for name, start in starts.items()}
