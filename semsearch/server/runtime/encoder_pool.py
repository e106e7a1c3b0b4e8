"""The encoders of a service and the threads that run them: what many requests ask is encoded and searched together.

Queries go first. What is encoded besides them, labelled queries and new passages, goes between their batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter, sleep
from typing import TypeAlias, cast

import numpy as np

from semsearch.encoders.encoder import Encoder
from semsearch.errors import OverloadedError
from semsearch.search.engine import Attributions, SearchEngine
from semsearch.search.ranking import DenseResult, ResultPage
from semsearch.server.runtime.batching import Batcher
from semsearch.server.runtime.metrics import Metrics
from semsearch.server.runtime.query_cache import QueryCache
from semsearch.server.schemas.search import Limits
from semsearch.types import Query, Vectors

PASSAGES_PER_TURN = 4
"""Passages of new documents that are encoded between two batches of searches, which wait for them."""
BACKGROUND_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class _QueryItem:
    """A query on its way to the encoder."""

    engine: SearchEngine
    query: Query
    tokens: int
    """Tokens that the encoder has to read; 0 where the vector is known."""
    vector: Vectors | None
    """(dim,) of a query that was encoded before."""


@dataclass(frozen=True, slots=True)
class _CallItem:
    """Anything else that has to run on the threads that own the encoders."""

    run: Callable[[], object]
    tokens: int = 0


_Item: TypeAlias = _QueryItem | _CallItem


class EncoderPool:
    """All encoders of a service, behind one queue."""

    def __init__(self, encoders: Iterable[Encoder], *, limits: Limits, metrics: Metrics) -> None:
        """Start the threads that run them."""
        encoders = list(encoders)
        self._deadline_s = limits.deadline_s
        self._cache = QueryCache(limits.query_cache_size, observe=metrics.observe_vector)
        self._batcher: Batcher[_Item, object] = Batcher(
            self._run,
            max_batch=limits.max_batch,
            max_waiting=limits.max_waiting,
            workers=max(encoder.workers for encoder in encoders),
            cost=lambda item: item.tokens,
            max_cost=max(encoder.batch_tokens["query"] for encoder in encoders),
            observer=metrics.observer,
        )
        metrics.watch_waiting(lambda: self._batcher.waiting)

    @property
    def alive(self) -> bool:
        """Whether queries can be encoded."""
        return self._batcher.alive

    @property
    def waiting(self) -> int:
        """Queries that wait for a batch."""
        return self._batcher.waiting

    def stages(self, engine: SearchEngine, *, abandoned: Callable[[], bool] = lambda: False) -> PooledStages:
        """The encoder's stages of one request's search. abandoned: asked whether the client has gone."""
        return PooledStages(self, engine, abandoned)

    def retrieve(
        self,
        engine: SearchEngine,
        queries: Sequence[Query],
        *,
        timeout_s: float | None = None,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> list[DenseResult]:
        """As `SearchEngine.retrieve`, in batches with whatever other threads ask at the same time.

        timeout_s: by default the limits' deadline. Raises what `Batcher.submit` raises, and EncoderError.
        """
        timeout_s = self._deadline_s if timeout_s is None else timeout_s
        found = self._batcher.submit(self._query_items(engine, queries), timeout_s=timeout_s, abandoned=abandoned)
        return cast("list[DenseResult]", found)

    def token_attributions(self, engine: SearchEngine, pages: Sequence[ResultPage]) -> list[Attributions | None]:
        """As `SearchEngine.token_attributions`, on the threads that own the encoder."""
        item = _CallItem(lambda: engine.token_attributions(pages))
        [found] = self._batcher.submit([item], timeout_s=self._deadline_s)
        return cast("list[Attributions | None]", found)

    def encode_label(self, engine: Callable[[], SearchEngine], text: str) -> Vectors:
        """(1, dim) float32 of a labelled query. engine: the present one, as another may replace it meanwhile."""
        return self._between_searches(lambda: engine().encode_label(text))

    def encode_passages(self, engine: Callable[[], SearchEngine], texts: Sequence[str]) -> Vectors:
        """(n, dim) float32 of passages, encoded a few at a time."""
        parts = [texts[start : start + PASSAGES_PER_TURN] for start in range(0, len(texts), PASSAGES_PER_TURN)]

        def encode(part: Sequence[str]) -> Vectors:
            return engine().encoder.encode_documents(part)

        return np.concatenate([self._between_searches(partial(encode, part)) for part in parts])

    def close(self) -> None:
        """Stop the threads."""
        self._batcher.close()

    def _query_items(self, engine: SearchEngine, queries: Sequence[Query]) -> list[_Item]:
        """Queries as the batcher takes them, with the vectors that are known already."""
        vectors = [self._cache.get(engine.encoder, query.text) for query in queries]
        unknown = [query.text for query, vector in zip(queries, vectors, strict=True) if vector is None]
        tokens = iter(engine.encoder.count_tokens(unknown))
        return [
            _QueryItem(engine, query, next(tokens) if vector is None else 0, vector)
            for query, vector in zip(queries, vectors, strict=True)
        ]

    def _between_searches(self, encode: Callable[[], Vectors]) -> Vectors:
        while True:
            try:
                [vectors] = self._batcher.submit([_CallItem(encode)], timeout_s=BACKGROUND_TIMEOUT_S)
            except OverloadedError as error:
                if not self.alive:
                    raise
                # searches go first
                sleep(error.retry_after_s)
                continue
            return cast("Vectors", vectors)

    def _run(self, items: Sequence[_Item]) -> list[object]:
        results: dict[int, object] = {}
        queries = {index: item for index, item in enumerate(items) if isinstance(item, _QueryItem)}
        results.update(zip(queries, self._search(list(queries.values())), strict=True))
        for index, item in enumerate(items):
            if isinstance(item, _CallItem):
                results[index] = item.run()
        return [results[index] for index in range(len(items))]

    def _search(self, items: Sequence[_QueryItem]) -> list[DenseResult]:
        """Encode together, then adapt and search together the queries of one engine."""
        started = perf_counter()
        vectors = self._encode(items)
        encode_s = perf_counter() - started
        by_engine: dict[SearchEngine, list[int]] = {}
        for index, item in enumerate(items):
            by_engine.setdefault(item.engine, []).append(index)
        found: dict[int, DenseResult] = {}
        for engine, indices in by_engine.items():
            frozen = np.stack([vectors[index] for index in indices])
            results = engine.search_vectors([items[index].query for index in indices], frozen, encode_s=encode_s)
            found.update(zip(indices, results, strict=True))
        return [found[index] for index in range(len(items))]

    def _encode(self, items: Sequence[_QueryItem]) -> list[Vectors]:
        """(dim,) of each query; queries of one encoder go together, and no text is encoded twice."""
        known = {(item.engine.encoder, item.query.text): item.vector for item in items if item.vector is not None}
        keys = [(item.engine.encoder, item.query.text) for item in items]
        unknown = dict.fromkeys(key for key in keys if key not in known)
        for encoder in dict.fromkeys(encoder for encoder, _ in unknown):
            texts = [text for its, text in unknown if its is encoder]
            for text, vector in zip(texts, encoder.encode_queries(texts), strict=True):
                known[encoder, text] = vector
                self._cache.add(encoder, text, vector)
        return [known[key] for key in keys]


@dataclass(frozen=True, slots=True)
class PooledStages:
    """One request's access to the pool, in the form that `SearchEngine.search` takes."""

    pool: EncoderPool
    engine: SearchEngine
    abandoned: Callable[[], bool]

    def retrieve(self, queries: Sequence[Query]) -> list[DenseResult]:
        """As `EncoderPool.retrieve`."""
        return self.pool.retrieve(self.engine, queries, abandoned=self.abandoned)

    def token_attributions(self, pages: Sequence[ResultPage]) -> list[Attributions | None]:
        """As `EncoderPool.token_attributions`."""
        return self.pool.token_attributions(self.engine, pages)
