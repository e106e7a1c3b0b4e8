"""Structures that find the nearest of many rows without comparing all of them. Does not depend on files of an index."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol, Self

import faiss
import numpy as np

from semsearch.errors import first_line
from semsearch.types import Rows, Scores, Vectors

RowStorage = faiss.IndexFlat | faiss.IndexScalarQuantizer
"""Vectors by row, as given or quantized."""

HNSW_M = 32
"""Neighbours of a row in the graph; twice this number on the lowest level."""
EXACT_FROM = 1_000
"""Number of requested rows from which on every row is compared instead of searching a graph, which would visit most of
them anyway."""
ROWS_PER_REQUESTED = 60
"""With an inverted file, every row is compared from that number on if there are at most this many for each requested
one: to look up the candidates would take as long."""
EF_CONSTRUCTION = 80
"""Default number of candidates for the neighbours of a new row (efConstruction)."""
CODE_BITS = 1
"""Bits of a component in the codes of an inverted file."""
CANDIDATES = 5
"""Rows that an inverted file proposes for each one that is returned: the exact scores decide among them."""
MIN_CANDIDATES = 1_000
"""Rows that it proposes at least: codes are coarse, and the few nearest rows need not be among their best."""
LISTS_PER_ROOT = 4
"""An inverted file of n rows has this many times √n lists."""
MIN_TRAINING_ROWS = 39
"""Training rows for each list, below which k-means is unreliable according to FAISS: fewer rows get fewer lists."""
TRAINING_ROWS = 40
"""Rows of the training sample for each list."""
ITERATIONS = 8
"""Iterations of k-means."""
MAX_SCANNED = 8_192
"""Lists that are scanned at a time for several queries together: FAISS holds a table of 8 KiB for each."""
SCAN_COST = 0.03
"""Cost of scanning a code of an inverted file, in comparisons of a row that is copied out."""


class Approximate(Protocol):
    """A structure over stored rows. `ef_search` is how much of it a search visits: more finds more and costs more."""

    @property
    def count(self) -> int:
        """Number of rows."""
        ...

    @property
    def exact_from(self) -> int:
        """Number of requested rows from which on every row is compared instead."""
        ...

    def train(self, vectors: Vectors) -> None:
        """Fit the structure to (n, dim) sample vectors."""
        ...

    def add(self, vectors: Vectors) -> None:
        """Append vectors, (n, dim) float32, to the structure and to the stored rows."""
        ...

    def save(self, path: Path) -> None:
        """Write the structure without the stored rows. Raises OSError if writing fails."""
        ...

    def widened(self, ef_search: int, wanted: int, allowed_share: float) -> int:
        """Return the `ef_search` for `wanted` rows if only this share of them may be returned."""
        ...

    def compared(self, ef_search: int) -> float:
        """Return what a search costs, in comparisons of a row that is copied out."""
        ...

    def search(
        self, queries: Vectors, wanted: int, ef_search: int, selector: faiss.IDSelector | None, selected: int
    ) -> tuple[Scores, Rows]:
        """Return scores and rows, (n, m), m ≥ wanted, of rows that the selector accepts; -1 where too few were found.

        selected: number of rows that the selector accepts, at least `wanted`.
        """
        ...


class Graph:
    """A hierarchical navigable small world graph. `ef_search` is the number of candidates that a search keeps.

    Source: Malkov & Yashunin 2018, doi:10.1109/TPAMI.2018.2889473.
    """

    def __init__(self, graph: faiss.IndexHNSW, rows: RowStorage) -> None:
        """Tie a graph to its rows, which it refers to instead of holding vectors of its own.

        Raises ValueError if they differ in their number.
        """
        if graph.ntotal != rows.ntotal:
            raise ValueError(f"a graph of {graph.ntotal} rows over {rows.ntotal} vectors")
        graph.storage, graph.own_fields = rows, False
        # assigning `storage` takes ownership from Python, but this graph does not own it: nothing would free it
        rows.thisown = True  # type: ignore[union-attr]
        self._graph = graph
        self._rows = rows

    @classmethod
    def over(cls, rows: RowStorage, *, ef_construction: int) -> Self:
        """Return an empty graph over no rows."""
        # the type stubs lack this constructor, and the flags and search parameters of a graph
        graph = faiss.IndexHNSW(rows, HNSW_M)  # type: ignore[arg-type]
        graph.hnsw.efConstruction = ef_construction
        return cls(graph, rows)

    @property
    def count(self) -> int:
        """As of `Approximate`."""
        return int(self._graph.ntotal)

    @property
    def exact_from(self) -> int:
        """As of `Approximate`."""
        return EXACT_FROM

    def train(self, vectors: Vectors) -> None:  # noqa: ARG002
        """As of `Approximate`."""
        self._graph.is_trained = True

    def add(self, vectors: Vectors) -> None:
        """As of `Approximate`."""
        self._graph.add(vectors)

    def save(self, path: Path) -> None:
        """As of `Approximate`."""
        write_faiss(self._graph, path, flags=faiss.IO_FLAG_SKIP_STORAGE)

    def widened(self, ef_search: int, wanted: int, allowed_share: float) -> int:
        """As of `Approximate`."""
        # only this share of the candidates is allowed, but these were more than needed: by measurement, the square root
        # keeps the recall where allowed rows are spread evenly, and most of it where they are not
        return math.ceil(max(ef_search, wanted) / math.sqrt(allowed_share))

    def compared(self, ef_search: int) -> float:
        """As of `Approximate`."""
        # the neighbours of every candidate that is kept
        return HNSW_M * ef_search

    def search(
        self,
        queries: Vectors,
        wanted: int,
        ef_search: int,
        selector: faiss.IDSelector | None,
        selected: int,  # noqa: ARG002
    ) -> tuple[Scores, Rows]:
        """As of `Approximate`."""
        # the graph search returns at most as many rows as it keeps candidates
        params = faiss.SearchParametersHNSW(  # type: ignore[attr-defined]
            sel=selector, efSearch=max(ef_search, wanted)
        )
        found: tuple[Scores, Rows] = self._graph.search(queries, wanted, params=params)
        return found


class InvertedFile:
    """Lists of similar rows with a short code of each. `ef_search` is the number of lists that a search scans.

    Codes propose candidates, and the stored rows decide their order; only the rows of candidates are read.

    Source of the codes (RaBitQ): Gao & Long 2024, doi:10.1145/3654970.
    """

    def __init__(self, lists: faiss.IndexIVFRaBitQFastScan) -> None:
        self._lists = lists
        self._rows: RowStorage | None = None

    @classmethod
    def empty(cls, dimension: int, *, lists: int) -> Self:
        """Return an inverted file without rows, to be trained."""
        centroids = faiss.IndexFlatIP(dimension)
        index = faiss.IndexIVFRaBitQFastScan(
            centroids, dimension, lists, faiss.METRIC_INNER_PRODUCT, 32, True, CODE_BITS
        )
        index.own_fields = True
        centroids.this.disown()  # type: ignore[attr-defined]
        index.cp.niter = ITERATIONS
        index.cp.max_points_per_centroid = TRAINING_ROWS
        # few rows get few lists, and those of which even that is too many need no warning on standard error
        index.cp.min_points_per_centroid = 1
        return cls(index)

    def over(self, rows: RowStorage) -> Self:
        """Tie it to its rows. Raises ValueError if they differ in their number or dimension."""
        if (self._lists.ntotal, self._lists.d) != (rows.ntotal, rows.d):
            raise ValueError(
                f"lists of {self._lists.ntotal} rows of {self._lists.d} dimensions over {rows.ntotal} of {rows.d}"
            )
        self._rows = rows
        return self

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read what `save` wrote into memory: FAISS copies such lists even if their file is mapped.

        Raises OSError, RuntimeError or ValueError if the file is no such structure.
        """
        return cls(read_faiss(path, (faiss.IndexIVFRaBitQFastScan,), mapped=False))

    @property
    def count(self) -> int:
        """As of `Approximate`."""
        return int(self._lists.ntotal)

    @property
    def exact_from(self) -> int:
        """As of `Approximate`."""
        return max(EXACT_FROM, self.count // ROWS_PER_REQUESTED)

    @property
    def lists(self) -> int:
        """Number of lists."""
        return int(self._lists.nlist)

    def train(self, vectors: Vectors) -> None:
        """As of `Approximate`."""
        if not self._lists.is_trained:
            self._lists.train(vectors)

    def append(self, vectors: Vectors) -> None:
        """Append the codes of vectors, (n, dim) float32, whose rows are stored separately."""
        if len(vectors):  # FAISS refuses none
            self._lists.add(vectors)

    def add(self, vectors: Vectors) -> None:
        """As of `Approximate`."""
        self._stored.add(vectors)
        self.append(vectors)

    def save(self, path: Path) -> None:
        """As of `Approximate`."""
        write_faiss(self._lists, path)

    def widened(self, ef_search: int, wanted: int, allowed_share: float) -> int:  # noqa: ARG002
        """As of `Approximate`."""
        # the nearest allowed rows are in more lists, but not in as many more: by measurement, this power keeps the
        # recall where allowed rows are spread evenly, and most of it where they are near each other
        return math.ceil(ef_search * math.pow(allowed_share, -2 / 3))

    def compared(self, ef_search: int) -> float:
        """As of `Approximate`."""
        return SCAN_COST * min(1.0, ef_search / self.lists) * self.count

    def search(
        self, queries: Vectors, wanted: int, ef_search: int, selector: faiss.IDSelector | None, selected: int
    ) -> tuple[Scores, Rows]:
        """As of `Approximate`."""
        candidates = min(max(CANDIDATES * wanted, MIN_CANDIDATES), selected)
        # lists of mean length that hold the candidates
        scanned = max(ef_search, math.ceil(candidates * self.lists / self.count))
        scores, rows = self._scan(queries, candidates, scanned, selector)
        # the lists nearest to a query may hold few rows that the selector accepts
        while scanned < self.lists and len(short := np.flatnonzero(rows[:, -1] < 0)):
            scanned *= 4
            scores[short], rows[short] = self._scan(queries[short], candidates, scanned, selector)
        return scores, rows

    def _scan(
        self, queries: Vectors, candidates: int, scanned: int, selector: faiss.IDSelector | None
    ) -> tuple[Scores, Rows]:
        """Scores and rows, (n, candidates), of the rows with the best codes in the lists scanned, best first."""
        codes = faiss.SearchParametersIVF(sel=selector, nprobe=min(scanned, self.lists))  # type: ignore[call-arg]
        params = faiss.IndexRefineSearchParameters(  # type: ignore[call-arg]
            k_factor=1, base_index_params=codes
        )
        index = faiss.IndexRefine(self._lists, self._stored)
        together = max(1, MAX_SCANNED // scanned)
        found = [
            index.search(queries[start : start + together], candidates, params=params)
            for start in range(0, len(queries), together)
        ]
        scores, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return scores, rows

    @property
    def _stored(self) -> RowStorage:
        assert self._rows is not None, "an inverted file is searched over its rows"
        return self._rows


def list_count(rows: int) -> int:
    """Return the number of lists for a number of rows."""
    return max(1, min(round(LISTS_PER_ROOT * math.sqrt(rows)), rows // MIN_TRAINING_ROWS))


def list_bytes(rows: int, dimension: int) -> int:
    """Return the approximate size of an inverted file: codes, row numbers and centroids."""
    code = math.ceil(dimension * CODE_BITS / 8) + 8
    return rows * (code + 8) + 4 * dimension * list_count(rows)


def write_faiss(index: Any, path: Path, *, flags: int = 0) -> None:
    """Write an index, completely. Raises OSError if writing fails."""
    try:
        # FAISS ignores an error of the last flush of a file that it opened itself
        with path.open("wb") as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write), flags)  # type: ignore[attr-defined]
    except (OSError, RuntimeError) as error:
        raise OSError(f"{path.name} could not be written ({first_line(error)})") from error


def read_faiss(path: Path, index_types: tuple[type, ...], *, mapped: bool = True) -> Any:
    """Read an index of one of these types. mapped: map its arrays into memory instead; it then cannot be changed.

    A damaged file cannot make FAISS allocate more memory than the file is long. Raises OSError, RuntimeError or
    ValueError if the file is no such index.
    """
    faiss.set_deserialization_vector_byte_limit(path.stat().st_size + 1)
    flags = faiss.IO_FLAG_SKIP_STORAGE | (faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    index = faiss.read_index(str(path), flags)
    if not isinstance(index, index_types):
        raise ValueError(f"{path.name} holds a {type(index).__name__}, not a {index_types[0].__name__}")  # noqa: TRY004
    return index
