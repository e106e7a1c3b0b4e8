"""Connections: slow and broken clients do not keep others from being answered, and are told what is wrong."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from time import time
from typing import Any

import pytest
from flask import Flask, request
from waitress import wasyncore

from semsearch.server.admission import Dispatcher
from semsearch.server.connections import IDLE_TIMEOUT_S, REQUEST_TIMEOUT_S, create_server
from semsearch.server.runtime.metrics import Metrics

LONG_S = 20.0
LIMIT = 20
MAX_BODY = 1000


@dataclass
class Server:
    """A server with two threads and at most LIMIT connections."""

    port: int
    waitress: Any

    def send(self, content: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=LONG_S)
        connection.sendall(content)
        return connection

    def answer(self, content: bytes) -> tuple[int, str, bytes]:
        """The status, the content type and the body of the response to a request."""
        with self.send(content) as connection:
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, response.getheader("Content-Type", ""), response.read()

    def channels(self) -> list[Any]:
        """The open connections."""
        return [one for one in list(self.waitress.map.values()) if hasattr(one, "sending")]

    def run(self, call: Any) -> None:
        """Run a call on the thread of the connections."""
        done = threading.Event()
        listener = next(one for one in self.waitress.map.values() if hasattr(one, "maintenance"))

        def run_and_report() -> None:
            call(listener)
            done.set()

        listener.trigger.pull_trigger(run_and_report)
        assert done.wait(LONG_S)


@pytest.fixture
def server() -> Iterator[Server]:
    app = Flask("echo")

    @app.route("/echo", methods=["GET", "POST"])
    def echo() -> str:
        return f"{request.args.get('query', '')}{request.get_data(as_text=True)}"

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    @app.get("/large")
    def large() -> bytes:
        return b"x" * LARGE

    dispatcher = Dispatcher(2, Metrics(), max_body_bytes=MAX_BODY)
    bound = socket.create_server(("127.0.0.1", 0))
    waitress = create_server(
        app,
        [bound],
        dispatcher,
        connection_limit=LIMIT,
        max_request_body_size=8 * MAX_BODY,
        max_request_header_size=4096,
        channel_request_lookahead=1,
    )
    thread = threading.Thread(target=waitress.run, daemon=True)
    thread.start()
    server = Server(bound.getsockname()[1], waitress)
    yield server
    dispatcher.shutdown()
    server.run(lambda _listener: close_all(server))
    thread.join(LONG_S)


def close_all(server: Server) -> None:
    """Close connections and listeners, and the temporary files of responses that were not sent."""
    for channel in server.channels():
        channel.handle_close()
    wasyncore.close_all(server.waitress.map)


GET_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HALF_SENT = [
    b"",
    b"GET /echo HT",
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nX-A: b",
    b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
    b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
]


@pytest.mark.parametrize("part", HALF_SENT)
def test_any_number_of_half_sent_requests_leaves_room_for_others(server: Server, part: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(3 * LIMIT):
            stack.enter_context(server.send(part))
        for _ in range(3):
            assert server.answer(GET_HEALTH)[::2] == (200, b"ok")


@pytest.mark.parametrize("part", HALF_SENT)
def test_a_client_that_does_not_complete_its_request_in_time_is_told_and_disconnected(
    server: Server, part: bytes
) -> None:
    with server.send(part) as connection:
        assert server.answer(GET_HEALTH)[0] == 200
        limit = REQUEST_TIMEOUT_S if part else IDLE_TIMEOUT_S
        server.run(lambda listener: listener.maintenance(time() + limit - 5))
        assert server.answer(GET_HEALTH)[0] == 200
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        connection.setblocking(True)
        connection.settimeout(LONG_S)
        server.run(lambda listener: listener.maintenance(time() + limit + 5))
        if part:
            response = http.client.HTTPResponse(connection)
            response.begin()
            problem = json.loads(response.read())
            assert (response.status, problem["status"], response.getheader("Connection")) == (408, 408, "close")
            assert response.getheader("Content-Type") == "application/problem+json"
            assert problem["detail"] == "the request cannot be read: it was not complete after 30 s: send it again"
        assert connection.recv(1) == b""


LARGE = 8_000_000
"""Bytes of a response that do not fit the buffers of two sockets."""
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"


def read_large(connection: socket.socket) -> int:
    """The number of bytes of the response's body."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return len(response.read())


def wait_for_responses(server: Server, count: int) -> None:
    """Wait until this number of connections have a response of which the client has to read a part."""
    end = time() + LONG_S
    while sum(bool(channel.sending) and not channel.requests for channel in server.channels()) < count:
        assert time() < end
        server.run(lambda _listener: None)


