"""A cache of query vectors, as returned by the encoder, before adaptation."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from semsearch.encoders.encoder import Encoder
from semsearch.types import Vectors


class QueryCache:
    """A least-recently-used cache of query vectors by model, prompt and text. Thread-safe."""

    def __init__(self, size: int, *, observe: Callable[[bool], None] = lambda _hit: None) -> None:
        """Create an empty cache.

        size: largest number of vectors; 0 disables the cache. observe: called at each lookup, with true for a hit.
        """
        self._size = size
        self._observe = observe
        self._vectors: OrderedDict[tuple[str, str | None, str, int, str], Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, encoder: Encoder, text: str) -> Vectors | None:
        """Return the vector of a query, (dim,) float32; None if it is not cached."""
        key = _key(encoder, text)
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
        self._observe(vector is not None)
        return vector

    def add(self, encoder: Encoder, text: str, vector: Vectors) -> None:
        """Add the vector of a query, (dim,) float32."""
        copied = vector.copy()  # a view would keep the vectors of the whole batch in memory
        with self._lock:
            self._vectors[_key(encoder, text)] = copied
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)


def _key(encoder: Encoder, text: str) -> tuple[str, str | None, str, int, str]:
    return encoder.weights_sha256, encoder.configuration_sha256, encoder.prompts["query"], encoder.dimension, text
