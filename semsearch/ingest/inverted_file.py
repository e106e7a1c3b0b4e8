"""Builds the parts of an index that need not fit memory: lists, rows and the true scores of queries, block by block.

Does not depend on texts or on how an index is selected.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import faiss
import numpy as np

from semsearch.storage.approximate import TRAINING_ROWS, InvertedFile, list_count
from semsearch.storage.index_checkpoint import IndexCheckpoint
from semsearch.storage.vectors import Precision, Ranges, VectorIndex
from semsearch.system.files import drop_pages
from semsearch.types import Scores, Vectors

ROWS_AT_A_TIME = 5_000
"""Rows added between two progress reports."""
ROWS_PER_CHECKPOINT = 1_000_000
"""Rows whose lists are computed again at most if the process is killed."""
QUANTIZER_ROWS = 100_000
"""Rows of the sample to which the quantizer of stored rows is fitted."""
COMPARED_ROWS = 50_000
"""Rows whose scores are held at a time while queries are compared with all rows."""


@dataclass(frozen=True, slots=True)
class LinkingGraph:
    """Progress: rows added to an index."""

    rows: int
    of_rows: int


def fill_lists(
    vectors: Vectors, checkpoint: IndexCheckpoint | None, *, threads: int
) -> Generator[LinkingGraph, None, InvertedFile]:
    """Train an inverted file on a sample of (n, dim) unit vectors, add all of them and return it.

    checkpoint: where to continue, and to save what is done.
    """
    lists = checkpoint.load() if checkpoint is not None else None
    yield LinkingGraph(0, len(vectors))
    # FAISS keeps this setting per calling thread
    faiss.omp_set_num_threads(threads)
    if lists is None:
        lists = InvertedFile.empty(vectors.shape[1], lists=list_count(len(vectors)))
        lists.train(sample_rows(vectors, TRAINING_ROWS * lists.lists))
        if checkpoint is not None:
            checkpoint.save(lists)
    saved = lists.count
    for start in range(lists.count, len(vectors), ROWS_AT_A_TIME):
        faiss.omp_set_num_threads(threads)
        lists.append(vectors[start : start + ROWS_AT_A_TIME])
        drop_pages(vectors)
        yield LinkingGraph(lists.count, len(vectors))
        if checkpoint is not None and lists.count - saved >= ROWS_PER_CHECKPOINT:
            checkpoint.save(lists)
            saved = lists.count
    if checkpoint is not None and lists.count > saved:
        # measuring recall and storing rows follow, which also take minutes
        checkpoint.save(lists)
    return lists


def store_rows(vectors: Vectors, precision: Precision, *, threads: int, ranges: Ranges | None = None) -> VectorIndex:
    """Return an exact index of (n, dim) unit vectors, whose quantizer is fitted to a sample of them.

    ranges: as of `VectorIndex.train`.
    """
    index = VectorIndex.exact(vectors.shape[1], precision=precision, threads=threads)
    if precision != "float32":
        index.train(sample_rows(vectors, QUANTIZER_ROWS), ranges)
    index.reserve(len(vectors))
    for start in range(0, len(vectors), ROWS_AT_A_TIME):
        index.add(vectors[start : start + ROWS_AT_A_TIME])
        drop_pages(vectors)
    return index


def highest_scores(vectors: Vectors, queries: Vectors, depth: int, *, threads: int) -> Scores:
    """Return the `depth` highest cosines, (m, depth), of (m, dim) queries and (n, dim) unit vectors, best first.

    Ranks that no vector can fill are -inf.
    """
    best = np.full((len(queries), depth), -np.inf, np.float32)
    for start in range(0, len(vectors), COMPARED_ROWS):
        block = VectorIndex.exact(vectors.shape[1], threads=threads)
        block.add(vectors[start : start + COMPARED_ROWS])
        drop_pages(vectors)
        best = -np.sort(-np.concatenate([best, block.search(queries, depth)[0]], axis=1), axis=1)[:, :depth]
    return best


def sample_rows(vectors: Vectors, count: int) -> Vectors:
    """Return up to `count` of the vectors, drawn at random with a fixed seed, in their order."""
    if count >= len(vectors):
        return np.ascontiguousarray(vectors)
    chosen = np.sort(np.random.default_rng(0).choice(len(vectors), count, replace=False))
    sample = np.empty((count, vectors.shape[1]), np.float32)
    for start in range(0, count, ROWS_AT_A_TIME):
        sample[start : start + ROWS_AT_A_TIME] = vectors[chosen[start : start + ROWS_AT_A_TIME]]
        drop_pages(vectors)
    return sample
