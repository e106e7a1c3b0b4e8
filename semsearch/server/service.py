"""Searches for many threads over one batcher; knows nothing of Flask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from semsearch.batching import Batcher
from semsearch.engine import Ranking, SearchEngine
from semsearch.records import Document, Hit, Query
from semsearch.server.metrics import Metrics
from semsearch.server.schemas import Limits


class UnknownIndexError(LookupError):
    """A request named an index that is not served."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request's queries found."""

    index: str
    results: list[list[Hit]]
    timing_ms: dict[str, float]
    """Milliseconds: wait, encode, rescale, nearest, fetch, total."""


class SearchService:
    """Several indexes by name, and the one thread that owns their encoders."""

    def __init__(self, engines: Mapping[str, SearchEngine], *, limits: Limits, metrics: Metrics) -> None:
        """Start the batcher and run one query through every index. Raises ValueError if there is no index."""
        if not engines:
            raise ValueError("there is no index to serve")
        self.engines = dict(engines)
        self.limits = limits
        self.metrics = metrics
        self._batcher: Batcher[tuple[str, Query], Ranking] = Batcher(
            self._rank, max_batch=limits.max_batch, max_waiting=limits.max_waiting, observer=metrics.observer
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

    def search(
        self, index: str | None, queries: Sequence[Query], *, abandoned: Callable[[], bool] = lambda: False
    ) -> Answer:
        """Answer queries over one index, in batches with whatever other threads ask at the same time.

        Raises UnknownIndexError, and what `Batcher.submit` raises.
        """
        name = self.name_of(index)
        engine = self.engines[name]
        started = perf_counter()
        rankings = self._batcher.submit(
            [(name, query) for query in queries], timeout_s=self.limits.deadline_s, abandoned=abandoned
        )
        ranked = perf_counter()
        results = [engine.fetch(ranking) for ranking in rankings]
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
        return Answer(name, results, {stage: round(1000 * value, 3) for stage, value in seconds.items()})

    def document(self, index: str | None, identity: str) -> Document | None:
        """The whole document of this id, or None. Raises UnknownIndexError."""
        return self.engines[self.name_of(index)].document(identity)

    def close(self) -> None:
        """Stop the batcher; the engines stay open, they are the caller's."""
        self._batcher.close()

    def _rank(self, items: Sequence[tuple[str, Query]]) -> list[Ranking]:
        places: dict[str, list[int]] = {}
        for place, (name, _) in enumerate(items):
            places.setdefault(name, []).append(place)
        ranked: dict[int, Ranking] = {}
        for name, group in places.items():
            found = self.engines[name].rank([items[place][1] for place in group])
            ranked.update(zip(group, found, strict=True))
        return [ranked[place] for place in range(len(items))]
