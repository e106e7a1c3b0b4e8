"""Which type of index a corpus gets, and with how much effort it is searched: measured on this machine, not assumed.

Knows nothing of texts or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from semsearch.indexing.recipe import IndexOptions
from semsearch.ranking import FUSED
from semsearch.records import InputError, Scores, Vectors
from semsearch.storage.manifest import IndexRecord
from semsearch.storage.vectors import VectorIndex

EFFORTS = (FUSED, 150, 200, 300, 500, 800)
"""Candidates kept along the graph, tried in turn; a search to be fused with words asks for the first of them anyway."""
DEPTH = 10
"""Places that recall counts."""
TOLERANCE = 2e-6
"""Scores nearer than this are equal: sums of another order differ in the last bits."""
AT_ONCE = 5_000
"""Rows added between two reports."""


@dataclass(frozen=True, slots=True)
class Linking:
    """Rows linked to their neighbours so far."""

    rows: int
    of_rows: int


@dataclass(frozen=True, slots=True)
class Sized:
    """The finished index, and why it is what it is."""

    index: VectorIndex
    record: IndexRecord


def size(
    vectors: Vectors, asked: Callable[[], Vectors], options: IndexOptions, *, threads: int
) -> Iterator[Linking | Sized]:
    """An index of (n, dim) float32 unit rows, of the type that the options ask for.

    asked: gives (m, dim) float32, unit rows that are not among the vectors, as people may ask; recall is measured on
    them, where there is one to measure.

    Raises InputError where no effort reaches the recall that is asked for.
    """
    exact = VectorIndex.exact(vectors.shape[1], threads=threads)
    exact.add(vectors)
    took_ms = _one_query_ms(exact, vectors)
    if options.type == "exact" or (options.type == "auto" and took_ms <= options.exact_ms):
        why = "asked for" if options.type == "exact" else f"{took_ms:.2f} ms a query here, at most {options.exact_ms:g}"
        yield Sized(exact, IndexRecord(why=why))
        return
    queries = asked()
    truth = exact.nearest(queries, DEPTH)[0]
    del exact
    graph = VectorIndex.hnsw(vectors.shape[1], threads=threads)
    for start in range(0, len(vectors), AT_ONCE):
        yield Linking(start, len(vectors))
        graph.add(vectors[start : start + AT_ONCE])
    yield Linking(len(vectors), len(vectors))
    for effort in EFFORTS:
        shares = recall_of(graph.nearest(queries, FUSED, effort=effort)[0], truth)
        recall = float(shares.mean())
        # by a standard error more than was asked for: other queries than these will be asked
        if recall - shares.std() / np.sqrt(len(shares)) >= options.recall or recall == 1:
            break
    else:
        raise InputError(
            f"a graph over {len(vectors)} vectors reaches a recall@10 of {recall:.4f} with {effort} candidates, not"
            f" {options.recall:g}: set index.recall lower, or index.type to exact"
        )
    reached_ms = _one_query_ms(graph, queries, effort=effort)
    why = (
        "asked for"
        if options.type == "hnsw"
        else f"exact took {took_ms:.2f} ms a query here, over {options.exact_ms:g}"
    )
    yield Sized(
        graph,
        IndexRecord(
            type="hnsw",
            why=f"{why}; the graph takes {reached_ms:.2f} ms",
            effort=effort,
            recall=round(recall, 4),
            queries=len(queries),
        ),
    )


def _one_query_ms(index: VectorIndex, queries: Vectors, *, effort: int | None = None) -> float:
    """Median milliseconds of a search for one query."""
    seconds = []
    for row in range(min(50, len(queries))):
        started = perf_counter()
        index.nearest(queries[row : row + 1], FUSED, effort=effort)
        seconds.append(perf_counter() - started)
    return 1000 * median(seconds)


def recall_of(found: Scores, truth: Scores) -> Scores:
    """(n,) the share of true places that were filled with what is as near, so that of equal documents any will do.

    found: (n, k) scores, best first, k ≥ m; truth: (n, m) the highest scores there are.
    """
    last = np.where(np.isfinite(truth), truth, np.inf).min(axis=1, keepdims=True)
    enough = found[:, : truth.shape[1]] >= last - TOLERANCE
    shares: Scores = enough.sum(axis=1) / np.isfinite(truth).sum(axis=1)
    return shares
