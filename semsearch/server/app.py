"""The Flask app, made from opened indexes; nothing happens at import."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import structlog
from flask import Flask, Response, g, request
from flask_compress import Compress

import semsearch
from semsearch.search.engine import SearchEngine
from semsearch.server import errors
from semsearch.server.api import compare, documents, domains, labels, suggest
from semsearch.server.api import search as search_api
from semsearch.server.i18n import Languages
from semsearch.server.pages import document as document_page
from semsearch.server.pages import domain as domain_page
from semsearch.server.pages import map as map_page
from semsearch.server.pages import rendering, status
from semsearch.server.pages import search as search_page
from semsearch.server.runtime.metrics import Metrics
from semsearch.server.runtime.service import AdaptationSettings, SearchService
from semsearch.server.schemas.search import Limits
from semsearch.server.security import WriteKeys
from semsearch.system.files import sha256

log = structlog.get_logger("semsearch.server")

COMPRESSED = ["text/html", "text/css", "text/javascript", "image/svg+xml", "application/json"]
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(
    engines: Mapping[str, SearchEngine],
    *,
    limits: Limits | None = None,
    trusted_hosts: Sequence[str] | None = None,
    keys: WriteKeys | None = None,
    adaptation: AdaptationSettings | None = None,
) -> Flask:
    """An app that searches the given indexes by name, the first one by default; its threads start here.

    engines: kept up to date as their indexes change on disk.

    keys: who may send labels and change domains, by default everybody who can reach the server. learning: how domains
    learn, by default from the weights that come with semsearch.

    trusted_hosts: names under which the server may be called, by default any. On a server that is reachable from a
    browser on the same machine, naming them keeps foreign pages from reading answers through a name of their own.

    `app.extensions["semsearch"]` is the SearchService, to be closed at the end.
    """
    files = _page_files()
    app = Flask(
        "semsearch",
        static_folder=str(files / "static"),
        static_url_path=f"/static/{_digest(files / 'static')}",
        template_folder=str(files / "templates"),
        root_path=str(files),
    )
    limits = limits or Limits()
    app.config["MAX_CONTENT_LENGTH"] = limits.max_body_bytes
    app.config["TRUSTED_HOSTS"] = list(trusted_hosts) if trusted_hosts else None
    # their address changes with them
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 365 * 24 * 3600
    app.config["COMPRESS_MIMETYPES"] = COMPRESSED
    app.config["COMPRESS_ALGORITHM"] = ["br", "gzip"]
    Compress(app)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    metrics = Metrics()
    keys = keys or WriteKeys({})
    service = SearchService(engines, limits=limits, metrics=metrics, adaptation=adaptation or AdaptationSettings())
    app.extensions["semsearch"] = service
    for blueprint in (
        search_api.blueprint(service),
        labels.blueprint(service, keys),
        documents.blueprint(service, keys),
        domains.blueprint(service, keys),
        compare.blueprint(service, keys),
        suggest.blueprint(service, keys),
        search_page.blueprint(service, keys),
        document_page.blueprint(service),
        domain_page.blueprint(service, keys),
        status.blueprint(service, keys),
        map_page.blueprint(service),
    ):
        app.register_blueprint(blueprint)
    rendering.register(app, Languages(files / "static" / "texts"))
    app.context_processor(lambda: {"key_wanted": keys.wanted})
    errors.register(app)

    @app.before_request
    def _begin() -> None:
        g.started = perf_counter()

    @app.after_request
    def _end(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        if request.endpoint != "static":
            response.headers.setdefault("Cache-Control", "no-store")
        seconds = perf_counter() - g.get("started", perf_counter())
        # the address of static files changes with them
        route = "/static" if request.endpoint == "static" else str(request.url_rule or "unknown")
        metrics.requests.labels(route, response.status_code).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        # the path, never the address: that holds what people search for
        log.info("request", route=route, status=response.status_code, ms=round(1000 * seconds, 1))
        return response

    return app


def _digest(folder: Path) -> str:
    """Of all files in a folder: modules import each other without a version, so the folder's address has one."""
    content = "".join(f"{path.relative_to(folder)} {sha256(path)}\n" for path in sorted(folder.rglob("*.*")))
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _page_files() -> Path:
    """The folder of the page: inside the installed package, or beside it in a checkout."""
    package = Path(semsearch.__file__).parent
    installed = package / "web"
    return installed if installed.is_dir() else package.parent / "web"
