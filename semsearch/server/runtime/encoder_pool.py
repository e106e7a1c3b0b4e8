"""The encoders of a service and the threads that run them: what many requests ask is encoded and searched together.

Queries go first. What else is encoded (explanations, labelled queries, new passages) is cut into batches of its own, of
which one kind has one in the queue at a time: a query waits for at most one batch of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from time import monotonic, perf_counter, sleep
from typing import TypeAlias, TypeVar, cast

import numpy as np

from semsearch.encoders.encoder import Encoder
from semsearch.errors import DeadlineError, OverloadedError
from semsearch.search.engine import Attributions, SearchEngine
from semsearch.search.ranking import DenseResult, ResultPage
from semsearch.server.runtime.batching import AbandonedError, Batcher
from semsearch.server.runtime.metrics import Metrics
from semsearch.server.runtime.query_cache import QueryCache
from semsearch.server.schemas.search import Limits
from semsearch.types import Query, Vectors

PASSAGES_PER_TURN = 4
"""Passages of new documents that are encoded between two batches of searches, which wait for them."""
BACKGROUND_TIMEOUT_S = 60

Result = TypeVar("Result")


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
    """A batch of anything else that the encoder reads."""

    run: Callable[[], object]
    tokens: int


_Item: TypeAlias = _QueryItem | _CallItem


class EncoderPool:
    """All encoders of a service, behind one queue."""

    def __init__(self, encoders: Iterable[Encoder], *, limits: Limits, metrics: Metrics) -> None:
        """Start the threads that run them."""
        encoders = list(encoders)
        self._deadline_s = limits.deadline_s
        self._explaining = Lock()
        """Held while a batch of an explanation is in the queue."""
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
        """The encoder's stages of one request's search, which share one deadline from now on.

        abandoned: called when work of the request is due; if it returns true the work is dropped.
        """
        return PooledStages(self, engine, monotonic() + self._deadline_s, abandoned)

    def retrieve(
        self,
        engine: SearchEngine,
        queries: Sequence[Query],
        *,
        timeout_s: float,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> list[DenseResult]:
        """As `SearchEngine.retrieve`, in batches with whatever other threads ask at the same time.

        Raises what `Batcher.submit` raises, and EncoderError.
        """
        results = self._batcher.submit(self._query_items(engine, queries), timeout_s=timeout_s, abandoned=abandoned)
        return cast("list[DenseResult]", results)

    def explain_batch(
        self, compute: Callable[[], Result], tokens: int, *, deadline: float, abandoned: Callable[[], bool]
    ) -> Result:
        """Run one batch of an explanation. deadline: on the monotonic clock. Raises what `Batcher.submit` raises."""
        if not self._explaining.acquire(timeout=max(0.0, deadline - monotonic())):
            raise self.expired()
        try:
            item = _CallItem(compute, tokens)
            [result] = self._batcher.submit([item], timeout_s=deadline - monotonic(), abandoned=abandoned)
        finally:
            self._explaining.release()
        return cast("Result", result)

    def expired(self) -> DeadlineError:
        """The error of a request whose time has run out."""
        return self._batcher.expired()

    def encode_label(self, engine: Callable[[], SearchEngine], text: str) -> Vectors:
        """(1, dim) float32 of a labelled query. engine: the present one, as another may replace it meanwhile."""
        return self._between_searches(lambda: engine().encode_label(text), engine().encoder, [text])

    def encode_passages(self, engine: Callable[[], SearchEngine], texts: Sequence[str]) -> Vectors:
        """(n, dim) float32 of passages, encoded a few at a time."""
        parts = [texts[start : start + PASSAGES_PER_TURN] for start in range(0, len(texts), PASSAGES_PER_TURN)]

        def encode(part: Sequence[str]) -> Vectors:
            return engine().encoder.encode_documents(part)

        vectors = [self._between_searches(partial(encode, part), engine().encoder, part) for part in parts]
        return np.concatenate(vectors)

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

    def _between_searches(self, encode: Callable[[], Vectors], encoder: Encoder, texts: Sequence[str]) -> Vectors:
        item = _CallItem(encode, sum(encoder.count_tokens(texts)))
        while True:
            try:
                [vectors] = self._batcher.submit([item], timeout_s=BACKGROUND_TIMEOUT_S)
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
    """One request's access to the pool, in the form that `SearchEngine.search` takes.

    All methods raise DeadlineError when the request's time has run out, and AbandonedError when its client has gone.
    """

    pool: EncoderPool
    engine: SearchEngine
    deadline: float
    """On the monotonic clock."""
    abandoned: Callable[[], bool]

    def check_deadline(self) -> None:
        """Raise if the request must not go on."""
        if self.abandoned():
            raise AbandonedError
        if monotonic() >= self.deadline:
            raise self.pool.expired()

    def retrieve(self, queries: Sequence[Query]) -> list[DenseResult]:
        """As `EncoderPool.retrieve`."""
        timeout_s = self.deadline - monotonic()
        return self.pool.retrieve(self.engine, queries, timeout_s=timeout_s, abandoned=self.abandoned)

    def token_attributions(self, pages: Sequence[ResultPage]) -> list[Attributions | None]:
        """As `SearchEngine.token_attributions`, each batch on the threads that own the encoder."""
        return self.engine.token_attributions(pages, run=self._run)

    def _run(self, compute: Callable[[], Result], tokens: int, /) -> Result:
        return self.pool.explain_batch(compute, tokens, deadline=self.deadline, abandoned=self.abandoned)
