"""Searches for many threads over one batcher, and domains that learn beside it; knows nothing of Flask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import TypeAlias

import numpy as np
import structlog

from semsearch.adaptation.clicks import PositionBias
from semsearch.adaptation.domains import Domains
from semsearch.adaptation.process import AdaptingProcess
from semsearch.adapter import Serving
from semsearch.batching import Batcher
from semsearch.conditions import Fact
from semsearch.engine import SearchEngine
from semsearch.indexing.changing import Opened
from semsearch.learning.weights import DEFAULT_WEIGHTS, Weights
from semsearch.ranking import Nearest, Ranking
from semsearch.records import (
    BundleError,
    Document,
    EncoderError,
    Hit,
    Mode,
    OverloadedError,
    Query,
    Vectors,
    WeightsError,
)
from semsearch.server.changes import Changes, Changing
from semsearch.server.metrics import Metrics
from semsearch.server.remembered import QueryVectors
from semsearch.server.schemas import Limits
from semsearch.server.worker import Worker
from semsearch.storage.bundle import leftovers, tidy

log = structlog.get_logger("semsearch.server")

ENCODER_FAILED = Serving(None, reason="the encoder failed: the search went by words alone")


class UnknownIndexError(LookupError):
    """A request named an index that is not served."""


class NotLearningError(LookupError):
    """A request about labels, domains or changes of an index that is not on disk, where they could be kept."""


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


@dataclass(frozen=True, slots=True)
class Learning:
    """How domains learn while the service runs."""

    weights: Path = DEFAULT_WEIGHTS
    """What adaptation starts from."""
    apart: bool = False
    """Whether guard and inner loops run in a process of their own, some 250 MB more: then searches hardly notice."""
    after: int = 8
    """New labels and clicks after which a domain is adapted without being asked to; 0: never."""
    bias: PositionBias | None = None
    """Of clicks; by default it is estimated from each index's log."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request's queries found."""

    index: str
    results: list[list[Hit]]
    modes: list[Mode]
    """What each query's search went by."""
    adapted: list[Serving]
    """What rescaled each query."""
    frozen: list[list[Hit]]
    """What is found without the domain's adaptation, of those queries that asked to be compared."""
    matching: int
    """Documents that the first query's condition lets pass."""
    facets: dict[str, dict[Fact, int]]
    """By field, how many of those have each value."""
    carried: list[Carried | None]
    """Of each query, which words of each hit's passage made it similar; None where that was not asked or is not
    known."""
    timing_ms: dict[str, float]
    """Milliseconds: wait, encode, rescale, nearest, fuse, fetch, total."""


