"""Searches for many threads, and domains that learn meanwhile. Does not depend on Flask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import structlog

from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
from semsearch.domains.adapting import AdaptFunction
from semsearch.domains.position_bias import PositionBias
from semsearch.domains.process import AdaptationProcess
from semsearch.domains.registry import adapt_function
from semsearch.errors import EncoderError
from semsearch.filters.tree import FieldValue
from semsearch.search.engine import Attributions, Outcome, SearchEngine
from semsearch.search.ranking import ResultPage
from semsearch.server.runtime.adaptation_worker import AdaptationWorker
from semsearch.server.runtime.encoder_pool import EncoderPool
from semsearch.server.runtime.metrics import Metrics
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.schemas.search import Limits
from semsearch.types import Query

log = structlog.get_logger("semsearch.server")

WARM_UP_TIMEOUT_S = 60


class UnknownIndexError(LookupError):
    """A request named an index that is not served."""


@dataclass(frozen=True, slots=True)
class AdaptationSettings:
    """How domains learn while the service runs."""

    weights: Path = DEFAULT_WEIGHTS
    """The learners' meta-parameters and the guard's prior."""
    own_process: bool = False
    """Whether guard and inner loops run in a process of their own (about 250 MB), which hardly slows searches."""
    after: int = 8
    """New labels and clicks after which a domain is adapted without a request; 0: never."""
    bias: PositionBias | None = None
    """Position bias of clicks; by default it is estimated from each index's log."""


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What the queries of one request found."""

    index: str
    engine: SearchEngine
    """The engine that answered; the rows of the outcomes belong to it."""
    outcomes: Sequence[Outcome]
    """One for each query, in their order."""
    matching: int
    """Documents that the first query's filter allows."""
    facets: Mapping[str, Mapping[FieldValue, int]]
    """By field, how many of those documents have each value."""
    timing_ms: Mapping[str, float]
    """Milliseconds: queue, encode, adapt, search_vectors, rank, fetch, explain, total."""


