"""The encoders of a service and the threads that run them: what many requests ask is encoded and ranked together.

Queries go first; what is encoded beside them, labelled queries and new passages, goes between their batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import TypeAlias

import numpy as np

from semsearch.encoders.encoder import Encoder
from semsearch.errors import OverloadedError
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import Nearest, Ranking
from semsearch.server.runtime.batching import Batcher
from semsearch.server.runtime.metrics import Metrics
from semsearch.server.runtime.query_cache import QueryVectors
from semsearch.server.schemas.search import Limits
from semsearch.types import Query, Vectors


@dataclass(frozen=True, slots=True)
class LabelText:
    """A labelled query to be encoded, and not searched for."""

    text: str


@dataclass(frozen=True, slots=True)
class Explained:
    """A ranking of which it is asked which words made it."""

    ranking: Ranking


@dataclass(frozen=True, slots=True)
class PassageTexts:
    """Passages of new documents to be encoded."""

    texts: Sequence[str]


PASSAGES_BETWEEN = 4
"""Passages of new documents that are encoded between two batches of searches, which wait for them."""

Item: TypeAlias = Query | LabelText | PassageTexts | Explained


@dataclass(frozen=True, slots=True)
class Asked:
    """An item on its way to the encoder."""

    engine: SearchEngine
    item: Item
    tokens: int = 0
    """That the encoder has to read."""
    vector: Vectors | None = None
    """(dim,) of a query that was encoded before."""

    @property
    def text(self) -> str:
        """Of a query."""
        assert isinstance(self.item, Query)
        return self.item.text


Carried: TypeAlias = list[list[tuple[str, float]]]
"""Of each hit, words of its passage and what they added to the similarity."""
Result: TypeAlias = Nearest | Vectors | Carried | None


class Encoders:
    """All encoders of a service, behind one queue."""

    def __init__(self, encoders: Iterable[Encoder], *, limits: Limits, metrics: Metrics) -> None:
        """Start the threads that run them."""
        encoders = list(encoders)
        self._deadline_s = limits.deadline_s
        self._vectors = QueryVectors(limits.remembered, asked=metrics.observe_vector)
        self._batcher: Batcher[Asked, Result] = Batcher(
            self._run,
            max_batch=limits.max_batch,
            max_waiting=limits.max_waiting,
            workers=max(encoder.workers for encoder in encoders),
            cost=lambda asked: asked.tokens,
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

    def nearest(
        self,
        engine: SearchEngine,
        queries: Sequence[Query],
        *,
        timeout_s: float | None = None,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> list[Nearest]:
        """What is nearest to each query, in batches with whatever other threads ask at the same time.

        timeout_s: by default the limits' deadline. Raises what `Batcher.submit` raises, and EncoderError.
        """
        timeout_s = self._deadline_s if timeout_s is None else timeout_s
        found = self._batcher.submit(self._asked(engine, queries), timeout_s=timeout_s, abandoned=abandoned)
        return [one for one in found if isinstance(one, Nearest)]

    def carried(self, engine: SearchEngine, rankings: Sequence[Ranking]) -> dict[int, Carried]:
        """By place, which words made each ranking, where that is known; the threads that own the encoder tell it."""
        asked = [place for place, ranking in enumerate(rankings) if ranking.vector is not None]
        items = [Asked(engine, Explained(rankings[place])) for place in asked]
        found = self._batcher.submit(items, timeout_s=self._deadline_s)
        return {place: its for place, its in zip(asked, found, strict=True) if isinstance(its, list)}

    def label(self, engine: Callable[[], SearchEngine], text: str) -> Vectors:
        """(1, dim) of a labelled query; engine: the present one, as another may take its place meanwhile."""
        return self._between(engine, LabelText(text))

    def passages(self, engine: Callable[[], SearchEngine], texts: Sequence[str]) -> Vectors:
        """(n, dim) of passages, encoded a few at a time."""
        starts = range(0, len(texts), PASSAGES_BETWEEN)
        return np.concatenate(
            [self._between(engine, PassageTexts(texts[start : start + PASSAGES_BETWEEN])) for start in starts]
        )

    def close(self) -> None:
        """Stop the threads."""
        self._batcher.close()

    def _asked(self, engine: SearchEngine, queries: Sequence[Query]) -> list[Asked]:
        """Queries as the batcher takes them, with what is known of them already."""
        vectors = [self._vectors.get(engine.encoder, query.text) for query in queries]
        tokens = iter(
            engine.encoder.count_tokens(
                [query.text for query, vector in zip(queries, vectors, strict=True) if vector is None]
            )
        )
        return [
            Asked(engine, query, next(tokens) if vector is None else 0, vector)
            for query, vector in zip(queries, vectors, strict=True)
        ]

    def _between(self, engine: Callable[[], SearchEngine], item: LabelText | PassageTexts) -> Vectors:
        """What is encoded beside searches: by the threads that own the encoder, between their batches."""
        while True:
            try:
                [vectors] = self._batcher.submit([Asked(engine(), item)], timeout_s=60)
            except OverloadedError as error:
                if not self.alive:
                    raise
                # searches go first
                sleep(error.retry_after_s)
                continue
            assert isinstance(vectors, np.ndarray)
            return vectors

    def _run(self, items: Sequence[Asked]) -> list[Result]:
        done: dict[int, Result] = {}
        queries = {place: asked.item for place, asked in enumerate(items) if isinstance(asked.item, Query)}
        started = perf_counter()
        vectors = self._encoded([items[place] for place in queries])
        seconds = perf_counter() - started
        together: dict[int, list[int]] = {}
        for place in queries:
            together.setdefault(id(items[place].engine), []).append(place)
        frozen = dict(zip(queries, vectors, strict=True))
        for group in together.values():
            found = items[group[0]].engine.nearest(
                [queries[place] for place in group], np.stack([frozen[place] for place in group]), encoded_in_s=seconds
            )
            done.update(zip(group, found, strict=True))
        for place, asked in enumerate(items):
            if isinstance(asked.item, Explained):
                done[place] = asked.engine.carried(asked.item.ranking)
            elif isinstance(asked.item, LabelText):
                done[place] = asked.engine.encode_label(asked.item.text)
            elif isinstance(asked.item, PassageTexts):
                done[place] = asked.engine.encoder.encode_documents(asked.item.texts)
        return [done[place] for place in range(len(items))]

    def _encoded(self, items: Sequence[Asked]) -> list[Vectors]:
        """(dim,) of each query: of those of one encoder together, of every text once, of none that is known."""
        found = {(asked.engine.encoder, asked.text): asked.vector for asked in items if asked.vector is not None}
        wanted = dict.fromkeys(key for asked in items if (key := (asked.engine.encoder, asked.text)) not in found)
        for encoder in dict.fromkeys(encoder for encoder, _ in wanted):
            texts = [text for its, text in wanted if its is encoder]
            for text, vector in zip(texts, encoder.encode_queries(texts), strict=True):
                found[encoder, text] = vector
                self._vectors.add(encoder, text, vector)
        return [found[asked.engine.encoder, asked.text] for asked in items]