class SearchService:
    """Several indexes by name, and the threads that run their encoders."""

    def __init__(
        self, engines: dict[str, SearchEngine], *, limits: Limits, metrics: Metrics, learning: Learning
    ) -> None:
        """Start the batcher, run one query through every index, and start what adapts.

        engines: by name; kept up to date, so that nobody holds the engine of a state that serves no more.

        Raises ValueError if there is no index; WeightsError.
        """
        if not engines:
            raise ValueError("there is no index to serve")
        self.engines = engines
        """By name; another engine takes one's place when its index changes, and requests go on with what they have."""
        self.limits = limits
        self.metrics = metrics
        self._vectors = QueryVectors(limits.remembered, asked=metrics.observe_vector)
        encoders = {id(engine.encoder): engine.encoder for engine in engines.values()}.values()
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
        # the first run of a model reserves its memory: that is no user's wait
        for name, engine in self.engines.items():
            metrics.set_sizes(name, engine.manifest)
            self._batcher.submit([Asked(engine, Query("warm up"))], timeout_s=60)
        weights = Weights.open(learning.weights)
        fitting = {name for name, engine in self.engines.items() if _fits(weights, name, engine)}
        self._process = AdaptingProcess(learning.weights) if learning.apart else None
        solve = self._process or weights.adapt
        self._domains = {
            name: Domains(
                engine.folder,
                engine,
                solve if name in fitting else None,
                encode=partial(self._encode, name),
                bias=learning.bias,
            )
            for name, engine in self.engines.items()
            if engine.folder is not None
        }
        self._changes = Changes(
            {
                name: Changing(engine.folder, partial(self._opened, name), partial(self._move, name))
                for name, engine in self.engines.items()
                if engine.folder is not None
            },
            patience_s=limits.deadline_s,
        )
        self._moving = threading.Lock()
        self._unmoved: dict[str, str] = {}
        self.worker = Worker(
            self._domains, after=learning.after, adapted=metrics.observe_adaptation, look=self._move_all
        )
        metrics.watch_adapting(lambda: self.worker.waiting)

    @property
    def ready(self) -> bool:
        """Whether searches can be answered."""
        return self._batcher.alive

    @property
    def waiting(self) -> int:
        """Queries that wait for a batch."""
        return self._batcher.waiting

    def name_of(self, index: str | None) -> str:
        """The name of the index meant: the first one where none is named. Raises UnknownIndexError."""
        if index is None:
            return next(iter(self.engines))
        if index not in self.engines:
            raise UnknownIndexError(f"no index is called {index!r}: there is {', '.join(self.engines)}")
        return index

    def domains_of(self, index: str | None) -> tuple[str, Domains]:
        """The name of the index meant, and its domains. Raises UnknownIndexError, NotLearningError."""
        name = self.name_of(index)
        if name not in self._domains:
            raise NotLearningError(f"the index {name!r} is not on disk: it keeps no labels")
        return name, self._domains[name]

    def changes_of(self, index: str | None) -> tuple[str, Changes]:
        """The name of the index meant, and what changes it. Raises UnknownIndexError, NotLearningError."""
        name = self.name_of(index)
        if name not in self._changes:
            raise NotLearningError(f"the index {name!r} is not on disk: it cannot be changed")
        return name, self._changes

    def search(
        self,
        index: str | None,
        queries: Sequence[Query],
        *,
        abandoned: Callable[[], bool] = lambda: False,
        facets: Sequence[str] = (),
        explain: bool = False,
    ) -> Answer:
        """Answer queries over one index, in batches with whatever other threads ask at the same time.

        facets: fields whose values are counted over what the first query's condition lets pass. explain: ask the
        encoder which words of each hit made it similar.

        Where the encoder fails, what would go by both meaning and words goes by words alone, and says so.

        Raises UnknownIndexError, what `Batcher.submit` raises, and EncoderError where a search goes by meaning only.
        """
        name = self.name_of(index)
        engine = self.engines[name]
        started = perf_counter()
        for condition in {query.condition for query in queries}:
            engine.corpus.allowed(condition)  # here, and not in the thread that all searches wait for
        nearest, failed = self._nearest(name, engine, queries, abandoned)
        ranked = perf_counter()
        rankings = [engine.order(query, nearest.get(place)) for place, query in enumerate(queries)]
        if failed:
            rankings = [replace(one, adapted=ENCODER_FAILED) for one in rankings]
        beside = [
            engine.order(query, nearest[place].frozen) if place in nearest else rankings[place]
            for place, query in enumerate(queries)
            if query.compare
        ]
        fused = perf_counter()
        results = [engine.fetch(one, passages=query.passages) for one, query in zip(rankings, queries, strict=True)]
        frozen = [engine.fetch(ranking) for ranking in beside]
        fetched = perf_counter()
        # the queries of one request may have been in several batches, which ran one after the other
        batches = {id(one.stages_s): one.stages_s for one in nearest.values()}.values()
        seconds = {stage: sum(batch[stage] for batch in batches) for stage in ("encode", "rescale", "nearest")}
        seconds = {
            "wait": max(0.0, ranked - started - sum(seconds.values())),
            **seconds,
            "fuse": fused - ranked,
            "fetch": fetched - fused,
        }
        for stage, value in seconds.items():
            self.metrics.observe_stage(stage, value)
        condition = queries[0].condition if queries else None
        counts = {name: engine.corpus.counts(name, condition) for name in facets}
        carried = self._carried(engine, rankings if explain else ())
        seconds["total"] = perf_counter() - started
        self.metrics.recent.stage("total", seconds["total"])
        return Answer(
            name,
            results,
            [ranking.mode for ranking in rankings],
            [ranking.adapted for ranking in rankings],
            frozen,
            engine.corpus.allowed(condition).document_count,
            counts,
            [carried.get(place) for place in range(len(rankings))],
            {stage: round(1000 * value, 3) for stage, value in seconds.items()},
        )

    def ranked(
        self, index: str | None, query: Query, *, abandoned: Callable[[], bool] = lambda: False
    ) -> tuple[SearchEngine, Ranking, Nearest | None]:
        """The documents that a query finds, without their texts, the engine that found them, and what is nearest by
        meaning; None where that was not gone by. Raises as `search` does."""
        engine = self.engines[name := self.name_of(index)]
        engine.corpus.allowed(query.condition)
        nearest, _ = self._nearest(name, engine, [query], abandoned)
        return engine, engine.order(query, nearest.get(0)), nearest.get(0)

    def carried(self, engine: SearchEngine, ranking: Ranking) -> Carried | None:
        """Of each ranked document, which words of its passage made it similar; None where that is not known."""
        return self._carried(engine, [ranking]).get(0)

    def _nearest(
        self, name: str, engine: SearchEngine, queries: Sequence[Query], abandoned: Callable[[], bool]
    ) -> tuple[dict[int, Nearest], bool]:
        """What is nearest to each query that wants the encoder, by its place; and whether the encoder failed."""
        modes = [engine.mode(query) for query in queries]
        encoded = [place for place, mode in enumerate(modes) if mode is not Mode.LEXICAL]
        if not encoded:
            return {}, False
        try:
            found = self._batcher.submit(
                self._asked(engine, [queries[place] for place in encoded]),
                timeout_s=self.limits.deadline_s,
                abandoned=abandoned,
            )
        except EncoderError as error:
            if Mode.SEMANTIC in modes:
                raise
            log.exception("the encoder failed", index=name, reason=str(error))
            return {}, True
        return {place: one for place, one in zip(encoded, found, strict=True) if isinstance(one, Nearest)}, False

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

    def document(self, index: str | None, identity: str) -> Document | None:
        """The whole document of this id, or None. Raises UnknownIndexError."""
        return self.engines[self.name_of(index)].document(identity)

    def close(self) -> None:
        """Stop what changes and what adapts, then the batcher; the engines stay open, they are the caller's."""
        self._changes.close()
        self.worker.close()
        self._batcher.close()
        for domains in self._domains.values():
            domains.close()
        if self._process is not None:
            self._process.close()

    def _encode(self, name: str, text: str) -> Vectors:
        """A labelled query's vector."""
        return self._between(name, LabelText(text))

    def _encode_passages(self, name: str, texts: Sequence[str]) -> Vectors:
        """The vectors of passages, a few at a time."""
        starts = range(0, len(texts), PASSAGES_BETWEEN)
        return np.concatenate(
            [self._between(name, PassageTexts(texts[start : start + PASSAGES_BETWEEN])) for start in starts]
        )

    def _between(self, name: str, item: LabelText | PassageTexts) -> Vectors:
        """What is encoded beside searches: by the thread that owns the encoder, between their batches."""
        while True:
            try:
                [vectors] = self._batcher.submit([Asked(self.engines[name], item)], timeout_s=60)
            except OverloadedError as error:
                if not self.ready:
                    raise
                # searches go first
                sleep(error.retry_after_s)
                continue
            assert isinstance(vectors, np.ndarray)
            return vectors

    def _carried(self, engine: SearchEngine, rankings: Sequence[Ranking]) -> dict[int, Carried]:
        """By place, which words made each ranking, where that is known; the thread that owns the encoder tells it."""
        asked = [place for place, ranking in enumerate(rankings) if ranking.vector is not None]
        items = [Asked(engine, Explained(rankings[place])) for place in asked]
        found = self._batcher.submit(items, timeout_s=self.limits.deadline_s)
        return {place: its for place, its in zip(asked, found, strict=True) if isinstance(its, list)}

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

    def _opened(self, name: str) -> Opened:
        engine = self.engines[name]
        return Opened(engine.corpus, engine.encoder, partial(self._encode_passages, name))

    def _move_all(self) -> None:
        for name, engine in list(self.engines.items()):
            if engine.folder is not None:
                self._move(name)
                # what the last requests read before they moved, and nobody reads any more
                if leftovers(engine.folder):
                    tidy(engine.folder)

    def _move(self, name: str) -> None:
        """Have new requests answered from the index as it is on disk now; those under way go on with what they have."""
        with self._moving:
            try:
                newer = self.engines[name].newer()
            except BundleError as error:
                if self._unmoved.get(name) != str(error):
                    log.exception("a changed index cannot be opened; the old one serves", index=name)
                self._unmoved[name] = str(error)
                return
            if newer is not None:
                self._domains[name].move(newer)
                self.engines[name] = newer
                self.metrics.set_sizes(name, newer.manifest)
                log.info("moved", index=name, documents=newer.manifest.documents, segments=len(newer.manifest.segments))


def _fits(weights: Weights, name: str, engine: SearchEngine) -> bool:
    """Whether the weights were learned for this index's encoder.

    Raises WeightsError where the index asks for a learner that they do not have.
    """
    try:
        weights.check(engine.adapter.basis)
    except WeightsError as error:
        log.warning("an index can only remember judged queries", index=name, reason=str(error))
        return False
    weights.places(engine.manifest.adaptation.learners or ())
    return True
