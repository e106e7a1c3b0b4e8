"""Which type of index a corpus gets, and with how much effort it is searched: measured on this machine, not assumed.

Does not depend on texts or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from semsearch.errors import InputError
from semsearch.ingest.recipe import IndexOptions
from semsearch.search.ranking import FUSION_DEPTH
from semsearch.storage.manifest import IndexRecord
from semsearch.storage.vectors import EF_CONSTRUCTION, HNSW_M, Precision, VectorIndex
from semsearch.system.files import drop_pages
from semsearch.types import Rows, Scores, Vectors

EF_CONSTRUCTION_STEPS = (EF_CONSTRUCTION, 3 * EF_CONSTRUCTION)
"""Candidates looked at for a row's neighbours while linking: more, which takes three times as long, where the first
graph does not find enough."""
EF_SEARCH_STEPS = (FUSION_DEPTH, 150, 200, 300, 500, 800)
"""Candidates kept along the graph, tried in turn; a search to be fused with words asks for the first of them anyway."""
DEPTH = 10
"""Places that recall counts."""
TOLERANCE = 2e-6
"""Scores nearer than this are equal: sums of another order differ in the last bits."""
NUMBER_BYTES: dict[Precision, int] = {"float32": 4, "float16": 2, "int8": 1}
"""Of one number of a vector; the most exact first."""
LINK_BYTES = 4 * 2 * HNSW_M + 12
"""Of one vector's place in a graph, about."""
AT_ONCE = 5_000
"""Rows added between two reports."""


@dataclass(frozen=True, slots=True)
class LinkingGraph:
    """Rows linked to their neighbours so far."""

    rows: int
    of_rows: int


@dataclass(frozen=True, slots=True)
class SelectedIndex:
    """The finished index, and why it is what it is."""

    index: VectorIndex
    record: IndexRecord


def select_index(
    vectors: Vectors, asked: Callable[[], Vectors], options: IndexOptions, *, threads: int
) -> Iterator[LinkingGraph | SelectedIndex]:
    """An index of (n, dim) float32 unit rows, of the type and the precision that the options ask for.

    asked: gives (m, dim) float32, unit rows that are not among the vectors, as people may ask; recall is measured on
    them, against a comparison of all vectors as they were given, where there is anything to measure.

    Raises InputError where no effort reaches the recall that is asked for, or nothing fits the memory.
    """
    exact = VectorIndex.exact(vectors.shape[1], threads=threads)
    for _ in _added(vectors, exact):
        pass
    took_ms = _one_query_ms(exact, vectors)
    linked = options.type == "hnsw" or (options.type == "auto" and took_ms > options.exact_ms)
    precision, kept = _precision(vectors.shape, options, linked=linked)
    reasons = [_type_reason(options, took_ms), *([kept] if kept else [])]
    if not linked and precision == "float32":
        yield SelectedIndex(exact, IndexRecord(reason="; ".join(reasons)))
        return
    queries = asked()
    truth = exact.search(queries, DEPTH)[0]
    del exact
    what, reached = f"{len(vectors)} vectors compared as {precision}", -1.0
    for breadth in EF_CONSTRUCTION_STEPS if linked else (None,):
        if breadth is None:
            index = VectorIndex.exact(vectors.shape[1], precision=precision, threads=threads)
        else:
            what = f"a graph over {len(vectors)} vectors as {precision}"
            index = VectorIndex.hnsw(vectors.shape[1], precision=precision, ef_construction=breadth, threads=threads)
        index.train(vectors)
        yield from _added(vectors, index)
        for effort in EF_SEARCH_STEPS if linked else (None,):
            rows = index.search(queries, FUSION_DEPTH, ef_search=effort)[1]
            # what was rounded is judged by what it was
            shares = recall_of(_true_scores(vectors, queries, rows[:, :DEPTH]), truth)
            reached = float(shares.mean())
            # by a standard error more than was asked for: other queries than these will be asked
            if reached - shares.std() / np.sqrt(len(shares)) >= options.recall or reached == 1:
                took = f"a query takes {_one_query_ms(index, queries, effort=effort):.2f} ms"
                record = IndexRecord(
                    type="hnsw" if linked else "exact",
                    vectors=precision,
                    reason="; ".join([*reasons, *([f"linked with {breadth} candidates"] if linked else []), took]),
                    ef_search=effort,
                    recall=round(reached, 4),
                    queries=len(queries),
                )
                yield SelectedIndex(index, record)
                return
    raise InputError(
        f"{what} reaches a recall@10 of {reached:.4f}"
        + (f" with {EF_SEARCH_STEPS[-1]} candidates" if linked else "")
        + f", not {options.recall:g}: set index.recall lower, index.vectors to float32, or index.type to exact"
    )


def _added(vectors: Vectors, index: VectorIndex) -> Iterator[LinkingGraph]:
    """Add vectors to an empty index, of which memory holds one copy at a time."""
    index.reserve(len(vectors))
    for start in range(0, len(vectors), AT_ONCE):
        yield LinkingGraph(start, len(vectors))
        index.add(vectors[start : start + AT_ONCE])
        drop_pages(vectors)
    yield LinkingGraph(len(vectors), len(vectors))


def _type_reason(options: IndexOptions, took_ms: float) -> str:
    if options.type != "auto":
        return f"{options.type} was asked for"
    over = "over" if took_ms > options.exact_ms else "at most"
    return f"comparing all takes {took_ms:.2f} ms a query here, {over} {options.exact_ms:g}"


def _precision(shape: tuple[int, ...], options: IndexOptions, *, linked: bool) -> tuple[Precision, str]:
    """How vectors are kept, and why, where that is not a matter of course."""
    rows, dimension = shape
    mib: dict[Precision, float] = {
        precision: rows * (size * dimension + (LINK_BYTES if linked else 0)) / 2**20
        for precision, size in NUMBER_BYTES.items()
    }
    if options.vectors != "auto":
        precision = options.vectors
    elif options.memory_mib is None:
        return "float32", ""
    else:
        fitting = [one for one, needed in mib.items() if needed <= options.memory_mib]
        precision = fitting[0] if fitting else "int8"
    if options.memory_mib is not None and mib[precision] > options.memory_mib:
        raise InputError(
            f"{rows} vectors as {precision} take {mib[precision]:.0f} MiB, index.memory_mib allows"
            f" {options.memory_mib:g}: allow more, or index fewer passages"
        )
    asked = "asked for" if options.vectors != "auto" else f"within {options.memory_mib:g} MiB"
    return precision, f"{precision} vectors take {mib[precision]:.0f} MiB, {asked}"


def _true_scores(vectors: Vectors, queries: Vectors, rows: Rows) -> Scores:
    """(n, k) what was found as it scores against the vectors as they were given, -inf where nothing was."""
    scores: Scores = np.einsum("nd,nkd->nk", queries, vectors[np.maximum(rows, 0)]).astype(np.float32)
    return np.where(rows >= 0, scores, -np.inf)


def _one_query_ms(index: VectorIndex, queries: Vectors, *, effort: int | None = None) -> float:
    """Median milliseconds of a search for one query."""
    seconds = []
    for row in range(min(50, len(queries))):
        started = perf_counter()
        index.search(queries[row : row + 1], FUSION_DEPTH, ef_search=effort)
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
