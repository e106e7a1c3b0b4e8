"""Selects a vector index's type, precision and search parameters from measurements on this machine.

Does not depend on texts or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from time import perf_counter

import numpy as np

from semsearch.errors import InputError
from semsearch.ingest.inverted_file import ROWS_AT_A_TIME, LinkingGraph, fill_lists, highest_scores, store_rows
from semsearch.ingest.recipe import IndexOptions
from semsearch.search.ranking import FUSION_DEPTH
from semsearch.storage.approximate import EF_CONSTRUCTION, HNSW_M, list_bytes
from semsearch.storage.index_checkpoint import IndexCheckpoint
from semsearch.storage.manifest import IndexRecord
from semsearch.storage.vectors import IndexType, Precision, Ranges, VectorIndex
from semsearch.system.files import drop_pages
from semsearch.system.memory import machine_memory
from semsearch.types import Rows, Scores, Vectors

EF_CONSTRUCTION_STEPS = (EF_CONSTRUCTION, 3 * EF_CONSTRUCTION)
"""ef_construction of the first graph and, if it misses the recall, of a second one, which takes 3 times as long."""
EF_SEARCH_STEPS = (FUSION_DEPTH, 150, 200, 300, 500, 800)
"""Values of ef_search, tried in turn; hybrid search asks for at least the first number of passages anyway."""
DEPTH = 10
"""Recall is measured at this depth."""
TOLERANCE = 2e-6
"""Scores that differ by less are equal: the last bits depend on the order of summation."""
BYTES_PER_VALUE: dict[Precision, int] = {"float32": 4, "float16": 2, "int8": 1}
"""By falling precision."""
GRAPH_BYTES = 4 * 2 * HNSW_M + 12
"""Approximate size of one vector's links."""
MEMORY_SHARE = 0.5
"""Share of the machine's memory that vectors and graph may take if the options give no limit."""
STORED_SHARE = 0.8
"""Share of the machine's memory that the lists and the stored rows of an inverted file may take while it is built."""
LIST_STEPS = (64, 96, 128, 192, 256, 384, 512, 1_024)
"""Numbers of lists of an inverted file that a search scans, tried in turn."""
LIST_MARGIN = 2
"""Standard errors by which the recall of an inverted file must exceed what is wanted. A query whose nearest list is not
scanned loses all of its nearest passages at once: with a margin of 1, a recall of 0.988 on 200 queries was one of 0.961
on 500 others."""


@dataclass(frozen=True, slots=True)
class SelectedIndex:
    """The finished index, and the record of why it was selected."""

    index: VectorIndex
    record: IndexRecord


