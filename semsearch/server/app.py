"""Creates the Flask app from open indexes. Importing this module has no side effects."""

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
from semsearch.server.http import check_encoding
from semsearch.server.i18n import Languages
from semsearch.server.pages import document as document_page
from semsearch.server.pages import domain as domain_page
from semsearch.server.pages import map as map_page
from semsearch.server.pages import rendering, status, teaching
from semsearch.server.pages import search as search_page
from semsearch.server.root_path import RootPathMiddleware, parse_root_path, parse_trusted_proxy
from semsearch.server.runtime.metrics import Metrics
from semsearch.server.runtime.service import AdaptationSettings, SearchService
from semsearch.server.schemas.search import Limits
from semsearch.server.security import WriteKeys, check_host, parse_trusted_host
from semsearch.system.files import sha256

log = structlog.get_logger("semsearch.server")

COMPRESSED = ["text/html", "text/css", "text/javascript", "image/svg+xml", "application/json"]
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
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
    root_path: str = "",
    trusted_proxy: str | None = None,
) -> Flask:
    """Create an app that serves indexes. This starts the threads that encode, search and adapt.

    engines: by name; the first one is the default index. They are replaced when their indexes change on disk.
    trusted_hosts: host names by which the server may be called; None: any. On a server that a browser on the same
    machine can reach, a list keeps other sites' pages from reading responses through a host name of their own.
    keys: the write keys; None: every client that reaches the server may write.
    adaptation: how domains are adapted; None: with the meta-learned weights that come with semsearch.
    root_path: path at which a reverse proxy serves the app, such as `/search`; the proxy may remove it from requests.
    trusted_proxy: IP address of a proxy whose X-Forwarded-Prefix replaces `root_path`; `*`: any; None: none.

    Raises RootPathError, TrustedProxyError or TrustedHostError for an invalid argument.

    `app.extensions["semsearch"]` is the `SearchService`. The caller closes it.
    """
    limits, keys = limits or Limits(), keys or WriteKeys({})
    root, proxy = parse_root_path(root_path), parse_trusted_proxy(trusted_proxy)
    trusted = [parse_trusted_host(host) for host in trusted_hosts or ()]
    web = _web_folder()
    app = _flask_app(web, limits)
    metrics = Metrics()
    service = SearchService(engines, limits=limits, metrics=metrics, adaptation=adaptation or AdaptationSettings())
    app.extensions["semsearch"] = service
    _register_routes(app, service, keys)
    rendering.register(app, Languages(web / "static" / "texts", web / "messages"))
    app.context_processor(lambda: {"key_required": keys.required})
    errors.register(app)
    _register_request_hooks(app, metrics, trusted)
    app.wsgi_app = RootPathMiddleware(app.wsgi_app, root, proxy)  # type: ignore[method-assign]
    return app


def _flask_app(web: Path, limits: Limits) -> Flask:
    """Create and configure an app without routes. web: the folder of templates and static files."""
    app = Flask(
        "semsearch",
        static_folder=str(web / "static"),
        static_url_path=f"/static/{_digest(web / 'static')}",
        template_folder=str(web / "templates"),
        root_path=str(web),
    )
    app.config["MAX_CONTENT_LENGTH"] = limits.max_body_bytes
    # a redirect to the address without a doubled slash would be an HTML page, and rename a domain
    app.url_map.merge_slashes = False
    app.url_map.converters["domain"] = domains.DomainConverter
    # the URL of a static file changes with its content
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 365 * 24 * 3600
    app.config["COMPRESS_MIMETYPES"] = COMPRESSED
    app.config["COMPRESS_ALGORITHM"] = ["br", "gzip"]
    Compress(app)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    return app


def _register_routes(app: Flask, service: SearchService, keys: WriteKeys) -> None:
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
        teaching.blueprint(service, keys),
        status.blueprint(service, keys),
        map_page.blueprint(service),
    ):
        app.register_blueprint(blueprint)


def _register_request_hooks(app: Flask, metrics: Metrics, trusted_hosts: Sequence[str]) -> None:
    """Check the host of each request, add headers to each response, and record and log each request."""

    @app.before_request
    def _start_timer() -> None:
        g.started = perf_counter()

    @app.before_request
    def _check_request() -> None:
        if trusted_hosts:
            check_host(request.headers.get("Host", ""), trusted_hosts)
        check_encoding()

    @app.after_request
    def _finish(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        if request.endpoint != "static":
            response.headers.setdefault("Cache-Control", "no-store")
        seconds = perf_counter() - g.get("started", perf_counter())
        # one route for all static files, as their URLs change with their content
        route = "/static" if request.endpoint == "static" else str(request.url_rule or "unknown")
        metrics.requests.labels(route, response.status_code).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        # the route, never the URL, which contains users' queries
        log.info("request", route=route, status=response.status_code, ms=round(1000 * seconds, 1))
        return response


def _digest(folder: Path) -> str:
    """Return a digest of all files in a folder.

    It is part of the folder's URL: modules import each other by relative URLs, which cannot contain a version.
    """
    content = "".join(f"{path.relative_to(folder)} {sha256(path)}\n" for path in sorted(folder.rglob("*.*")))
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _web_folder() -> Path:
    """Return the folder of the web pages: in the installed package, or next to the package in a checkout."""
    package = Path(semsearch.__file__).parent
    installed = package / "web"
    return installed if installed.is_dir() else package.parent / "web"
