"""Runs methods on data sets with the same labels and yields measurements. Does not depend on how they are shown.

`semsearch` is dense search adapted to the labels. `bm25`, `fused` and `hybrid` are the keyword and hybrid search of an
index, answered by `SearchEngine.search`; `hybrid` is adapted to the labels as a served domain is.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.candidates import Candidate
from semsearch.adapters.cross_validation import candidate_state
from semsearch.adapters.learners import LEARNERS
from semsearch.adapters.state import DomainState
from semsearch.adapters.weights import Weights
from semsearch.errors import InputError, LabelError
from semsearch.evaluation import baselines
from semsearch.evaluation.baselines import Task
from semsearch.evaluation.dataset_index import DatasetIndex
from semsearch.evaluation.measures import Values, measure, measure_rankings
from semsearch.metalearn.datasets import LabelledTexts
from semsearch.metalearn.episodes import Dataset
from semsearch.types import Rows, Scores

LABEL_FREE = ("frozen", "bm25", "fused")
"""Methods that use no label: measured once for each seed."""
SERVED = ("hybrid", "bm25", "fused")
"""Methods that search an index of the data set."""
BASELINES = ("frozen", "bm25", "fused", "rocchio", "ridge", "linear", "film-scratch")
METHODS = ("semsearch", "hybrid", "unguarded", "members", *BASELINES)
"""What --methods takes, besides member:NAME."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    labels: tuple[int, ...] = (0, 8, 32, 128)
    """Labelled queries to adapt on; a data set with fewer in the half that may be used gives all of them."""
    seeds: int = 5
    methods: tuple[str, ...] = METHODS


@dataclass(frozen=True)
class Measurement:
    """One method on one data set, for one number of labels and one seed."""

    domain: str
    family: str
    method: str
    labels: int
    """Labelled queries as planned."""
    given: int
    """Labelled queries that the data set had."""
    seed: int
    values: Mapping[str, Values] = field(repr=False)
    """measure → (queries,)."""
    chosen: str = ""
    """For a guarded method, what was chosen on the labels."""
    seen: bool = False
    """Whether the weights were trained on the data set's family."""


def chosen_methods(names: Sequence[str]) -> tuple[str, ...]:
    """The methods to run, with `members` spelled out. Raises InputError for a name that is no method."""
    spelled: list[str] = []
    for name in names:
        if name == "members":
            spelled += [f"member:{member}" for member in LEARNERS]
        elif name in METHODS or (name.startswith("member:") and name[7:] in LEARNERS):
            spelled.append(name)
        else:
            raise InputError(f"no method is called {name!r}: choose from {', '.join(METHODS)}, member:NAME")
    return tuple(dict.fromkeys(["frozen", *spelled]))


def needs_weights(plan: Plan) -> bool:
    """Whether a plan has a method that uses weights, and labels to use them on."""
    return any(plan.labels) and not {*plan.methods} <= {*BASELINES}


def evaluate(
    datasets: Sequence[Dataset], weights: Sequence[Weights], plan: Plan, *, processes: int = 1
) -> Iterator[list[Measurement]]:
    """Measure every method on every data set; yields a data set's measurements when they are complete.

    weights: one, or several that left families out; a data set is measured with one that left its family out.
    Raises LabelError where several are given and none did.
    """
    tasks = [(dataset, weights_for(dataset.texts, weights), plan) for dataset in datasets]
    # the largest first, so that the last process to finish does not begin with it
    tasks.sort(key=lambda task: -task[0].documents.size * len(task[0].queries))
    if processes == 1:
        for task in tasks:
            yield measure_dataset(*task)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
        for future in as_completed([pool.submit(measure_dataset, *task) for task in tasks]):
            yield future.result()


def _one_thread() -> None:
    torch.set_num_threads(1)


def weights_for(texts: LabelledTexts, weights: Sequence[Weights]) -> Weights:
    """The weights to measure a data set with. Raises LabelError if there are several and none left its family out."""
    if len(weights) == 1:
        return weights[0]
    unseen = without(texts.family, weights)
    if unseen is not None:
        return unseen
    raise LabelError(f"none of {len(weights)} weights left out the family {texts.family!r} of {texts.name}")


def without(family: str, weights: Sequence[Weights]) -> Weights | None:
    """The first of the weights that left this family out; None where none did."""
    return next((candidate for candidate in weights if family in _names(candidate, "left_out")), None)


def _names(weights: Weights, key: str) -> list[str]:
    names = weights.metadata.get(key, [])
    return [str(name) for name in names] if isinstance(names, list) else []


