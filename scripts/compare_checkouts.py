"""Do two checkouts find the same documents and learn the same states?

    python scripts/compare_checkouts.py OTHER_CHECKOUT DATASET [DATASET …]

DATASET is a folder in BEIR's layout. Each checkout builds an index of the data set, labels some queries, adapts a
domain to them with `semsearch adapt`, and answers the remaining queries from its server, without and with the domain's
adaptation. Printed are how many top 10 are the same, in their order, how far scores differ, and whether the states are
bit-identical. Both run with this Python, on the CPU. Exit code 1 if anything differs.
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
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
from safetensors.numpy import load_file

LABELLED = 32
ASKED = 200
DOMAIN = "labelled"


class Checkout:
    """A folder with the package, run as another process."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.work = work
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"}

    def run(self, *words: str | Path) -> str:
        """A command's output. Raises CalledProcessError."""
        command = [sys.executable, "-m", "semsearch", *map(str, words)]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout

    def answers(self, index: Path, queries: list[str]) -> list[list[tuple[str, float]]]:
        """(id, score) of the top 10 of each query, without and then with the domain's adaptation."""
        options = ("--port", "0", "--adapt-after", "0", "--max-query-chars", "20000", "--device", "cpu")
        command = [sys.executable, "-m", "semsearch", "serve", str(index), *options]
        log = self.work / "server.log"
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(command, env=self._environment, stderr=file)
        try:
            address = _address(log)
            return [_answer(address, query, domain) for domain in ("default", DOMAIN) for query in queries]
        finally:
            process.terminate()
            process.wait(30)

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


def compared(dataset: Path, checkouts: list[Path]) -> bool:
    """Print how the checkouts differ on a data set; whether they agree."""
    with tempfile.TemporaryDirectory() as folder:
        documents, labels, queries = prepared(dataset, Path(folder))
        answers, states = [], []
        for number, path in enumerate(checkouts):
            checkout, index = Checkout(path, Path(folder)), Path(folder) / f"index-{number}"
            checkout.run("build", documents, "--out", index, "--device", "cpu")
            checkout.run("adapt", index, "--labels", labels, "--domain", DOMAIN, "--device", "cpu")
            answers.append(checkout.answers(index, queries))
            states.append(checkout.state(index))
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


def main() -> int:
    """Compare on every data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    given = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    agreed = [compared(dataset, [given.other.resolve(), here]) for dataset in given.datasets]
    return int(not all(agreed))


if __name__ == "__main__":
    sys.exit(main())
