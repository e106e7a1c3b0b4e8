"""What an operator reads at /metrics; one registry for each app."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from semsearch.server.runtime.batching import BatchingObserver
from semsearch.server.runtime.rolling_stats import RollingStats
from semsearch.storage.manifest import Manifest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        """Create them all, at zero."""
        self.registry = CollectorRegistry()
        self.rolling = RollingStats()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("semsearch_requests", "Requests answered", ("route", "status"), registry=self.registry)
        self.request_seconds = Histogram(
            "semsearch_request_seconds",
            "From request to answer",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "semsearch_stage_seconds",
            "By stage of a search",
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
            "semsearch_batch_seconds", "Encode, rescale and nearest", buckets=SECONDS, registry=self.registry
        )
        self.queries = Counter("semsearch_queries", "Queries by how they ended", ("outcome",), registry=self.registry)
        self._vectors = Counter(
            "semsearch_query_vectors", "Queries by where their vectors are from", ("source",), registry=self.registry
        )
        self.entries = Counter("semsearch_entries", "Labels and clicks kept", ("kind",), registry=self.registry)
        self._adaptations = Counter(
            "semsearch_adaptations", "Adaptations by how they ended", ("how",), registry=self.registry
        )
        self._adaptation_seconds = Histogram(
            "semsearch_adaptation_seconds", "Of one domain, guard included", buckets=SECONDS, registry=self.registry
        )
        self._adapting = Gauge("semsearch_adapting_domains", "Domains that wait for adaptation", registry=self.registry)
        self._waiting = Gauge("semsearch_waiting_queries", "Queries that wait for a batch", registry=self.registry)
        self._segments = Gauge("semsearch_index_segments", "Pieces of an index", ("index",), registry=self.registry)
        self._sizes = Gauge("semsearch_index_rows", "Rows of an index", ("index", "kind"), registry=self.registry)

    @property
    def observer(self) -> BatchingObserver:
        """For the batcher to tell what it does."""
        return BatchingObserver(
            batch=self._observe_batch, outcome=lambda outcome, items: self.queries.labels(outcome).inc(items)
        )

    def watch_waiting(self, waiting: Callable[[], int]) -> None:
        """Ask `waiting` whenever the metrics are read."""
        self._waiting.set_function(waiting)

    def watch_adapting(self, waiting: Callable[[], int]) -> None:
        """Ask `waiting` whenever the metrics are read."""
        self._adapting.set_function(waiting)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """A stage of a search took so long."""
        self._stage_seconds.labels(stage).observe(seconds)
        self.rolling.stage(stage, seconds)

    def observe_vector(self, remembered: bool) -> None:
        """A query's vector was remembered, or had to be encoded."""
        self._vectors.labels("memory" if remembered else "encoder").inc()

    def observe_adaptation(self, how: str, seconds: float) -> None:
        """An adaptation ended so, after so long."""
        self._adaptations.labels(how).inc()
        self._adaptation_seconds.observe(seconds)

    def set_sizes(self, index: str, manifest: Manifest) -> None:
        """How large an index is, and how far from one piece."""
        self._sizes.labels(index, "documents").set(manifest.documents)
        self._sizes.labels(index, "passages").set(manifest.passages)
        self._sizes.labels(index, "deleted").set(manifest.deleted)
        self._segments.labels(index).set(len(manifest.segments))

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)

    def _observe_batch(self, size: int, seconds: float) -> None:
        self.rolling.batch(size)
        self.batch_queries.observe(size)
        self.batch_seconds.observe(seconds)
