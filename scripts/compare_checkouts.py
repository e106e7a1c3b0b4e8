"""Do two checkouts find the same documents and learn the same states?

    python scripts/compare_checkouts.py OTHER_CHECKOUT DATASET [DATASET …]

DATASET is a folder in BEIR's layout. Each checkout builds an index of the data set, labels some queries, adapts a
domain to them with `semsearch adapt`, and answers the remaining queries from its server, without and with the domain's
adaptation. Printed are how many top 10 are the same, in their order, how far scores differ, and whether the states are
bit-identical. With --load both servers then run at once and are loaded in turns: answers a second, as a ratio. All run
with this Python, on the CPU. Exit code 1 if documents or states differ.
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

LABELLED = 32
ASKED = 200
DOMAIN = "labelled"
CLIENTS = (1, 16, 64)
TURNS = 5
SECONDS = 4.0


class Checkout:
    """A folder with the package, run as another process."""

    def __init__(self, folder: Path) -> None:
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"}

    def run(self, *words: str | Path) -> str:
        """A command's output. Raises CalledProcessError."""
        command = [sys.executable, "-m", "semsearch", *map(str, words)]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def serving(self, index: Path) -> Iterator[str]:
        """A server of the index; gives its address. It caches no query vector."""
        options = ("--port", "0", "--adapt-after", "0", "--max-query-chars", "20000", "--device", "cpu")
        command = [sys.executable, "-m", "semsearch", "serve", str(index), *options]
        # the option's present name and its name in 0.1
        environment = {**self._environment, "SEMSEARCH_QUERY_CACHE_SIZE": "0", "SEMSEARCH_REMEMBERED": "0"}
        log = index.with_suffix(".log")
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(command, env=environment, stderr=file)
        try:
            yield _address(log)
        finally:
            process.terminate()
            process.wait(30)

    def answers(self, index: Path, queries: list[str]) -> list[list[tuple[str, float]]]:
        """(id, score) of the top 10 of each query, without and then with the domain's adaptation."""
        with self.serving(index) as address:
            return [_answer(address, query, domain) for domain in ("default", DOMAIN) for query in queries]

    def state(self, index: Path) -> dict[str, Any]:
        """The tensors of the domain's state; none where it has none."""
        [*paths] = sorted((index / "domains" / DOMAIN).glob("*.safetensors"))
        return load_file(paths[-1]) if paths else {}


def _address(log: Path) -> str:
    """Where the server that writes this log answers. Raises TimeoutError after a minute."""
    for _ in range(600):
        for part in log.read_text(encoding="utf-8").split():
            if part.startswith("http://"):
                return part
        sleep(0.1)
    raise TimeoutError(f"no server answers: {log.read_text(encoding='utf-8')[-500:]}")


def _answer(address: str, query: str, domain: str) -> list[tuple[str, float]]:
    values = urllib.parse.urlencode({"query": query, "domain": domain, "k": 10})
    with urllib.request.urlopen(f"{address}api/search?{values}", timeout=30) as response:
        return [(hit["id"], hit["score"]) for hit in json.load(response)["results"][0]["hits"]]


def prepared(dataset: Path, work: Path) -> tuple[Path, Path, list[str]]:
    """The data set's documents, a folder with the labels of some queries, and the texts of others."""
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
    labelled = set(judged[: min(LABELLED, len(judged) // 2)])
    labels = work / "labels"
    labels.mkdir()
    (labels / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": name, "text": queries[name]}) + "\n" for name in labelled), encoding="utf-8"
    )
    chosen = [line for line in judgments if line.split("\t")[0] in labelled]
    (labels / "qrels.tsv").write_text("\n".join([header, *chosen]) + "\n", encoding="utf-8")
    return documents, labels, [queries[name] for name in judged if name not in labelled][:ASKED]


def compared(dataset: Path, checkouts: list[Path], *, load: bool) -> bool:
    """Print how the checkouts differ on a data set; whether they agree."""
    with tempfile.TemporaryDirectory() as folder:
        documents, labels, queries = prepared(dataset, Path(folder))
        answers, states = [], []
        for number, path in enumerate(checkouts):
            checkout, index = Checkout(path), Path(folder) / f"index-{number}"
            checkout.run("build", documents, "--out", index, "--device", "cpu")
            checkout.run("adapt", index, "--labels", labels, "--domain", DOMAIN, "--device", "cpu")
            answers.append(checkout.answers(index, queries))
            states.append(checkout.state(index))
        if load:
            _loaded_in_turns(dataset.name, [Checkout(path) for path in checkouts], Path(folder), queries)
    same = sum([doc for doc, _ in mine] == [doc for doc, _ in other] for mine, other in zip(*answers, strict=True))
    differences = [
        abs(score - dict(mine)[doc])
        for mine, other in zip(*answers, strict=True)
        for doc, score in other
        if doc in dict(mine)
    ]
    apart = max(differences, default=0.0)
    identical = states[0].keys() == states[1].keys() and all(
        np.array_equal(states[0][name], states[1][name]) for name in states[0]
    )
    print(
        f"{dataset.name}: {same} of {len(answers[0])} top 10 are the same; scores differ by at most {apart:.1e};"
        f" the state of {len(states[0])} tensors is {'bit-identical' if identical else 'DIFFERENT'}",
        flush=True,
    )
    return same == len(answers[0]) and identical


def _loaded_in_turns(name: str, checkouts: list[Checkout], folder: Path, queries: list[str]) -> None:
    """Print answers a second of both servers, here over the other one, by clients; turn by turn, the median."""
    texts = [text[:200] for text in queries]
    with ExitStack() as stack:
        addresses = [
            stack.enter_context(checkout.serving(folder / f"index-{number}"))
            for number, checkout in enumerate(checkouts)
        ]
        for clients in CLIENTS:
            ratios, rates = [], []
            for _ in range(TURNS):
                turn = [_rate(address, texts, clients) for address in addresses]
                ratios.append(turn[1] / turn[0])
                rates.append(turn)
            other, here = (median(rate) for rate in zip(*rates, strict=True))
            print(
                f"{name}, {clients} clients: {here:.0f} answers a second here, {other:.0f} in the other checkout;"
                f" ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                flush=True,
            )


def _rate(address: str, texts: list[str], clients: int) -> float:
    requests = [
        {"method": "GET", "path": f"/api/search?{urllib.parse.urlencode({'query': text})}", "body": None}
        for text in texts
    ]
    where = urllib.parse.urlsplit(address)
    load = {"host": where.hostname, "port": where.port, "requests": requests, "seconds": SECONDS, "clients": clients}
    return run_load(load).rate


def main() -> int:
    """Compare on every data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--load", action="store_true", help="also compare answers a second")
    given = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    agreed = [compared(dataset, [given.other.resolve(), here], load=given.load) for dataset in given.datasets]
    return int(not all(agreed))


if __name__ == "__main__":
    sys.exit(main())
