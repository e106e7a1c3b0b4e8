"""Plays a user against a live server: marks queries of a domain, and measures what the others find.

    python scripts/simulate_user.py INDEX LABELS --seeds 3 [--weights FILE] [--marks all|shown]

INDEX holds the corpus of LABELS, a folder with queries.jsonl and qrels.tsv. Half of the judged queries are kept for
measuring. Of the others 8, 16, … 128 are marked over HTTP: with all their judgments, or, as a person could, with what
is relevant among the first ten. After each number the domain is adapted, and nDCG@10 is measured over HTTP on the
queries that nobody marked, and on the marked ones. Also prints the time from the last mark to the first answer of the
new version, and at which rate another client's searches went on in that time, against the time before.
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
MOST_ASKED = 200
LONGEST = 2_000
"""Characters of a query that the server takes by default; longer ones (whole abstracts, in CISI) are left out."""
DOMAIN = "user"
UNDISTURBED_S = 2.0

Judged = dict[str, float]
Row = tuple[int, float, float, str]
"""Queries marked, nDCG@10 of the others, of the marked ones, the learner."""
Span = tuple[float, float, float]
"""Seconds from the last mark to the first adapted answer; searches in that time, and in the second from the mark on,
as shares of the rate before."""


class Searcher:
    """Another client, who searches without a pause and notes when each answer came."""

    def __init__(self, client: Client, queries: list[str]) -> None:
        self._client = Client(client.host, client.port)
        self._queries = queries
        self._stopped = False
        self.answered: list[float] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def rate(self, begin: float, end: float) -> float:
        """Searches a second in a span of time."""
        return sum(begin <= moment < end for moment in self.answered) / (end - begin)

    def stop(self) -> None:
        """End, and hang up."""
        self._stopped = True
        self._thread.join()
        self._client.close()

    def _work(self) -> None:
        number = 0
        while not self._stopped:
            query = self._queries[number % len(self._queries)]
            self._client.call("POST", "/api/search", {"query": query, "domain": DOMAIN})
            self.answered.append(perf_counter())
            number += 1


def ndcg(client: Client, queries: list[str], judged: dict[str, Judged]) -> float:
    """Mean nDCG@10 of queries of the domain, over HTTP."""
    discount = 1 / np.log2(np.arange(2, 12))
    values = []
    for query, hits in zip(queries, search_hits(client, queries, DOMAIN), strict=True):
        gains = np.array([judged[query].get(one, 0.0) for one, _ in hits])
        ideal = np.sort(list(judged[query].values()))[::-1][:10]
        values.append(gains @ discount[: len(gains)] / (ideal @ discount[: len(ideal)]))
    return float(np.mean(values))


def labels_of(client: Client, query: str, judged: Judged, *, shown: bool) -> list[dict[str, Any]]:
    """What the user says about a query."""
    if not shown:
        return [{"query": query, "document": one, "relevance": gain} for one, gain in judged.items()]
    [hits] = search_hits(client, [query], DOMAIN)
    return [{"query": query, "document": one, "relevance": judged.get(one, 0.0)} for one, _ in hits]


def play(
    client: Client, judged: dict[str, Judged], seed: int, *, shown: bool, spans: dict[int, list[Span]]
) -> list[Row]:
    """One user; notes in `spans` how long each number's adaptation took."""
    turn = np.random.default_rng([seed, 1]).permutation(len(judged))
    texts = [list(judged)[place] for place in turn]
    pool, asked = texts[: len(texts) // 2], texts[len(texts) // 2 :][:MOST_ASKED]
    rows: list[Row] = []
    marked = 0
    for number in NUMBERS:
        if number > len(pool):
            break
        new: list[dict[str, Any]] = []
        for query in pool[marked:number]:
            new += labels_of(client, query, judged[query], shown=shown)
        learner = "none"
        if new:
            for begin in range(0, len(new) - 1, 500):
                client.call("POST", "/api/labels", {"domain": DOMAIN, "labels": new[:-1][begin : begin + 500]})
            # marks come one by one: those before the last one have long been encoded
            sleep(0.2 + 0.02 * len(new))
            searcher = Searcher(client, asked)
            before = perf_counter() + 0.3
            sleep(0.3 + UNDISTURBED_S)
            begun = perf_counter()
            client.call("POST", "/api/labels", {"domain": DOMAIN, "labels": new[-1:]})
            adapted = client.call("POST", f"/api/domains/{DOMAIN}/adapt", {})
            version = adapted["history"][0]["number"] if adapted["history"][0]["learner"] != "none" else 0
            while True:
                answer = client.call("POST", "/api/search", {"query": asked[0], "domain": DOMAIN})
                if answer["results"][0]["adapted"]["version"] == version:
                    break
            ended = perf_counter()
            sleep(max(0.0, 1.0 - (ended - begun)))
            searcher.stop()
            quiet = searcher.rate(before, begun)
            spans.setdefault(number, []).append(
                (ended - begun, searcher.rate(begun, ended) / quiet, searcher.rate(begun, begun + 1) / quiet)
            )
            learner = adapted["history"][0]["learner"]
        marked = number
        own = ndcg(client, pool[:marked], judged) if marked else float("nan")
        rows.append((number, ndcg(client, asked, judged), own, learner))
    return rows


def main() -> None:
    """Play every seed on a copy of the index, and print what came of it."""
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
    for text, gains in read_labels(options.labels):
        judged.setdefault(text, {}).update({one: gain for one, gain in gains.items() if gain > 0})
    judged = {text: gains for text, gains in judged.items() if gains and len(text) <= LONGEST}
    extra = ["--adapt-after", "0", "--threads", options.threads]
    extra += ["--weights", options.weights] if options.weights else []
    played: list[list[Row]] = []
    spans: dict[int, list[Span]] = {}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / options.index.name
            shutil.copytree(options.index, copy, ignore=shutil.ignore_patterns("domains", "labels.sqlite*"))
            with serving(copy, *extra, cores=options.cores) as client:
                played.append(play(client, judged, seed, shown=options.marks == "shown", spans=spans))
    print(f"{options.index.name}: {len(judged)} judged queries, marks: {options.marks}, {options.seeds} seeds")
    for place in range(len(played[0])):
        number, frozen = played[0][place][0], [rows[0][1] for rows in played]
        changes = [rows[place][1] - begun for rows, begun in zip(played, frozen, strict=True)]
        own = [rows[place][2] for rows in played]
        print(
            f"{number:4} marked: others {statistics.mean(frozen):.4f} {statistics.mean(changes):+.4f}"
            f" ({min(changes):+.4f} to {max(changes):+.4f}), marked ones {statistics.mean(own):.4f};"
            f" {', '.join(rows[place][3] for rows in played)}"
        )
        if number in spans:
            seconds, during, second = zip(*spans[number], strict=True)
            print(
                f"      last mark to first adapted answer {statistics.median(seconds):.2f} s"
                f" (worst {max(seconds):.2f});"
                f" other searches meanwhile at {statistics.median(during):.0%} of the rate before, in the second"
                f" from the mark on at {statistics.median(second):.0%}"
            )
    if options.json:
        options.json.write_text(json.dumps({"index": options.index.name, "played": played, "spans": spans}))


if __name__ == "__main__":
    main()