def select_index(
    vectors: Vectors,
    encode_queries: Callable[[], Vectors],
    options: IndexOptions,
    *,
    threads: int,
    open_checkpoint: Callable[[], IndexCheckpoint] | None = None,
    ranges: Ranges | None = None,
) -> Iterator[LinkingGraph | SelectedIndex]:
    """Build the first index, in order of build time, that reaches the options' recall.

    vectors: (n, dim) float32, unit rows.
    encode_queries: returns (m, dim) float32 unit rows, realistic queries that are not among the vectors. Called only if
    recall has to be measured, which is done against an exact search of the vectors as given.
    open_checkpoint: opens the place where an inverted file is saved and continued. Called only if one is built.
    ranges: as of `VectorIndex.train`.

    An inverted file is built in the memory of its lists, of the stored rows and of a sample of the vectors; the other
    types hold the vectors once more, in the precision of the index.

    Yields progress, the selected index last. Raises InputError if no candidate reaches the recall, or if the vectors do
    not fit the memory limit, or the rows of an inverted file the machine's memory.
    """

    @cache
    def measured_truth() -> tuple[Vectors, Scores]:
        queries = encode_queries()
        return queries, highest_scores(vectors, queries, DEPTH, threads=threads)

    too_large = _exceeds_memory(vectors.shape, options) if options.type == "auto" else ""
    if options.type == "ivf" or too_large:
        yield from _select_lists(
            vectors,
            measured_truth,
            options,
            too_large or "ivf was asked for",
            open_checkpoint,
            threads=threads,
            ranges=ranges,
        )
        return
    # for `auto`, what fits with a graph fits without one, in the same precision
    precision, _ = _precision(vectors.shape, options, linked=options.type != "exact")
    exact, exact_ms = None, 0.0
    if options.type != "hnsw":
        exact = VectorIndex.exact(vectors.shape[1], precision=precision, threads=threads)
        exact.train(vectors, ranges)
        for _ in _add(vectors, exact):
            pass
        exact_ms = _query_ms(exact, vectors)
        if options.type == "auto" and exact_ms > options.exact_ms:
            exact = None
    _, precision_reason = _precision(vectors.shape, options, linked=exact is None)
    reasons = [_type_reason(options, exact_ms), *([precision_reason] if precision_reason else [])]
    if exact is not None and precision == "float32":
        yield SelectedIndex(exact, IndexRecord(reason="; ".join(reasons)))
        return
    trial = _Trial(vectors, *measured_truth(), options.recall)
    if exact is not None:
        if trial.passes(exact, (None,)):
            yield SelectedIndex(exact, trial.record("exact", precision, reasons))
            return
        raise InputError(
            f"{len(vectors)} vectors compared as {precision} reach a recall@10 of {trial.recall:.4f}, not"
            f" surely {options.recall:g}: set index.recall lower, or index.vectors to float32"
        )
    for ef_construction in EF_CONSTRUCTION_STEPS:
        graph = VectorIndex.hnsw(
            vectors.shape[1], precision=precision, ef_construction=ef_construction, threads=threads
        )
        graph.train(vectors, ranges)
        yield from _add(vectors, graph)
        if trial.passes(graph, EF_SEARCH_STEPS):
            reasons.append(f"linked with {ef_construction} candidates")
            yield SelectedIndex(graph, trial.record("hnsw", precision, reasons))
            return
    failure = (
        f"a graph over {len(vectors)} vectors as {precision} reaches a recall@10 of {trial.recall:.4f} with"
        f" {EF_SEARCH_STEPS[-1]} candidates, not surely {options.recall:g}"
    )
    if options.type == "auto":
        del graph
        yield from _select_lists(
            vectors, measured_truth, options, failure, open_checkpoint, threads=threads, ranges=ranges
        )
        return
    raise InputError(
        f"{failure}: set index.recall lower, index.vectors to float32, or index.type to auto, exact or ivf"
    )


def _select_lists(
    vectors: Vectors,
    measured_truth: Callable[[], tuple[Vectors, Scores]],
    options: IndexOptions,
    reason: str,
    open_checkpoint: Callable[[], IndexCheckpoint] | None,
    *,
    threads: int,
    ranges: Ranges | None,
) -> Iterator[LinkingGraph | SelectedIndex]:
    """As `select_index`, of an inverted file. measured_truth: returns the queries and their highest cosines."""
    mib = list_bytes(*vectors.shape) / 2**20
    if options.memory_mib is not None and mib > options.memory_mib:
        raise InputError(
            f"an inverted file of {len(vectors)} vectors takes {mib:.0f} MiB besides the vectors on disk,"
            f" index.memory_mib allows {options.memory_mib:g}: allow more, or index fewer passages"
        )
    # int8 alone loses about as many of the nearest as the recall allows
    precision: Precision = "float16" if options.vectors == "auto" else options.vectors
    _check_build_memory(vectors.shape, precision)
    checkpoint = None if open_checkpoint is None else open_checkpoint()
    lists = yield from fill_lists(vectors, checkpoint, threads=threads)
    trial = _Trial(vectors, *measured_truth(), options.recall, margin=LIST_MARGIN)
    steps = sorted({min(step, lists.lists) for step in LIST_STEPS})
    index = store_rows(vectors, precision, threads=threads, ranges=ranges).with_lists(lists)
    if trial.passes(index, steps):
        reasons = [reason, f"{lists.lists} lists take {mib:.0f} MiB, {precision} vectors are read from disk"]
        yield SelectedIndex(index, trial.record("ivf", precision, reasons))
        return
    raise InputError(
        f"an inverted file of {len(vectors)} vectors as {precision} reaches a recall@10 of {trial.recall:.4f} with"
        f" {trial.ef_search} of {lists.lists} lists, not surely {options.recall:g}: set index.recall lower,"
        " index.vectors to float16 or float32, or index.type to hnsw or exact"
    )


