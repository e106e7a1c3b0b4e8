"""Start, query and stop a real server of one index, for the scripts of this folder."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Client:
    """A client with one persistent connection. Not thread-safe."""

    host: str
    port: int
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON answer to a request. Raises RuntimeError for an error status, OSError for a lost server."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        headers = {} if body is None else {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, content, headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {response.status} {answer[:500]!r}")
        return json.loads(answer)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def start(index: Path, *options: str, cores: str | None = None) -> tuple[subprocess.Popen[str], Client]:
    """Start a server on a free port and return it with a client. cores: CPU list to pin it to, such as "0"."""
    pinned = ["taskset", "-c", cores] if cores else []
    server = subprocess.Popen(
        [*pinned, sys.executable, "-m", "semsearch", "serve", str(index), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert server.stderr is not None
    lines: list[str] = []
    for line in server.stderr:
        lines.append(line)
        if address := re.search(r"http://\S+", line):
            threading.Thread(target=lambda: [None for _ in server.stderr or ()], daemon=True).start()
            url = urlsplit(address.group())
            return server, Client(url.hostname or "", url.port or 0)
    raise RuntimeError("".join(lines))


@contextmanager
def serving(index: Path, *options: str, cores: str | None = None) -> Iterator[Client]:
    """Start a server, yield a client of it, and stop the server afterwards."""
    server, client = start(index, *options, cores=cores)
    try:
        yield client
    finally:
        client.close()
        server.terminate()
        server.wait(30)


def search_hits(client: Client, queries: Sequence[str], domain: str, *, k: int = 10) -> list[list[tuple[str, float]]]:
    """Search all queries and return (id, score) of each query's hits."""
    results: list[list[tuple[str, float]]] = []
    for begin in range(0, len(queries), 32):
        body = {"queries": list(queries[begin : begin + 32]), "domain": domain, "k": k}
        answer = client.call("POST", "/api/search", body)
        results += [[(hit["id"], hit["score"]) for hit in result["hits"]] for result in answer["results"]]
    return results
