"""A cache of encoded queries, before adaptation."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from semsearch.encoders.encoder import EncodedQuery, Encoder

BYTES_PER_QUERY = 8192
"""Bytes of a cached query on average, at most: a short one has a third of them with token vectors."""


class QueryCache:
    """A least-recently-used cache of encoded queries by model, prompt and text. Thread-safe."""

    def __init__(self, size: int, *, observe: Callable[[bool], None] = lambda _hit: None) -> None:
        """Create an empty cache.

        size: largest number of queries, which hold BYTES_PER_QUERY bytes each on average at most; 0 disables the cache.
        observe: called at each lookup, with true for a hit.
        """
        self._size = size
        self._observe = observe
        self._queries: OrderedDict[tuple[str, str | None, str, int, str], EncodedQuery] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._queries)

    def get(self, encoder: Encoder, text: str, *, with_tokens: bool) -> EncodedQuery | None:
        """Return an encoded query; None if it is not cached, or not with the token vectors that are wanted."""
        key = _key(encoder, text)
        with self._lock:
            query = self._queries.get(key)
            if query is not None and with_tokens and query.tokens is None:
                query = None
            if query is not None:
                self._queries.move_to_end(key)
        self._observe(query is not None)
        return query

    def add(self, encoder: Encoder, text: str, query: EncodedQuery) -> None:
        """Add an encoded query."""
        key = _key(encoder, text)
        with self._lock:
            if key in self._queries:
                self._bytes -= self._queries.pop(key).nbytes
            self._queries[key] = query
            self._bytes += query.nbytes
            while len(self._queries) > self._size or self._bytes > self._size * BYTES_PER_QUERY:
                self._bytes -= self._queries.popitem(last=False)[1].nbytes


def _key(encoder: Encoder, text: str) -> tuple[str, str | None, str, int, str]:
    return encoder.weights_sha256, encoder.configuration_sha256, encoder.prompts["query"], encoder.dimension, text
