"""Opens indexes and serves them with waitress until told to stop: one process, many threads."""

from __future__ import annotations

import errno
import ipaddress
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import structlog
from waitress.server import create_server

from semsearch.encoders.encoder import Encoder
from semsearch.encoders.runtime import RuntimeChoice
from semsearch.errors import IndexFolderError, SemsearchError
from semsearch.search.engine import SearchEngine
from semsearch.server.admission import Dispatcher
from semsearch.server.app import create_app
from semsearch.server.runtime.service import AdaptationSettings, SearchService
from semsearch.server.schemas.search import Limits
from semsearch.server.security import WriteKeys
from semsearch.storage.generations import read_manifest
from semsearch.system.threads import available_cores, limit_arenas, limit_threads

log = structlog.get_logger("semsearch.server")

BODY_SLACK = 8
"""Bodies up to this many times the limit are read and refused in our own words; larger ones waitress cuts off."""


class ListenError(SemsearchError):
    """The address to listen at cannot be had."""


def open_indexes(
    folders: Sequence[Path], *, device: str = "auto", threads: int | None = None, runtime: RuntimeChoice = "auto"
) -> dict[str, SearchEngine]:
    """Open indexes by the names of their folders; those of one encoder share it.

    From then on each library computes on as many threads as leave a core to each of the encoder's workers, and what
    all threads need of memory comes from as many pools as there are cores.

    Raises IndexFolderError if one cannot be opened or two have the same name; EncoderError.
    """
    engines: dict[str, SearchEngine] = {}
    encoders: dict[str, Encoder] = {}
    threads = threads or available_cores()
    limit_arenas(threads)
    for folder in folders:
        name = folder.resolve().name
        if name in engines:
            raise IndexFolderError(f"two indexes are called {name!r}: rename one of the folders")
        made_by = read_manifest(folder).encoder
        key = made_by.model_dump_json()
        if key not in encoders:
            encoders[key] = Encoder.open(
                made_by.name, device=device, threads=threads, prompts=made_by.prompts, runtime=runtime
            )
        alone = max(1, threads // encoders[key].workers)
        engines[name] = SearchEngine.open(folder, encoder=encoders[key], threads=alone)
        limit_threads(alone)
    return engines


def serve(
    engines: dict[str, SearchEngine],
    *,
    host: str,
    port: int,
    limits: Limits,
    trusted_hosts: Sequence[str] | None = None,
    keys: WriteKeys,
    adaptation: AdaptationSettings,
    announce: Callable[[str], None] = lambda _address: None,
) -> None:
    """Answer requests until SIGINT or SIGTERM, then release everything.

    engines: handed over: the dictionary is emptied, and the engines are closed at the end.
    announce: is called with the address once requests are answered. Raises ListenError if it cannot be had, and as
    `check_reach`.
    """
    check_reach(host, keys)
    _log_to_stderr()
    app = create_app(
        engines, limits=limits, trusted_hosts=trusted_hosts or _own_names(host), keys=keys, adaptation=adaptation
    )
    service: SearchService = app.extensions["semsearch"]
    for index in service.indexes.values():
        runtime = index.engine.encoder.runtime
        log.info("opened", index=index.name, runtime=runtime.name, why=runtime.reason)
    # whatever names an engine keeps its state open for good, also when the index has moved on
    engines.clear()
    dispatcher = Dispatcher(limits.threads, service.metrics)
    try:
        try:
            server = create_server(
                app,
                _dispatcher=dispatcher,
                host=host,
                port=port,
                ident="semsearch",
                # refusals must be answered too: more connections than threads may be open
                connection_limit=4 * limits.threads,
                # lets a request see that its client has hung up
                channel_request_lookahead=1,
                max_request_body_size=BODY_SLACK * limits.max_body_bytes,
                max_request_header_size=64 * 1024,
                expose_tracebacks=False,
                clear_untrusted_proxy_headers=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            remedy = "choose another with --port, or 0 for a free one" if _is_taken(error) else "choose another"
            raise ListenError(f"cannot listen at {host}, port {port} ({reason}): {remedy}") from error
        signal.signal(signal.SIGTERM, _leave)
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{_port_of(server, port)}/")
        server.run()
    finally:
        dispatcher.shutdown()
        service.close()
        for index in service.indexes.values():
            index.engine.close()


def check_reach(host: str, keys: WriteKeys) -> None:
    """Raise ListenError where other machines can reach the server and everybody could write."""
    if not _is_loopback(host) and not keys.wanted and not keys.refuse_all:
        raise ListenError(
            f"every client that reaches {host} could label, adapt and reset: give --write-key NAME=KEY"
            " (or SEMSEARCH_WRITE_KEY), which clients that may write must send, or serve with --read-only"
        )


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _is_taken(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in {errno.EADDRINUSE, errno.EACCES}


def _port_of(server: object, port: int) -> int:
    # a name that means several addresses makes a server of several sockets
    found = getattr(server, "effective_port", None) or getattr(server, "effective_listen", [(None, port)])[0][1]
    return int(found)


def _own_names(host: str) -> list[str] | None:
    """The names of a server that only this machine can reach: no page from elsewhere may call it by its own name."""
    return ["localhost", "127.0.0.1", "[::1]", host] if _is_loopback(host) else None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _log_to_stderr() -> None:
    """Events for people at a terminal, as JSON lines for programs otherwise; waitress's warnings among them."""
    terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not terminal:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[
            *shared,
            # a traceback with the values of variables would hold what people search for
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if terminal
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # waitress warns whenever requests queue for a thread; the metrics tell that better
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
