"""Runs methods on data sets with the same labels and yields measurements. Does not depend on how they are shown.

`semsearch` is dense search adapted to the labels. `semantic`, `hybrid`, `bm25` and `fused` are the searches of an
index, answered by `SearchEngine.search`; `semantic` and `hybrid` are adapted to the labels as a served domain is, with
the guard, votes and memory, by a state that is read from disk.
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
from semsearch.adapters.support import Judgments
from semsearch.adapters.weights import Weights
from semsearch.domains.judgments import JudgedQuery
from semsearch.errors import InputError, LabelError
from semsearch.evaluation import baselines
from semsearch.evaluation.baselines import Task
from semsearch.evaluation.dataset_index import SEARCHES, DatasetIndex, judged_queries
from semsearch.evaluation.labelling import Entries, LabelSource, collect_entries, merge_entries
from semsearch.evaluation.measures import Sample, Values, measure, measure_rankings
from semsearch.evaluation.token_cache import TokenSource
from semsearch.evaluation.traffic import draw_traffic, other_texts
from semsearch.metalearn.datasets import LabelledTexts
from semsearch.metalearn.episodes import Dataset
from semsearch.types import Mask, Rows, Scores

LABEL_FREE = ("frozen", "bm25", "fused")
"""Methods that use no label: measured once for each seed."""
SERVED = tuple(SEARCHES)
"""Methods that search an index of the data set."""
ADAPTED = ("semantic", "hybrid")
"""Those of them that are adapted: users can judge their results."""
BASELINES = ("frozen", "bm25", "fused", "rocchio", "ridge", "linear", "film-scratch")
METHODS = ("semsearch", *ADAPTED, "unguarded", "members", *BASELINES)
"""What --methods takes, besides member:NAME."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    labels: tuple[int, ...] = (0, 8, 32, 128)
    """Labelled queries to adapt on; a data set with fewer in the half that may be used gives all of them."""
    seeds: int = 5
    methods: tuple[str, ...] = METHODS
    skews: tuple[float, ...] = (0.0,)
    """Exponents of the queries' popularity, see `draw_traffic`."""
    labels_from: LabelSource = LabelSource.ALL
    max_queries: int | None = None
    """Most queries that are measured, see `draw_traffic`."""
    tokens: TokenSource | None = None
    """Token vectors for `hybrid`; by default they are measured without late interaction."""


@dataclass(frozen=True)
class Measurement:
    """One method on one data set, for one number of labels, one skew and one seed."""

    domain: str
    family: str
    method: str
    labels: int
    """Labelled queries as planned."""
    given: int
    """Queries with a judgment: fewer where the data set had fewer, or where users of its search judged nothing."""
    seed: int
    values: Mapping[str, Values] = field(repr=False)
    """measure → (queries,)."""
    queries: Rows = field(repr=False)
    """(queries,) their rows in the data set."""
    unlabelled: Mask = field(repr=False)
    """(queries,) whether a query has another text than all that were to be labelled."""
    weights: Values | None = field(default=None, repr=False)
    """(queries,) share of all searches; None without a skew: all count alike."""
    skew: float = 0.0
    labels_from: LabelSource = LabelSource.ALL
    chosen: str = ""
    """For a guarded method, what was chosen on the labels."""
    seen: bool = False
    """Whether the weights were trained on the data set's family."""
    language: str = ""
    """That of the data set, empty if it does not say."""

    def sample(self, measure: str, *, unlabelled: bool = False) -> Sample:
        """Return the values of one of MEASURES, of all measured queries or only of those that were not labelled."""
        chosen = self.unlabelled if unlabelled else np.ones_like(self.unlabelled)
        weights = None if self.weights is None else self.weights[chosen]
        return Sample(self.values[measure][chosen], weights, self.queries[chosen])


def chosen_methods(names: Sequence[str] | None, labels_from: LabelSource = LabelSource.ALL) -> tuple[str, ...]:
    """The methods to run, with `members` spelled out.

    names: None: all that can use labels of this source. Raises InputError for a name that is no method, and for a
    method that cannot.
    """
    takes_all = labels_from is LabelSource.ALL
    if names is None:
        names = METHODS if takes_all else SERVED
    spelled: list[str] = []
    for name in names:
        if name == "members":
            spelled += [f"member:{member}" for member in LEARNERS]
        elif name in METHODS or (name.startswith("member:") and name[7:] in LEARNERS):
            spelled.append(name)
        else:
            raise InputError(f"no method is called {name!r}: choose from {', '.join(METHODS)}, member:NAME")
        if not takes_all and name not in {*SERVED, *LABEL_FREE}:
            raise InputError(
                f"{name} shows no results that users could judge: with labels from {labels_from} choose from"
                f" {', '.join(SERVED)}"
            )
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
    with DatasetIndex.build(dataset, plan.tokens) if {*SERVED} & {*plan.methods} else nullcontext() as index:
        return [
            measurement
            for skew in plan.skews
            for seed in range(plan.seeds)
            for measurement in _measure_traffic(dataset, weights, plan, index, skew, seed)
        ]