@pytest.mark.parametrize("next_request", [b"", b"GET /echo HT"])
def test_a_response_to_a_slow_reader_is_not_cut_off_for_new_connections(server: Server, next_request: bytes) -> None:
    with ExitStack() as stack:
        slow = stack.enter_context(server.send(GET_LARGE + next_request))
        wait_for_responses(server, 1)
        for _ in range(3 * LIMIT):
            stack.enter_context(server.send(b"GET /echo HT"))
        assert server.answer(GET_HEALTH)[0] == 200
        server.run(lambda listener: listener.maintenance(time() + REQUEST_TIMEOUT_S + 5))
        assert read_large(slow) == LARGE


def test_a_client_that_reads_nothing_of_its_response_is_disconnected(server: Server) -> None:
    with server.send(GET_LARGE) as stalled:
        wait_for_responses(server, 1)
        server.run(lambda listener: listener.maintenance(time() + IDLE_TIMEOUT_S + 5))
        # the client reads on only when it is too late
        end = time() + LONG_S
        while server.channels():
            assert time() < end
            server.run(lambda _listener: None)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            read_large(stalled)


def test_clients_that_read_nothing_leave_room_for_others(server: Server) -> None:
    with ExitStack() as stack:
        for number in range(LIMIT):
            stack.enter_context(server.send(GET_LARGE))
            wait_for_responses(server, min(number + 1, LIMIT - 5))
        for _ in range(3):
            assert server.answer(GET_HEALTH)[::2] == (200, b"ok")


def test_a_request_whose_beginning_came_during_the_previous_one_may_be_completed(server: Server) -> None:
    with server.send(GET_LARGE + b"GET /echo?query=a HT") as connection:
        wait_for_responses(server, 1)
        assert read_large(connection) == LARGE
        server.run(lambda _listener: None)  # after the server has counted what it sent
        [channel] = [channel for channel in server.channels() if channel.reading]
        assert time() - channel.waiting_since < LONG_S
        connection.sendall(b"TP/1.1\r\nHost: localhost\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.read() == b"a"


def test_sending_single_bytes_does_not_gain_time(server: Server) -> None:
    with server.send(b"GET /echo HTTP/1.1\r\nX-A: ") as connection:
        assert server.answer(GET_HEALTH)[0] == 200
        connection.sendall(b"a")
        assert server.answer(GET_HEALTH)[0] == 200
        [channel] = [one for one in server.waitress.map.values() if getattr(one, "reading", False)]
        assert channel.waiting_since < channel.last_activity


@pytest.mark.parametrize(
    ("target", "expected"),
    [("é", "é"), ("%C3%A9", "é"), ("a+b%20c", "a b c"), ("日本語", "日本語"), ("a%00b", "a\0b")],
)
def test_addresses_may_hold_raw_utf8(server: Server, target: str, expected: str) -> None:
    content = f"GET /echo?query={target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    assert server.answer(content)[::2] == (200, expected.encode())


def post(headers: str, body: bytes = b"") -> bytes:
    return f"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n\r\n".encode() + body


def test_a_chunked_body_is_read(server: Server) -> None:
    chunked = post("Transfer-Encoding: chunked", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert server.answer(chunked)[::2] == (200, b"abcde")


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b"GET /echo HTTP/1.1\r\nbroken\r\n\r\n", 400, "the request cannot be read: Invalid header"),
        (b"nonsense\r\n\r\n", 400, "the request cannot be read: Start line is invalid"),
        (post("Content-Length: x"), 400, "the request cannot be read: Content-Length is invalid"),
        (post("Content-Length: 5\r\nContent-Length: 6"), 400, "the request cannot be read: Content-Length is invalid"),
        (post("Transfer-Encoding: zip"), 501, "the request cannot be read: Transfer-Encoding requested is not"),
        (post("Transfer-Encoding: chunked", b"xyz\r\n"), 400, "the request cannot be read: "),
        (
            post("Content-Length: 9000"),
            413,
            "the body has 9,000 bytes, more than 1,000 bytes, the limit of this server",
        ),
        (
            post(f"X-Long: {'a' * 5000}"),
            431,
            "the address and the headers have more than 4,096 bytes: send a long query in a body, by POST",
        ),
    ],
)
def test_a_request_that_cannot_be_read_is_a_problem(server: Server, content: bytes, status: int, detail: str) -> None:
    answered, content_type, body = server.answer(content)
    problem = json.loads(body)
    assert (answered, content_type, problem["status"]) == (status, "application/problem+json", status)
    assert problem["detail"].startswith(detail)
