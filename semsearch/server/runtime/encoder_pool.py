"""The encoders of a service and their threads: queries of concurrent requests are encoded and searched in one batch.

Queries have priority. Everything else that is encoded (explanations, labelled queries, new passages) is divided into
separate batches, which go between those of queries: explanations have at most one batch for each thread of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import BoundedSemaphore
from time import monotonic, perf_counter, sleep
from typing import TypeAlias, TypeVar, cast

import numpy as np

from semsearch.encoders.encoder import EncodedPassages, EncodedQuery, Encoder
from semsearch.errors import DeadlineError, OverloadedError
from semsearch.search.engine import Attributions, SearchEngine
from semsearch.search.ranking import DenseResult, ResultPage
from semsearch.server.runtime.batching import AbandonedError, Batcher, Failed
from semsearch.server.runtime.metrics import Metrics, count_outcome
from semsearch.server.runtime.query_cache import QueryCache
from semsearch.server.schemas.search import Limits
from semsearch.types import Query

PASSAGES_PER_BATCH = 4
"""Passages of new documents encoded in one batch; searches wait for it."""
BACKGROUND_TIMEOUT_S = 60
"""Timeout of a batch of passages or of a labelled query."""
DISCONNECTED_POLL_S = 0.2
"""While an explanation waits for its turn, its client's connection is checked this often."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _QueryItem:
    """A query that waits to be encoded and searched."""

    engine: SearchEngine
    query: Query
    tokens: int
    """Number of tokens to encode; 0 if the vector is cached."""
    encoded: EncodedQuery | None
    """The cached query; None if there is none."""


@dataclass(frozen=True, slots=True)
class _CallItem:
    """Any other work for the encoder: one batch."""

    run: Callable[[], object]
    tokens: int


_Item: TypeAlias = _QueryItem | _CallItem


