"""Metrics in Prometheus format, served at /metrics; one registry for each app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from semsearch.errors import DeadlineError, OverloadedError, QueryError
from semsearch.server.runtime.batching import AbandonedError
from semsearch.server.runtime.rolling_stats import RollingStats
from semsearch.storage.manifest import Manifest

Outcome: TypeAlias = Literal["answered", "invalid", "refused", "expired", "abandoned", "failed"]
"""How a query or an explanation ended: `invalid` by the client's mistake, `refused` by a full queue, `expired` at the
deadline, `abandoned` by its client, `failed` for any other reason."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        """Create all metrics, at zero."""
        self.registry = CollectorRegistry()
        self.rolling = RollingStats()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("semsearch_requests", "Requests answered", ("route", "status"), registry=self.registry)
        self.request_seconds = Histogram(
            "semsearch_request_seconds",
            "Seconds from request to response",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "semsearch_stage_seconds",
            "Seconds by stage of a search",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_queries = Histogram(
            "semsearch_batch_queries",
            "Queries encoded together",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "semsearch_batch_seconds",
            "Seconds to encode, adapt and search a batch of queries",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.queries = Counter(
            "semsearch_queries", "Queries of any mode, by outcome", ("outcome",), registry=self.registry
        )
        self.explanations = Counter(
            "semsearch_explanations",
            "Queries whose hits were to be explained, by outcome of the explanation",
            ("outcome",),
            registry=self.registry,
        )
        self._vectors = Counter(
            "semsearch_query_vectors",
            "Query vectors by source: memory is the query cache",
            ("source",),
            registry=self.registry,
        )
        self.entries = Counter("semsearch_entries", "Labels and clicks stored", ("kind",), registry=self.registry)
        self._kept = Counter(
            "semsearch_kept_queries",
            "Queries of named domains by outcome: kept on disk, dropped, or failed to be written",
            ("outcome",),
            registry=self.registry,
        )
        self._adaptations = Counter("semsearch_adaptations", "Adaptations by outcome", ("how",), registry=self.registry)
        self._adaptation_seconds = Histogram(
            "semsearch_adaptation_seconds",
            "Seconds to adapt one domain, guard included",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._adapting = Gauge(
            "semsearch_adapting_domains", "Domains queued for adaptation or being adapted", registry=self.registry
        )
        self._waiting = Gauge(
            "semsearch_waiting_queries",
            "Queries, and batches of explanations or new passages, that wait for the encoder",
            registry=self.registry,
        )
        self._segments = Gauge("semsearch_index_segments", "Segments of an index", ("index",), registry=self.registry)
        self._problems = Gauge(
            "semsearch_index_problem",
            "1 if an index cannot be changed, or its changes on disk cannot be opened",
            ("index",),
            registry=self.registry,
        )
        self._sizes = Gauge("semsearch_index_rows", "Rows of an index", ("index", "kind"), registry=self.registry)

    def set_problem(self, index: str, is_problem: bool) -> None:
        """Record whether an index cannot be changed."""
        self._problems.labels(index).set(is_problem)

    def watch_waiting(self, waiting: Callable[[], int]) -> None:
        """Set the function that returns the number of waiting queries. It is called when the metrics are read."""
        self._waiting.set_function(waiting)

    def watch_adapting(self, waiting: Callable[[], int]) -> None:
        """Set the function that returns the number of domains to adapt. It is called when the metrics are read."""
        self._adapting.set_function(waiting)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Record the duration of a stage of a search."""
        self._stage_seconds.labels(stage).observe(seconds)
        self.rolling.observe_stage(stage, seconds)

    def observe_vector(self, cached: bool) -> None:
        """Count a query vector as cached or encoded."""
        self._vectors.labels("memory" if cached else "encoder").inc()

    def observe_kept(self, outcome: str, queries: int) -> None:
        """Count queries that were collected to be kept. outcome: `kept`, `dropped` or `failed`."""
        self._kept.labels(outcome).inc(queries)

    def observe_adaptation(self, outcome: str, seconds: float) -> None:
        """Record the outcome of an adaptation and its duration."""
        self._adaptations.labels(outcome).inc()
        self._adaptation_seconds.observe(seconds)

    def set_sizes(self, index: str, manifest: Manifest) -> None:
        """Record the size of an index and its number of segments."""
        self._sizes.labels(index, "documents").set(manifest.documents)
        self._sizes.labels(index, "passages").set(manifest.passages)
        self._sizes.labels(index, "deleted").set(manifest.deleted)
        self._segments.labels(index).set(len(manifest.segments))
        self._problems.labels(index)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def observe_batch(self, size: int, seconds: float) -> None:
        """Record a batch of queries and its duration."""
        self.rolling.observe_batch(size)
        self.batch_queries.observe(size)
        self.batch_seconds.observe(seconds)


@contextmanager
def count_outcome(counter: Counter, queries: int) -> Iterator[None]:
    """Count queries by the outcome of the block: of its error, or `answered`."""
    outcome: Outcome = "failed"
    try:
        yield
        outcome = "answered"
    except QueryError:
        outcome = "invalid"
        raise
    except DeadlineError:
        outcome = "expired"
        raise
    except OverloadedError:
        outcome = "refused"
        raise
    except AbandonedError:
        outcome = "abandoned"
        raise
    finally:
        counter.labels(outcome).inc(queries)
