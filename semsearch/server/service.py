"""Searches for many threads over one batcher, and domains that learn beside it; knows nothing of Flask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from semsearch.engine import Ranking, SearchEngine
from semsearch.learning.weights import DEFAULT_WEIGHTS, Weights
from semsearch.records import Document, Hit, OverloadedError, Query, Vectors, WeightsError
from semsearch.server.metrics import Metrics
from semsearch.server.schemas import Limits
from semsearch.server.worker import Worker

log = structlog.get_logger("semsearch.server")


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
    adapted: list[Serving]
    """What rescaled each query."""
    frozen: list[list[Hit]]
    """What the frozen encoder finds, of those queries that asked to be compared."""
    timing_ms: dict[str, float]
    """Milliseconds: wait, encode, rescale, nearest, fetch, total."""


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
        self._batcher: Batcher[tuple[str, Query | LabelText], Ranking | Vectors] = Batcher(
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
        self._process = AdaptingProcess(learning.weights) if learning.apart else None
        solve = self._process or weights.adapt
        self._domains = {
            name: Domains(
                engine.folder,
                engine,
                solve if _fits(weights, name, engine) else None,
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

        Raises UnknownIndexError, and what `Batcher.submit` raises.
        """
        name = self.name_of(index)
        engine = self.engines[name]
        started = perf_counter()
        found = self._batcher.submit(
            [(name, query) for query in queries], timeout_s=self.limits.deadline_s, abandoned=abandoned
        )
        rankings = [ranking for ranking in found if isinstance(ranking, Ranking)]
        ranked = perf_counter()
        results = [engine.fetch(ranking) for ranking in rankings]
        frozen = [engine.fetch(ranking.frozen) for ranking in rankings if ranking.frozen is not None]
        fetched = perf_counter()
        # the queries of one request may have been in several batches, which ran one after the other
        batches = {id(ranking.stages_s): ranking.stages_s for ranking in rankings}.values()
        seconds = {stage: sum(batch[stage] for batch in batches) for stage in ("encode", "rescale", "nearest")}
        seconds = {
            "wait": max(0.0, ranked - started - sum(seconds.values())),
            **seconds,
            "fetch": fetched - ranked,
        }
        for stage, value in seconds.items():
            self.metrics.stage_seconds.labels(stage).observe(value)
        seconds["total"] = fetched - started
        adapted = [ranking.adapted for ranking in rankings]
        return Answer(
            name, results, adapted, frozen, {stage: round(1000 * value, 3) for stage, value in seconds.items()}
        )

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

    def _run(self, items: Sequence[tuple[str, Query | LabelText]]) -> list[Ranking | Vectors]:
        places: dict[str, list[int]] = {}
        done: dict[int, Ranking | Vectors] = {}
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
    """Whether the weights were learned for this index's encoder."""
    try:
        weights.check(engine.adapter.basis)
    except WeightsError as error:
        log.warning("an index can only remember judged queries", index=name, reason=str(error))
        return False
    return True
