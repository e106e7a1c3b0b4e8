"""Load on a server of HTTP, from a process of its own: closed loop, by so many clients, or open loop, at a fixed rate.

    python scripts/load.py < WHAT.json > FOUND.json

WHAT: host, port, requests ([{"method", "path", "body"}], taken in turns), seconds, and either clients or rate; bounded
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

MOST_CONNECTIONS = 400
"""Of an open loop; what arrives while all of them wait is not sent, and counted."""
PATIENCE_S = 15.0
"""After the last request was sent."""


@dataclass(frozen=True)
class Found:
    """What came of a load."""

    seconds: float
    statuses: dict[str, int]
    """Answers by status; `unsent` and `lost` among them."""
    ms: dict[str, list[float]]
    """Latencies by status, in the order in which the answers came."""
    at_s: list[float]
    """When each answer of status 200 came."""
    processor_s: float
    """That the generator itself took."""

    @property
    def rate(self) -> float:
        """Answers of status 200 a second."""
        return self.statuses.get("200", 0) / self.seconds

    def percentile(self, share: float, status: str = "200") -> float:
        """Milliseconds that so large a share of answers took at most."""
        values = sorted(self.ms.get(status, []))
        return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def loaded(what: Mapping[str, Any]) -> Found:
    """Run a load in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__))], input=json.dumps(what), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Found(**json.loads(done.stdout))


def searches(texts: Sequence[str], **fields: object) -> list[dict[str, object]]:
    """A search for each text."""
    return [{"method": "POST", "path": "/api/search", "body": {"query": text, **fields}} for text in texts]


class _Connection(asyncio.Protocol):
    """One request at a time on a connection that stays open."""

    def __init__(self, load: _Load) -> None:
        self.load = load
        self.buffer = bytearray()
        self.began = 0.0
        self.wanted = -1
        self.busy = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.load.free(self)

    def send(self, request: bytes, began: float) -> None:
        assert self.transport is not None
        self.began, self.busy = began, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.wanted < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            at = head.index(b"content-length:")
            self.wanted = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            self.leaving = b"connection: close" in head
        if len(self.buffer) < self.wanted:
            return
        status = bytes(self.buffer[9:12]).decode()
        del self.buffer[: self.wanted]
        self.wanted, self.busy = -1, False
        self.load.answered(status, self.began)
        if self.leaving:
            assert self.transport is not None
            self.transport.close()
        else:
            self.load.free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.load.lost(self)


@dataclass
class _Load:
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
    over: bool = False

    async def run(self) -> Found:
        loop = asyncio.get_running_loop()
        for _ in range(self.clients or 8):
            await self.connect()
        used, self.started = process_time(), perf_counter()
        if self.clients:
            for connection in list(self.ready):
                self.send(connection, perf_counter())
            await asyncio.sleep(self.seconds)
        else:
            await self.arrive(loop)
        self.over = True
        ended = perf_counter() - self.started
        processor_s = process_time() - used
        for _ in range(int(20 * PATIENCE_S)):
            if sum(self.statuses.values()) >= self.sent + self.statuses["unsent"]:
                break
            await asyncio.sleep(0.05)
        self.statuses["lost"] += self.sent + self.statuses["unsent"] - sum(self.statuses.values())
        return Found(ended, dict(self.statuses), self.ms, self.at_s, processor_s)

    async def connect(self) -> None:
        self.connections += 1
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Connection(self), self.host, self.port)
        except OSError:
            self.connections -= 1

    async def arrive(self, loop: asyncio.AbstractEventLoop) -> None:
        """Requests at random, so many a second on average, whatever becomes of the others."""
        chooser = random.Random(0)
        due = loop.time()
        until = due + self.seconds
        opening: set[asyncio.Task[None]] = set()
        while due < until:
            await asyncio.sleep(max(0.0, due - loop.time()))
            while due <= loop.time() and due < until:
                began = self.started + due - (until - self.seconds)
                if self.ready:
                    self.send(self.ready.popleft(), began)
                else:
                    self.statuses["unsent"] += self.connections >= MOST_CONNECTIONS
                    if self.connections < MOST_CONNECTIONS:
                        self.pending.append(began)
                        task = asyncio.create_task(self.connect())
                        opening.add(task)
                        task.add_done_callback(opening.discard)
                due += chooser.expovariate(self.rate)

    pending: deque[float] = field(default_factory=deque)

    def send(self, connection: _Connection, began: float) -> None:
        connection.send(self.requests[self.sent % len(self.requests)], began)
        self.sent += 1

    def free(self, connection: _Connection) -> None:
        """A connection that can take a request."""
        if self.pending and not self.over:
            self.send(connection, self.pending.popleft())
        elif self.clients and self.started and not self.over:
            self.send(connection, perf_counter())
        else:
            self.ready.append(connection)

    def answered(self, status: str, began: float) -> None:
        now = perf_counter()
        if self.over and self.clients:
            # of a closed loop only what was answered in time counts
            self.sent -= 1
            return
        self.statuses[status] += 1
        self.ms.setdefault(status, []).append(round(1000 * (now - began), 3))
        if status == "200":
            self.at_s.append(round(now - self.started, 3))

    def lost(self, connection: _Connection) -> None:
        self.connections -= 1
        if connection.busy:
            self.statuses["lost"] += 1
        if connection in self.ready:
            self.ready.remove(connection)


def _encoded(request: Mapping[str, Any], host: str) -> bytes:
    body = b"" if request.get("body") is None else json.dumps(request["body"]).encode()
    head = (
        f"{request['method']} {request['path']} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


if __name__ == "__main__":
    given = json.load(sys.stdin)
    given["requests"] = [_encoded(request, given["host"]) for request in given["requests"]]
    json.dump(asdict(asyncio.run(_Load(**given).run())), sys.stdout)
