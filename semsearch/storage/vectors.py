"""Nearest neighbours over FAISS; knows rows and vectors, nothing of documents or texts."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np

from semsearch.records import BundleError, Rows, Scores, Vectors

SCORE_DECIMALS = 6
"""Scores are equal if they agree to this many decimals: the last bits move with the shape of the batch."""


class VectorIndex:
    """Passage vectors by row, searched by cosine similarity."""

    def __init__(self, index: faiss.Index, *, threads: int = 1) -> None:
        """Take a finished index of unit vectors under the inner product. Raises ValueError for another metric."""
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError(f"an index of metric {index.metric_type}; unit vectors want the inner product")
        self._index = index
        self._threads = threads

    @classmethod
    def exact(cls, dimension: int, *, threads: int = 1) -> VectorIndex:
        """An empty index that compares every query with every row."""
        return cls(faiss.IndexFlatIP(dimension), threads=threads)

    @classmethod
    def open(cls, path: Path, *, threads: int = 1) -> VectorIndex:
        """Read what `save` wrote. Raises BundleError if the file is no such index.

        The file's checksum is the caller's to check first; nothing in it can make FAISS reserve more memory than
        the file is long.
        """
        try:
            faiss.set_deserialization_vector_byte_limit(path.stat().st_size + 1)
            return cls(faiss.read_index(str(path)), threads=threads)
        except (OSError, RuntimeError, ValueError) as error:
            raise BundleError(f"{path} is not a vector index ({_first_line(error)}): build it again") from error

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self._index.ntotal)

    def add(self, vectors: Vectors) -> None:
        """Append (n, dim) float32 unit rows; they get the next row numbers."""
        self._index.add(vectors)

    def save(self, path: Path) -> None:
        """Write the index. Raises OSError if it cannot be written whole."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"{path.name} could not be written ({_first_line(error)})") from error

    def all(self) -> Vectors:
        """(count, dim) float32, every row: the index's own memory, to be read only and while it is open."""
        rows: Vectors = faiss.rev_swig_ptr(self._index.get_xb(), self.count * self.dimension)  # type: ignore[attr-defined]
        rows = rows.reshape(self.count, self.dimension)
        rows.flags.writeable = False
        return rows

    def similarity(self, query: Vectors, rows: Rows) -> Scores:
        """(n,) cosines of (dim,) float32, a unit vector, and n rows."""
        found: Scores = np.round(self.all()[rows] @ query, SCORE_DECIMALS)
        return found

    def nearest(self, queries: Vectors, k: int) -> tuple[Scores, Rows]:
        """The k rows nearest to each query.

        queries: (n, dim) float32, unit rows. Returns scores (n, k) and rows (n, k), best first, rows of equal
        score by row number; a row of -1 with score -inf marks a place that no row could fill.
        """
        # FAISS keeps this setting for each calling thread apart
        faiss.omp_set_num_threads(self._threads)
        wanted = min(k, self.count)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        if wanted and len(queries):
            found, places = self._index.search(queries, wanted)
            found = np.round(found, SCORE_DECIMALS)
            order = np.lexsort((places, -found), axis=1)
            scores[:, :wanted] = np.take_along_axis(found, order, axis=1)
            rows[:, :wanted] = np.take_along_axis(places, order, axis=1)
        return scores, rows


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
