"""Simulate a user of a running server, who judges queries of a domain, and measure other queries of the domain.

    python scripts/simulate_user.py INDEX LABELS --seeds 3 [--weights FILE] [--marks all|shown]

INDEX holds the corpus of LABELS, a folder with queries.jsonl and qrels.tsv. Half of the judged queries are held out for
measuring. Of the others 8, 16, … 128 are marked over HTTP: with all their judgments (`all`), or with the relevance of
the first ten results, which a user could mark (`shown`). After each number the domain is adapted, and nDCG@10 is
measured over HTTP on the held-out queries and on the marked ones. Also prints the time from the last mark to the first
response of the new version, and the rate of another client's searches in this time, relative to the rate before.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from servers import Client, search_hits, serving

from semsearch.metalearn.datasets import read_labels

NUMBERS = (0, 8, 16, 32, 64, 128)
MAX_MEASURED = 200
MAX_QUERY_CHARS = 2_000
"""The server's default limit; longer queries (whole abstracts, in CISI) are left out."""
DOMAIN = "user"
UNDISTURBED_S = 2.0

Judged = dict[str, float]
Row = tuple[int, float, float, str]
"""Number of marked queries, nDCG@10 of the held-out queries, nDCG@10 of the marked ones, learner."""
Span = tuple[float, float, float]
"""Seconds from the last mark to the first adapted response; rates of the other client's searches in that time, and in
the second after the mark, divided by the rate before."""


class Searcher:
    """Another client, which searches without a pause and records the time of each response."""

    def __init__(self, client: Client, queries: list[str]) -> None:
        self._client = Client(client.host, client.port)
        self._queries = queries
        self._stopped = False
        self.responses: list[float] = []
        """Times of `perf_counter`."""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def rate(self, begin: float, end: float) -> float:
        """Return the searches per second between two times."""
        return sum(begin <= time < end for time in self.responses) / (end - begin)

    def stop(self) -> None:
        """Stop searching and close the connection."""
        self._stopped = True
        self._thread.join()
        self._client.close()

    def _work(self) -> None:
        number = 0
        while not self._stopped:
            query = self._queries[number % len(self._queries)]
            self._client.call("POST", "/api/search", {"query": query, "domain": DOMAIN})
            self.responses.append(perf_counter())
            number += 1


def ndcg(client: Client, queries: list[str], judged: dict[str, Judged]) -> float:
    """Return the mean nDCG@10 of queries of the domain, over HTTP."""
    discount = 1 / np.log2(np.arange(2, 12))
    values = []
    for query, hits in zip(queries, search_hits(client, queries, DOMAIN), strict=True):
        relevance = np.array([judged[query].get(doc_id, 0.0) for doc_id, _ in hits])
        ideal = np.sort(list(judged[query].values()))[::-1][:10]
        values.append(relevance @ discount[: len(relevance)] / (ideal @ discount[: len(ideal)]))
    return float(np.mean(values))


def labels_of(client: Client, query: str, judged: Judged, *, shown: bool) -> list[dict[str, Any]]:
    """Return the user's labels of a query: all judgments, or the relevance of the shown results."""
    if not shown:
        return [{"query": query, "document": doc_id, "relevance": value} for doc_id, value in judged.items()]
    [hits] = search_hits(client, [query], DOMAIN)
    return [{"query": query, "document": doc_id, "relevance": judged.get(doc_id, 0.0)} for doc_id, _ in hits]


