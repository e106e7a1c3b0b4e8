"""The status page: indexes, domains, queues and latencies. It contains no query, and no domain names behind a key."""

from __future__ import annotations

from importlib.metadata import version

import structlog
from flask import Blueprint, Response

from semsearch.adapters.adapter import DomainAdapter
from semsearch.domains.registry import DomainStatus
from semsearch.errors import StorageError
from semsearch.server.api.search import index_models
from semsearch.server.pages.rendering import html
from semsearch.server.runtime.rolling_stats import MINUTES
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.runtime.service import SearchService
from semsearch.server.security import WriteKeys

log = structlog.get_logger("semsearch.server")

STAGES = ("queue", "encode", "adapt", "search_vectors", "rank", "fetch", "explain", "total")
LIBRARIES = ("semsearch", "sentence-transformers", "torch", "onnxruntime", "faiss-cpu", "Flask", "waitress")
MAX_DOMAINS = 50
"""Domains listed for each index."""
REFRESH_S = 5
"""Seconds between two refreshes of the page by its script."""


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The route `/status`. It lists the domains only if any client may read them anyway."""
    routes = Blueprint("status_page", __name__)
    list_domains = not keys.required and not keys.refuse_all
    libraries = {library: installed for library in LIBRARIES if (installed := _version(library))}

    @routes.get("/status")
    def status() -> Response:
        stage_times = service.metrics.rolling.times()
        problems = {index.name: index.problem for index in service.indexes.values() if index.problem is not None}
        domains = []
        for index in service.indexes.values():
            try:
                domains.append((index.name, *_domains(index, list_domains=list_domains)))
            except StorageError as error:
                log.error("labels cannot be read", index=index.name, error=str(error))  # noqa: TRY400
                problems.setdefault(index.name, "other")
        return html(
            "status.html",
            200 if service.ready else 503,
            ready=service.ready,
            problems=list(problems.items()),
            indexes=[(model, service.index(model.name).engine) for model in index_models(service)],
            domains=domains,
            waiting=service.waiting,
            max_waiting=service.limits.max_waiting,
            adapting=service.worker.waiting,
            stage_times=[(stage, stage_times[stage]) for stage in STAGES if stage in stage_times],
            batches=service.metrics.rolling.batches(),
            minutes=MINUTES,
            libraries=libraries,
            refresh_s=REFRESH_S,
        )

    return routes


def _domains(index: ServedIndex, *, list_domains: bool) -> tuple[int, list[tuple[DomainStatus, DomainAdapter]]]:
    """The number of the index's domains and, if `list_domains`, those with most labels and clicks."""
    if not index.writable:
        return 0, []
    statuses = index.domains.all_statuses()
    if not list_domains:
        return len(statuses), []
    statuses.sort(key=lambda status: -status.labels - status.clicks)
    adapter = index.engine.adapter
    return len(statuses), [(status, adapter.for_domain(status.record.domain)) for status in statuses[:MAX_DOMAINS]]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except ImportError:
        return None
