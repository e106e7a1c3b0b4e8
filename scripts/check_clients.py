"""Query a real server with many clients at once: check every answer, and measure the batches.

    python scripts/check_clients.py index/NAME --clients 64 --requests 20

Starts `semsearch serve` on a free port. Each client sends its own queries, one after the other, and compares every
answer with the engine's answer to that query alone: the same ids in the same order, apart from ties.

Exit code 1 if a request failed or an answer differs.
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


def draw_queries(engine: SearchEngine, count: int, seed: int) -> list[str]:
    """Return `count` different queries, made of consecutive words of the index's passages."""
    chooser = random.Random(seed)
    passages = [text.split() for _, text in engine.corpus.texts()]
    long_passages = [passage for passage in passages if len(passage) >= 8]
    queries: dict[str, None] = {}
    while len(queries) < count:
        passage = chooser.choice(long_passages)
        start = chooser.randrange(len(passage) - 7)
        queries[" ".join(passage[start : start + chooser.randint(3, 8)])] = None
    return list(queries)


def send_query(connection: http.client.HTTPConnection, query: str) -> tuple[int, list[tuple[str, float]]]:
    """Send one query. Return the status, and the hits as (id, score)."""
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


def agrees(hits: list[tuple[str, float]], alone: list[tuple[str, float]]) -> bool:
    """Whether hits match those of the query alone. Batches change the last bits of scores, so near ties may swap."""
    scores = dict(alone)
    same_scores = all(abs(hit[1] - expected[1]) < TOLERANCE for hit, expected in zip(hits, alone, strict=False))
    known = all(abs(scores.get(doc_id, score) - score) < TOLERANCE for doc_id, score in hits)
    other_scores = [score for doc_id, score in hits if doc_id not in scores]
    at_the_end = all(abs(score - alone[-1][1]) < TOLERANCE for score in other_scores)
    return len(hits) == len(alone) and same_scores and known and at_the_end


def metric(host: str, port: int, name: str) -> float:
    """Return one number of /metrics; 0 if it is not there."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(match.group(1)) if match else 0.0


def main() -> None:
    """Start the server, run the clients, and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=20, help="requests per client")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    engine = SearchEngine.open(options.index)
    drawn = draw_queries(engine, options.clients * options.requests, options.seed)
    started = perf_counter()
    alone = {query: [(hit.id, hit.score) for hit in engine.search([Query(query, k=K)])[0].hits] for query in drawn}
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
                status, hits = send_query(connection, query)
                right = "right" if agrees(hits, alone[query]) else "WRONG"
                with lock:
                    outcomes[right if status == http.HTTPStatus.OK else f"status {status}"] += 1
            connection.close()

        before = metric(host, port, "semsearch_batch_queries_count"), metric(host, port, "semsearch_batch_queries_sum")
        threads = [
            threading.Thread(target=client, args=(drawn[number :: options.clients],))
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
    print(f"requests             {len(drawn)}: {dict(outcomes)}")
    print(f"mean batch           {queries / batches:.1f} queries, {batches:.0f} batches")
    print(f"rate                 {len(drawn) / seconds:.1f} queries/s")
    print(f"against one by one   {one_by_one_s / seconds:.2f} times the rate of the engine, same queries")
    sys.exit(set(outcomes) != {"right"})


if __name__ == "__main__":
    main()