def measure_dataset(dataset: Dataset, weights: Weights, plan: Plan) -> list[Measurement]:
    """All measurements of one data set."""
    seen = dataset.family in _names(weights, "families")
    results = []
    with DatasetIndex.build(dataset) if {*SERVED} & {*plan.methods} else nullcontext() as index:
        for seed in range(plan.seeds):
            pool, held_out = dataset.halves(seed)
            label_free: dict[str, Mapping[str, Values]] = {}
            for labels in plan.labels:
                task = Task(dataset, pool[:labels], held_out, seed)
                for method in plan.methods:
                    chosen = ""
                    if method in LABEL_FREE or not len(task.labelled):
                        # without a label every dense method is the frozen encoder
                        same_as = method if method in SERVED else "frozen"
                        if method == "semsearch":
                            _check_unchanged(task)
                        if same_as not in label_free:
                            label_free[same_as], _ = _measure(same_as, task, weights, index)
                        values = label_free[same_as]
                    else:
                        values, chosen = _measure(method, task, weights, index)
                    given = len(task.labelled)
                    results.append(
                        Measurement(dataset.name, dataset.family, method, labels, given, seed, values, chosen, seen)
                    )
    return results


def _measure(method: str, task: Task, weights: Weights, index: DatasetIndex | None) -> tuple[Mapping[str, Values], str]:
    """A method's measures on the held-out queries, and what was chosen on the labels, if anything."""
    judgments = [task.dataset.texts.judgments[row] for row in task.held_out]
    if method in SERVED:
        assert index is not None
        rankings, chosen = _served_rankings(method, task, weights, index)
        return measure_rankings(rankings, judgments), chosen
    chosen = ""
    if method == "semsearch":
        verdict = weights.adapt(task.dataset.basis, task.support)
        scores, chosen = _adapted_scores(task, verdict.state), _candidate_name(verdict.candidate)
    elif method == "unguarded" or method.startswith("member:"):
        scores = _adapted_scores(task, _unguarded_state(method, task, weights))
    else:
        scores = baselines.BASELINES[method](task)
    return measure(scores, judgments), chosen


def _served_rankings(method: str, task: Task, weights: Weights, index: DatasetIndex) -> tuple[list[Rows], str]:
    """The rankings that the index answers with, and what was chosen on the labels, if anything."""
    if method == "bm25":
        return index.search_keywords(task.held_out), ""
    if method == "fused":
        return index.search_rank_fusion(task.held_out), ""
    if not len(task.labelled):
        return index.search_hybrid(task.held_out), ""
    adaptation = index.adapt(weights, task.labelled)
    chosen = f"{adaptation.learner}, lexical weight {index.engine.lexical_weight(adaptation.state)}"
    return index.search_hybrid(task.held_out, adaptation.state), chosen


def _candidate_name(candidate: Candidate | None) -> str:
    return "none" if candidate is None else f"contraction ×{candidate.shrinkage:g}, rate ×{candidate.rate:g}"


def _unguarded_state(method: str, task: Task, weights: Weights) -> DomainState:
    """The state that a learner makes of the labels, whatever cross-validation would say.

    `unguarded` is the first of the guard's candidates that changes neither the learned shrinkage nor the learned rate.
    """
    basis = task.dataset.basis
    with torch.no_grad():
        if method == "unguarded":
            [plain] = [candidate for candidate in weights.candidates if candidate.shrinkage == candidate.rate == 1]
            return candidate_state(plain, weights.meta_parameters, basis, task.support).to_domain_state()
        learner = LEARNERS[method.removeprefix("member:")]
        start = weights.meta_parameters.get(learner.name) or learner.init(task.queries.shape[1])
        return learner.learn(start, basis, task.support).to_domain_state()


def _check_unchanged(task: Task) -> None:
    """Raise LabelError if the queries of a domain without labels are not bit-identical."""
    name = task.dataset.name
    adapted = Adapter.from_states(task.dataset.basis, {}).transform(task.queries, [name] * len(task.queries))
    if not np.array_equal(adapted, task.queries):
        raise LabelError(f"{name}: without a label the queries changed; this is a fault of semsearch")


def _adapted_scores(task: Task, state: DomainState) -> Scores:
    """(m, N) of the measured queries, adapted by a state."""
    name = task.dataset.name
    adapter = Adapter.from_states(task.dataset.basis, {name: state})
    return task.scores(adapter.transform(task.queries, [name] * len(task.queries)))


def open_weights(path: Path) -> list[Weights]:
    """One file, or every .safetensors of a folder. Raises WeightsError for what is neither."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return [Weights.open(file) for file in files] or [Weights.open(path)]
