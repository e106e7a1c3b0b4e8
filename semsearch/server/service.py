"""Searches for many threads over one batcher, and domains that learn beside it; knows nothing of Flask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import structlog

from semsearch.adaptation.clicks import PositionBias
from semsearch.adaptation.domains import Domains
from semsearch.adaptation.process import AdaptingProcess
from semsearch.adapter import Serving
from semsearch.batching import Batcher
from semsearch.engine import SearchEngine
from semsearch.learning.weights import DEFAULT_WEIGHTS, Weights
from semsearch.ranking import Nearest
from semsearch.records import Document, EncoderError, Hit, Mode, OverloadedError, Query, Vectors, WeightsError
from semsearch.server.metrics import Metrics
from semsearch.server.schemas import Limits
from semsearch.server.worker import Worker

log = structlog.get_logger("semsearch.server")

ENCODER_FAILED = Serving(None, reason="the encoder failed: the search went by words alone")


class UnknownIndexError(LookupError):
    """A request named an index that is not served."""


class NotLearningError(LookupError):
    """A request about labels or domains of an index that is not on disk, where they could be kept."""


@dataclass(frozen=True, slots=True)
class LabelText:
    """A labelled query to be encoded, and not searched for."""

    text: str


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
    timing_ms: dict[str, float]
    """Milliseconds: wait, encode, rescale, nearest, fuse, fetch, total."""


class SearchService:
    """Several indexes by name, and the one thread that owns their encoders."""

    def __init__(
        self, engines: Mapping[str, SearchEngine], *, limits: Limits, metrics: Metrics, learning: Learning
    ) -> None:
        """Start the batcher, run one query through every index, and start what adapts.

        Raises ValueError if there is no index; WeightsError.
        """
        if not engines:
            raise ValueError("there is no index to serve")
        self.engines = dict(engines)
        self.limits = limits
        self.metrics = metrics
        self._batcher: Batcher[tuple[str, Query | LabelText], Nearest | Vectors] = Batcher(
            self._run, max_batch=limits.max_batch, max_waiting=limits.max_waiting, observer=metrics.observer
        )
        metrics.watch_waiting(lambda: self._batcher.waiting)
        metrics.set_sizes(
            {
                name: {"documents": engine.manifest.documents, "passages": engine.manifest.passages}
                for name, engine in engines.items()
            }
        )
        # the first run of a model reserves its memory: that is no user's wait
        for name in self.engines:
            self._batcher.submit([(name, Query("warm up"))], timeout_s=60)
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
        self.worker = Worker(self._domains, after=learning.after, adapted=metrics.observe_adaptation)
        metrics.watch_adapting(lambda: self.worker.waiting)

    @property
    def ready(self) -> bool:
        """Whether searches can be answered."""
        return self._batcher.alive

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

    def search(
        self, index: str | None, queries: Sequence[Query], *, abandoned: Callable[[], bool] = lambda: False
    ) -> Answer:
        """Answer queries over one index, in batches with whatever other threads ask at the same time.

        Where the encoder fails, what would go by both meaning and words goes by words alone, and says so.

        Raises UnknownIndexError, what `Batcher.submit` raises, and EncoderError where a search goes by meaning only.
        """
        name = self.name_of(index)
        engine = self.engines[name]
        started = perf_counter()
        nearest, failed = self._nearest(name, queries, abandoned)
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
        results = [engine.fetch(ranking) for ranking in rankings]
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
            self.metrics.stage_seconds.labels(stage).observe(value)
        seconds["total"] = fetched - started
        return Answer(
            name,
            results,
            [ranking.mode for ranking in rankings],
            [ranking.adapted for ranking in rankings],
            frozen,
            {stage: round(1000 * value, 3) for stage, value in seconds.items()},
        )

    def _nearest(
        self, name: str, queries: Sequence[Query], abandoned: Callable[[], bool]
    ) -> tuple[dict[int, Nearest], bool]:
        """What is nearest to each query that wants the encoder, by its place; and whether the encoder failed."""
        modes = [self.engines[name].mode(query) for query in queries]
        encoded = [place for place, mode in enumerate(modes) if mode is not Mode.LEXICAL]
        if not encoded:
            return {}, False
        try:
            found = self._batcher.submit(
                [(name, queries[place]) for place in encoded], timeout_s=self.limits.deadline_s, abandoned=abandoned
            )
        except EncoderError as error:
            if Mode.SEMANTIC in modes:
                raise
            log.exception("the encoder failed", index=name, reason=str(error))
            return {}, True
        return {place: one for place, one in zip(encoded, found, strict=True) if isinstance(one, Nearest)}, False

    def document(self, index: str | None, identity: str) -> Document | None:
        """The whole document of this id, or None. Raises UnknownIndexError."""
        return self.engines[self.name_of(index)].document(identity)

    def close(self) -> None:
        """Stop what adapts, then the batcher; the engines stay open, they are the caller's."""
        self.worker.close()
        self._batcher.close()
        for domains in self._domains.values():
            domains.close()
        if self._process is not None:
            self._process.close()

    def _encode(self, name: str, text: str) -> Vectors:
        """A labelled query's vector: from the thread that owns the encoder, between searches."""
        while True:
            try:
                [vector] = self._batcher.submit([(name, LabelText(text))], timeout_s=60)
            except OverloadedError as error:
                if not self.ready:
                    raise
                # searches go first
                sleep(error.retry_after_s)
                continue
            assert isinstance(vector, np.ndarray)
            return vector

    def _run(self, items: Sequence[tuple[str, Query | LabelText]]) -> list[Nearest | Vectors]:
        places: dict[str, list[int]] = {}
        done: dict[int, Nearest | Vectors] = {}
        for place, (name, item) in enumerate(items):
            if isinstance(item, Query):
                places.setdefault(name, []).append(place)
            else:
                done[place] = self.engines[name].encode_label(item.text)
        for name, group in places.items():
            queries = [item for place in group if isinstance(item := items[place][1], Query)]
            done.update(zip(group, self.engines[name].rank(queries), strict=True))
        return [done[place] for place in range(len(items))]


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
