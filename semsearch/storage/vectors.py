"""Nearest neighbours over FAISS; knows rows and vectors, nothing of documents or texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, TypeAlias

import faiss
import numpy as np

from semsearch.errors import IndexFolderError, first_line
from semsearch.types import Mask, Rows, Scores, Vectors

SCORE_DECIMALS = 6
"""Scores are equal if they agree to this many decimals: the last bits move with the shape of the batch."""


EXACT_FROM = 1_000
"""Rows asked for, from which on every row is compared: a graph would visit most of them anyway."""
HNSW_M = 32
"""Neighbours of a row in a graph, twice as many on the lowest level."""
EF_CONSTRUCTION = 80
"""Candidates looked at for a new row's neighbours, unless more are asked for (efConstruction)."""
GATHERED = 0.25
"""Share of the rows of an index without a graph up to which those that are allowed are taken out and compared."""


Precision: TypeAlias = Literal["float32", "float16", "int8"]
"""How the numbers of a vector are kept."""
_QUANTIZERS = {"float16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}


class VectorIndex:
    """Passage vectors by row, searched by cosine similarity: all of them, or along a graph."""

    def __init__(
        self,
        rows: faiss.IndexFlat | faiss.IndexScalarQuantizer,
        graph: faiss.IndexHNSW | None = None,
        *,
        threads: int = 1,
    ) -> None:
        """Take finished parts: unit vectors under the inner product, and a graph over them, if any.

        The graph holds no vectors but those of `rows`. Raises ValueError where the metric or the counts disagree.
        """
        if rows.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError(f"an index of metric {rows.metric_type}; unit vectors want the inner product")
        if graph is not None:
            if graph.ntotal != rows.ntotal:
                raise ValueError(f"a graph of {graph.ntotal} rows over {rows.ntotal} vectors")
            graph.storage, graph.own_fields = rows, False
            # what is given to a graph Python frees no longer, and this graph does not either
            rows.thisown = True  # type: ignore[union-attr]
        self._rows = rows
        self._graph = graph
        self._threads = threads

    @classmethod
    def exact(cls, dimension: int, *, precision: Precision = "float32", threads: int = 1) -> VectorIndex:
        """An empty index that compares every query with every row."""
        return cls(_rows(dimension, precision), threads=threads)

    @classmethod
    def hnsw(
        cls,
        dimension: int,
        *,
        precision: Precision = "float32",
        ef_construction: int = EF_CONSTRUCTION,
        threads: int = 1,
    ) -> VectorIndex:
        """An empty index that follows a hierarchical navigable small world graph (Malkov & Yashunin 2018,
        doi:10.1109/TPAMI.2018.2889473)."""
        rows = _rows(dimension, precision)
        # the stubs know of neither constructor, flags nor parameters of a graph
        graph = faiss.IndexHNSW(rows, HNSW_M)  # type: ignore[arg-type]
        graph.hnsw.efConstruction = ef_construction
        return cls(rows, graph, threads=threads)

    @classmethod
    def open(cls, path: Path, graph: Path | None = None, *, threads: int = 1) -> VectorIndex:
        """Map what `save` wrote into memory, where the system keeps as much of it as there is room for.

        The files' checksums are the caller's to check first; nothing in them can make FAISS reserve more memory than
        the files are long. Raises IndexFolderError if they are no such index.
        """
        try:
            rows = _mapped(path, (faiss.IndexFlat, faiss.IndexScalarQuantizer))
            return cls(rows, None if graph is None else _mapped(graph, (faiss.IndexHNSW,)), threads=threads)
        except (OSError, RuntimeError, ValueError) as error:
            raise IndexFolderError(f"{path} is not a vector index ({first_line(error)}): build it again") from error

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._rows.d)

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self._rows.ntotal)

    def train(self, vectors: Vectors) -> None:
        """Have the index learn how to keep vectors like these (n, dim), before the first is added."""
        faiss.omp_set_num_threads(self._threads)
        if not self._rows.is_trained:
            self._rows.train(vectors)
        if self._graph is not None:
            self._graph.is_trained = True

    def reserve(self, rows: int) -> None:
        """Have room for so many rows from the first on: memory that grew with them would be copied as it grows."""
        self._rows.codes.resize(rows * self._rows.code_size)
        self._rows.codes.resize(self.count * self._rows.code_size)

    def add(self, vectors: Vectors) -> None:
        """Append (n, dim) float32 unit rows; they get the next row numbers."""
        faiss.omp_set_num_threads(self._threads)
        (self._graph or self._rows).add(vectors)

    def save(self, path: Path, graph: Path | None = None) -> None:
        """Write the rows, and the graph, if there is one, to a file of its own. Raises OSError if that cannot be done
        whole."""
        try:
            faiss.write_index(self._rows, str(path))
            if self._graph is not None and graph is not None:
                faiss.write_index(self._graph, str(graph), faiss.IO_FLAG_SKIP_STORAGE)  # type: ignore[call-overload]
        except RuntimeError as error:
            raise OSError(f"{path.name} could not be written ({first_line(error)})") from error

    def all_vectors(self) -> Vectors:
        """(count, dim) float32, every row; as float32 the index's own memory, to be read only and while it is open."""
        flat = self._flat
        return self.vectors(np.arange(self.count)) if flat is None else flat

    def vectors(self, rows: Rows) -> Vectors:
        """(n, dim) float32, those of n rows."""
        flat = self._flat
        if flat is not None:
            return flat[rows]
        size = self._rows.code_size
        codes = faiss.rev_swig_ptr(self._rows.codes.data(), self.count * size).reshape(self.count, size)
        found: Vectors = self._rows.sa_decode(np.ascontiguousarray(codes[rows]))
        return found

    def cosine(self, query: Vectors, rows: Rows) -> Scores:
        """(n,) cosines of (dim,) float32, a unit vector, and n rows."""
        found: Scores = np.round(self.vectors(rows) @ query, SCORE_DECIMALS)
        return found

    @property
    def _flat(self) -> Vectors | None:
        """The rows in the index's own memory, where they are kept as they are given."""
        if not isinstance(self._rows, faiss.IndexFlat):
            return None
        rows: Vectors = faiss.rev_swig_ptr(self._rows.get_xb(), self.count * self.dimension)
        rows = rows.reshape(self.count, self.dimension)
        rows.flags.writeable = False
        return rows

    def search(
        self, queries: Vectors, k: int, *, ef_search: int | None = None, allowed: Mask | None = None
    ) -> tuple[Scores, Rows]:
        """The k rows nearest to each query.

        queries: (n, dim) float32, unit rows. effort: candidates that are kept on the way along the graph, the more
        the surer that the nearest are found (efSearch); None: every row is compared. allowed: (count,) rows that may
        be found; few of them are compared one by one, whatever the effort. Returns scores (n, k) and rows (n, k), best
        first, rows of equal score by row number; a row of -1 with score -inf marks a place that no row could fill.
        """
        # FAISS keeps this setting for each calling thread apart
        faiss.omp_set_num_threads(self._threads)
        there = self.count if allowed is None else int(np.count_nonzero(allowed))
        wanted = min(k, there)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        if wanted and len(queries):
            if allowed is None or there == self.count:
                found, places = self._searched(queries, wanted, ef_search)
            else:
                found, places = self._among(allowed, there, queries, wanted, ef_search)
            found[places < 0] = -np.inf  # FAISS marks them by the lowest number that there is, which cannot be rounded
            found = np.round(found, SCORE_DECIMALS)
            order = np.lexsort((places, -found), axis=1)
            scores[:, :wanted] = np.take_along_axis(found, order, axis=1)
            rows[:, :wanted] = np.take_along_axis(places, order, axis=1)
        return scores, rows

    def _walked(self, wanted: int, effort: int | None) -> bool:
        """Whether so many rows are looked for along the graph."""
        return self._graph is not None and effort is not None and wanted < EXACT_FROM

    def _searched(
        self, queries: Vectors, wanted: int, effort: int | None, selector: faiss.IDSelector | None = None
    ) -> tuple[Scores, Rows]:
        if not self._walked(wanted, effort):
            params = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
            return self._rows.search(queries, wanted, params=params)
        assert self._graph is not None
        assert effort is not None
        # a graph finds no more than it keeps candidates
        params = faiss.SearchParametersHNSW(sel=selector, efSearch=max(effort, wanted))  # type: ignore[attr-defined]
        return self._graph.search(queries, wanted, params=params)

    def _among(
        self, allowed: Mask, there: int, queries: Vectors, wanted: int, effort: int | None
    ) -> tuple[Scores, Rows]:
        """As `_searched`, but only of rows that are allowed, of which there are so many."""
        share = there / self.count
        # to meet as many allowed candidates, a walk must keep so many more, and compares each one's neighbours
        widened = math.ceil(max(effort or 0, wanted) / share)
        if there <= HNSW_M * widened if self._walked(wanted, effort) else share <= GATHERED:
            return self._compared(np.flatnonzero(allowed), queries, wanted)
        bits = np.packbits(allowed, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        found, places = self._searched(queries, wanted, None if effort is None else widened, selector)
        # some types of index pass over a selector in silence
        filled = places >= 0
        if not allowed[places[filled]].all():
            raise RuntimeError("FAISS found rows that were not allowed")
        # a walk may end where nothing near is allowed
        short = np.flatnonzero(~filled.all(axis=1))
        if len(short):
            found[short], places[short] = self._compared(np.flatnonzero(allowed), queries[short], wanted)
        return found, places

    def _compared(self, rows: Rows, queries: Vectors, wanted: int) -> tuple[Scores, Rows]:
        """The best of these rows, at least as many as are wanted, each compared with each query."""
        scores = queries @ self.vectors(rows).T
        rounded = np.round(scores, SCORE_DECIMALS)
        last = -np.partition(-rounded, wanted - 1, axis=1)[:, wanted - 1]
        chosen = np.empty((len(queries), wanted), np.int64)
        for number, one in enumerate(rounded):
            # of those that tie for the last places the first rows
            enough = np.flatnonzero(one >= last[number])
            chosen[number] = enough[np.argsort(-one[enough], kind="stable")[:wanted]]
        return np.take_along_axis(scores, chosen, axis=1), rows[chosen]


def _rows(dimension: int, precision: Precision) -> faiss.IndexFlat | faiss.IndexScalarQuantizer:
    if precision == "float32":
        return faiss.IndexFlatIP(dimension)
    return faiss.IndexScalarQuantizer(dimension, _QUANTIZERS[precision], faiss.METRIC_INNER_PRODUCT)


def _mapped(path: Path, kinds: tuple[type, ...]) -> Any:
    faiss.set_deserialization_vector_byte_limit(path.stat().st_size + 1)
    found = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_STORAGE)
    if not isinstance(found, kinds):
        raise ValueError(f"{path.name} holds a {type(found).__name__}, not a {kinds[0].__name__}")  # noqa: TRY004
    return found
