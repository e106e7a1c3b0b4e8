"""A support set: the labelled queries that a domain is adapted on, and the documents they are ranked over.

Does not depend on files or learners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semsearch.adapters.ndcg import ndcg
from semsearch.errors import LabelError
from semsearch.types import Rows, Vectors

Judgments = Mapping[int, float]
"""Document row → relevance ≥ 0 for one query; at least one is above 0."""

MAX_DOCUMENTS = 2048
"""Most documents of a support set, unless more are judged."""
UNJUDGED_DEPTH = 1000
"""Ranks of a partially judged query within which it is unknown whether unjudged documents are relevant."""
UNJUDGED_WEIGHT = 0.3
"""Share of an unjudged document's probability in a loss: it is probably irrelevant."""
HARD_NEGATIVES_PER_QUERY = 24
"""Nearest documents of each query that are added to a support set before others are sampled."""


class Documents(Protocol):
    """The documents that queries are ranked over, by row."""

    def __len__(self) -> int: ...

    def vectors(self, rows: Rows, /) -> Vectors:
        """Return the vectors of n rows, (n, dim) float32, unit rows."""
        ...

    def nearest(self, queries: Vectors, k: int, /) -> Rows:
        """Return the rows nearest to each of n queries, (n, k), best first; -1 for ranks that none was found for."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """Labelled queries with every judged document and a sample of all others."""

    queries: Tensor
    """(n, dim), unit rows."""
    documents: Tensor
    """(m, dim), unit rows."""
    relevance: Tensor
    """(n, m) ≥ 0; every row holds a positive number."""
    log_sampling_weight: Tensor
    """(m,) logarithm of the number of documents of the corpus that each document represents."""
    unjudged: Tensor | None = None
    """(n, m) bool, True if it is unknown whether a document is relevant. None: all is known."""
    lexical_scores: Tensor | None = None
    """(n, m) ≥ 0, added to the cosine of query and document. None: rankings are dense only."""

    @property
    def targets(self) -> Tensor:
        """(n, m) relevance as distributions: each row sums to 1."""
        return self.relevance / self.relevance.sum(dim=1, keepdim=True)

    @property
    def has_one_answer(self) -> bool:
        """Whether one document answers more than half of the queries, and few of them have another answer."""
        relevant = self.relevance > 0
        is_frequent = int(relevant.sum(dim=0).max()) > len(self) / 2
        return is_frequent and float(relevant.sum(dim=1).float().mean()) < 2

    @property
    def chance_ndcg(self) -> Tensor:
        """(n,) nDCG@10 that a random order of each query's judged documents has on average.

        It is 0 for fully judged queries: of a whole corpus, a random order finds next to nothing. Of the first results
        of a search, whatever is marked among them, it finds much.
        """
        chance = self.queries.new_zeros(len(self))
        if self.unjudged is None:
            return chance
        judged = min(UNJUDGED_DEPTH, len(self.documents)) - self.unjudged.sum(dim=1)
        for query in torch.nonzero(self.unjudged.any(dim=1))[:, 0].tolist():
            relevance = self.relevance[query].double().numpy()
            count = max(int(judged[query]), int((relevance > 0).sum()))
            # every rank holds the mean relevance on average
            chance[query] = float(ndcg(np.full(count, relevance.sum() / count), relevance))
        return chance

    def __len__(self) -> int:
        return len(self.queries)

    def select(self, rows: Tensor) -> Support:
        """Return the support set of some of the queries, with the same documents."""
        return replace(
            self,
            queries=self.queries[rows],
            relevance=self.relevance[rows],
            unjudged=None if self.unjudged is None else self.unjudged[rows],
            lexical_scores=None if self.lexical_scores is None else self.lexical_scores[rows],
        )

    def subsample_negatives(self, max_documents: int) -> Support:
        """Return the support set of the same queries with at most about `max_documents` documents.

        These are every relevant one, the nearest of the others, and an evenly spaced sample of the rest, whose sampling
        weights are raised to represent all of it.
        """
        columns = torch.arange(len(self.documents))
        relevant = (self.relevance > 0).any(dim=0)
        budget = max(max_documents - int(relevant.sum()), max_documents // 4)
        others = columns[~relevant]
        if len(others) <= budget:
            return self
        by_score = self.scores(self.queries)[:, others].max(dim=0).values.argsort(descending=True, stable=True)
        nearest, rest = others[by_score[: budget // 2]], others[by_score[budget // 2 :].sort().values]
        sample = rest[torch.linspace(0, len(rest) - 1, budget - len(nearest)).long()]
        selected = torch.cat((columns[relevant], nearest, sample))
        log_sampling_weight = self.log_sampling_weight.clone()
        log_sampling_weight[sample] += np.log(len(rest) / len(sample))
        return replace(
            self,
            documents=self.documents[selected],
            relevance=self.relevance[:, selected],
            log_sampling_weight=log_sampling_weight[selected],
            unjudged=None if self.unjudged is None else self.unjudged[:, selected],
            lexical_scores=None if self.lexical_scores is None else self.lexical_scores[:, selected],
        )

    def to(self, dtype: torch.dtype) -> Support:
        """Return the support set in another precision."""
        return replace(
            self,
            queries=self.queries.to(dtype),
            documents=self.documents.to(dtype),
            relevance=self.relevance.to(dtype),
            log_sampling_weight=self.log_sampling_weight.to(dtype),
            lexical_scores=None if self.lexical_scores is None else self.lexical_scores.to(dtype),
        )

    def scores(self, queries: Tensor) -> Tensor:
        """(n, m) scores of the documents, if (n, dim) `queries` replace those of the support set."""
        scores = queries @ self.documents.T
        return scores if self.lexical_scores is None else scores + self.lexical_scores

    def judged_scores(self, scores: Tensor) -> Tensor:
        """(n, m) scores, with minus infinity for unjudged documents: they are left out of a measured ranking."""
        return scores if self.unjudged is None else scores.masked_fill(self.unjudged, float("-inf"))

    def logits(self, queries: Tensor, temperature: Tensor | float) -> Tensor:
        """(n, m) logits of the documents for (n, dim) queries: scores over the temperature, plus sampling weights.

        An unjudged document counts as irrelevant with UNJUDGED_WEIGHT. Left out, as of a measured ranking, it would
        leave a clicked document without any to be compared with, and nothing would be learned from clicks.
        """
        logits = self.scores(queries) / temperature + self.log_sampling_weight
        return logits if self.unjudged is None else logits + self.unjudged * float(np.log(UNJUDGED_WEIGHT))


def build_support(
    documents: Vectors | Documents,
    queries: Vectors,
    judgments: Sequence[Judgments],
    *,
    partially_judged: Sequence[bool] | None = None,
    lexical_scores: Sequence[Mapping[int, float]] | None = None,
    max_documents: int = MAX_DOCUMENTS,
) -> Support:
    """Build the support set of judged queries over a corpus.

    The queries are sorted by their vectors, and the sample depends only on N, so the result does not depend on the
    order of the queries.

    documents: (N, dim) float32, unit rows, each of which is compared with each query; or an index that searches them.
    queries: (n, dim) float32, unit rows, n ≥ 1.
    judgments: one for each query.
    partially_judged: for each query, whether unjudged documents may be relevant, as after judgments of the first hits
    only. Those among its UNJUDGED_DEPTH nearest are then left out of a measured ranking (condensed lists, Sakai
    2007, doi:10.1145/1277741.1277756), and weak negatives in a loss. By default none is.
    lexical_scores: for each query, document row → score ≥ 0 that is added to the cosine; 0 for rows not given. By
    default rankings are dense only.
    max_documents: the sample's size limit; judged documents are always included.

    Raises LabelError for a query without a relevant document, a row outside the corpus, or a relevance that is negative
    or not finite.
    """
    if isinstance(documents, np.ndarray):
        documents = _AllCompared(documents)
    _check_judgments(judgments, queries=len(queries), documents=len(documents))
    order = np.lexsort(queries.T[::-1])
    queries, judgments = queries[order], [judgments[index] for index in order]
    partial = np.array(partially_judged or [False] * len(judgments))[order]
    lexical = None if lexical_scores is None else [lexical_scores[index] for index in order]
    rows, log_sampling_weight = _sample(documents, queries, judgments, lexical or [], max_documents)
    column_of = {row: column for column, row in enumerate(rows.tolist())}
    sampled = documents.vectors(rows)
    relevance = _matrix(judgments, column_of)
    lexical_matrix = None if lexical is None else _matrix(lexical, column_of)
    unjudged = None
    if partial.any():
        scores = queries @ sampled.T
        scores = scores if lexical_matrix is None else scores + lexical_matrix
        judged = _matrix([dict.fromkeys(relevance_of, 1.0) for relevance_of in judgments], column_of) > 0
        unjudged = torch.from_numpy(_within_depth(scores, UNJUDGED_DEPTH) & ~judged & partial[:, None])
    return Support(
        torch.from_numpy(queries),
        torch.from_numpy(sampled),
        torch.from_numpy(relevance),
        torch.from_numpy(log_sampling_weight),
        unjudged,
        None if lexical_matrix is None else torch.from_numpy(lexical_matrix),
    )


def _check_judgments(judgments: Sequence[Judgments], *, queries: int, documents: int) -> None:
    if queries != len(judgments) or not queries:
        raise LabelError(f"{queries} queries and {len(judgments)} sets of judgments: give as many, at least 1")
    for number, judged in enumerate(judgments):
        if not any(judged.values()):
            raise LabelError(f"query {number} has no relevant document: leave it out")
        for row, relevance in judged.items():
            if not 0 <= row < documents:
                raise LabelError(f"query {number} is judged on row {row} of a corpus of {documents} documents")
            if not (np.isfinite(relevance) and relevance >= 0):
                raise LabelError(f"query {number}, row {row}: the relevance is {relevance}, not a finite number ≥ 0")


def _within_depth(scores: npt.NDArray[np.float32], depth: int) -> npt.NDArray[np.bool_]:
    """(n, m) whether a score is among the `depth` highest of its row."""
    columns = scores.shape[1]
    depth = min(depth, columns)
    threshold = np.partition(scores, columns - depth, axis=1)[:, columns - depth]
    within: npt.NDArray[np.bool_] = scores >= threshold[:, None]
    return within


def _matrix(values: Sequence[Mapping[int, float]], column_of: Mapping[int, int]) -> npt.NDArray[np.float32]:
    """(n, len(column_of)) values by document row as a dense matrix; rows without a column are left out."""
    matrix = np.zeros((len(values), len(column_of)), np.float32)
    for number, by_row in enumerate(values):
        for row, value in by_row.items():
            if row in column_of:
                matrix[number, column_of[row]] = value
    return matrix


@dataclass(frozen=True, slots=True, eq=False)
class _AllCompared:
    """Documents whose vectors, (N, dim), are compared with every query."""

    all_vectors: Vectors

    def __len__(self) -> int:
        return len(self.all_vectors)

    def vectors(self, rows: Rows) -> Vectors:
        return self.all_vectors[rows]

    def nearest(self, queries: Vectors, k: int) -> Rows:
        scores = queries @ self.all_vectors.T
        top = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable")
        return np.take_along_axis(top, order, 1)


def _sample(
    documents: Documents,
    queries: Vectors,
    judgments: Sequence[Judgments],
    lexical: Sequence[Mapping[int, float]],
    max_documents: int,
) -> tuple[Rows, Vectors]:
    """Return the rows of the support set's documents, and (m,) logarithms of their sampling weights.

    Judged and nearest documents represent themselves; sampled ones represent all that were not sampled.
    """
    count = len(documents)
    if count <= max_documents:
        return np.arange(count), np.zeros(count, np.float32)
    certain = np.zeros(count, bool)
    certain[[row for judged in judgments for row in judged]] = True
    nearest = documents.nearest(queries, HARD_NEGATIVES_PER_QUERY)
    matches = [sorted(by_row, key=lambda row: (-by_row[row], row))[:HARD_NEGATIVES_PER_QUERY] for by_row in lexical]
    # by rank, as long as half of the budget remains for the random sample
    for rank in range(HARD_NEGATIVES_PER_QUERY):
        found = nearest[:, rank]
        for rows in (found[found >= 0], [of_query[rank] for of_query in matches if rank < len(of_query)]):
            if certain.sum() < max_documents // 2:
                certain[rows] = True
    others = np.flatnonzero(~certain)
    size = min(len(others), max(max_documents - int(certain.sum()), max_documents // 4))
    sample = np.random.default_rng(count).choice(others, size, replace=False)
    rows = np.concatenate([np.flatnonzero(certain), np.sort(sample)])
    log_sampling_weight = np.zeros(len(rows), np.float32)
    log_sampling_weight[len(rows) - size :] = np.log(len(others) / size)
    return rows, log_sampling_weight
