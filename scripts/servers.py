"""A real server of one index for the scripts of this folder: started, spoken to, stopped."""

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
    """One connection, kept open; not for several threads."""

    host: str
    port: int
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer. Raises RuntimeError for a failure, OSError where the server is gone."""
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
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def start(index: Path, *options: str, cores: str | None = None) -> tuple[subprocess.Popen[str], Client]:
    """A server at a free port, once it answers. cores: such as "0", to which it is pinned."""
    pinned = ["taskset", "-c", cores] if cores else []
    server = subprocess.Popen(
        [*pinned, sys.executable, "-m", "semsearch", "serve", str(index), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert server.stderr is not None
    said: list[str] = []
    for line in server.stderr:
        said.append(line)
        if address := re.search(r"http://\S+", line):
            threading.Thread(target=lambda: [None for _ in server.stderr or ()], daemon=True).start()
            place = urlsplit(address.group())
            return server, Client(place.hostname or "", place.port or 0)
    raise RuntimeError("".join(said))


@contextmanager
def serving(index: Path, *options: str, cores: str | None = None) -> Iterator[Client]:
    """A client of a server that is stopped afterwards."""
    server, client = start(index, *options, cores=cores)
    try:
        yield client
    finally:
        client.close()
        server.terminate()
        server.wait(30)


def found(client: Client, queries: Sequence[str], domain: str, *, k: int = 10) -> list[list[tuple[str, float]]]:
    """(id, score) of each query's hits."""
    results: list[list[tuple[str, float]]] = []
    for begin in range(0, len(queries), 32):
        body = {"queries": list(queries[begin : begin + 32]), "domain": domain, "k": k}
        answer = client.call("POST", "/api/search", body)
        results += [[(hit["id"], hit["score"]) for hit in one["hits"]] for one in answer["results"]]
    return results
