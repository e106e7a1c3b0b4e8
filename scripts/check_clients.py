"""Many clients at once against a real server: every request answered, no answers mixed up, and batches that form.

    python scripts/check_clients.py index/NAME --clients 64 --requests 20

Starts `semsearch serve` on a free port. Each client sends queries of its own, one after the other, and compares every
answer with the one that the engine gives to that query alone: the same ids in the same order, ties aside.

Exit code 1 if a request failed or an answer was another one's.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from time import perf_counter

from servers import serving

from semsearch import Query, SearchEngine

TOLERANCE = 1e-5
K = 10


def questions(engine: SearchEngine, many: int, seed: int) -> list[str]:
    """Different queries, made of words that stand together in the index's own texts."""
    chooser = random.Random(seed)
    words = [text.split() for _, text in engine.corpus.texts()]
    long = [text for text in words if len(text) >= 8]
    found: dict[str, None] = {}
    while len(found) < many:
        text = chooser.choice(long)
        start = chooser.randrange(len(text) - 7)
        found[" ".join(text[start : start + chooser.randint(3, 8)])] = None
    return list(found)


def ask(connection: http.client.HTTPConnection, query: str) -> tuple[int, list[tuple[str, float]]]:
    """Status, and ids with scores."""
    body = json.dumps({"query": query, "k": K})
    connection.request("POST", "/api/search", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != http.HTTPStatus.OK:
        return response.status, []
    (result,) = json.loads(content)["results"]
    if result["query"] != query:
        return response.status, [("another query's", 0.0)]
    return response.status, [(hit["id"], hit["score"]) for hit in result["hits"]]


def agrees(found: list[tuple[str, float]], alone: list[tuple[str, float]]) -> bool:
    """Whether an answer is the one expected; scores move in the last bits with the batch, so near ones may swap."""
    scores = dict(alone)
    same_scores = all(abs(one[1] - other[1]) < TOLERANCE for one, other in zip(found, alone, strict=False))
    known = all(abs(scores.get(identity, score) - score) < TOLERANCE for identity, score in found)
    strangers = [score for identity, score in found if identity not in scores]
    at_the_end = all(abs(score - alone[-1][1]) < TOLERANCE for score in strangers)
    return len(found) == len(alone) and same_scores and known and at_the_end


def metric(host: str, port: int, name: str) -> float:
    """One number of /metrics."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def main() -> None:
    """Start the server, let the clients loose, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=20, help="of each client")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    engine = SearchEngine.open(options.index)
    asked = questions(engine, options.clients * options.requests, options.seed)
    started = perf_counter()
    alone = {query: [(hit.id, hit.score) for hit in engine.search([Query(query, k=K)])[0].hits] for query in asked}
    one_by_one_s = perf_counter() - started
    engine.close()

    with serving(options.index) as server:
        host, port = server.host, server.port
        outcomes: Counter[str] = Counter()
        lock = threading.Lock()
        together = threading.Barrier(options.clients + 1)

        def client(queries: list[str]) -> None:
            connection = http.client.HTTPConnection(host, port, timeout=60)
            together.wait()
            for query in queries:
                status, found = ask(connection, query)
                right = "right" if agrees(found, alone[query]) else "WRONG"
                with lock:
                    outcomes[right if status == http.HTTPStatus.OK else f"status {status}"] += 1
            connection.close()

        before = metric(host, port, "semsearch_batch_queries_count"), metric(host, port, "semsearch_batch_queries_sum")
        threads = [
            threading.Thread(target=client, args=(asked[number :: options.clients],))
            for number in range(options.clients)
        ]
        for thread in threads:
            thread.start()
        together.wait()
        started = perf_counter()
        for thread in threads:
            thread.join()
        seconds = perf_counter() - started
        after = metric(host, port, "semsearch_batch_queries_count"), metric(host, port, "semsearch_batch_queries_sum")
    batches, queries = after[0] - before[0], after[1] - before[1]
    print(f"clients              {options.clients}")
    print(f"requests             {len(asked)}: {dict(outcomes)}")
    print(f"mean batch           {queries / batches:.1f} queries, {batches:.0f} batches")
    print(f"rate                 {len(asked) / seconds:.1f} queries/s")
    print(f"against one by one   {one_by_one_s / seconds:.2f} times the engine's rate for lone queries, same texts")
    sys.exit(set(outcomes) != {"right"})


if __name__ == "__main__":
    main()
