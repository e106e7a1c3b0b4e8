"""Opens indexes and serves them with waitress, in one process with many threads, until a signal arrives."""

from __future__ import annotations

import errno
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from flask import Flask

from semsearch.encoders.encoder import Encoder
from semsearch.encoders.runtime import RuntimeChoice
from semsearch.errors import EncoderError, IndexFolderError, SemsearchError
from semsearch.search.engine import SearchEngine
from semsearch.server.admission import Dispatcher
from semsearch.server.app import create_app
from semsearch.server.connections import create_server
from semsearch.server.root_path import parse_root_path, parse_trusted_proxy
from semsearch.server.runtime.service import AdaptationSettings, SearchService
from semsearch.server.schemas.search import Limits
from semsearch.server.security import WriteKeys
from semsearch.storage.generations import read_manifest
from semsearch.system.signals import ended_by_signals
from semsearch.system.threads import available_cores, limit_arenas, limit_threads

log = structlog.get_logger("semsearch.server")

BODY_SLACK = 8
"""Waitress reads bodies up to this multiple of the limit, so that the app can answer them with a proper error."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
MAX_HEADER_BYTES = 64 * 1024
"""Size of a request's first line and headers."""


class ListenError(SemsearchError):
    """The server cannot or must not listen at an address."""


def open_indexes(
    folders: Sequence[Path], *, device: str = "auto", threads: int | None = None, runtime: RuntimeChoice = "auto"
) -> dict[str, SearchEngine]:
    """Open indexes and return their engines by folder name. Indexes with the same encoder share it.

    This limits the threads of the numerical libraries, so that each worker of the encoder has a core, and the number
    of the allocator's memory arenas to the number of threads.

    device: as in `Encoder.open`. threads: threads for computation; None: one for each available core. runtime: as in
    `Encoder.open`.

    Raises IndexFolderError if an index cannot be opened or two have the same name, and EncoderError.
    """
    engines: dict[str, SearchEngine] = {}
    encoders: dict[str, Encoder] = {}
    threads = threads or available_cores()
    limit_arenas(threads)
    for folder in folders:
        name = folder.resolve().name
        if name in engines:
            raise IndexFolderError(f"two indexes are called {name!r}: rename one of the folders")
        with _named(folder):
            record = read_manifest(folder).encoder
            # an index of before the configuration was recorded shares the encoder of the others
            key = record.model_dump_json(exclude={"configuration_sha256"})
            if key not in encoders:
                encoders[key] = record.open(folder, device=device, threads=threads, runtime=runtime)
            threads_per_worker = max(1, threads // encoders[key].workers)
            engines[name] = SearchEngine.open(folder, encoder=encoders[key], threads=threads_per_worker)
            limit_threads(threads_per_worker)
    return engines


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Name the index in errors of the block that do not."""
    try:
        yield
    except (IndexFolderError, EncoderError) as error:
        if str(folder) in str(error):
            raise
        raise type(error)(f"the index {folder} cannot be opened: {error}") from error


@contextmanager
def bind(host: str, port: int, keys: WriteKeys) -> Iterator[list[socket.socket]]:
    """Reserve the server's address before anything is loaded. Nothing is answered there yet; on exit, it is free again.

    host: name or IP address; a name with several addresses gives a socket for each. port: 0 for a free one.
    keys: write keys, which a host that other machines can reach needs.

    Raises ListenError if the address is not available, or if any client that reaches it could write.
    """
    if not _is_loopback(host) and not keys.required and not keys.refuse_all:
        raise ListenError(
            f"every client that reaches {host} could label, adapt and reset: require write keys with --write-key"
            " NAME=KEY (or SEMSEARCH_WRITE_KEY), or serve with --read-only"
        )
    try:
        addresses = dict.fromkeys(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
    except OSError as error:
        raise _listen_error(host, port, error) from error
    sockets: list[socket.socket] = []
    with ExitStack() as stack:
        for family, kind, protocol, _, address in addresses:
            # all addresses of a name get the same port
            free_or_given = sockets[0].getsockname()[1] if sockets else port
            try:
                reserved = _bound(family, kind, protocol, (address[0], free_or_given, *address[2:]))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(addresses) > 1:
                    continue  # such as ::1 on a machine without IPv6
                raise _listen_error(host, port, error) from error
            sockets.append(stack.enter_context(reserved))
        if not sockets:
            raise _listen_error(host, port, OSError(errno.EADDRNOTAVAIL, "none of its addresses is available"))
        yield sockets


def _bound(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        # a port whose last connections are still closing is available
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _listen_error(host: str, port: int, error: OSError) -> ListenError:
    is_taken = error.errno in {errno.EADDRINUSE, errno.EACCES}
    remedy = "choose another with --port, or 0 for a free one" if is_taken else "choose another with --host"
    return ListenError(f"cannot listen at {host}, port {port} ({error.strerror}): {remedy}")


def serve(
    engines: dict[str, SearchEngine],
    sockets: Sequence[socket.socket],
    *,
    host: str,
    limits: Limits,
    trusted_hosts: Sequence[str] | None = None,
    keys: WriteKeys,
    adaptation: AdaptationSettings,
    root_path: str = "",
    trusted_proxy: str | None = None,
    log_requests: bool = True,
    announce: Callable[[str], None] = lambda _address: None,
) -> None:
    """Answer requests until SIGINT or SIGTERM, then release all resources.

    engines: by index name. The server takes ownership: it empties the dictionary, and closes the engines at the end.
    sockets: of `bind`. host: the name that they were bound to.
    log_requests: whether a line is logged for each request.
    announce: called with the server's URL once it answers requests. Other parameters: as in `create_app`.
    """
    _log_to_stderr(requests=log_requests)
    with ended_by_signals():
        app = create_app(
            engines,
            limits=limits,
            trusted_hosts=trusted_hosts or _loopback_names(host),
            keys=keys,
            adaptation=adaptation,
            root_path=root_path,
            trusted_proxy=trusted_proxy,
        )
    service: SearchService = app.extensions["semsearch"]
    for index in service.indexes.values():
        runtime = index.engine.encoder.runtime
        log.info("opened", index=index.name, runtime=runtime.name, why=runtime.reason)
    # a reference to an engine keeps the files of its state open, even after the index has changed
    engines.clear()
    dispatcher = Dispatcher(
        limits.threads,
        service.metrics,
        max_body_bytes=limits.max_body_bytes,
        root_path=parse_root_path(root_path),
    )
    try:
        server = _create_server(app, dispatcher, sockets, limits=limits, trusted_proxy=trusted_proxy)
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # of a program in the background of a shell, it stays
                signal.signal(number, _exit)
        url_host = f"[{host}]" if ":" in host else host
        announce(f"http://{url_host}:{sockets[0].getsockname()[1]}/")
        server.run()
    finally:
        dispatcher.shutdown()
        service.close()
        for index in service.indexes.values():
            index.engine.close()


def _create_server(
    app: Flask,
    dispatcher: Dispatcher,
    sockets: Sequence[socket.socket],
    *,
    limits: Limits,
    trusted_proxy: str | None,
) -> Any:
    """Create a server on bound sockets. Raises ListenError if another server listens there by now."""
    # the client's address is left alone: the app compares it with that of the trusted proxy
    proxy = {
        "trusted_proxy": parse_trusted_proxy(trusted_proxy),
        "trusted_proxy_headers": "x-forwarded-proto x-forwarded-host",
    }
    try:
        return create_server(
            app,
            sockets,
            dispatcher,
            ident="semsearch",
            # refusals must be sent too: more connections than threads may be open
            connection_limit=4 * limits.threads,
            # needed to detect that a client has disconnected
            channel_request_lookahead=1,
            max_request_body_size=BODY_SLACK * limits.max_body_bytes,
            max_request_header_size=MAX_HEADER_BYTES,
            expose_tracebacks=False,
            clear_untrusted_proxy_headers=True,
            **(proxy if trusted_proxy else {}),
        )
    except OSError as error:
        host, port = sockets[0].getsockname()[:2]
        raise _listen_error(host, port, error) from error


def _exit(_signal: int, _frame: FrameType | None) -> None:
    # stopping takes seconds at most; a second signal would interrupt it and leave a traceback
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def _loopback_names(host: str) -> list[str] | None:
    """Return the trusted host names of a server on loopback; None for any other host.

    They keep other sites' pages from reading responses through a host name of their own.
    """
    return ["localhost", "127.0.0.1", "[::1]", "::1", host] if _is_loopback(host) else None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _log_to_stderr(*, requests: bool) -> None:
    """Log events to stderr: formatted for a terminal, otherwise as JSON lines. requests: also each request."""
    terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        *(() if requests else (_without_requests,)),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not terminal:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[
            *shared,
            # a traceback with the values of variables would contain users' queries
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if terminal
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # waitress warns whenever requests queue for a thread; the metrics report this
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def _without_requests(_logger: object, _level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if event["event"] == "request":
        raise structlog.DropEvent
    return event
