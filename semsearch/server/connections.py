"""The server's connections: how requests are read, how long a client may take to send one, and how many may be open.

A client that opens many connections, or sends its requests slowly, cannot keep others from being answered: a connection
on which no request runs is closed after a time, or as soon as a new one needs its slot.
"""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Sequence
from time import time
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import MultiSocketServer, TcpWSGIServer

from semsearch.server.admission import Dispatcher

REQUEST_TIMEOUT_S = 30
"""Seconds in which a client must have sent a request, header and body."""
IDLE_TIMEOUT_S = 120
"""Seconds for which a connection stays open without a request."""
CHECK_S = 5
"""Seconds between two checks of these times."""
RESERVED_FILES = 256
"""Files that the process may open for other purposes than connections."""


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Accepts addresses that are not percent-encoded, as some clients send them."""

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the first line and the headers of a request."""
        line, separator, headers = header_plus.partition(b"\r\n")
        encoded = re.sub(rb"[\x80-\xff]", lambda match: b"%%%02X" % match[0][0], line)
        super().parse_header(encoded + separator + headers)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that records since when it waits for its client."""

    parser_class = _Parser
    _read_request: HTTPRequestParser | None = None
    _reading_since = 0.0

    def received(self, data: bytes) -> bool:
        """Read a part of a request."""
        is_accepted = bool(super().received(data))
        if self.request is not self._read_request:
            self._read_request, self._reading_since = self.request, time()
        return is_accepted

    @property
    def reading(self) -> bool:
        """Whether a part of a request has been received, and the rest has not."""
        return self._read_request is not None

    @property
    def waiting_since(self) -> float:
        """Time since which the client has kept the connection waiting, in seconds since the epoch."""
        return self._reading_since if self.reading else float(self.last_activity)


class _Listener(TcpWSGIServer):  # type: ignore[misc]
    """Accepts connections at one address."""

    channel_class = _Channel
    next_channel_cleanup: float = 0

    def readable(self) -> bool:
        """Whether connections are accepted: always, as others are closed for them."""
        now = time()
        if now >= self.next_channel_cleanup:
            self.next_channel_cleanup = now + CHECK_S
            self.maintenance(now)
        return bool(self.accepting)

    def maintenance(self, now: float) -> None:
        """Close the connections whose clients have taken too long. now: seconds since the epoch."""
        for channel in _interruptible(self._map):
            if now - channel.waiting_since > (REQUEST_TIMEOUT_S if channel.reading else IDLE_TIMEOUT_S):
                channel.will_close = True

    def handle_accept(self) -> None:
        """Accept a connection; if too many are open, close the one that has waited longest for its client."""
        if len(self._map) >= self.adj.connection_limit:
            longest = min(_interruptible(self._map), key=lambda channel: channel.waiting_since, default=None)
            if longest is not None:
                longest.handle_close()
        super().handle_accept()


def create_server(app: Any, sockets: Sequence[socket.socket], dispatcher: Dispatcher, **adjustments: Any) -> Any:
    """Create a waitress server that accepts connections on bound sockets.

    adjustments: as for waitress; `connection_limit` is lowered to what the process may open.

    Raises OSError if another server listens at an address.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        adjustments["connection_limit"] = min(adjustments["connection_limit"], max(files - RESERVED_FILES, files // 2))
    # select(), the default, fails for file numbers of 1024 and above
    adjusted = Adjustments(sockets=list(sockets), asyncore_use_poll=True, **adjustments)
    channels: dict[int, Any] = {}
    listeners = [
        _Listener(
            app,
            channels,
            _sock=bound,
            dispatcher=dispatcher,
            adj=adjusted,
            sockinfo=(bound.family, bound.type, bound.proto, bound.getsockname()),
            bind_socket=False,
        )
        for bound in adjusted.sockets
    ]
    addresses = [(listener.effective_host, listener.effective_port) for listener in listeners]
    return MultiSocketServer(channels, adjusted, addresses, dispatcher, listeners[0].log_info)


def _interruptible(channels: dict[int, Any]) -> list[_Channel]:
    """Return the connections on which no request runs."""
    return [channel for channel in channels.values() if isinstance(channel, _Channel) and not channel.requests]
