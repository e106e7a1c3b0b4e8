"""Recent queries' vectors as the encoder gives them, before adaptation."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from semsearch.encoders.encoder import Encoder
from semsearch.types import Vectors


class QueryCache:
    """A least-recently-used cache of query vectors by text and model. Thread-safe."""

    def __init__(self, size: int, *, observe: Callable[[bool], None] = lambda _hit: None) -> None:
        """Start empty. size: vectors kept at most; 0 keeps none. observe: called at each lookup, true for a hit."""
        self._size = size
        self._observe = observe
        self._vectors: OrderedDict[tuple[str, str, str], Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, encoder: Encoder, text: str) -> Vectors | None:
        """(dim,) float32, the vector of a query; None where it is not cached."""
        key = _key(encoder, text)
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
        self._observe(vector is not None)
        return vector

    def add(self, encoder: Encoder, text: str, vector: Vectors) -> None:
        """Cache (dim,) float32, the vector of a query."""
        copied = vector.copy()  # a view would keep the whole batch in memory
        with self._lock:
            self._vectors[_key(encoder, text)] = copied
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)


def _key(encoder: Encoder, text: str) -> tuple[str, str, str]:
    return encoder.weights_sha256, encoder.prompts["query"], text