@dataclass
class _Trial:
    """Measures indexes of the same vectors on the same queries."""

    vectors: Vectors
    queries: Vectors
    truth: Scores
    """(m, DEPTH) the highest cosines of each query."""
    wanted: float
    """The recall to reach."""
    margin: int = 1
    """Standard errors by which it must be exceeded."""
    recall: float = 0.0
    """The recall that was measured last."""
    ef_search: int | None = None
    """The parameter that it was measured with."""
    query_ms: float = 0.0
    """Time of a query, of an index that passed."""

    def passes(self, index: VectorIndex, ef_searches: Sequence[int | None]) -> bool:
        """Whether the index reaches the recall with one of the parameters, which are tried in turn."""
        for self.ef_search in ef_searches:
            recalls = _recalls(index, self.vectors, self.queries, self.truth, ef_search=self.ef_search)
            self.recall = float(recalls.mean())
            if _is_enough(recalls, self.wanted, margin=self.margin):
                self.query_ms = _query_ms(index, self.queries, ef_search=self.ef_search)
                return True
        return False

    def record(self, index_type: IndexType, precision: Precision, reasons: Sequence[str]) -> IndexRecord:
        """The record of the index that passed."""
        return IndexRecord(
            type=index_type,
            vectors=precision,
            reason="; ".join([*reasons, f"a query takes {self.query_ms:.2f} ms"]),
            ef_search=self.ef_search,
            recall=round(self.recall, 4),
            queries=len(self.queries),
        )


def _recalls(index: VectorIndex, vectors: Vectors, queries: Vectors, truth: Scores, *, ef_search: int | None) -> Scores:
    """(n,) recall of each query. Quantized vectors are judged by the scores of the vectors as given."""
    rows = index.search(queries, FUSION_DEPTH, ef_search=ef_search)[1]
    return recall_of(_exact_scores(vectors, queries, rows[:, :DEPTH]), truth)


def _is_enough(recalls: Scores, wanted: float, *, margin: int) -> bool:
    """Whether the mean exceeds what is wanted by these standard errors: users will ask other queries than these."""
    mean = float(recalls.mean())
    return bool(mean - margin * recalls.std() / np.sqrt(len(recalls)) >= wanted or mean == 1)


def _add(vectors: Vectors, index: VectorIndex) -> Iterator[LinkingGraph]:
    """Add vectors to an empty index and release those of the memory map that have been added."""
    index.reserve(len(vectors))
    for start in range(0, len(vectors), ROWS_AT_A_TIME):
        yield LinkingGraph(start, len(vectors))
        index.add(vectors[start : start + ROWS_AT_A_TIME])
        drop_pages(vectors)
    yield LinkingGraph(len(vectors), len(vectors))


def _type_reason(options: IndexOptions, exact_ms: float) -> str:
    if options.type != "auto":
        return f"{options.type} was asked for"
    relation = "over" if exact_ms > options.exact_ms else "at most"
    return f"comparing all takes {exact_ms:.2f} ms a query here, {relation} {options.exact_ms:g}"


def _needed_mib(shape: tuple[int, ...], precision: Precision, *, linked: bool) -> float:
    """Memory of the vectors, and of a graph over them."""
    rows, dimension = shape
    return rows * (BYTES_PER_VALUE[precision] * dimension + (GRAPH_BYTES if linked else 0)) / 2**20