def simulate(
    client: Client, judged: dict[str, Judged], seed: int, *, shown: bool, spans: dict[int, list[Span]]
) -> list[Row]:
    """Simulate one user, and return a row for each number of marked queries.

    spans: marked queries → spans of their adaptations; this user's are added.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(judged))
    queries = list(judged)
    queries = [queries[index] for index in order]
    pool, held_out = queries[: len(queries) // 2], queries[len(queries) // 2 :][:MAX_MEASURED]
    rows: list[Row] = []
    marked = 0
    for number in NUMBERS:
        if number > len(pool):
            break
        labels: list[dict[str, Any]] = []
        for query in pool[marked:number]:
            labels += labels_of(client, query, judged[query], shown=shown)
        learner = "none"
        if labels:
            learner, span = adapt(client, labels, held_out)
            spans.setdefault(number, []).append(span)
        marked = number
        marked_ndcg = ndcg(client, pool[:marked], judged) if marked else float("nan")
        rows.append((number, ndcg(client, held_out, judged), marked_ndcg, learner))
    return rows


def adapt(client: Client, labels: list[dict[str, Any]], queries: list[str]) -> tuple[str, Span]:
    """Send labels and adapt the domain, while another client searches. Returns the learner and the span."""
    for begin in range(0, len(labels) - 1, 500):
        client.call("POST", "/api/labels", {"domain": DOMAIN, "labels": labels[:-1][begin : begin + 500]})
    # a user marks one by one: when the last mark arrives, the queries of the others are already encoded
    sleep(0.2 + 0.02 * len(labels))
    searcher = Searcher(client, queries)
    undisturbed = perf_counter() + 0.3
    sleep(0.3 + UNDISTURBED_S)
    start = perf_counter()
    client.call("POST", "/api/labels", {"domain": DOMAIN, "labels": labels[-1:]})
    latest = client.call("POST", f"/api/domains/{DOMAIN}/adapt", {})["history"][0]
    version = latest["number"] if latest["learner"] != "none" else 0
    while True:
        response = client.call("POST", "/api/search", {"query": queries[0], "domain": DOMAIN})
        if response["results"][0]["adaptation"]["version"] == version:
            break
    end = perf_counter()
    sleep(max(0.0, 1.0 - (end - start)))
    searcher.stop()
    rate_before = searcher.rate(undisturbed, start)
    span = (end - start, searcher.rate(start, end) / rate_before, searcher.rate(start, start + 1) / rate_before)
    return latest["learner"], span


def main() -> None:
    """Simulate a user for each seed on a copy of the index, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", help="weights that did not see the domain's family")
    parser.add_argument("--marks", choices=["all", "shown"], default="all")
    parser.add_argument("--cores", help='pin the server, such as "0" to one core')
    parser.add_argument("--threads", default="1")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()

    judged: dict[str, Judged] = {}
    for text, relevance in read_labels(options.labels):
        judged.setdefault(text, {}).update({doc_id: value for doc_id, value in relevance.items() if value > 0})
    judged = {text: relevance for text, relevance in judged.items() if relevance and len(text) <= MAX_QUERY_CHARS}
    extra = ["--adapt-after", "0", "--threads", options.threads]
    extra += ["--weights", options.weights] if options.weights else []
    users: list[list[Row]] = []
    spans: dict[int, list[Span]] = {}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / options.index.name
            shutil.copytree(options.index, copy, ignore=shutil.ignore_patterns("domains", "labels.sqlite*"))
            with serving(copy, *extra, cores=options.cores) as client:
                users.append(simulate(client, judged, seed, shown=options.marks == "shown", spans=spans))
    print(f"{options.index.name}: {len(judged)} judged queries, marks: {options.marks}, {options.seeds} seeds")
    for index in range(len(users[0])):
        number, frozen = users[0][index][0], [rows[0][1] for rows in users]
        changes = [rows[index][1] - before for rows, before in zip(users, frozen, strict=True)]
        marked = [rows[index][2] for rows in users]
        print(
            f"{number:4} marked: others {statistics.mean(frozen):.4f} {statistics.mean(changes):+.4f}"
            f" ({min(changes):+.4f} to {max(changes):+.4f}), marked ones {statistics.mean(marked):.4f};"
            f" {', '.join(rows[index][3] for rows in users)}"
        )
        if number in spans:
            seconds, during, second = zip(*spans[number], strict=True)
            print(
                f"      last mark to first adapted response {statistics.median(seconds):.2f} s"
                f" (worst {max(seconds):.2f});"
                f" other searches in this time at {statistics.median(during):.0%} of the rate before, in the second"
                f" after the mark at {statistics.median(second):.0%}"
            )
    if options.json:
        options.json.write_text(json.dumps({"index": options.index.name, "played": users, "spans": spans}))


if __name__ == "__main__":
    main()
