"""Runs methods on domains with the same labels; yields what it measured, and knows nothing of showing it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.candidates import Candidate, candidate_state
from semsearch.adapters.learners import LEARNERS
from semsearch.adapters.state import DomainState
from semsearch.adapters.weights import Weights
from semsearch.domains.lexical_weight import WEIGHTS, one_standard_error_rule
from semsearch.errors import InputError, LabelError
from semsearch.evaluation import baselines
from semsearch.evaluation.baselines import Method, Task
from semsearch.evaluation.measures import Values, measure
from semsearch.metalearn.episodes import Dataset
from semsearch.search.fusion import fuse

LABEL_FREE = ("frozen", "bm25", "fused")
"""Methods that need no label: measured once for each seed."""
BASELINES = ("frozen", "bm25", "fused", "rocchio", "ridge", "linear", "film-scratch")
METHODS = ("semsearch", "hybrid", "unguarded", "members", *BASELINES)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    labels: tuple[int, ...] = (0, 8, 32, 128)
    """Labelled queries to adapt on; a domain with fewer in the half that may be used gives all of them."""
    seeds: int = 5
    methods: tuple[str, ...] = METHODS


@dataclass(frozen=True)
class Measured:
    """One method on one domain with so many labels and one seed."""

    domain: str
    family: str
    method: str
    labels: int
    """As planned."""
    given: int
    """As many as there were."""
    seed: int
    values: Mapping[str, Values] = field(repr=False)
    """measure → (queries,)."""
    chosen: str = ""
    """For the guarded method, what the guard said."""
    seen: bool = False
    """Whether the weights were trained on the domain's family."""


def chosen_methods(names: Sequence[str]) -> tuple[str, ...]:
    """`members` spelled out. Raises InputError for a name that is no method."""
    spelled: list[str] = []
    for name in names:
        if name == "members":
            spelled += [f"member:{member}" for member in LEARNERS]
        elif name in METHODS or (name.startswith("member:") and name[7:] in LEARNERS):
            spelled.append(name)
        else:
            raise InputError(f"no method is called {name!r}: choose from {', '.join(METHODS)}, member:NAME")
    return tuple(dict.fromkeys(["frozen", *spelled]))


def evaluate(
    domains: Sequence[Dataset], weights: Sequence[Weights], plan: Plan, *, processes: int = 1
) -> Iterator[list[Measured]]:
    """Measure every method on every domain; yields a domain's measurements when they are complete.

    weights: one, or several that left families out; a domain is measured with one that left its family out.
    Raises LabelError where several are given and none did.
    """
    tasks = [(domain, _weights_for(domain, weights), plan) for domain in domains]
    # the largest first, so that the last process to finish does not begin with it
    tasks.sort(key=lambda task: -task[0].documents.size * len(task[0].queries))
    if processes == 1:
        for task in tasks:
            yield measured(*task)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
        for future in as_completed([pool.submit(measured, *task) for task in tasks]):
            yield future.result()


def _one_thread() -> None:
    torch.set_num_threads(1)


def _weights_for(domain: Dataset, weights: Sequence[Weights]) -> Weights:
    if len(weights) == 1:
        return weights[0]
    found = without(domain.family, weights)
    if found is not None:
        return found
    raise LabelError(f"none of {len(weights)} weights left out the family {domain.family!r} of {domain.name}")


def without(family: str, weights: Sequence[Weights]) -> Weights | None:
    """The first of the weights that left this family out; None where none did."""
    return next((one for one in weights if family in _names(one, "left_out")), None)


def _names(weights: Weights, key: str) -> list[str]:
    names = weights.metadata.get(key, [])
    return [str(name) for name in names] if isinstance(names, list) else []


