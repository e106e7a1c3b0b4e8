"""A support set: the labelled queries a domain is adapted on, and the documents they are told apart from.

Does not depend on files or learners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semsearch.errors import LabelError
from semsearch.types import Vectors

Judgments = Mapping[int, float]
"""Document row → gain ≥ 0, at least one above, for one query."""

MAX_DOCUMENTS = 2048
"""Documents a support set holds, unless more than that are relevant."""
UNJUDGED = 1000
"""Nearest documents of a query that may answer it without a judgment, where it was judged in part only."""
HARD_NEGATIVES_PER_QUERY = 24
"""Nearest documents of each query that a support set holds first of all."""


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """Labelled queries with every document that is relevant to one of them and a sample of all others."""

    queries: Tensor
    """(n, dim), unit rows."""
    documents: Tensor
    """(m, dim), unit rows."""
    relevance: Tensor
    """(n, m) ≥ 0, how relevant each document is; every row holds a positive number."""
    log_sampling_weight: Tensor
    """(m,) logarithm of how many documents of the corpus each one stands for."""
    unjudged: Tensor | None = None
    """(n, m) bool, True where nobody knows whether a document answers a query: then it neither counts for nor against.
    None where everything is known."""
    lexical_scores: Tensor | None = None
    """(n, m) ≥ 0, the cosine that the words of a query and a document are worth beside their meaning. None where
    rankings go by meaning alone."""

    @property
    def targets(self) -> Tensor:
        """(n, m) the gains as distributions: each row sums to 1."""
        return self.relevance / self.relevance.sum(dim=1, keepdim=True)

    def __len__(self) -> int:
        return len(self.queries)

    def of(self, rows: Tensor) -> Support:
        """The same documents with some of the queries."""
        return replace(
            self,
            queries=self.queries[rows],
            relevance=self.relevance[rows],
            unjudged=None if self.unjudged is None else self.unjudged[rows],
            lexical_scores=None if self.lexical_scores is None else self.lexical_scores[rows],
        )

    def subsample_negatives(self, most: int) -> Support:
        """The same queries with at most about `most` documents: every relevant one, the nearest of the others, and of
        the rest a few that stand for all of it."""
        columns = torch.arange(len(self.documents))
        relevant = (self.relevance > 0).any(dim=0)
        room = max(most - int(relevant.sum()), most // 4)
        others = columns[~relevant]
        if len(others) <= room:
            return self
        nearest = self.scores(self.queries)[:, others].max(dim=0).values.argsort(descending=True, stable=True)
        near, rest = others[nearest[: room // 2]], others[nearest[room // 2 :].sort().values]
        few = rest[torch.linspace(0, len(rest) - 1, room - len(near)).long()]
        kept = torch.cat((columns[relevant], near, few))
        offsets = self.log_sampling_weight.clone()
        offsets[few] += np.log(len(rest) / len(few))
        return replace(
            self,
            documents=self.documents[kept],
            relevance=self.relevance[:, kept],
            log_sampling_weight=offsets[kept],
            unjudged=None if self.unjudged is None else self.unjudged[:, kept],
            lexical_scores=None if self.lexical_scores is None else self.lexical_scores[:, kept],
        )

    def to(self, dtype: torch.dtype) -> Support:
        """The same in another precision."""
        return replace(
            self,
            queries=self.queries.to(dtype),
            documents=self.documents.to(dtype),
            relevance=self.relevance.to(dtype),
            log_sampling_weight=self.log_sampling_weight.to(dtype),
            lexical_scores=None if self.lexical_scores is None else self.lexical_scores.to(dtype),
        )

    def scores(self, queries: Tensor) -> Tensor:
        """(n, m) what the documents are ranked by for queries (n, dim) in place of the support set's own."""
        scores = queries @ self.documents.T
        return scores if self.lexical_scores is None else scores + self.lexical_scores

    def judged_scores(self, scores: Tensor) -> Tensor:
        """(n, m) scores or logits, those of unknown documents at minus infinity."""
        return scores if self.unjudged is None else scores.masked_fill(self.unjudged, float("-inf"))