def _measure_traffic(
    dataset: Dataset, weights: Weights, plan: Plan, index: DatasetIndex | None, skew: float, seed: int
) -> Iterator[Measurement]:
    """Measure every method with every number of labels on the same queries."""
    seen = dataset.family in _names(weights, "families")
    traffic = draw_traffic(dataset, skew, seed, plan.max_queries)
    texts = [dataset.texts.queries[row] for row in traffic.measured]
    label_free: dict[str, Mapping[str, Values]] = {}
    entries: dict[str, list[Entries]] = {}
    for labels in plan.labels:
        task = Task(dataset, traffic.labelled[:labels], traffic.measured, seed)
        unlabelled = other_texts(texts, [dataset.texts.queries[row] for row in task.labelled])
        for method in plan.methods:
            chosen, given = "", len(task.labelled)
            if method in LABEL_FREE or not len(task.labelled):
                # without a label every dense method is the frozen encoder
                same_as = method if method in SERVED else "frozen"
                if method == "semsearch":
                    _check_unchanged(task)
                if same_as not in label_free:
                    label_free[same_as] = _measure_without_labels(same_as, task, index)
                values = label_free[same_as]
            elif method in ADAPTED:
                assert index is not None
                if plan.labels_from is LabelSource.ALL:
                    judged = judged_queries(dataset, task.labelled.tolist())
                else:
                    if method not in entries:
                        queries = traffic.labelled[: max(plan.labels)]
                        entries[method] = collect_entries(index, method, weights, queries, plan.labels_from, seed)
                    judged = merge_entries(entries[method][:labels])
                    given = len(judged)
                values, chosen = _measure_adapted(method, task, weights, index, judged)
            else:
                values, chosen = _measure_dense(method, task, weights)
            yield Measurement(
                domain=dataset.name,
                family=dataset.family,
                method=method,
                labels=labels,
                given=given,
                seed=seed,
                values=values,
                queries=traffic.measured,
                unlabelled=unlabelled,
                weights=traffic.weights,
                skew=skew,
                labels_from=plan.labels_from,
                chosen=chosen,
                seen=seen,
                language=dataset.texts.language,
            )


def _measure_without_labels(method: str, task: Task, index: DatasetIndex | None) -> Mapping[str, Values]:
    """The measures of a method that uses no labels, or was given none."""
    if method == "frozen":
        return measure(baselines.frozen(task), _judgments(task))
    assert index is not None
    return measure_rankings(index.search(method, task.measured), _judgments(task))


def _measure_adapted(
    method: str, task: Task, weights: Weights, index: DatasetIndex, judged: Sequence[JudgedQuery]
) -> tuple[Mapping[str, Values], str]:
    """The measures of an index's search adapted to judged queries, and what was chosen on these."""
    adaptation = index.adapt(method, weights, judged)
    rankings = index.search(method, task.measured, adaptation.state)
    chosen = f"{adaptation.learner}, lexical weight {index.engines[method].lexical_weight(adaptation.state)}"
    return measure_rankings(rankings, _judgments(task)), chosen


def _measure_dense(method: str, task: Task, weights: Weights) -> tuple[Mapping[str, Values], str]:
    """The measures of a dense method that uses labels, and what was chosen on these, if anything."""
    chosen = ""
    if method == "semsearch":
        verdict = weights.adapt(task.dataset.basis, task.support)
        scores, chosen = _adapted_scores(task, verdict.state), _candidate_name(verdict.candidate)
    elif method == "unguarded" or method.startswith("member:"):
        scores = _adapted_scores(task, _unguarded_state(method, task, weights))
    else:
        scores = baselines.BASELINES[method](task)
    return measure(scores, _judgments(task)), chosen


def _judgments(task: Task) -> list[Judgments]:
    """The judgments of the measured queries."""
    return [task.dataset.texts.judgments[row] for row in task.measured]


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
