"""Check whether two checkouts return the same documents and adapt to the same states.

    python scripts/compare_checkouts.py OTHER_CHECKOUT DATASET [DATASET …]

DATASET is a folder in BEIR's layout. Each checkout builds an index of the data set, labels some queries, adapts a
domain to them with `semsearch adapt`, and answers the remaining queries from its server, without and with the domain's
adaptation. The script prints the number of identical top 10, order included, the largest difference of scores, and
whether the states are bit-identical. With --load, both servers then run at once and are loaded alternately; the script
prints the ratio of their answers per second. Everything runs with this Python, on the CPU. The exit code is 1 if
documents or states differ.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import sleep
from typing import Any

import numpy as np
from load import run_load
from safetensors.numpy import load_file

MAX_LABELLED = 32
"""Labelled queries; at most half of the judged ones."""
MAX_QUERIES = 200
"""Other queries, to compare results with."""
DOMAIN = "labelled"
CLIENTS = (1, 16, 64)
REPEATS = 5
SECONDS = 4.0
"""Duration of one load."""


class Checkout:
    """A checkout of the project, whose commands run in separate processes."""

    def __init__(self, folder: Path) -> None:
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"}

    def run(self, *arguments: str | Path) -> str:
        """Run a `semsearch` command and return its output. Raises CalledProcessError."""
        command = [sys.executable, "-m", "semsearch", *map(str, arguments)]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def serving(self, index: Path) -> Iterator[str]:
        """Serve an index without a query cache, and yield the server's URL."""
        options = ("--port", "0", "--adapt-after", "0", "--max-query-chars", "20000", "--device", "cpu")
        command = [sys.executable, "-m", "semsearch", "serve", str(index), *options]
        # the current name of the option, and its name in version 0.1
        environment = {**self._environment, "SEMSEARCH_QUERY_CACHE_SIZE": "0", "SEMSEARCH_REMEMBERED": "0"}
        log = index.with_suffix(".log")
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(command, env=environment, stderr=file)
        try:
            yield _url_in(log)
        finally:
            process.terminate()
            process.wait(30)

    def answers(self, index: Path, queries: list[str]) -> list[list[tuple[str, float]]]:
        """Return (id, score) of the top 10 of each query, first without and then with the domain's adaptation."""
        with self.serving(index) as url:
            return [_search(url, query, domain) for domain in ("default", DOMAIN) for query in queries]

    def state(self, index: Path) -> dict[str, Any]:
        """Return the tensors of the domain's state; empty if it has none."""
        paths = sorted((index / "domains" / DOMAIN).glob("*.safetensors"))
        return load_file(paths[-1]) if paths else {}


def _url_in(log: Path) -> str:
    """Wait for the server's URL in its log. Raises TimeoutError after a minute."""
    for _ in range(600):
        for word in log.read_text(encoding="utf-8").split():
            if word.startswith("http://"):
                return word
        sleep(0.1)
    raise TimeoutError(f"the server does not start: {log.read_text(encoding='utf-8')[-500:]}")


def _search(url: str, query: str, domain: str) -> list[tuple[str, float]]:
    query_string = urllib.parse.urlencode({"query": query, "domain": domain, "k": 10})
    with urllib.request.urlopen(f"{url}api/search?{query_string}", timeout=30) as response:
        return [(hit["id"], hit["score"]) for hit in json.load(response)["results"][0]["hits"]]


