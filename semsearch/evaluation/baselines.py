"""What else one could do with the same labels: the methods that semsearch is measured against."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from semsearch.adapters.losses import listwise_loss
from semsearch.adapters.states import State, axes_of, transform
from semsearch.adapters.support import MAX_DOCUMENTS, Support
from semsearch.errors import InputError
from semsearch.metalearn.datasets import LabelledTexts
from semsearch.metalearn.episodes import Dataset
from semsearch.types import Rows, Scores, Vectors, unit_rows


@dataclass(frozen=True)
class Task:
    """One measurement: adapt on some judged queries of a domain, score all documents for others."""

    domain: Dataset
    labelled: Rows
    """Rows of the queries whose judgments may be used."""
    asked: Rows
    """Rows of the queries that are measured."""
    seed: int

    @cached_property
    def support(self) -> Support:
        """The labelled queries as the learners take them."""
        return self.domain.support(self.labelled, most=MAX_DOCUMENTS)

    @cached_property
    def centroids(self) -> Vectors:
        """(n, dim) unit mean of each labelled query's relevant documents, by gain."""
        means = np.stack(
            [
                np.average(self.domain.documents[list(judged)], axis=0, weights=list(judged.values()))
                for judged in (self.domain.texts.judgments[row] for row in self.labelled)
            ]
        )
        return unit_rows(means)

    @property
    def taught(self) -> Vectors:
        """(n, dim) the labelled queries."""
        return self.domain.queries[self.labelled]

    @property
    def queries(self) -> Vectors:
        """(m, dim) the measured queries."""
        return self.domain.queries[self.asked]

    def scores(self, queries: Vectors) -> Scores:
        """(m, N) of moved queries."""
        found: Scores = np.asarray(queries, np.float32) @ self.domain.documents.T
        return found


Method = Callable[[Task], Scores]


def frozen(task: Task) -> Scores:
    """The encoder as it is."""
    return task.scores(task.queries)


def rocchio(task: Task) -> Scores:
    """Rocchio's relevance feedback (1971) carried over from the 3 nearest labelled queries: q + 0.5 · their relevant
    documents' mean, weighted by a softmax of their similarity."""
    near = task.queries @ task.taught.T
    few = min(3, near.shape[1])
    edge = np.sort(near, axis=1)[:, -few][:, None]
    weights = np.where(near >= edge, np.exp((near - 1) / 0.1), 0)
    return task.scores(
        unit_rows(task.queries + 0.5 * near.max(axis=1, keepdims=True) * _mean(weights) @ task.centroids)
    )


def _mean(weights: Vectors) -> Vectors:
    mean: Vectors = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return mean


def ridge(task: Task) -> Scores:
    """Ridge regression, λ = 3, from labelled queries to the way to their relevant documents."""
    gram = task.taught @ task.taught.T + 3.0 * np.eye(len(task.taught))
    dual = np.linalg.solve(gram, task.centroids - task.taught)
    return task.scores(unit_rows(task.queries + (task.queries @ task.taught.T) @ dual))


def linear(task: Task) -> Scores:
    """A residual linear adapter q + Wq + b, W = 0 at first, trained as LlamaIndex trains one: multiple negatives
    ranking loss within batches of 10 (scale 20), 10 epochs of AdamW at a rate of 0.001."""
    torch.manual_seed(task.seed)
    rng = np.random.default_rng([task.seed, 5])
    pairs = [(n, row) for n, q in enumerate(task.labelled) for row in task.domain.texts.judgments[q]]
    rng.shuffle(pairs)
    layer = torch.nn.Linear(task.taught.shape[1], task.taught.shape[1])
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    queries, documents = torch.from_numpy(task.taught), torch.from_numpy(task.domain.documents)
    normalize = torch.nn.functional.normalize
    for _ in range(10):
        order = rng.permutation(len(pairs))
        for start in range(0, len(order), 10):
            batch = [pairs[place] for place in order[start : start + 10]]
            if len(batch) < 2:
                continue
            x = queries[[number for number, _ in batch]]
            wanted = documents[[row for _, row in batch]]
            logits = 20 * normalize(x + layer(x), dim=1) @ wanted.T
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, torch.arange(len(batch))).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        x = torch.from_numpy(task.queries)
        return task.scores(normalize(x + layer(x), dim=1).numpy())


def film(task: Task) -> Scores:
    """A scale and a shift for every dimension (FiLM) from scratch: 30 steps of Adam at 0.003 on the listwise loss."""
    axes = axes_of(task.domain.basis, task.support.queries)
    still = State.identity(task.support.queries)
    scale = torch.zeros(len(axes), requires_grad=True)
    shift = torch.zeros(len(axes), requires_grad=True)
    optimizer = torch.optim.Adam([scale, shift], lr=0.003)

    def moved(queries: Tensor) -> Tensor:
        return transform(replace(still, spectral_gains=scale.exp(), shift=shift), axes, queries)

    for _ in range(30):
        optimizer.zero_grad()
        listwise_loss(moved(task.support.queries), task.support, 0.05).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return task.scores(moved(torch.from_numpy(task.queries)).numpy())


class Lexical:
    """BM25 over a domain's texts (Robertson & Zaragoza 2009), k1 = 1.5, b = 0.75, in Lucene's form."""

    def __init__(self, texts: LabelledTexts) -> None:
        """Index the documents. Raises InputError where the library for it is not installed."""
        try:
            import bm25s
        except ImportError as error:
            raise InputError(
                "bm25 needs a library: pip install 'semsearch[evaluate]', or leave it out of --methods"
            ) from error
        self._index = bm25s.BM25()
        self._index.index([words(text) for text in texts.documents], show_progress=False)

    def __call__(self, task: Task) -> Scores:
        """Score every document."""
        texts = task.domain.texts
        return np.stack([self._index.get_scores(words(texts.queries[row])) for row in task.asked]).astype(np.float32)

    def fused(self, task: Task) -> Scores:
        """Reciprocal rank fusion with the frozen ranking, k = 60 (Cormack et al. 2009)."""
        return _reciprocal_ranks(self(task)) + _reciprocal_ranks(frozen(task))


def _reciprocal_ranks(scores: Scores) -> Scores:
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(scores.shape[1])[None, :], axis=1)
    return (1 / (61 + ranks)).astype(np.float32)


_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def words(text: str) -> list[str]:
    """Lower-case words, English ones stemmed; scripts without spaces as pairs of characters."""
    import Stemmer

    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        if _UNSPACED.search(word):
            found += [word[place : place + 2] for place in range(max(1, len(word) - 1))]
        else:
            found.append(word)
    stems: list[str] = Stemmer.Stemmer("english").stemWords(found)
    return stems
