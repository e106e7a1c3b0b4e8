"""Nearest-neighbour search over FAISS, by row number. Does not depend on documents or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import faiss
import numpy as np
import numpy.typing as npt

from semsearch.errors import IndexFolderError, first_line
from semsearch.storage.approximate import (
    EF_CONSTRUCTION,
    Approximate,
    Graph,
    InvertedFile,
    RowStorage,
    read_faiss,
    write_faiss,
)
from semsearch.types import Mask, Rows, Scores, Vectors

TIED_ROWS = 32
"""Rows that an exact search finds beyond those that are wanted: their rounded scores may tie with the last of those."""
SCORE_DECIMALS = 6
"""Scores that agree to this many decimals are equal: their last bits depend on the shape of the batch."""
MAX_GATHERED_SHARE = 0.25
"""In an exact index, the largest share of allowed rows that are copied out and compared instead of being selected."""
GATHERED_ROWS = 65_536
"""Rows whose scores are held at a time."""
COPIED_ROWS = 1_024
"""Rows that are copied out at a time: more do not stay in the processor's cache until they are compared."""

Precision: TypeAlias = Literal["float32", "float16", "int8"]
"""How the numbers of a vector are stored."""
IndexType: TypeAlias = Literal["exact", "hnsw", "ivf"]
"""How rows are found: all are compared, or a graph is searched, or the lists of an inverted file."""
Ranges: TypeAlias = npt.NDArray[np.float32]
"""The range of each component that int8 codes divide, (2, dim) float32: its lowest value and its width."""
_QUANTIZERS = {"float16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}


class VectorIndex:
    """Passage vectors by row, searched by cosine similarity: exhaustively, with a graph or with an inverted file."""

    def __init__(self, rows: RowStorage, approximate: Approximate | None = None, *, threads: int = 1) -> None:
        """Tie finished parts together.

        rows: unit vectors under the inner product. approximate: a graph or an inverted file over these rows. threads:
        CPU threads for each call.

        Raises ValueError if the metric is another one.
        """
        if rows.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError(f"the index has metric {rows.metric_type}: unit vectors need the inner product")
        self._rows = rows
        self._approximate = approximate
        self._threads = threads

    @classmethod
    def exact(cls, dimension: int, *, precision: Precision = "float32", threads: int = 1) -> VectorIndex:
        """Return an empty index that compares every query with every row."""
        return cls(_empty_rows(dimension, precision), threads=threads)

    @classmethod
    def hnsw(
        cls,
        dimension: int,
        *,
        precision: Precision = "float32",
        ef_construction: int = EF_CONSTRUCTION,
        threads: int = 1,
    ) -> VectorIndex:
        """Return an empty index with a graph."""
        rows = _empty_rows(dimension, precision)
        return cls(rows, Graph.over(rows, ef_construction=ef_construction), threads=threads)

    @classmethod
    def open(cls, path: Path, graph: Path | None = None, *, lists: Path | None = None, threads: int = 1) -> VectorIndex:
        """Map the files that `save` wrote into memory, rows and graph; an inverted file is read.

        The caller checks the files' checksums first. A damaged file cannot make FAISS allocate more memory than the
        file is long. Raises IndexFolderError if a file is not such an index.
        """
        try:
            rows = read_faiss(path, (faiss.IndexFlat, faiss.IndexScalarQuantizer))
            approximate: Approximate | None = None
            if graph is not None:
                approximate = Graph(read_faiss(graph, (faiss.IndexHNSW,)), rows)
            elif lists is not None:
                approximate = InvertedFile.open(lists).over(rows)
            return cls(rows, approximate, threads=threads)
        except (OSError, RuntimeError, ValueError) as error:
            raise IndexFolderError(f"{path} is not a vector index ({first_line(error)}): build it again") from error

    def with_lists(self, lists: InvertedFile) -> VectorIndex:
        """Return an index of the same rows that scans the lists of an inverted file.

        Raises ValueError if the inverted file is of another number of rows, or of another dimension.
        """
        return VectorIndex(self._rows, lists.over(self._rows), threads=self._threads)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._rows.d)

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self._rows.ntotal)

    @property
    def ranges(self) -> Ranges | None:
        """The ranges that the codes divide; None if the rows are not stored as int8."""
        quantizer = self._int8
        if quantizer is None:
            return None
        ranges: Ranges = faiss.vector_to_array(quantizer.trained).reshape(2, self.dimension)
        return ranges

    @property
    def _int8(self) -> faiss.ScalarQuantizer | None:
        """The quantizer of rows that are stored as int8."""
        if not isinstance(self._rows, faiss.IndexScalarQuantizer):
            return None
        return self._rows.sq if self._rows.sq.qtype == faiss.ScalarQuantizer.QT_8bit else None

    def train(self, vectors: Vectors, ranges: Ranges | None = None) -> None:
        """Fit the index to (n, dim) sample vectors, before the first `add`; exact float32 needs no training.

        ranges: used for int8 in place of those of the sample. Vectors that were decoded from codes over the same ranges
        get the same codes; with ranges of their own, they would move by half a step each time.
        """
        faiss.omp_set_num_threads(self._threads)
        quantizer = self._int8
        if ranges is not None and quantizer is not None:
            faiss.copy_array_to_vector(np.ascontiguousarray(ranges, np.float32).ravel(), quantizer.trained)
            self._rows.is_trained = True
        if not self._rows.is_trained:
            self._rows.train(vectors)
        if self._approximate is not None:
            self._approximate.train(vectors)

    def reserve(self, rows: int) -> None:
        """Allocate memory for `rows` rows, so that `add` does not reallocate as the index grows."""
        self._rows.codes.resize(rows * self._rows.code_size)
        self._rows.codes.resize(self.count * self._rows.code_size)

    def add(self, vectors: Vectors) -> None:
        """Append vectors, (n, dim) float32, unit rows; they get the next row numbers."""
        faiss.omp_set_num_threads(self._threads)
        (self._approximate or self._rows).add(vectors)

    def save(self, path: Path, approximate: Path | None = None) -> None:
        """Write the rows to `path`, and the graph or the inverted file, if there is one, to `approximate`.

        Raises OSError if writing fails.
        """
        write_faiss(self._rows, path)
        if self._approximate is not None and approximate is not None:
            self._approximate.save(approximate)

    def vectors(self, rows: Rows) -> Vectors:
        """Return the vectors of n rows, (n, dim) float32."""
        flat = self._flat
        if flat is not None:
            return flat[rows]
        size = self._rows.code_size
        codes = faiss.rev_swig_ptr(self._rows.codes.data(), self.count * size).reshape(self.count, size)
        decoded: Vectors = self._rows.sa_decode(np.ascontiguousarray(codes[rows]))
        return decoded

    def cosine(self, query: Vectors, rows: Rows) -> Scores:
        """Return the cosines, (n,), of a unit vector, (dim,) float32, and n rows."""
        cosines: Scores = np.round(self.vectors(rows) @ query, SCORE_DECIMALS)
        return cosines

    @property
    def _flat(self) -> Vectors | None:
        """All rows as a read-only view of the index's memory; None if they are quantized."""
        if not isinstance(self._rows, faiss.IndexFlat):
            return None
        rows: Vectors = faiss.rev_swig_ptr(self._rows.get_xb(), self.count * self.dimension)
        rows = rows.reshape(self.count, self.dimension)
        rows.flags.writeable = False
        return rows

    def search(
        self, queries: Vectors, k: int, *, ef_search: int | None = None, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        """Return the k rows nearest to each query.

        queries: (n, dim) float32, unit rows. ef_search: number of candidates that a graph search keeps, or of lists
        that are scanned; more find the true neighbours more surely and cost more time. None compares every row.
        allowed: (count,) rows that may be returned; if they are few, each is compared, whatever `ef_search` is.

        Returns scores (n, k) and rows (n, k), best first, ties by row number. Ranks that no allowed row can fill have
        row -1 and score -inf.
        """
        # FAISS keeps this setting per calling thread
        faiss.omp_set_num_threads(self._threads)
        allowed_count = self.count if allowed is None else int(np.count_nonzero(allowed))
        wanted = min(k, allowed_count)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        if self._approximate is not None and wanted >= self._approximate.exact_from:
            ef_search = None
        if wanted and len(queries):
            is_exact = self._approximate is None or ef_search is None
            considered = min(wanted + TIED_ROWS, allowed_count) if is_exact else wanted
            if allowed is None or allowed_count == self.count:
                nearest_scores, nearest = self._search_all(queries, considered, ef_search)
            else:
                nearest_scores, nearest = self._search_allowed(allowed, allowed_count, queries, considered, ef_search)
            # FAISS scores an empty rank with the lowest float32, which overflows when it is rounded
            nearest_scores[nearest < 0] = -np.inf
            nearest_scores = np.round(nearest_scores, SCORE_DECIMALS)
            order = np.lexsort((nearest, -nearest_scores), axis=1)[:, :wanted]
            scores[:, :wanted] = np.take_along_axis(nearest_scores, order, axis=1)
            rows[:, :wanted] = np.take_along_axis(nearest, order, axis=1)
        return scores, rows

    def _search_all(
        self,
        queries: Vectors,
        wanted: int,
        ef_search: int | None,
        selector: faiss.IDSelector | None = None,
        selected: int | None = None,
    ) -> tuple[Scores, Rows]:
        """Search approximately, or compare every row; either returns only rows that the selector accepts.

        selected: number of these rows; by default all. An approximate search may return more than are wanted.
        """
        if self._approximate is not None and ef_search is not None:
            return self._approximate.search(queries, wanted, ef_search, selector, selected or self.count)
        params = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        return self._rows.search(queries, wanted, params=params)

    def _search_allowed(
        self, allowed: Mask, allowed_count: int, queries: Vectors, wanted: int, ef_search: int | None
    ) -> tuple[Scores, Rows]:
        """As `_search_all`, of the allowed rows only, at least `wanted`."""
        allowed_share = allowed_count / self.count
        if self._approximate is not None and ef_search is not None:
            ef_search = self._approximate.widened(ef_search, wanted, allowed_share)
            gathering_is_cheaper = allowed_count <= self._approximate.compared(ef_search)
        else:
            gathering_is_cheaper = allowed_share <= MAX_GATHERED_SHARE
        if gathering_is_cheaper:
            return self._search_gathered(np.flatnonzero(allowed), queries, wanted)
        bits = np.packbits(allowed, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        scores, rows = self._search_all(queries, wanted, ef_search, selector, allowed_count)
        is_filled = rows >= 0
        # some FAISS index types ignore a selector without an error
        if not allowed[rows[is_filled]].all():
            raise RuntimeError("FAISS returned rows that are not allowed")
        # an approximate search may visit a region where no row is allowed
        incomplete = np.flatnonzero(~is_filled[:, :wanted].all(axis=1))
        if len(incomplete):
            gathered = self._search_gathered(np.flatnonzero(allowed), queries[incomplete], wanted)
            rows[incomplete, wanted:] = -1
            scores[incomplete, :wanted], rows[incomplete, :wanted] = gathered
        return scores, rows

    def _search_gathered(self, rows: Rows, queries: Vectors, wanted: int) -> tuple[Scores, Rows]:
        """The best `wanted` of these rows, (m,), m ≥ wanted, each compared with each query; ties by row number."""
        best_scores = np.empty((len(queries), 0), np.float32)
        best = np.empty((len(queries), 0), np.int64)
        # the scores of many rows and queries do not fit memory
        for start in range(0, len(rows), GATHERED_ROWS):
            some = rows[start : start + GATHERED_ROWS]
            copied = np.split(some, range(COPIED_ROWS, len(some), COPIED_ROWS))
            scores = np.concatenate([best_scores, *(queries @ self.vectors(part).T for part in copied)], axis=1)
            candidates = np.concatenate([best, np.broadcast_to(some, (len(queries), len(some)))], axis=1)
            chosen = _best(np.round(scores, SCORE_DECIMALS), min(wanted, scores.shape[1]))
            best_scores = np.take_along_axis(scores, chosen, axis=1)
            # the best ones are in the order of their scores: of equal ones, earlier rows still come first
            best = np.take_along_axis(candidates, chosen, axis=1)
        return best_scores, best


def _best(scores: Scores, wanted: int) -> Rows:
    """Indices, (n, wanted), of the highest of (n, m) scores, best first, equal ones in their order."""
    lowest = -np.partition(-scores, wanted - 1, axis=1)[:, wanted - 1]
    chosen = np.empty((len(scores), wanted), np.int64)
    for index, row_scores in enumerate(scores):
        # all that tie for the last rank take part, so that the stable sort keeps the first of them
        candidates = np.flatnonzero(row_scores >= lowest[index])
        chosen[index] = candidates[np.argsort(-row_scores[candidates], kind="stable")[:wanted]]
    return chosen


def _empty_rows(dimension: int, precision: Precision) -> RowStorage:
    if precision == "float32":
        return faiss.IndexFlatIP(dimension)
    return faiss.IndexScalarQuantizer(dimension, _QUANTIZERS[precision], faiss.METRIC_INNER_PRODUCT)