def prepare(dataset: Path, work: Path) -> tuple[Path, Path, list[str]]:
    """Write the documents and the labels of some queries to `work`. Return their paths and other queries' texts."""
    documents = work / "documents.jsonl"
    lines = (dataset / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if line.strip()]
    documents.write_text(
        "".join(json.dumps({"id": r["_id"], "title": r.get("title", ""), "text": r["text"]}) + "\n" for r in records),
        encoding="utf-8",
    )
    lines = (dataset / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    queries = {query["_id"]: query["text"] for query in map(json.loads, lines)}
    header, *judgments = (dataset / "qrels.tsv").read_text(encoding="utf-8").splitlines()
    judged = sorted({line.split("\t")[0] for line in judgments} & set(queries))
    random.Random(0).shuffle(judged)
    labelled = set(judged[: min(MAX_LABELLED, len(judged) // 2)])
    labels = work / "labels"
    labels.mkdir()
    (labels / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": name, "text": queries[name]}) + "\n" for name in labelled), encoding="utf-8"
    )
    labelled_judgments = [line for line in judgments if line.split("\t")[0] in labelled]
    (labels / "qrels.tsv").write_text("\n".join([header, *labelled_judgments]) + "\n", encoding="utf-8")
    return documents, labels, [queries[name] for name in judged if name not in labelled][:MAX_QUERIES]


def compare(dataset: Path, checkouts: list[Path], *, load: bool) -> bool:
    """Print how the two checkouts differ on a data set, and return whether they agree."""
    with tempfile.TemporaryDirectory() as folder:
        documents, labels, queries = prepare(dataset, Path(folder))
        answers, states = [], []
        for number, path in enumerate(checkouts):
            checkout, index = Checkout(path), Path(folder) / f"index-{number}"
            checkout.run("build", documents, "--out", index, "--device", "cpu")
            checkout.run("adapt", index, "--labels", labels, "--domain", DOMAIN, "--device", "cpu")
            answers.append(checkout.answers(index, queries))
            states.append(checkout.state(index))
        if load:
            _load_alternately(dataset.name, [Checkout(path) for path in checkouts], Path(folder), queries)
    same = sum([doc for doc, _ in first] == [doc for doc, _ in second] for first, second in zip(*answers, strict=True))
    differences = [
        abs(score - dict(first)[doc])
        for first, second in zip(*answers, strict=True)
        for doc, score in second
        if doc in dict(first)
    ]
    largest = max(differences, default=0.0)
    identical = states[0].keys() == states[1].keys() and all(
        np.array_equal(states[0][name], states[1][name]) for name in states[0]
    )
    print(
        f"{dataset.name}: {same} of {len(answers[0])} top 10 are the same; scores differ by at most {largest:.1e};"
        f" the state of {len(states[0])} tensors is {'bit-identical' if identical else 'DIFFERENT'}",
        flush=True,
    )
    return same == len(answers[0]) and identical


def _load_alternately(name: str, checkouts: list[Checkout], folder: Path, queries: list[str]) -> None:
    """Print the median answers per second of both servers, and their ratio, for each number of clients."""
    texts = [text[:200] for text in queries]
    with ExitStack() as stack:
        urls = [
            stack.enter_context(checkout.serving(folder / f"index-{number}"))
            for number, checkout in enumerate(checkouts)
        ]
        for clients in CLIENTS:
            ratios, rates = [], []
            for _ in range(REPEATS):
                pair = [_rate(url, texts, clients) for url in urls]
                ratios.append(pair[1] / pair[0])
                rates.append(pair)
            other, here = (median(rate) for rate in zip(*rates, strict=True))
            print(
                f"{name}, {clients} clients: {here:.0f} answers per second here, {other:.0f} in the other checkout;"
                f" ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                flush=True,
            )


def _rate(url: str, texts: list[str], clients: int) -> float:
    requests = [
        {"method": "GET", "path": f"/api/search?{urllib.parse.urlencode({'query': text})}", "body": None}
        for text in texts
    ]
    address = urllib.parse.urlsplit(url)
    load = {
        "host": address.hostname,
        "port": address.port,
        "requests": requests,
        "seconds": SECONDS,
        "clients": clients,
    }
    return run_load(load).rate


def main() -> int:
    """Compare the checkouts on every data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--load", action="store_true", help="also compare answers per second")
    options = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    agreed = [compare(dataset, [options.other.resolve(), here], load=options.load) for dataset in options.datasets]
    return int(not all(agreed))


if __name__ == "__main__":
    sys.exit(main())