def _exceeds_memory(shape: tuple[int, ...], options: IndexOptions) -> str:
    """Why vectors and graph do not fit the memory; empty if they do."""
    precision = "float32" if options.vectors == "auto" else options.vectors
    needed = _needed_mib(shape, precision, linked=True)
    if options.memory_mib is not None:
        limit, origin = options.memory_mib, "index.memory_mib"
    else:
        limit, origin = MEMORY_SHARE * machine_memory() / 2**20, f"{MEMORY_SHARE:.0%} of this machine's memory"
    if needed <= limit:
        return ""
    return f"{precision} vectors and a graph would take {needed:.0f} MiB, over {limit:.0f} MiB ({origin})"


def _check_build_memory(shape: tuple[int, ...], precision: Precision) -> None:
    """Raise InputError if the stored rows and lists of an inverted file do not fit memory, in which they are made."""
    needed = _needed_mib(shape, precision, linked=False) + list_bytes(shape[0], shape[1]) / 2**20
    limit = STORED_SHARE * machine_memory() / 2**20
    if needed > limit:
        raise InputError(
            f"to build an inverted file of {shape[0]} vectors as {precision} takes {needed:.0f} MiB of memory, over"
            f" {limit:.0f} MiB ({STORED_SHARE:.0%} of this machine's memory):"
            + ("" if precision == "int8" else " set index.vectors to int8,")
            + " index fewer passages, or build on a machine with more memory"
        )


def _precision(shape: tuple[int, ...], options: IndexOptions, *, linked: bool) -> tuple[Precision, str]:
    """The precision of the stored vectors, and the reason; an empty reason for the default."""
    mib = {precision: _needed_mib(shape, precision, linked=linked) for precision in BYTES_PER_VALUE}
    if options.vectors != "auto":
        precision = options.vectors
    elif options.memory_mib is None:
        return "float32", ""
    else:
        fitting = [precision for precision, size in mib.items() if size <= options.memory_mib]
        precision = fitting[0] if fitting else "int8"
    if options.memory_mib is not None and mib[precision] > options.memory_mib:
        raise InputError(
            f"{shape[0]} vectors as {precision} take {mib[precision]:.0f} MiB, index.memory_mib allows"
            f" {options.memory_mib:g}: allow more, set index.type to ivf, or index fewer passages"
        )
    origin = "asked for" if options.vectors != "auto" else f"within {options.memory_mib:g} MiB"
    return precision, f"{precision} vectors take {mib[precision]:.0f} MiB, {origin}"


def _exact_scores(vectors: Vectors, queries: Vectors, rows: Rows) -> Scores:
    """(n, k) cosines of the queries and the rows that were found; -inf for a row of -1."""
    scores: Scores = np.einsum("nd,nkd->nk", queries, vectors[np.maximum(rows, 0)]).astype(np.float32)
    return np.where(rows >= 0, scores, -np.inf)


def _query_ms(index: VectorIndex, queries: Vectors, *, ef_search: int | None = None) -> float:
    """Median milliseconds of a search for one query."""
    seconds = []
    for row in range(min(50, len(queries))):
        started = perf_counter()
        index.search(queries[row : row + 1], FUSION_DEPTH, ef_search=ef_search)
        seconds.append(perf_counter() - started)
    return 1000 * median(seconds)


def recall_of(scores: Scores, truth: Scores) -> Scores:
    """(n,) recall at m by score: a hit counts if it scores as high as the m-th true one, so that ties do not matter.

    scores: (n, k) of the hits, best first, k ≥ m; truth: (n, m) the highest scores of all rows, -inf where fewer exist.
    """
    lowest = np.where(np.isfinite(truth), truth, np.inf).min(axis=1, keepdims=True)
    matches = scores[:, : truth.shape[1]] >= lowest - TOLERANCE
    recalls: Scores = matches.sum(axis=1) / np.isfinite(truth).sum(axis=1)
    return recalls
