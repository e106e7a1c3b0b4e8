"""Other ways to use the same labels on dense vectors: the methods that semsearch is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from semsearch.adapters.losses import listwise_loss
from semsearch.adapters.states import State, axes_of, transform
from semsearch.adapters.support import MAX_DOCUMENTS, Support
from semsearch.metalearn.episodes import Dataset
from semsearch.types import Rows, Scores, Vectors, unit_rows


@dataclass(frozen=True)
class Task:
    """One measurement: adapt on some judged queries of a data set, rank all documents for queries."""

    dataset: Dataset
    labelled: Rows
    """Rows of the queries whose judgments may be used."""
    measured: Rows
    """Rows of the queries that are measured."""
    seed: int

    @cached_property
    def support(self) -> Support:
        """The labelled queries as the learners take them."""
        return self.dataset.support(self.labelled, max_documents=MAX_DOCUMENTS)

    @cached_property
    def centroids(self) -> Vectors:
        """(n, dim) unit mean of each labelled query's relevant documents, weighted by relevance."""
        means = np.stack(
            [
                np.average(self.dataset.documents[list(judged)], axis=0, weights=list(judged.values()))
                for judged in (self.dataset.texts.judgments[row] for row in self.labelled)
            ]
        )
        return unit_rows(means)

    @property
    def labelled_queries(self) -> Vectors:
        """(n, dim) vectors of the labelled queries."""
        return self.dataset.queries[self.labelled]

    @property
    def queries(self) -> Vectors:
        """(m, dim) vectors of the measured queries."""
        return self.dataset.queries[self.measured]

    def scores(self, queries: Vectors) -> Scores:
        """(m, N) cosine of each query vector, (m, dim), with every document."""
        cosines: Scores = np.asarray(queries, np.float32) @ self.dataset.documents.T
        return cosines


Method = Callable[[Task], Scores]
"""Scores (m, N) of the measured queries for every document."""


def frozen(task: Task) -> Scores:
    """The encoder as it is."""
    return task.scores(task.queries)


def rocchio(task: Task) -> Scores:
    """Rocchio's relevance feedback (1971) from the 3 nearest labelled queries: q + 0.5 · the mean of their relevant
    documents, weighted by a softmax of their similarity."""
    similarity = task.queries @ task.labelled_queries.T
    neighbours = min(3, similarity.shape[1])
    threshold = np.sort(similarity, axis=1)[:, -neighbours][:, None]
    weights = np.where(similarity >= threshold, np.exp((similarity - 1) / 0.1), 0)
    strength = 0.5 * similarity.max(axis=1, keepdims=True) * _rows_summing_to_1(weights)
    return task.scores(unit_rows(task.queries + strength @ task.centroids))


def _rows_summing_to_1(weights: Vectors) -> Vectors:
    shares: Vectors = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return shares


def ridge(task: Task) -> Scores:
    """Ridge regression, λ = 3, from labelled queries to their offset from their relevant documents."""
    gram = task.labelled_queries @ task.labelled_queries.T + 3.0 * np.eye(len(task.labelled_queries))
    dual = np.linalg.solve(gram, task.centroids - task.labelled_queries)
    return task.scores(unit_rows(task.queries + (task.queries @ task.labelled_queries.T) @ dual))


def linear(task: Task) -> Scores:
    """A residual linear adapter q + Wq + b, initialized to zero and trained as LlamaIndex trains one: multiple
    negatives ranking loss within batches of 10 (scale 20), 10 epochs of AdamW at a rate of 0.001."""
    torch.manual_seed(task.seed)
    rng = np.random.default_rng([task.seed, 5])
    pairs = [(n, row) for n, q in enumerate(task.labelled) for row in task.dataset.texts.judgments[q]]
    rng.shuffle(pairs)
    layer = torch.nn.Linear(task.labelled_queries.shape[1], task.labelled_queries.shape[1])
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    queries, documents = torch.from_numpy(task.labelled_queries), torch.from_numpy(task.dataset.documents)
    normalize = torch.nn.functional.normalize
    for _ in range(10):
        order = rng.permutation(len(pairs))
        for start in range(0, len(order), 10):
            batch = [pairs[index] for index in order[start : start + 10]]
            if len(batch) < 2:
                continue
            x = queries[[query for query, _ in batch]]
            positives = documents[[row for _, row in batch]]
            logits = 20 * normalize(x + layer(x), dim=1) @ positives.T
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, torch.arange(len(batch))).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        x = torch.from_numpy(task.queries)
        return task.scores(normalize(x + layer(x), dim=1).numpy())


def film(task: Task) -> Scores:
    """A scale and a shift for every dimension (FiLM) from scratch: 30 steps of Adam at 0.003 on the listwise loss."""
    axes = axes_of(task.dataset.basis, task.support.queries)
    identity_state = State.identity(task.support.queries)
    scale = torch.zeros(len(axes), requires_grad=True)
    shift = torch.zeros(len(axes), requires_grad=True)
    optimizer = torch.optim.Adam([scale, shift], lr=0.003)

    def adapted(queries: Tensor) -> Tensor:
        return transform(replace(identity_state, spectral_gains=scale.exp(), shift=shift), axes, queries)

    for _ in range(30):
        optimizer.zero_grad()
        listwise_loss(adapted(task.support.queries), task.support, 0.05).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return task.scores(adapted(torch.from_numpy(task.queries)).numpy())


BASELINES: dict[str, Method] = {
    "frozen": frozen,
    "rocchio": rocchio,
    "ridge": ridge,
    "linear": linear,
    "film-scratch": film,
}
"""By the name that --methods takes."""
