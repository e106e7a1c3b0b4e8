"""Generate HTTP load from a separate process: a closed loop of n clients, or an open loop at a fixed rate.

    python scripts/load.py < LOAD.json > RESULT.json

LOAD holds host, port, requests ([{"method", "path", "body"}], sent in order and repeated), seconds, and either clients
or rate (requests per second). RESULT holds the fields of `LoadResult`.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

MAX_CONNECTIONS = 400
"""Connections of an open loop. A request that is due while all of them are busy is counted as unsent."""
DRAIN_S = 15.0
"""Seconds to wait for answers after the last request."""


@dataclass(frozen=True)
class LoadResult:
    """The outcome of a load."""

    seconds: float
    statuses: dict[str, int]
    """Number of answers by status, with `unsent` and `lost` requests."""
    ms: dict[str, list[float]]
    """Latencies in milliseconds by status, in the order of the answers."""
    at_s: list[float]
    """Seconds from the start to each answer of status 200."""
    processor_s: float
    """Processor seconds that the load generator used."""

    @property
    def rate(self) -> float:
        """Answers of status 200 per second."""
        return self.statuses.get("200", 0) / self.seconds

    def percentile(self, share: float, status: str = "200") -> float:
        """Return a latency percentile in milliseconds. share: in [0, 1], such as 0.99."""
        values = sorted(self.ms.get(status, []))
        return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def run_load(load: Mapping[str, Any]) -> LoadResult:
    """Run a load in a separate process. Raises RuntimeError if the generator fails."""
    process = subprocess.run(
        [sys.executable, str(Path(__file__))], input=json.dumps(load), capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise RuntimeError(process.stderr[-2000:])
    return LoadResult(**json.loads(process.stdout))


def searches(texts: Sequence[str], **fields: object) -> list[dict[str, object]]:
    """Return a search request for each text. fields: further fields of the request."""
    return [{"method": "POST", "path": "/api/search", "body": {"query": text, **fields}} for text in texts]


class _Connection(asyncio.Protocol):
    """A persistent connection that sends one request at a time."""

    def __init__(self, load: _Load) -> None:
        self.load = load
        self.buffer = bytearray()
        self.started = 0.0
        self.expected_bytes = -1
        self.busy = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.load.connection_ready(self)

    def send(self, request: bytes, started: float) -> None:
        assert self.transport is not None
        self.started, self.busy = started, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.expected_bytes < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            position = head.index(b"content-length:")
            self.expected_bytes = end + 4 + int(head[position + 15 :].split(b"\r\n", 1)[0])
            self.closing = b"connection: close" in head
        if len(self.buffer) < self.expected_bytes:
            return
        status = bytes(self.buffer[9:12]).decode()
        del self.buffer[: self.expected_bytes]
        self.expected_bytes, self.busy = -1, False
        self.load.response_received(status, self.started)
        if self.closing:
            assert self.transport is not None
            self.transport.close()
        else:
            self.load.connection_ready(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.load.connection_lost(self)


@dataclass
class _Load:
    """The state of a running load."""

    host: str
    port: int
    requests: list[bytes]
    seconds: float
    clients: int = 0
    rate: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    ms: dict[str, list[float]] = field(default_factory=dict)
    at_s: list[float] = field(default_factory=list)
    started: float = 0.0
    sent: int = 0
    connections: int = 0
    ready: deque[_Connection] = field(default_factory=deque)
    pending: deque[float] = field(default_factory=deque)
    """Due times of requests that wait for a new connection."""
    finished: bool = False

    async def run(self) -> LoadResult:
        loop = asyncio.get_running_loop()
        for _ in range(self.clients or 8):
            await self.connect()
        processor_started, self.started = process_time(), perf_counter()
        if self.clients:
            for connection in list(self.ready):
                self.send(connection, perf_counter())
            await asyncio.sleep(self.seconds)
        else:
            await self.send_at_rate(loop)
        self.finished = True
        seconds = perf_counter() - self.started
        processor_s = process_time() - processor_started
        for _ in range(int(20 * DRAIN_S)):
            if sum(self.statuses.values()) >= self.sent + self.statuses["unsent"]:
                break
            await asyncio.sleep(0.05)
        self.statuses["lost"] += self.sent + self.statuses["unsent"] - sum(self.statuses.values())
        return LoadResult(seconds, dict(self.statuses), self.ms, self.at_s, processor_s)

    async def connect(self) -> None:
        self.connections += 1
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Connection(self), self.host, self.port)
        except OSError:
            self.connections -= 1

    async def send_at_rate(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send requests as a Poisson process of `rate` per second, without waiting for answers."""
        rng = random.Random(0)
        due = loop.time()
        until = due + self.seconds
        opening: set[asyncio.Task[None]] = set()
        while due < until:
            await asyncio.sleep(max(0.0, due - loop.time()))
            while due <= loop.time() and due < until:
                started = self.started + due - (until - self.seconds)
                if self.ready:
                    self.send(self.ready.popleft(), started)
                else:
                    self.statuses["unsent"] += self.connections >= MAX_CONNECTIONS
                    if self.connections < MAX_CONNECTIONS:
                        self.pending.append(started)
                        task = asyncio.create_task(self.connect())
                        opening.add(task)
                        task.add_done_callback(opening.discard)
                due += rng.expovariate(self.rate)

    def send(self, connection: _Connection, started: float) -> None:
        connection.send(self.requests[self.sent % len(self.requests)], started)
        self.sent += 1

    def connection_ready(self, connection: _Connection) -> None:
        """Send a due request on a connection that is ready, or keep the connection for later."""
        if self.pending and not self.finished:
            self.send(connection, self.pending.popleft())
        elif self.clients and self.started and not self.finished:
            self.send(connection, perf_counter())
        else:
            self.ready.append(connection)

    def response_received(self, status: str, started: float) -> None:
        now = perf_counter()
        if self.finished and self.clients:
            # a closed loop counts only answers that arrive before its end
            self.sent -= 1
            return
        self.statuses[status] += 1
        self.ms.setdefault(status, []).append(round(1000 * (now - started), 3))
        if status == "200":
            self.at_s.append(round(now - self.started, 3))

    def connection_lost(self, connection: _Connection) -> None:
        self.connections -= 1
        if connection.busy:
            self.statuses["lost"] += 1
        if connection in self.ready:
            self.ready.remove(connection)


def _encode(request: Mapping[str, Any], host: str) -> bytes:
    body = b"" if request.get("body") is None else json.dumps(request["body"]).encode()
    head = (
        f"{request['method']} {request['path']} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


if __name__ == "__main__":
    settings = json.load(sys.stdin)
    settings["requests"] = [_encode(request, settings["host"]) for request in settings["requests"]]
    json.dump(asdict(asyncio.run(_Load(**settings).run())), sys.stdout)
