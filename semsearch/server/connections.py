"""The server's connections: how requests are read, how long a client may take to send one, and how many may be open.

A client that opens many connections, sends its requests slowly or does not read its responses cannot keep others from
being answered: a connection that waits for its client is closed after a time, or as soon as a new one needs its slot. A
request that is not complete in time is answered with 408, except on a connection that is closed for another one.
"""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Sequence
from http import HTTPStatus
from time import time
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import MultiSocketServer, TcpWSGIServer
from waitress.utilities import Error as WaitressError

from semsearch.server.admission import Dispatcher

REQUEST_TIMEOUT_S = 30
"""Seconds in which a client must have sent a request, header and body."""
IDLE_TIMEOUT_S = 120
"""Seconds for which a connection stays open without a request, or while its client reads nothing of a response."""
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


class _RequestTimeoutError(WaitressError):  # type: ignore[misc]
    """A request that was not complete in time."""

    code = HTTPStatus.REQUEST_TIMEOUT.value
    reason = HTTPStatus.REQUEST_TIMEOUT.phrase


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that records since when it waits for its client."""

    parser_class = _Parser
    _read_request: HTTPRequestParser | None = None
    _reading_since = 0.0
    _sent_at = 0.0

    def received(self, data: bytes) -> bool:
        """Read a part of a request."""
        is_accepted = bool(super().received(data))
        if self.request is not self._read_request:
            self._read_request, self._reading_since = self.request, time()
        return is_accepted

    @property
    def sending(self) -> bool:
        """Whether a part of a response has not been sent: the client has to read before it can be."""
        return bool(self.total_outbufs_len)

    @property
    def reading(self) -> bool:
        """Whether a part of a request has been received, and the server waits for the rest."""
        return self._read_request is not None and not self.sending

    @property
    def waiting_since(self) -> float:
        """Time since which the client has kept the connection waiting, in seconds since the epoch."""
        # a request is not read on while the response to the previous one is sent
        return max(self._reading_since, self._sent_at) if self.reading else float(self.last_activity)

    def time_out(self) -> None:
        """Answer the request that is not complete with 408, and close the connection after that."""
        with self.requests_lock:
            if self._read_request is None or self.requests or self.will_close or self.close_when_flushed:
                return
            request, self.request, self._read_request = self._read_request, None, None
            request.error = _RequestTimeoutError(f"it was not complete after {REQUEST_TIMEOUT_S} s: send it again")
            self.requests.append(request)
            self.server.add_task(self)

    def _flush_some(self, do_close: bool = True) -> bool:
        sent = bool(super()._flush_some(do_close))
        if sent:
            self._sent_at = time()
        return sent


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
        for channel in _waiting(self._map):
            seconds = now - channel.waiting_since
            if channel.reading and seconds > REQUEST_TIMEOUT_S:
                channel.time_out()
            elif seconds > IDLE_TIMEOUT_S and channel.sending:
                # its socket may never be writable again
                channel.handle_close()
            elif seconds > IDLE_TIMEOUT_S:
                channel.will_close = True

    def handle_accept(self) -> None:
        """Accept a connection; if too many are open, close the one that has waited longest for its client."""
        if len(self._map) >= self.adj.connection_limit:
            # a response is cut off only if every connection is in the midst of one
            longest = min(
                _waiting(self._map), key=lambda channel: (channel.sending, channel.waiting_since), default=None
            )
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


def _waiting(channels: dict[int, Any]) -> list[_Channel]:
    """Return the connections that wait for their clients: no request runs on them."""
    return [channel for channel in channels.values() if isinstance(channel, _Channel) and not channel.requests]
