"""How the server is doing, as a page: indexes, domains, what waits, times of the last minutes; nothing secret."""

from __future__ import annotations

from importlib.metadata import version

from flask import Blueprint, Response

from semsearch.server.api.search import index_models
from semsearch.server.pages.rendering import html
from semsearch.server.runtime.rolling_stats import MINUTES
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.runtime.service import SearchService
from semsearch.server.security import WriteKeys

STAGES = ("queue", "encode", "adapt", "search_vectors", "rank", "fetch", "explain", "total")
LIBRARIES = ("semsearch", "sentence-transformers", "torch", "onnxruntime", "faiss-cpu", "Flask", "waitress")
MOST_DOMAINS = 50
REFRESHED_S = 5


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The route of one service. Names of domains are told where everybody may read them anyway."""
    routes = Blueprint("status", __name__)
    open_to_all = not keys.wanted and not keys.refuse_all
    libraries = {name: found for name in LIBRARIES if (found := _version(name))}

    @routes.get("/status")
    def status() -> Response:
        times = service.metrics.rolling.times()
        return html(
            "status.html",
            200 if service.ready else 503,
            ready=service.ready,
            indexes=[(model, service.index(model.name).engine) for model in index_models(service)],
            domains=[(index.name, *_domains(index, told=open_to_all)) for index in service.indexes.values()],
            waiting=service.waiting,
            max_waiting=service.limits.max_waiting,
            adapting=service.worker.waiting,
            times=[(stage, times[stage]) for stage in STAGES if stage in times],
            batches=service.metrics.rolling.batches(),
            minutes=MINUTES,
            libraries=libraries,
            refreshed_s=REFRESHED_S,
        )

    return routes


def _domains(index: ServedIndex, *, told: bool) -> tuple[int, list[object]]:
    """How many domains an index has, and those with most labels where they may be told."""
    if not index.writable:
        return 0, []
    standing = index.domains.all_statuses()
    order = sorted(standing, key=lambda one: -one.labels - one.clicks)
    adapter = index.engine.adapter
    return len(standing), [(one, adapter.for_domain(one.record.domain)) for one in order[:MOST_DOMAINS] if told]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except ImportError:
        return None
