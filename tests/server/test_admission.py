"""Admission control: excess requests are refused at once with the API's error format; monitoring routes never are."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, sleep

import pytest
from flask import Flask
from waitress import wasyncore
from waitress.server import create_server

from semsearch.server.admission import MAX_QUEUED, Dispatcher
from semsearch.server.runtime.metrics import Metrics

LONG_S = 20.0


@dataclass
class BusyServer:
    """A server with one thread, whose searches block until `gate` is set."""

    metrics: Metrics
    dispatcher: Dispatcher
    running: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def send(self, path: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG_S)
        connection.request("GET", path)
        return connection


@pytest.fixture
def busy() -> Iterator[BusyServer]:
    metrics = Metrics()
    server = BusyServer(metrics, Dispatcher(1, metrics, max_body_bytes=1000))
    app = Flask("busy")

    @app.get("/api/search")
    def search() -> str:
        server.running.set()
        assert server.gate.wait(LONG_S)
        return "result"

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    wsgi_server = create_server(app, host="127.0.0.1", port=0, _dispatcher=server.dispatcher, threads=1)
    server.port = wsgi_server.effective_port
    thread = threading.Thread(target=wsgi_server.run, daemon=True)
    thread.start()
    yield server
    server.gate.set()
    server.dispatcher.shutdown()
    wsgi_server.trigger.pull_trigger(lambda: wasyncore.close_all(wsgi_server._map))
    thread.join(LONG_S)


def wait_until(condition: Callable[[], bool]) -> None:
    end = monotonic() + LONG_S
    while not condition():
        assert monotonic() < end
        sleep(0.01)


def test_excess_requests_are_refused_at_once_on_a_connection_that_stays_open(busy: BusyServer) -> None:
    with ExitStack() as stack:
        # one request is running, and the queue is full
        waiting = [busy.send("/api/search")]
        assert busy.running.wait(LONG_S)
        waiting += [busy.send("/api/search") for _ in range(MAX_QUEUED)]
        # the server reads connections in any order: the excess request must come when it has read all others
        wait_until(lambda: len(busy.dispatcher.queue) == MAX_QUEUED)
        excess = busy.send("/api/search")
        for connection in (*waiting, excess):
            stack.callback(connection.close)
        response = excess.getresponse()
        problem = json.loads(response.read())
        assert (response.status, problem["status"], response.getheader("Retry-After")) == (503, 503, "1")
        assert response.getheader("Content-Type") == "application/problem+json"
        assert "try again later" in problem["detail"]
        # monitoring is answered meanwhile, also on the same connection
        excess.request("GET", "/healthz")
        assert excess.getresponse().read() == b"ok"
        assert b'semsearch_requests_total{route="refused",status="503"} 1.0' in busy.metrics.text()
        busy.gate.set()
        assert [connection.getresponse().read() for connection in waiting] == [b"result"] * len(waiting)
        excess.request("GET", "/api/search")
        assert excess.getresponse().read() == b"result"
