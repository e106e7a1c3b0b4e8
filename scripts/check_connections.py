"""Open many half-sent requests at a real server, and measure how long others wait meanwhile.

    python scripts/check_connections.py index/NAME --connections 500

Starts `semsearch serve` on a free port. One client sends parts of requests on all connections and opens each again that
the server closes; another one asks for `/healthz` and searches, one request after the other, each on a new connection.

Exit code 1 if a request failed, or an answer of /healthz took more than 2 seconds.
"""

from __future__ import annotations

import argparse
import http.client
import resource
import socket
import statistics
import sys
import threading
from itertools import cycle
from pathlib import Path
from time import perf_counter, sleep

from servers import serving

MAX_HEALTH_S = 2.0
PARTS = [
    b"",
    b"GET / HT",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b",
    b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
]


def hold(host: str, port: int, part: bytes, ended: threading.Event) -> None:
    """Keep one connection open with a part of a request, until `ended`."""
    while not ended.is_set():
        try:
            with socket.create_connection((host, port), timeout=1) as connection:
                connection.sendall(part)
                while not ended.is_set():
                    try:
                        if not connection.recv(1):
                            break
                    except TimeoutError:
                        continue
        except OSError:
            sleep(0.1)


def measure(host: str, port: int, path: str, requests: int) -> tuple[list[float], int]:
    """Return the seconds of each answered request, and the number of those that failed."""
    seconds, failed = [], 0
    for _ in range(requests):
        started = perf_counter()
        connection = http.client.HTTPConnection(host, port, timeout=20)
        try:
            connection.request("GET", path)
            failed += connection.getresponse().status != http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            failed += 1
        connection.close()
        seconds.append(perf_counter() - started)
    return seconds, failed


def main() -> None:
    """Start the server, open the connections, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--requests", type=int, default=40, help="of each kind")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving(options.index) as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, options.connections + 200), most))
        ended = threading.Event()
        holders = [
            threading.Thread(target=hold, args=(server.host, server.port, part, ended), daemon=True)
            for part, _ in zip(cycle(PARTS), range(options.connections), strict=False)
        ]
        for holder in holders:
            holder.start()
        sleep(3)
        results = {
            path: measure(server.host, server.port, path, options.requests)
            for path in ("/healthz", "/api/search?query=split+text&k=3")
        }
        ended.set()
        for holder in holders:
            holder.join(5)
    for path, (seconds, failed) in results.items():
        median, slowest = statistics.median(seconds), max(seconds)
        print(f"{path:34} median {1000 * median:6.0f} ms, slowest {1000 * slowest:6.0f} ms, {failed} failed")
    sys.exit(any(failed for _, failed in results.values()) or max(results["/healthz"][0]) > MAX_HEALTH_S)


if __name__ == "__main__":
    main()
