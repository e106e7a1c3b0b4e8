"""Searches indexes for many threads and adapts their domains in the background. Does not depend on Flask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import structlog

from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
from semsearch.domains.position_bias import PositionBias
from semsearch.domains.process import AdaptationProcess
from semsearch.domains.registry import adapt_function
from semsearch.errors import EncoderError
from semsearch.search.engine import EncoderStages, Outcome, SearchEngine
from semsearch.server.runtime.adaptation_worker import AdaptationWorker
from semsearch.server.runtime.encoder_pool import EncoderPool
from semsearch.server.runtime.metrics import Metrics, count_outcome
from semsearch.server.runtime.query_collector import QueryCollector
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.schemas.search import Limits
from semsearch.types import Query

# it imports torch, which the server does when it first adapts a domain
if TYPE_CHECKING:
    from semsearch.domains.adapting import AdaptFunction

log = structlog.get_logger("semsearch.server")

WARM_UP_TIMEOUT_S = 60
"""Timeout of the first query to each index."""


class UnknownIndexError(LookupError):
    """A request for an index that is not served."""


@dataclass(frozen=True, slots=True)
class AdaptationSettings:
    """How domains are adapted while the service runs."""

    weights: Path = DEFAULT_WEIGHTS
    """The learners' meta-parameters and the guard's prior."""
    own_process: bool = False
    """Whether the guard and the inner loops run in a separate process (about 250 MB), so that searches stay fast."""
    after: int = 8
    """New labels and clicks after which a domain is adapted automatically; 0: never."""
    bias: PositionBias | None = None
    """Position bias of clicks; None: estimated from each index's log."""


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The results of one request."""

    index: str
    engine: SearchEngine
    """The engine that answered; rows in the outcomes refer to its corpus."""
    outcomes: Sequence[Outcome]
    """One for each query, in their order."""
    matching: int
    """Documents that the first query's filter allows."""
    timing_ms: Mapping[str, float]
    """Milliseconds: queue, encode, adapt, search_vectors, rank, fetch, explain, total."""
    stages: EncoderStages
    """The encoder for more work of the same request, within its deadline."""


class SearchService:
    """Serves several indexes by name. Owns the threads that encode, search and adapt."""

    def __init__(
        self,
        engines: Mapping[str, SearchEngine],
        *,
        limits: Limits,
        metrics: Metrics,
        adaptation: AdaptationSettings,
    ) -> None:
        """Start the encoders, run one query on each index, and start the adaptation worker.

        engines: by name, the default index first. The caller closes them. While the caller holds a reference to them,
        the files of their first state stay open.

        Raises ValueError if there is no index, and WeightsError.
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
                lock_timeout_s=limits.deadline_s,
            )
            for name, engine in engines.items()
        }
        """By name, the default one first."""
        # the first run of a model allocates its memory, which is slow
        for engine in engines.values():
            self._pool.retrieve(engine, [Query("warm up")], timeout_s=WARM_UP_TIMEOUT_S)
        writable = {name: index.domains for name, index in self.indexes.items() if index.writable}
        self._collector = QueryCollector(writable, days=limits.keep_queries, observe=metrics.observe_kept)
        self.worker = AdaptationWorker(
            writable,
            after=adaptation.after,
            before_adapting=self._collector.flush,
            on_adapted=metrics.observe_adaptation,
            refresh=lambda name: self.indexes[name].refresh(),
            interrupt=self._process.close if self._process is not None else lambda: None,
        )
        metrics.watch_adapting(lambda: self.worker.waiting)

    @property
    def ready(self) -> bool:
        """Whether searches can be answered."""
        return self._pool.alive

    @property
    def waiting(self) -> int:
        """As `EncoderPool.waiting`."""
        return self._pool.waiting

    def index(self, name: str | None) -> ServedIndex:
        """Return the index of this name, or the default index for None. Raises UnknownIndexError."""
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
        """Answer queries on one index, in batches with the queries of other threads.

        index: its name; None for the default index. abandoned: whether the client has disconnected. facets, explain:
        as in `SearchEngine.search`.

        If the encoder fails, hybrid queries are answered by keyword search; their outcomes say so.

        Raises UnknownIndexError, FilterError or QueryError for a field that no document has, EncoderError for a
        semantic query, and as `Batcher.submit`.
        """
        served = self.index(index)
        engine = served.engine
        started = perf_counter()
        stages = self._pool.stages(engine, abandoned=abandoned)
        with count_outcome(self.metrics.queries, len(queries)):
            outcomes = engine.search(
                queries,
                explain=explain,
                correct=True,
                facets=facets,
                stages=stages,
                on_encoder_error=lambda error: _log_encoder_failure(served.name, error),
            )
        searched_s = perf_counter() - started
        first_filter = queries[0].filter if queries else None
        seconds = _stage_seconds(outcomes, searched_s)
        for stage, value in seconds.items():
            self.metrics.observe_stage(stage, value)
        seconds["total"] = perf_counter() - started
        self.metrics.rolling.observe_stage("total", seconds["total"])
        return SearchAnswer(
            index=served.name,
            engine=engine,
            outcomes=outcomes,
            matching=engine.corpus.allowed_rows(first_filter).document_count,
            timing_ms={stage: round(1000 * value, 3) for stage, value in seconds.items()},
            stages=stages,
        )

    def keep_queries(self, answer: SearchAnswer, *, typed: bool = False) -> None:
        """Keep the queries of a search, if the server may; as `QueryCollector.collect`."""
        self._collector.collect(answer.index, answer.outcomes, typed=typed)

    def close(self) -> None:
        """Stop the adaptation worker and the index writers, then the encoders. The engines stay open."""
        self.worker.close()
        self._collector.close()
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


def _stage_seconds(outcomes: Sequence[Outcome], searched_s: float) -> dict[str, float]:
    """Return the seconds by stage of one request. The rest of `searched_s` was spent waiting for batches."""
    # the queries of one request may share a batch: count each batch once
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
