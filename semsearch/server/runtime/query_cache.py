"""Recent queries' vectors as the encoder gives them; adaptation comes after."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from semsearch.encoders.encoder import Encoder
from semsearch.types import Vectors


class QueryVectors:
    """Vectors by text and model, the least recently asked for forgotten first. For any number of threads."""

    def __init__(self, most: int, *, asked: Callable[[bool], None] = lambda _found: None) -> None:
        """Begin with none. most: 0 remembers nothing. asked: is told of every question whether it was answered."""
        self._most = most
        self._asked = asked
        self._vectors: OrderedDict[tuple[str, str, str], Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, encoder: Encoder, text: str) -> Vectors | None:
        """(dim,) float32, of a query; None where it is not known."""
        key = _key(encoder, text)
        with self._lock:
            found = self._vectors.get(key)
            if found is not None:
                self._vectors.move_to_end(key)
        self._asked(found is not None)
        return found

    def add(self, encoder: Encoder, text: str, vector: Vectors) -> None:
        """Remember (dim,) float32, of a query."""
        kept = vector.copy()  # and not the whole batch that it is a row of
        with self._lock:
            self._vectors[_key(encoder, text)] = kept
            while len(self._vectors) > self._most:
                self._vectors.popitem(last=False)


def _key(encoder: Encoder, text: str) -> tuple[str, str, str]:
    return encoder.weights_sha256, encoder.prompts["query"], text