class SearchService:
    """Several indexes by name, and the threads that run their encoders."""

    def __init__(
        self,
        engines: Mapping[str, SearchEngine],
        *,
        limits: Limits,
        metrics: Metrics,
        adaptation: AdaptationSettings,
    ) -> None:
        """Start the encoders, run one query through every index, and start what adapts.

        engines: by name, the default index first. They stay the caller's to close; a caller that keeps `engines` keeps
        the files of their first state open.

        Raises ValueError if there is no index; WeightsError.
        """
        if not engines:
            raise ValueError("there is no index to serve")
        self.limits = limits
        self.metrics = metrics
        self._pool = EncoderPool([engine.encoder for engine in engines.values()], limits=limits, metrics=metrics)
        weights = Weights.open(adaptation.weights)
        self._process = AdaptationProcess(adaptation.weights) if adaptation.own_process else None
        self.indexes: Mapping[str, ServedIndex] = {
            name: ServedIndex(
                name,
                engine,
                pool=self._pool,
                metrics=metrics,
                adapt=self._adapt_function(weights, name, engine),
                bias=adaptation.bias,
                patience_s=limits.deadline_s,
            )
            for name, engine in engines.items()
        }
        """By name, the default one first."""
        # the first run of a model reserves its memory: no user waits for that
        for engine in engines.values():
            self._pool.retrieve(engine, [Query("warm up")], timeout_s=WARM_UP_TIMEOUT_S)
        self.worker = AdaptationWorker(
            {name: index.domains for name, index in self.indexes.items() if index.writable},
            after=adaptation.after,
            adapted=metrics.observe_adaptation,
            refresh=self._refresh,
        )
        metrics.watch_adapting(lambda: self.worker.waiting)

    @property
    def ready(self) -> bool:
        """Whether searches can be answered."""
        return self._pool.alive

    @property
    def waiting(self) -> int:
        """Queries that wait for a batch."""
        return self._pool.waiting

    def index(self, name: str | None) -> ServedIndex:
        """The index of this name, or the default one. Raises UnknownIndexError."""
        if name is None:
            return next(iter(self.indexes.values()))
        if name not in self.indexes:
            raise UnknownIndexError(f"no index is called {name!r}: there is {', '.join(self.indexes)}")
        return self.indexes[name]

    def search(
        self,
        index: str | None,
        queries: Sequence[Query],
        *,
        abandoned: Callable[[], bool] = lambda: False,
        facets: Sequence[str] = (),
        explain: bool = False,
    ) -> SearchAnswer:
        """Answer queries over one index, in batches with whatever other threads ask at the same time.

        facets: fields whose values are counted over what the first query's filter allows. explain: also find which
        words of each hit made it similar. Where the encoder fails, keyword search answers alone; the outcome says so.

        Raises UnknownIndexError, what `Batcher.submit` raises, and EncoderError where a query is purely semantic.
        """
        served = self.index(index)
        engine = served.engine
        started = perf_counter()
        outcomes = engine.search(
            queries,
            explain=explain,
            stages=self._pool.stages(engine, abandoned=abandoned),
            on_encoder_error=lambda error: _log_encoder_failure(served.name, error),
        )
        searched_s = perf_counter() - started
        first_filter = queries[0].filter if queries else None
        counts = {field: engine.corpus.facet_counts(field, first_filter) for field in facets}
        seconds = _stage_seconds(outcomes, searched_s)
        for stage, value in seconds.items():
            self.metrics.observe_stage(stage, value)
        seconds["total"] = perf_counter() - started
        self.metrics.rolling.stage("total", seconds["total"])
        return SearchAnswer(
            index=served.name,
            engine=engine,
            outcomes=outcomes,
            matching=engine.corpus.allowed_rows(first_filter).document_count,
            facets=counts,
            timing_ms={stage: round(1000 * value, 3) for stage, value in seconds.items()},
        )

    def token_attributions(
        self, engine: SearchEngine, pages: Sequence[ResultPage], *, abandoned: Callable[[], bool] = lambda: False
    ) -> Sequence[Attributions | None]:
        """As `SearchEngine.token_attributions`, on the threads that own the encoder.

        Raises what `Batcher.submit` raises, and EncoderError.
        """
        return self._pool.stages(engine, abandoned=abandoned).token_attributions(pages)

    def close(self) -> None:
        """Stop what changes and adapts indexes, then the encoders; the engines stay open."""
        self.worker.close()
        for index in self.indexes.values():
            index.close()
        self._pool.close()
        if self._process is not None:
            self._process.close()

    def _adapt_function(self, weights: Weights, name: str, engine: SearchEngine) -> AdaptFunction | None:
        usable, reason = adapt_function(weights, engine)
        if usable is None:
            log.warning("an index can only memorize judged queries", index=name, reason=reason)
            return None
        return self._process or usable

    def _refresh(self) -> None:
        for index in self.indexes.values():
            index.refresh()


def _stage_seconds(outcomes: Sequence[Outcome], searched_s: float) -> dict[str, float]:
    """Seconds by stage of one request; what is left of `searched_s` was spent waiting for batches."""
    # the queries of one request may have been in several batches, which ran one after the other: count each once
    batches = {outcome.dense.times for outcome in outcomes if outcome.dense is not None}
    stages = {
        "encode": sum(batch.encode for batch in batches),
        "adapt": sum(batch.adapt for batch in batches),
        "search_vectors": sum(batch.search_vectors for batch in batches),
        **{stage: sum(outcome.seconds[stage] for outcome in outcomes) for stage in ("rank", "fetch", "explain")},
    }
    return {"queue": max(0.0, searched_s - sum(stages.values())), **stages}


def _log_encoder_failure(index: str, error: EncoderError) -> None:
    log.error("the encoder failed", index=index, reason=str(error), exc_info=error)
