"""Benchmark the server against its upper limits and against peers, all in one run on one machine.

    python scripts/benchmark.py corpus DOMAINS CORPUS [--documents 10000]
    python scripts/benchmark.py serving CORPUS [--peers naive,txtai,infinity] [--repeats 3] [--seconds 4] --out FILE
    python scripts/benchmark.py overload CORPUS [--seconds 20] --out FILE
    python scripts/benchmark.py repeated CORPUS [--seconds 8] --out FILE
    python scripts/benchmark.py overhead CORPUS --out FILE
    python scripts/benchmark.py opening INDEX --out FILE
    python scripts/benchmark.py soak CORPUS [--minutes 30] --out FILE

DOMAINS is a folder of NAME/corpus.jsonl and NAME/queries.jsonl. `corpus` writes documents and queries of all domains to
the folder CORPUS, and builds an index of them. The load comes from a separate process (scripts/load.py) on the same
cores; its share of them is reported. The query cache is off, except in `repeated`. Peers are scripts/peers/NAME.py,
each run by the Python that the environment variable SEMSEARCH_PEER_NAME names, by default this one. FILE is JSON.
Compare ratios, since machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from urllib.parse import quote

import faiss
import numpy as np
from load import LoadResult, run_load, searches
from servers import Client, start

from semsearch import SearchEngine
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.locate import DEFAULT_MODEL, locate
from semsearch.encoders.speed import machine
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Mode

CLIENTS = (1, 4, 16, 64, 256)
K = 10
PORTS = {"naive": 18761, "txtai": 18762, "infinity": 18763}
WARM_UP_S = 2.0


@dataclass
class System:
    """A server to measure, with its requests."""

    name: str
    host: str
    port: int
    process: subprocess.Popen[str]
    requests: list[dict[str, object]]

    def load(self, **settings: object) -> LoadResult:
        """Run a load of the system's requests. settings: seconds, and clients or rate."""
        return run_load({"host": self.host, "port": self.port, "requests": self.requests, **settings})

    @property
    def used_s(self) -> float:
        """Processor seconds that its processes have used."""
        return sum(_processor_s(pid) for pid in _process_tree(self.process.pid))

    @property
    def resident_mib(self) -> float:
        """Memory of its processes, without mapped files."""
        return sum(_resident_mib(pid) for pid in _process_tree(self.process.pid))