def measured(domain: Dataset, weights: Weights, plan: Plan) -> list[Measured]:
    """All of one domain's measurements."""
    lexical = baselines.Lexical(domain.texts) if {"bm25", "fused", "hybrid"} & set(plan.methods) else None
    seen = domain.family in _names(weights, "families")
    results = []
    for seed in range(plan.seeds):
        pool, asked = domain.halves(seed)
        judgments = [domain.texts.judgments[row] for row in asked]
        free: dict[str, Mapping[str, Values]] = {}
        for labels in plan.labels:
            task = Task(domain, pool[:labels], asked, seed)
            verdict = None
            if len(task.labelled) and {"semsearch", "hybrid"} & set(plan.methods):
                verdict = weights.adapt(domain.basis, task.support)
            for name in plan.methods:
                chosen = ""
                if name in LABEL_FREE or not len(task.labelled):
                    # without a label every method that learns from labels is the frozen encoder
                    kind = name if name in LABEL_FREE else "frozen"
                    if name == "semsearch":
                        _check_untouched(domain, task)
                    if kind not in free:
                        free[kind] = measure(_method(kind, weights, lexical)(task), judgments)
                    values = free[kind]
                elif name in {"semsearch", "hybrid"}:
                    assert verdict is not None
                    scores = task.scores(_adapted(domain, verdict.state, task))
                    chosen = _said(verdict.candidate)
                    if name == "hybrid":
                        assert lexical is not None
                        weight = _lexical_weight(task, lexical)
                        scores, chosen = fuse(scores, lexical(task), weight), f"words {weight:g}"
                    values = measure(scores, judgments)
                else:
                    values = measure(_method(name, weights, lexical)(task), judgments)
                results.append(
                    Measured(domain.name, domain.family, name, labels, len(task.labelled), seed, values, chosen, seen)
                )
    return results


def _lexical_weight(task: Task, lexical: baselines.Lexical) -> float:
    """Chosen on the labelled queries, which are ranked as if they were asked."""
    own = replace(task, asked=task.labelled)
    dense, words = baselines.frozen(own), lexical(own)
    judgments = [task.domain.texts.judgments[row] for row in task.labelled]
    values = [measure(fuse(dense, words, weight), judgments)["nDCG@10"] for weight in WEIGHTS]
    return WEIGHTS[one_standard_error_rule(np.stack(values, axis=1))]


def _said(candidate: Candidate | None) -> str:
    return "none" if candidate is None else f"contraction ×{candidate.shrinkage:g}, rate ×{candidate.rate:g}"


def _check_untouched(domain: Dataset, task: Task) -> None:
    moved = Adapter.from_states(domain.basis, {}).transform(task.queries, [domain.name] * len(task.queries))
    if not np.array_equal(moved, task.queries):
        raise LabelError(f"{domain.name}: without a label the queries changed; this is a fault of semsearch")


def _adapted(domain: Dataset, state: DomainState, task: Task) -> np.ndarray:
    return Adapter.from_states(domain.basis, {domain.name: state}).transform(
        task.queries, [domain.name] * len(task.queries)
    )


def _method(name: str, weights: Weights, lexical: baselines.Lexical | None) -> Method:
    if lexical is not None and name in {"bm25", "fused"}:
        return lexical if name == "bm25" else lexical.fused
    if name == "unguarded" or name.startswith("member:"):
        return _unguarded(name, weights)
    plain: dict[str, Method] = {
        "frozen": baselines.frozen,
        "rocchio": baselines.rocchio,
        "ridge": baselines.ridge,
        "linear": baselines.linear,
        "film-scratch": baselines.film,
    }
    return plain[name]


def _unguarded(name: str, weights: Weights) -> Method:
    """A member as it is, whatever cross-validation would say; `unguarded` is the first of the guard's candidates
    that neither turns the learned contraction nor the learned rate up or down."""

    def method(task: Task) -> np.ndarray:
        with torch.no_grad():
            if name == "unguarded":
                [plain] = [c for c in weights.candidates if c.shrinkage == 1 and c.rate == 1]
                state = candidate_state(plain, weights.meta_parameters, task.domain.basis, task.support)
            else:
                member = LEARNERS[name.removeprefix("member:")]
                start = weights.meta_parameters.get(member.name) or member.init(task.queries.shape[1])
                state = member.learn(start, task.domain.basis, task.support)
            return task.scores(_adapted(task.domain, state.to_domain_state(), task))

    return method


def open_weights(path: Path) -> list[Weights]:
    """One file, or every .safetensors of a folder. Raises WeightsError for what is neither."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return [Weights.open(file) for file in files] or [Weights.open(path)]
