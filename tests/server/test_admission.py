"""Refusals at the door: at once, in the API's own form, and never of who watches the server."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from flask import Flask
from waitress import wasyncore
from waitress.server import create_server

from semsearch.server.admission import MOST_QUEUED, Dispatcher
from semsearch.server.runtime.metrics import Metrics

LONG_S = 20.0


@dataclass
class Busy:
    """A server of one thread, which answers only when it is let."""

    metrics: Metrics = field(default_factory=Metrics)
    gate: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def sent(self, path: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG_S)
        connection.request("GET", path)
        return connection


@pytest.fixture
def busy() -> Iterator[Busy]:
    found = Busy()
    app = Flask("busy")

    @app.get("/api/search")
    def search() -> str:
        assert found.gate.wait(LONG_S)
        return "found"

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    dispatcher = Dispatcher(1, found.metrics)
    server = create_server(app, host="127.0.0.1", port=0, _dispatcher=dispatcher, threads=1)
    found.port = server.effective_port
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield found
    found.gate.set()
    dispatcher.shutdown()
    server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
    thread.join(LONG_S)


def test_what_cannot_be_taken_up_is_refused_at_once_and_by_a_connection_that_stays(busy: Busy) -> None:
    with ExitStack() as stack:
        # one is being answered, and as many wait as may
        waiting = [busy.sent("/api/search") for _ in range(MOST_QUEUED + 1)]
        for connection in waiting:
            stack.callback(connection.close)
        while True:
            late = busy.sent("/api/search")
            stack.callback(late.close)
            late.sock.settimeout(0.5)
            try:
                response = late.getresponse()
                break
            except TimeoutError:
                waiting.append(late)
        assert len(waiting) <= MOST_QUEUED + 2
        told = json.loads(response.read())
        assert (response.status, told["status"], response.getheader("Retry-After")) == (503, 503, "1")
        assert response.getheader("Content-Type") == "application/problem+json"
        assert "try again later" in told["detail"]
        # whoever watches is answered meanwhile, by the same connection too
        late.sock.settimeout(LONG_S)
        late.request("GET", "/healthz")
        assert late.getresponse().read() == b"ok"
        assert b'semsearch_requests_total{route="refused",status="503"} 1.0' in busy.metrics.text()
        busy.gate.set()
        answers = []
        for connection in waiting:
            connection.sock.settimeout(LONG_S)
            answers.append(connection.getresponse().read())
        assert answers == [b"found"] * len(waiting)
        late.request("GET", "/api/search")
        assert late.getresponse().read() == b"found"