def make_corpus(domains: Path, corpus: Path, count: int) -> None:
    """Write `count` documents, all queries, and an index of the documents."""
    corpus.mkdir(parents=True, exist_ok=True)
    documents, queries = [], dict[str, None]()
    for folder in sorted(domains.iterdir()):
        if not (folder / "corpus.jsonl").is_file() or re.search(r"zh|arabic", folder.name):
            continue
        for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            text = f"{record.get('title') or ''} {record.get('text') or ''}".strip()
            if text:
                documents.append({"id": f"{folder.name}/{record['_id']}", "text": text})
        for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines():
            # only short queries, as users type them: in some domains the queries are whole abstracts
            if 0 < len(text := json.loads(line)["text"].strip()) <= 200:
                queries[text] = None
    random.Random(0).shuffle(documents)
    texts = list(queries)
    random.Random(1).shuffle(texts)
    (corpus / "documents.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents[:count]))
    (corpus / "queries.json").write_text(json.dumps(texts))
    command = [
        sys.executable,
        "-m",
        "semsearch",
        "build",
        str(corpus / "documents.jsonl"),
        "--out",
        str(corpus / "index"),
    ]
    subprocess.run(command, check=True)


def read_queries(corpus: Path) -> list[str]:
    """Read the queries of a corpus."""
    texts: list[str] = json.loads((corpus / "queries.json").read_text())
    return texts


@contextmanager
def semsearch(corpus: Path, *options: str, mode: Mode = Mode.SEMANTIC, query_cache_size: int = 0) -> Iterator[System]:
    """Start `semsearch serve` with a corpus's index."""
    process, client = start(corpus / "index", "--query-cache-size", str(query_cache_size), *options)
    try:
        yield System(
            f"semsearch {mode}", client.host, client.port, process, searches(read_queries(corpus), k=K, mode=mode.value)
        )
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def peer(name: str, corpus: Path) -> Iterator[System]:
    """Start a peer with the same documents and the same model."""
    script = Path(__file__).parent / "peers" / f"{name}.py"
    python = os.environ.get(f"SEMSEARCH_PEER_{name.upper()}", sys.executable)
    folder = locate(DEFAULT_MODEL).path
    process = subprocess.Popen(
        [python, str(script), str(corpus / "documents.jsonl"), folder, str(PORTS[name])],
        text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        path = f"/search?limit={K}&query="
        requests: list[dict[str, object]] = [
            {"method": "GET", "path": path + quote(text)} for text in read_queries(corpus)
        ]
        system = System(name, "127.0.0.1", PORTS[name], process, requests)
        _wait_until_ready(system)
        yield system
    finally:
        with ExitStack() as cleanup:
            cleanup.callback(process.wait, 30)
            os.killpg(process.pid, signal.SIGTERM)


def _wait_until_ready(system: System, *, timeout_s: float = 900) -> None:
    """Wait until the system answers a search."""
    until = perf_counter() + timeout_s
    while perf_counter() < until:
        if system.process.poll() is not None:
            raise SystemExit(f"{system.name} ended with {system.process.returncode}")
        try:
            Client(system.host, system.port).call("GET", str(system.requests[0]["path"]))
        except (OSError, RuntimeError, ValueError):
            time.sleep(1)
        else:
            return
    raise SystemExit(f"{system.name} did not answer within {timeout_s} s")


def limits(corpus: Path, seconds: float) -> dict[str, float]:
    """Measure the bare encoder and FAISS alone with the same queries: one at a time, and with all cores busy."""
    encoder, texts = Encoder.open(), read_queries(corpus)
    engine = SearchEngine.open(corpus / "index", encoder=encoder, threads=1)
    index = VectorIndex.exact(encoder.dimension)
    index.add(engine.corpus.vectors(engine.corpus.live_rows))
    engine.close()
    vectors = encoder.encode_all("query", texts[:2_000])
    encode_s = [_timed(lambda text=text: encoder.encode_queries([text])) for text in texts[:300]]  # type: ignore[misc]
    faiss.omp_set_num_threads(1)
    search_s = [_timed(lambda row=row: index.search(vectors[row : row + 1], K)) for row in range(300)]  # type: ignore[misc]
    return {
        "encode one, ms": 1000 * median(encode_s),
        "search one, ms": 1000 * median(search_s),
        "encode 32 together, queries/s": _saturated_rate(encoder, texts, seconds, 32),
        "encode one by one, queries/s": _saturated_rate(encoder, texts, seconds, 1),
        "encode sorted by length, queries/s": _sorted_rate(encoder, texts),
        "nothing, requests/s": _empty_route_rate(seconds),
    }


def _saturated_rate(encoder: Encoder, texts: Sequence[str], seconds: float, batch_size: int) -> float:
    """Queries encoded per second with every worker busy."""
    until, counts = perf_counter() + seconds, list[int]()

    def encode(number: int) -> None:
        start, count = number * len(texts) // encoder.workers, 0
        while perf_counter() < until:
            encoder.encode_queries([texts[(start + offset) % len(texts)] for offset in range(batch_size)])
            start, count = start + batch_size, count + batch_size
        counts.append(count)

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(encoder.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def _sorted_rate(encoder: Encoder, texts: Sequence[str]) -> float:
    """Queries encoded per second if thousands can be sorted by length, which is impossible in a server."""
    batch = list(texts[:2_000])
    return len(batch) / _timed(lambda: encoder.encode_all("query", batch))


def _empty_route_rate(seconds: float) -> float:
    """Requests per second of an empty Flask route under the same WSGI server."""
    code = (
        "import sys; from flask import Flask; from waitress.server import create_server; app = Flask('nothing');"
        " app.post('/api/search')(lambda: {}); server = create_server(app, host='127.0.0.1', port=0, threads=104,"
        " connection_limit=416); print(server.effective_port, flush=True); server.run()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        result = run_load(
            {"host": "127.0.0.1", "port": port, "requests": searches(["a"]), "seconds": seconds, "clients": 64}
        )
    finally:
        process.terminate()
        process.wait()
    return result.rate


def serving(corpus: Path, peers: Sequence[str], repeats: int, seconds: float) -> dict[str, Any]:
    """Run closed loops of 1 to 256 clients, alternating between the systems."""
    runs: list[dict[str, Any]] = []
    limit_runs: list[dict[str, float]] = []
    with ExitStack() as stack:
        systems = [
            stack.enter_context(semsearch(corpus, "--max-waiting", "256")),
            stack.enter_context(semsearch(corpus, "--max-waiting", "256", mode=Mode.HYBRID)),
            *(stack.enter_context(peer(name, corpus)) for name in peers),
        ]
        for system in systems:
            system.load(seconds=WARM_UP_S, clients=8)
        for repeat in range(repeats):
            limit_runs.append(limits(corpus, seconds))
            _report("limits", **limit_runs[-1])
            for clients in CLIENTS:
                for system in systems if repeat % 2 else systems[::-1]:
                    used_s = system.used_s
                    result = system.load(seconds=seconds, clients=clients)
                    runs.append(
                        {
                            "system": system.name,
                            "clients": clients,
                            "rate": result.rate,
                            "p50": result.percentile(0.5),
                            "p99": result.percentile(0.99),
                            "server cores": (system.used_s - used_s) / result.seconds,
                            "generator cores": result.processor_s / result.seconds,
                            "statuses": result.statuses,
                        }
                    )
                    _report(**runs[-1])
    return {"limits": limit_runs, "runs": runs}


def overload(corpus: Path, seconds: float) -> dict[str, Any]:
    """Run open loops at 0.5 to 4 times the peak rate of closed loops, and measure the recovery."""
    with semsearch(corpus) as system:
        system.load(seconds=WARM_UP_S, clients=8)
        before_mib, before = system.resident_mib, system.load(seconds=3, clients=1)
        peak = max(system.load(seconds=5, clients=clients).rate for clients in (16, 32, 64))
        loads = [system.load(seconds=seconds, rate=times * peak) for times in (0.5, 0.8, 1.5, 4)]
        time.sleep(1)
        after = system.load(seconds=3, clients=1)
        result: dict[str, Any] = {"peak, queries/s": peak, "before, MiB": before_mib, "after, MiB": system.resident_mib}
    result |= {"one client before, ms": before.percentile(0.5), "one client a second after, ms": after.percentile(0.5)}
    for times, load in zip(("0.5", "0.8", "1.5", "4"), loads, strict=True):
        result[f"at {times} times"] = {
            "goodput / peak": load.rate / peak,
            "accepted p50, ms": load.percentile(0.5),
            "accepted p99, ms": load.percentile(0.99),
            "accepted slowest, ms": load.percentile(1.0),
            "refused p50, ms": load.percentile(0.5, "503"),
            "refused p99, ms": load.percentile(0.99, "503"),
            "statuses": load.statuses,
            "generator cores": load.processor_s / load.seconds,
        }
    _report(**result)
    return result


def repeated(corpus: Path, seconds: float) -> dict[str, Any]:
    """Measure repeated queries, drawn by Zipf's law, with and without the query cache."""
    texts = read_queries(corpus)
    weights = 1 / np.arange(1, len(texts) + 1)
    drawn = np.random.default_rng(0).choice(len(texts), size=20_000, p=weights / weights.sum())
    runs: dict[str, list[float]] = {"with": [], "without": []}
    hits = 0.0
    with semsearch(corpus, query_cache_size=0) as uncached, semsearch(corpus, query_cache_size=1_000) as cached:
        for system in (uncached, cached):
            system.requests = [system.requests[index] for index in drawn.tolist()]
            system.load(seconds=WARM_UP_S, clients=16)
        for _ in range(3):
            runs["without"].append(uncached.load(seconds=seconds, clients=64).rate)
            runs["with"].append(cached.load(seconds=seconds, clients=64).rate)
        metrics = _metrics(cached)
        memory, encoder = (
            metrics[f'semsearch_query_vectors_total{{source="{name}"}}'] for name in ("memory", "encoder")
        )
        hits = memory / (memory + encoder)
    result = {
        "different queries": len(set(drawn.tolist())),
        "with, queries/s": median(runs["with"]),
        "without, queries/s": median(runs["without"]),
        "hit rate": hits,
    }
    _report(**result)
    return result


def overhead(corpus: Path) -> dict[str, Any]:
    """Measure the stages of one client's requests: medians of 500, in milliseconds."""
    with semsearch(corpus) as system:
        client = Client(system.host, system.port)
        request_ms, stage_ms = [], list[dict[str, float]]()
        for text in read_queries(corpus)[:600]:
            body = {"query": text, "k": K, "mode": "semantic"}
            started = perf_counter()
            answer = client.call("POST", "/api/search", body)
            request_ms.append(1000 * (perf_counter() - started))
            stage_ms.append(answer["timing_ms"])
    request_ms, stage_ms = request_ms[100:], stage_ms[100:]
    stages = {f"{name}, ms": median(stage[name] for stage in stage_ms) for name in stage_ms[0]}
    rest = [ms - stage["encode"] - stage["search_vectors"] for ms, stage in zip(request_ms, stage_ms, strict=True)]
    shares = [stage["adapt"] / ms for ms, stage in zip(request_ms, stage_ms, strict=True)]
    result = {
        "request, ms": median(request_ms),
        **stages,
        "neither encoder nor FAISS, ms": median(rest),
        "adapt / request": median(shares),
    }
    _report(**result)
    return result


def opening(index: Path) -> dict[str, Any]:
    """Measure the seconds from the command to the first answer, and the memory at rest."""
    runs = []
    for _ in range(3):
        started = perf_counter()
        process, client = start(index)
        ready_s = perf_counter() - started
        client.call("GET", "/api/search?query=warm")
        first_s = perf_counter() - started
        time.sleep(2)
        runs.append((ready_s, first_s, _resident_mib(process.pid)))
        process.terminate()
        process.wait(30)
    generation = index / (index / "current").read_text().strip() if (index / "current").is_file() else index
    size = sum(path.stat().st_size for path in generation.rglob("vectors.faiss")) / 2**20
    result = {
        "ready, s": median(run[0] for run in runs),
        "first answer, s": median(run[1] for run in runs),
        "at rest, MiB": median(run[2] for run in runs),
        "vectors, MiB": size,
    }
    _report(**result)
    return result


def soak(corpus: Path, minutes: float) -> dict[str, Any]:
    """Run at 80% of the peak rate for a long time, while documents change and domains adapt."""
    errors: list[str] = []
    with semsearch(corpus) as system:
        system.load(seconds=WARM_UP_S, clients=8)
        peak = system.load(seconds=5, clients=16).rate
        client = Client(system.host, system.port)
        finished = threading.Event()

        def change() -> None:
            number = 0
            while not finished.wait(2):
                number += 1
                try:
                    document = {"id": f"new/{number % 50}", "text": f"A document that was put as number {number}."}
                    client.call("PUT", "/api/documents", {"documents": [document]})
                    if number % 15 == 0:
                        client.call("POST", "/api/compact", {})
                    if number % 10 == 0:
                        _label(client, number)
                except (RuntimeError, OSError) as error:
                    errors.append(str(error)[:300])

        changing = threading.Thread(target=change)
        changing.start()
        rows: list[dict[str, Any]] = []
        for minute in range(int(minutes)):
            result = system.load(seconds=60, rate=0.8 * peak)
            rows.append(
                {
                    "minute": minute,
                    "rate": result.rate,
                    "p50": result.percentile(0.5),
                    "p99": result.percentile(0.99),
                    "MiB": system.resident_mib,
                    "statuses": result.statuses,
                }
            )
            _report(**rows[-1])
        finished.set()
        changing.join()
    minutes_run = np.arange(len(rows))
    slopes = {name: float(np.polyfit(minutes_run, [row[name] for row in rows], 1)[0]) for name in ("p50", "p99", "MiB")}
    summary = {"peak, queries/s": peak, "slope a minute": slopes, "errors": errors, "minutes": rows}
    _report(**slopes, errors=len(errors))
    return summary


def _label(client: Client, number: int) -> None:
    domain = f"team-{number % 3}"
    [result] = client.call("POST", "/api/search", {"query": f"what is number {number}", "k": 3})["results"]
    for hit in result["hits"]:
        label = {"domain": domain, "query": f"what is number {number}", "document": hit["id"], "relevance": 1.0}
        client.call("POST", "/api/labels", label)
    client.call("POST", f"/api/domains/{domain}/adapt", {})


def _timed(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def _report(*names: str, **values: object) -> None:
    shown = [f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()]
    print(*names, "; ".join(shown), flush=True)


def _metrics(system: System) -> dict[str, float]:
    import http.client

    connection = http.client.HTTPConnection(system.host, system.port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def _process_tree(pid: int) -> list[int]:
    """Return the ids of a process and of its descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    tree = [pid]
    for process in tree:
        tree += children.get(process, [])
    return tree


def _processor_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    sizes: Mapping[str, str] = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(int(sizes[name].split()[0]) for name in ("RssAnon", "RssShmem") if name in sizes) / 1024


def main() -> None:
    """Run the benchmark named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "benchmark", choices=("corpus", "serving", "overload", "repeated", "overhead", "opening", "soak")
    )
    parser.add_argument("source", type=Path, metavar="PATH")
    parser.add_argument("target", type=Path, nargs="?", help="folder to write to, for `corpus` only")
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--peers", default="naive")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.benchmark == "corpus":
        make_corpus(options.source, options.target, options.documents)
        return
    result: Mapping[str, Any]
    if options.benchmark == "serving":
        names = [name for name in options.peers.split(",") if name]
        result = serving(options.source, names, options.repeats, options.seconds or 4)
    elif options.benchmark == "overload":
        result = overload(options.source, options.seconds or 20)
    elif options.benchmark == "repeated":
        result = repeated(options.source, options.seconds or 8)
    elif options.benchmark == "overhead":
        result = overhead(options.source)
    elif options.benchmark == "opening":
        result = opening(options.source)
    else:
        result = soak(options.source, options.minutes)
    if options.out:
        about = {"what": options.benchmark, "machine": machine(), "python": platform.python_version()}
        options.out.write_text(json.dumps({**about, **result}, indent=1))


if __name__ == "__main__":
    main()
