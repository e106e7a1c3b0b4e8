"""Searches for many threads, and domains that learn beside them; knows nothing of Flask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import structlog

from semsearch.adapters.adapter import Serving
from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
from semsearch.domains.position_bias import PositionBias
from semsearch.domains.process import AdaptingProcess
from semsearch.domains.registry import Domains
from semsearch.errors import BundleError, EncoderError, WeightsError
from semsearch.filters.tree import Fact
from semsearch.ingest.updating import Opened
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import Nearest, Ranking
from semsearch.server.runtime.adaptation_worker import Worker
from semsearch.server.runtime.encoder_pool import Carried, Encoders
from semsearch.server.runtime.index_writer import Changes, Changing
from semsearch.server.runtime.metrics import Metrics
from semsearch.server.schemas.search import Limits
from semsearch.storage.generations import leftovers, tidy
from semsearch.types import Document, Hit, Mode, Query

log = structlog.get_logger("semsearch.server")

ENCODER_FAILED = Serving(None, reason="the encoder failed: the search went by words alone")


class UnknownIndexError(LookupError):
    """A request named an index that is not served."""


class NotLearningError(LookupError):
    """A request about labels, domains or changes of an index that is not on disk, where they could be kept."""


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
        """Start the encoders, run one query through every index, and start what adapts.

        engines: by name; kept up to date, so that nobody holds the engine of a state that serves no more.

        Raises ValueError if there is no index; WeightsError.
        """
        if not engines:
            raise ValueError("there is no index to serve")
        self.engines = engines
        """By name; another engine takes one's place when its index changes, and requests go on with what they have."""
        self.limits = limits
        self.metrics = metrics
        self._encoders = Encoders([engine.encoder for engine in engines.values()], limits=limits, metrics=metrics)
        # the first run of a model reserves its memory: that is no user's wait
        for name, engine in self.engines.items():
            metrics.set_sizes(name, engine.manifest)
            self._encoders.nearest(engine, [Query("warm up")], timeout_s=60)
        weights = Weights.open(learning.weights)
        fitting = {name for name, engine in self.engines.items() if _fits(weights, name, engine)}
        self._process = AdaptingProcess(learning.weights) if learning.apart else None
        solve = self._process or weights.adapt
        self._domains = {
            name: Domains(
                engine.folder,
                engine,
                solve if name in fitting else None,
                encode=partial(self._encoders.label, partial(self.engines.__getitem__, name)),
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
        return self._encoders.alive

    @property
    def waiting(self) -> int:
        """Queries that wait for a batch."""
        return self._encoders.waiting

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
        carried = self._encoders.carried(engine, rankings if explain else ())
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
        return self._encoders.carried(engine, [ranking]).get(0)

    def _nearest(
        self, name: str, engine: SearchEngine, queries: Sequence[Query], abandoned: Callable[[], bool]
    ) -> tuple[dict[int, Nearest], bool]:
        """What is nearest to each query that wants the encoder, by its place; and whether the encoder failed."""
        modes = [engine.mode(query) for query in queries]
        encoded = [place for place, mode in enumerate(modes) if mode is not Mode.LEXICAL]
        if not encoded:
            return {}, False
        try:
            found = self._encoders.nearest(engine, [queries[place] for place in encoded], abandoned=abandoned)
        except EncoderError as error:
            if Mode.SEMANTIC in modes:
                raise
            log.exception("the encoder failed", index=name, reason=str(error))
            return {}, True
        return dict(zip(encoded, found, strict=True)), False

    def document(self, index: str | None, identity: str) -> Document | None:
        """The whole document of this id, or None. Raises UnknownIndexError."""
        return self.engines[self.name_of(index)].document(identity)

    def close(self) -> None:
        """Stop what changes and what adapts, then the encoders; the engines stay open, they are the caller's."""
        self._changes.close()
        self.worker.close()
        self._encoders.close()
        for domains in self._domains.values():
            domains.close()
        if self._process is not None:
            self._process.close()

    def _opened(self, name: str) -> Opened:
        engine = self.engines[name]
        encode = partial(self._encoders.passages, partial(self.engines.__getitem__, name))
        return Opened(engine.corpus, engine.encoder, encode)

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