class EncoderPool:
    """All encoders of a service, with one queue."""

    def __init__(self, encoders: Iterable[Encoder], *, limits: Limits, metrics: Metrics) -> None:
        """Start the threads that run the encoders."""
        encoders = list(encoders)
        self.metrics = metrics
        self._deadline_s = limits.deadline_s
        workers = max(encoder.workers for encoder in encoders)
        self._explaining = BoundedSemaphore(workers)
        """Acquired while a batch of an explanation is in the queue or runs."""
        self._cache = QueryCache(limits.query_cache_size, observe=metrics.observe_vector)
        self._batcher: Batcher[_Item, object] = Batcher(
            self._run,
            max_batch=limits.max_batch,
            max_waiting=limits.max_waiting,
            workers=workers,
            cost=lambda item: item.tokens,
            max_cost=max(encoder.batch_tokens["query"] for encoder in encoders),
            on_batch=self._observe_batch,
        )
        metrics.watch_waiting(lambda: self._batcher.waiting)

    @property
    def alive(self) -> bool:
        """Whether queries can be encoded."""
        return self._batcher.alive

    @property
    def waiting(self) -> int:
        """Number of queries, and of batches of explanations or new passages, that wait for the encoder."""
        return self._batcher.waiting

    def stages(self, engine: SearchEngine, *, abandoned: Callable[[], bool] = lambda: False) -> PooledStages:
        """Return the encoder stages of one request. They share one deadline, which starts now.

        abandoned: called when work of the request is due; if it returns true, the work is dropped.
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
        """As `SearchEngine.retrieve`, in batches with the queries of other threads.

        Raises as `Batcher.submit`, and EncoderError.
        """
        results = self._batcher.submit(self._query_items(engine, queries), timeout_s=timeout_s, abandoned=abandoned)
        return cast("list[DenseResult]", results)

    def explain_batch(self, stages: PooledStages, compute: Callable[[], Result], tokens: int) -> Result:
        """Run one batch of a request's explanation.

        compute: the work. tokens: number of tokens that it encodes.

        Raises as `Batcher.submit`.
        """
        while not self._explaining.acquire(timeout=DISCONNECTED_POLL_S):
            stages.check_deadline()
        try:
            timeout_s = stages.deadline - monotonic()
            [result] = self._batcher.submit(
                [_CallItem(compute, tokens)], timeout_s=timeout_s, abandoned=stages.abandoned
            )
        finally:
            self._explaining.release()
        return cast("Result", result)

    def deadline_error(self) -> DeadlineError:
        """Return the error of a request that exceeded its deadline."""
        return self._batcher.deadline_error()

    def encode_label(self, engine: Callable[[], SearchEngine], text: str) -> EncodedQuery:
        """Encode a labelled query. engine: returns the current engine, which may be replaced."""
        return self._encode_in_background(lambda: engine().encode_label(text), engine().encoder, [text])

    def encode_passages(
        self, engine: Callable[[], SearchEngine], texts: Sequence[str], *, with_tokens: bool
    ) -> EncodedPassages:
        """As `Encoder.encode_passages`, a few texts at a time. engine: returns the current engine."""
        batches = [texts[start : start + PASSAGES_PER_BATCH] for start in range(0, len(texts), PASSAGES_PER_BATCH)]

        def encode(batch: Sequence[str]) -> EncodedPassages:
            return engine().encoder.encode_passages(batch, with_tokens=with_tokens)

        encoded = [self._encode_in_background(partial(encode, batch), engine().encoder, batch) for batch in batches]
        return EncodedPassages(
            np.concatenate([batch.vectors for batch in encoded]),
            [codes for batch in encoded for codes in batch.tokens or ()] if with_tokens else None,
        )

    def close(self) -> None:
        """Stop the threads."""
        self._batcher.close()

    def _query_items(self, engine: SearchEngine, queries: Sequence[Query]) -> list[_Item]:
        """Return the batcher's items for queries, those that are cached with their vectors."""
        cached = [self._cache.get(engine.encoder, query.text, with_tokens=engine.uses_tokens) for query in queries]
        missing = [query.text for query, encoded in zip(queries, cached, strict=True) if encoded is None]
        tokens = iter(engine.encoder.count_tokens(missing))
        return [
            _QueryItem(engine, query, next(tokens) if encoded is None else 0, encoded)
            for query, encoded in zip(queries, cached, strict=True)
        ]

    def _encode_in_background(self, encode: Callable[[], Result], encoder: Encoder, texts: Sequence[str]) -> Result:
        """Run `encode`, which encodes `texts`, in a batch of its own. Tries again while searches fill the queue."""
        item = _CallItem(encode, sum(encoder.count_tokens(texts)))
        while True:
            try:
                [result] = self._batcher.submit([item], timeout_s=BACKGROUND_TIMEOUT_S)
            except OverloadedError as error:
                if not self.alive:
                    raise
                # searches have priority
                sleep(error.retry_after_s)
                continue
            return cast("Result", result)

    def _observe_batch(self, items: Sequence[_Item], seconds: float) -> None:
        if queries := sum(isinstance(item, _QueryItem) for item in items):
            self.metrics.observe_batch(queries, seconds)

    def _run(self, items: Sequence[_Item]) -> list[object | Failed]:
        results: dict[int, object | Failed] = {}
        queries = {index: item for index, item in enumerate(items) if isinstance(item, _QueryItem)}
        results.update(zip(queries, self._search_or_fail(list(queries.values())), strict=True))
        for index, item in enumerate(items):
            if isinstance(item, _CallItem):
                try:
                    results[index] = item.run()
                except Exception as error:  # noqa: BLE001 - it is raised in the caller
                    results[index] = Failed(error)
        return [results[index] for index in range(len(items))]

    def _search_or_fail(self, items: Sequence[_QueryItem]) -> list[DenseResult | Failed]:
        """As `_search`. After a failure each query is tried alone, so that it does not fail because of another one."""
        try:
            return list(self._search(items))
        except Exception as error:  # noqa: BLE001 - it is raised in the caller
            if len(items) == 1:
                return [Failed(error)]
        return [result for item in items for result in self._search_or_fail([item])]

    def _search(self, items: Sequence[_QueryItem]) -> list[DenseResult]:
        """Encode all queries together, then adapt and search those of each engine together."""
        started = perf_counter()
        encoded = self._encode(items)
        encode_s = perf_counter() - started
        by_engine: dict[SearchEngine, list[int]] = {}
        for index, item in enumerate(items):
            by_engine.setdefault(item.engine, []).append(index)
        results: dict[int, DenseResult] = {}
        for engine, indices in by_engine.items():
            engine_queries = [items[index].query for index in indices]
            engine_results = engine.search_encoded(
                engine_queries, [encoded[index] for index in indices], encode_s=encode_s
            )
            results.update(zip(indices, engine_results, strict=True))
        return [results[index] for index in range(len(items))]

    def _encode(self, items: Sequence[_QueryItem]) -> list[EncodedQuery]:
        """Encode each query, with its token vectors if its engine uses them.

        Each encoder runs once for queries with tokens and once for those without, and without duplicate texts.
        """
        keys = [(item.engine.encoder, item.engine.uses_tokens, item.query.text) for item in items]
        encoded = {key: item.encoded for key, item in zip(keys, items, strict=True) if item.encoded is not None}
        missing = dict.fromkeys(key for key in keys if key not in encoded)
        for encoder, with_tokens in dict.fromkeys((encoder, with_tokens) for encoder, with_tokens, _ in missing):
            texts = [key[2] for key in missing if key[:2] == (encoder, with_tokens)]
            for text, query in zip(texts, encoder.encode_for_search(texts, with_tokens=with_tokens), strict=True):
                encoded[encoder, with_tokens, text] = query
                self._cache.add(encoder, text, query)
        return [encoded[key] for key in keys]


@dataclass(frozen=True, slots=True)
class PooledStages:
    """The encoder stages of one request, run on the pool; an argument of `SearchEngine.search`.

    All methods raise DeadlineError after the request's deadline, and AbandonedError if its client has disconnected.
    """

    pool: EncoderPool
    engine: SearchEngine
    deadline: float
    """On the monotonic clock."""
    abandoned: Callable[[], bool]

    def check_deadline(self) -> None:
        """Raise an error if the request should not continue."""
        if self.abandoned():
            raise AbandonedError
        if monotonic() >= self.deadline:
            raise self.pool.deadline_error()

    def retrieve(self, queries: Sequence[Query]) -> list[DenseResult]:
        """As `EncoderPool.retrieve`."""
        timeout_s = self.deadline - monotonic()
        return self.pool.retrieve(self.engine, queries, timeout_s=timeout_s, abandoned=self.abandoned)

    def token_attributions(self, pages: Sequence[ResultPage]) -> list[Attributions | None]:
        """As `SearchEngine.token_attributions`, each batch on the threads that own the encoder."""
        with count_outcome(self.pool.metrics.explanations, len(pages)):
            return self.engine.token_attributions(pages, run=self._run)

    def _run(self, compute: Callable[[], Result], tokens: int, /) -> Result:
        return self.pool.explain_batch(self, compute, tokens)