def build_support(
    documents: Vectors,
    queries: Vectors,
    judgments: Sequence[Judgments],
    *,
    partial: Sequence[bool] | None = None,
    words: Sequence[Mapping[int, float]] | None = None,
    most: int = MAX_DOCUMENTS,
) -> Support:
    """The support set of judged queries over a corpus.

    documents: (N, dim) float32, unit rows; queries: (n, dim) float32, unit rows, n ≥ 1; judgments: n, one a query.
    partial: n, whether a query was judged in part only, as by a person who saw its first results; then what nobody
    judged, among its UNKNOWN nearest, counts neither for nor against it (condensed lists, Sakai 2007,
    doi:10.1145/1277741.1277756).
    words: n, what its words are worth to a query, ≥ 0, by document row; 0 for rows that are not there. By default
    rankings go by meaning alone. The order of the queries does not matter: they are sorted by their vectors, and what
    is sampled depends on N alone.

    Raises LabelError for a query without a relevant document, a row outside the corpus or a gain that is no finite
    number from 0.
    """
    if len(queries) != len(judgments) or not len(queries):
        raise LabelError(f"{len(queries)} queries and {len(judgments)} sets of judgments: give as many, at least 1")
    for number, judged in enumerate(judgments):
        if not any(judged.values()):
            raise LabelError(f"query {number} has no relevant document: leave it out")
        for row, gain in judged.items():
            if not 0 <= row < len(documents):
                raise LabelError(f"query {number} is judged on row {row} of a corpus of {len(documents)} documents")
            if not (np.isfinite(gain) and gain >= 0):
                raise LabelError(f"query {number}, row {row}: the gain is {gain}, not a number from 0")
    order = np.lexsort(queries.T[::-1])
    queries, judgments = queries[order], [judgments[place] for place in order]
    partly = np.array(partial or [False] * len(judgments))[order]
    worded = [words[place] for place in order] if words is not None else None
    rows, offsets = _sample(documents, queries, judgments, worded or [], most)
    place = {row: column for column, row in enumerate(rows.tolist())}
    gains = _matrix(judgments, place)
    lexical = None if worded is None else _matrix(worded, place)
    unknown = None
    if partly.any():
        scores = queries @ documents[rows].T
        scores = scores if lexical is None else scores + lexical
        depth = min(UNJUDGED, len(rows))
        edge = np.partition(scores, len(rows) - depth, axis=1)[:, len(rows) - depth]
        known = _matrix([dict.fromkeys(judged, 1.0) for judged in judgments], place) > 0
        unknown = torch.from_numpy((scores >= edge[:, None]) & ~known & partly[:, None])
    return Support(
        torch.from_numpy(queries),
        torch.from_numpy(documents[rows]),
        torch.from_numpy(gains),
        torch.from_numpy(offsets),
        unknown,
        None if lexical is None else torch.from_numpy(lexical),
    )


def _matrix(values: Sequence[Mapping[int, float]], place: Mapping[int, int]) -> npt.NDArray[np.float32]:
    """(n, len(place)) the values by row, in their rows' places; 0 where there is none."""
    matrix = np.zeros((len(values), len(place)), np.float32)
    for number, by_row in enumerate(values):
        for row, value in by_row.items():
            if row in place:
                matrix[number, place[row]] = value
    return matrix


def _sample(
    documents: Vectors,
    queries: Vectors,
    judgments: Sequence[Judgments],
    worded: Sequence[Mapping[int, float]],
    most: int,
) -> tuple[np.ndarray, Vectors]:
    """Rows of the support set's documents, and how many each one stands for (its logarithm).

    Judged documents and the nearest ones stand for themselves, drawn ones for all that were not drawn.
    """
    count = len(documents)
    if count <= most:
        return np.arange(count), np.zeros(count, np.float32)
    certain = np.zeros(count, bool)
    certain[[row for judged in judgments for row in judged]] = True
    near = _nearest(queries @ documents.T)
    if worded:
        worth = np.zeros((len(queries), count), np.float32)
        for number, by_row in enumerate(worded):
            worth[number, list(by_row)] = list(by_row.values())
        near = np.stack((near, _nearest(worth)), axis=2).reshape(len(queries), -1)
    # the nearest first, while they leave half of the room to the draw
    for rank in range(near.shape[1]):
        if certain.sum() >= most // 2:
            break
        certain[near[:, rank]] = True
    others = np.flatnonzero(~certain)
    drawn = min(len(others), max(most - int(certain.sum()), most // 4))
    sample = np.random.default_rng(count).choice(others, drawn, replace=False)
    rows = np.concatenate([np.flatnonzero(certain), np.sort(sample)])
    offsets = np.zeros(len(rows), np.float32)
    offsets[len(rows) - drawn :] = np.log(len(others) / drawn)
    return rows, offsets


def _nearest(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """(n, HARD_PER_QUERY) columns of each row's highest scores, best first."""
    top = np.argpartition(-scores, HARD_NEGATIVES_PER_QUERY, axis=1)[:, :HARD_NEGATIVES_PER_QUERY]
    order = np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable")
    return np.take_along_axis(top, order, 1)
