"""Nearest-neighbour search over FAISS, by row number. Does not depend on documents or texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, TypeAlias

import faiss
import numpy as np

from semsearch.errors import IndexFolderError, first_line
from semsearch.types import Mask, Rows, Scores, Vectors

SCORE_DECIMALS = 6
"""Scores that agree to this many decimals are equal: their last bits depend on the shape of the batch."""
EXACT_FROM = 1_000
"""Number of requested rows from which on every row is compared: the graph search would visit most of them anyway."""
HNSW_M = 32
"""Neighbours of a row in the graph; twice this number on the lowest level."""
EF_CONSTRUCTION = 80
"""Default number of candidates for the neighbours of a new row (efConstruction)."""
MAX_GATHERED_SHARE = 0.25
"""Without a graph, the largest share of allowed rows that are copied out and compared instead of being selected."""

Precision: TypeAlias = Literal["float32", "float16", "int8"]
"""How the numbers of a vector are stored."""
_QUANTIZERS = {"float16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}


class VectorIndex:
    """Passage vectors by row, searched by cosine similarity: exhaustively, or with a graph."""

    def __init__(
        self,
        rows: faiss.IndexFlat | faiss.IndexScalarQuantizer,
        graph: faiss.IndexHNSW | None = None,
        *,
        threads: int = 1,
    ) -> None:
        """Tie finished parts together.

        rows: unit vectors under the inner product. graph: an HNSW graph over these rows, which it
        refers to instead of holding vectors of its own. threads: CPU threads for each call.

        Raises ValueError if the metric is another one or the parts differ in their number of rows.
        """
        if rows.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError(f"the index has metric {rows.metric_type}: unit vectors need the inner product")
        if graph is not None:
            if graph.ntotal != rows.ntotal:
                raise ValueError(f"a graph of {graph.ntotal} rows over {rows.ntotal} vectors")
            graph.storage, graph.own_fields = rows, False
            # assigning `storage` takes ownership from Python, but this graph does not own it: nothing would free it
            rows.thisown = True  # type: ignore[union-attr]
        self._rows = rows
        self._graph = graph
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
        """Return an empty index with a hierarchical navigable small world graph.

        Source: Malkov & Yashunin 2018, doi:10.1109/TPAMI.2018.2889473.
        """
        rows = _empty_rows(dimension, precision)
        # the type stubs lack this constructor, and the flags and search parameters of a graph
        graph = faiss.IndexHNSW(rows, HNSW_M)  # type: ignore[arg-type]
        graph.hnsw.efConstruction = ef_construction
        return cls(rows, graph, threads=threads)

    @classmethod
    def open(cls, path: Path, graph: Path | None = None, *, threads: int = 1) -> VectorIndex:
        """Map the files that `save` wrote into memory.

        The caller checks the files' checksums first. A damaged file cannot make FAISS allocate more memory than the
        file is long. Raises IndexFolderError if a file is not such an index.
        """
        try:
            rows = _memory_map(path, (faiss.IndexFlat, faiss.IndexScalarQuantizer))
            return cls(rows, None if graph is None else _memory_map(graph, (faiss.IndexHNSW,)), threads=threads)
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
        """Fit the quantizer to (n, dim) sample vectors. Call it before the first `add`; float32 does not need it."""
        faiss.omp_set_num_threads(self._threads)
        if not self._rows.is_trained:
            self._rows.train(vectors)
        if self._graph is not None:
            self._graph.is_trained = True

    def reserve(self, rows: int) -> None:
        """Allocate memory for `rows` rows, so that `add` does not reallocate as the index grows."""
        self._rows.codes.resize(rows * self._rows.code_size)
        self._rows.codes.resize(self.count * self._rows.code_size)

    def add(self, vectors: Vectors) -> None:
        """Append vectors, (n, dim) float32, unit rows; they get the next row numbers."""
        faiss.omp_set_num_threads(self._threads)
        (self._graph or self._rows).add(vectors)

    def save(self, path: Path, graph: Path | None = None) -> None:
        """Write the rows to `path`, and the graph, if there is one, to `graph`. Raises OSError if writing fails."""
        try:
            faiss.write_index(self._rows, str(path))
            if self._graph is not None and graph is not None:
                faiss.write_index(self._graph, str(graph), faiss.IO_FLAG_SKIP_STORAGE)  # type: ignore[call-overload]
        except RuntimeError as error:
            raise OSError(f"{path.name} could not be written ({first_line(error)})") from error

    def all_vectors(self) -> Vectors:
        """Return every row, (count, dim) float32.

        An index of precision float32 returns its own memory: read-only, and valid only as long as the index exists.
        """
        flat = self._flat
        return self.vectors(np.arange(self.count)) if flat is None else flat

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

        queries: (n, dim) float32, unit rows. ef_search: number of candidates that the graph search keeps; more find
        the true neighbours more surely and cost more time. None compares every row. allowed: (count,) rows that may
        be returned; if they are few, each is compared, whatever `ef_search` is.

        Returns scores (n, k) and rows (n, k), best first, ties by row number. Ranks that no allowed row can fill have
        row -1 and score -inf.
        """
        # FAISS keeps this setting per calling thread
        faiss.omp_set_num_threads(self._threads)
        allowed_count = self.count if allowed is None else int(np.count_nonzero(allowed))
        wanted = min(k, allowed_count)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        if wanted and len(queries):
            if allowed is None or allowed_count == self.count:
                nearest_scores, nearest = self._search_all(queries, wanted, ef_search)
            else:
                nearest_scores, nearest = self._search_allowed(allowed, allowed_count, queries, wanted, ef_search)
            # FAISS scores an empty rank with the lowest float32, which overflows when it is rounded
            nearest_scores[nearest < 0] = -np.inf
            nearest_scores = np.round(nearest_scores, SCORE_DECIMALS)
            order = np.lexsort((nearest, -nearest_scores), axis=1)
            scores[:, :wanted] = np.take_along_axis(nearest_scores, order, axis=1)
            rows[:, :wanted] = np.take_along_axis(nearest, order, axis=1)
        return scores, rows

    def _uses_graph(self, wanted: int, ef_search: int | None) -> bool:
        return self._graph is not None and ef_search is not None and wanted < EXACT_FROM

    def _search_all(
        self, queries: Vectors, wanted: int, ef_search: int | None, selector: faiss.IDSelector | None = None
    ) -> tuple[Scores, Rows]:
        """Search the graph, or compare every row; of either, only the rows that the selector accepts are returned."""
        if not self._uses_graph(wanted, ef_search):
            params = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
            return self._rows.search(queries, wanted, params=params)
        assert self._graph is not None
        assert ef_search is not None
        # the graph search returns at most as many rows as it keeps candidates
        ef_search = max(ef_search, wanted)
        params = faiss.SearchParametersHNSW(sel=selector, efSearch=ef_search)  # type: ignore[attr-defined]
        return self._graph.search(queries, wanted, params=params)

    def _search_allowed(
        self, allowed: Mask, allowed_count: int, queries: Vectors, wanted: int, ef_search: int | None
    ) -> tuple[Scores, Rows]:
        """As `_search_all`, of the allowed rows only, at least `wanted`."""
        allowed_share = allowed_count / self.count
        # only this share of the candidates is allowed: to keep enough of them, the graph search keeps more in all
        widened = math.ceil(max(ef_search or 0, wanted) / allowed_share)
        if self._uses_graph(wanted, ef_search):
            # the graph search compares the neighbours of every candidate that it keeps
            gathering_is_cheaper = allowed_count <= HNSW_M * widened
        else:
            gathering_is_cheaper = allowed_share <= MAX_GATHERED_SHARE
        if gathering_is_cheaper:
            return self._search_gathered(np.flatnonzero(allowed), queries, wanted)
        bits = np.packbits(allowed, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        scores, rows = self._search_all(queries, wanted, None if ef_search is None else widened, selector)
        is_filled = rows >= 0
        # some FAISS index types ignore a selector without an error
        if not allowed[rows[is_filled]].all():
            raise RuntimeError("FAISS returned rows that are not allowed")
        # the graph search may end early in a region where no row is allowed
        incomplete = np.flatnonzero(~is_filled.all(axis=1))
        if len(incomplete):
            gathered = self._search_gathered(np.flatnonzero(allowed), queries[incomplete], wanted)
            scores[incomplete], rows[incomplete] = gathered
        return scores, rows

    def _search_gathered(self, rows: Rows, queries: Vectors, wanted: int) -> tuple[Scores, Rows]:
        """The best `wanted` of these rows, (m,), m ≥ wanted, each compared with each query; ties by row number."""
        scores = queries @ self.vectors(rows).T
        rounded = np.round(scores, SCORE_DECIMALS)
        lowest = -np.partition(-rounded, wanted - 1, axis=1)[:, wanted - 1]
        chosen = np.empty((len(queries), wanted), np.int64)
        for index, row_scores in enumerate(rounded):
            # all that tie for the last rank take part, so that the stable sort keeps the first rows of them
            candidates = np.flatnonzero(row_scores >= lowest[index])
            chosen[index] = candidates[np.argsort(-row_scores[candidates], kind="stable")[:wanted]]
        return np.take_along_axis(scores, chosen, axis=1), rows[chosen]


def _empty_rows(dimension: int, precision: Precision) -> faiss.IndexFlat | faiss.IndexScalarQuantizer:
    if precision == "float32":
        return faiss.IndexFlatIP(dimension)
    return faiss.IndexScalarQuantizer(dimension, _QUANTIZERS[precision], faiss.METRIC_INNER_PRODUCT)


def _memory_map(path: Path, index_types: tuple[type, ...]) -> Any:
    faiss.set_deserialization_vector_byte_limit(path.stat().st_size + 1)
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_STORAGE)
    if not isinstance(index, index_types):
        raise ValueError(f"{path.name} holds a {type(index).__name__}, not a {index_types[0].__name__}")  # noqa: TRY004
    return index
