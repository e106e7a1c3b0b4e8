"""What serving costs, beside its limits and its peers, all in one run on one machine.

    python scripts/benchmark.py corpus DOMAINS INTO [--documents 10000]
    python scripts/benchmark.py serving INTO [--peers naive,txtai,infinity] [--repeats 3] [--seconds 4] --out FILE.json
    python scripts/benchmark.py overload INTO [--seconds 20] --out FILE.json
    python scripts/benchmark.py repeated INTO [--seconds 8] --out FILE.json
    python scripts/benchmark.py overhead INTO --out FILE.json
    python scripts/benchmark.py opening INDEX --out FILE.json
    python scripts/benchmark.py soak INTO [--minutes 30] --out FILE.json

DOMAINS is a folder of NAME/corpus.jsonl and NAME/queries.jsonl. `corpus` writes so many of their documents and their
queries, and builds an index of them. Load comes from a process of its own (scripts/load.py), on the same cores: what
it takes of them is told. Nothing is remembered between queries but in `repeated`. Peers are scripts/peers/NAME.py, each
run by the Python that SEMSEARCH_PEER_NAME names, where it is not this one. Use the ratios: machines differ.
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
from load import Found, loaded, searches
from servers import Client, start

from semsearch import SearchEngine
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.locate import DEFAULT_MODEL, locate
from semsearch.encoders.onnx_cache import machine
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Mode

CLIENTS = (1, 4, 16, 64, 256)
K = 10
PORTS = {"naive": 18761, "txtai": 18762, "infinity": 18763}
WARM_S = 2.0


@dataclass
class System:
    """A server to be measured."""

    name: str
    host: str
    port: int
    process: subprocess.Popen[str]
    requests: list[dict[str, object]]

    def load(self, **what: object) -> Found:
        """A load of its own requests."""
        return loaded({"host": self.host, "port": self.port, "requests": self.requests, **what})

    @property
    def used_s(self) -> float:
        """Processor seconds that its processes took."""
        return sum(_times(one) for one in _family(self.process.pid))

    @property
    def resident_mib(self) -> float:
        """Memory of its processes that is not a file's."""
        return sum(_resident(one) for one in _family(self.process.pid))


def make_corpus(domains: Path, into: Path, documents: int) -> None:
    """Write documents, queries and an index of them."""
    into.mkdir(parents=True, exist_ok=True)
    found, queries = [], dict[str, None]()
    for folder in sorted(domains.iterdir()):
        if not (folder / "corpus.jsonl").is_file() or re.search(r"zh|arabic", folder.name):
            continue
        for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            text = f"{one.get('title') or ''} {one.get('text') or ''}".strip()
            if text:
                found.append({"id": f"{folder.name}/{one['_id']}", "text": text})
        for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines():
            # what people type, and not the abstracts that some domains ask with
            if 0 < len(text := json.loads(line)["text"].strip()) <= 200:
                queries[text] = None
    random.Random(0).shuffle(found)
    asked = list(queries)
    random.Random(1).shuffle(asked)
    (into / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found[:documents]))
    (into / "queries.json").write_text(json.dumps(asked))
    command = [sys.executable, "-m", "semsearch", "build", str(into / "documents.jsonl"), "--out", str(into / "index")]
    subprocess.run(command, check=True)


def asked(into: Path) -> list[str]:
    """The queries of a corpus."""
    found: list[str] = json.loads((into / "queries.json").read_text())
    return found


@contextmanager
def semsearch(into: Path, *options: str, mode: Mode = Mode.SEMANTIC, remembered: int = 0) -> Iterator[System]:
    """Our server of a corpus's index."""
    process, client = start(into / "index", "--remembered", str(remembered), *options)
    try:
        yield System(
            f"semsearch {mode}", client.host, client.port, process, searches(asked(into), k=K, mode=mode.value)
        )
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def peer(name: str, into: Path) -> Iterator[System]:
    """Another server of the same documents by the same model."""
    script = Path(__file__).parent / "peers" / f"{name}.py"
    python = os.environ.get(f"SEMSEARCH_PEER_{name.upper()}", sys.executable)
    folder = locate(DEFAULT_MODEL).path
    process = subprocess.Popen(
        [python, str(script), str(into / "documents.jsonl"), folder, str(PORTS[name])],
        text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        path = f"/search?limit={K}&query="
        requests: list[dict[str, object]] = [{"method": "GET", "path": path + quote(text)} for text in asked(into)]
        system = System(name, "127.0.0.1", PORTS[name], process, requests)
        _await(system)
        yield system
    finally:
        with ExitStack() as quiet:
            quiet.callback(process.wait, 30)
            os.killpg(process.pid, signal.SIGTERM)


def _await(system: System, *, patience_s: float = 900) -> None:
    """Until it answers a search."""
    until = perf_counter() + patience_s
    while perf_counter() < until:
        if system.process.poll() is not None:
            raise SystemExit(f"{system.name} ended with {system.process.returncode}")
        try:
            Client(system.host, system.port).call("GET", str(system.requests[0]["path"]))
        except (OSError, RuntimeError, ValueError):
            time.sleep(1)
        else:
            return
    raise SystemExit(f"{system.name} did not answer within {patience_s} s")


def limits(into: Path, seconds: float) -> dict[str, float]:
    """The bare encoder and FAISS alone, by the same texts: one query, and all cores busy."""
    encoder, texts = Encoder.open(), asked(into)
    engine = SearchEngine.open(into / "index", encoder=encoder, threads=1)
    index = VectorIndex.exact(encoder.dimension)
    index.add(engine.corpus.live_passages()[1])
    engine.close()
    vectors = encoder.encode_all("query", texts[:2_000])
    lone = [_timed(lambda text=text: encoder.encode_queries([text])) for text in texts[:300]]  # type: ignore[misc]
    faiss.omp_set_num_threads(1)
    search = [_timed(lambda row=row: index.search(vectors[row : row + 1], K)) for row in range(300)]  # type: ignore[misc]
    return {
        "encode one, ms": 1000 * median(lone),
        "search one, ms": 1000 * median(search),
        "encode 32 together, queries/s": _saturated(encoder, texts, seconds, 32),
        "encode one by one, queries/s": _saturated(encoder, texts, seconds, 1),
        "encode sorted by length, queries/s": _sorted_rate(encoder, texts),
        "nothing, requests/s": _nothing(seconds),
    }


def _saturated(encoder: Encoder, texts: Sequence[str], seconds: float, together: int) -> float:
    """Queries a second with every worker busy."""
    until, done = perf_counter() + seconds, list[int]()

    def go(number: int) -> None:
        at, many = number * len(texts) // encoder.workers, 0
        while perf_counter() < until:
            encoder.encode_queries([texts[(at + place) % len(texts)] for place in range(together)])
            at, many = at + together, many + together
        done.append(many)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(encoder.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def _sorted_rate(encoder: Encoder, texts: Sequence[str]) -> float:
    """Queries a second where thousands may be sorted by length, which no server can."""
    many = list(texts[:2_000])
    return len(many) / _timed(lambda: encoder.encode_all("query", many))


def _nothing(seconds: float) -> float:
    """Requests a second of a Flask route that does nothing, under the same server."""
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
        found = loaded(
            {"host": "127.0.0.1", "port": port, "requests": searches(["a"]), "seconds": seconds, "clients": 64}
        )
    finally:
        process.terminate()
        process.wait()
    return found.rate


def serving(into: Path, peers: Sequence[str], repeats: int, seconds: float) -> dict[str, Any]:
    """Closed loops of 1 to 256 clients, every system in turns."""
    runs: list[dict[str, Any]] = []
    bounds: list[dict[str, float]] = []
    with ExitStack() as stack:
        systems = [
            stack.enter_context(semsearch(into, "--max-waiting", "256")),
            stack.enter_context(semsearch(into, "--max-waiting", "256", mode=Mode.HYBRID)),
            *(stack.enter_context(peer(name, into)) for name in peers),
        ]
        for system in systems:
            system.load(seconds=WARM_S, clients=8)
        for repeat in range(repeats):
            bounds.append(limits(into, seconds))
            _told("limits", **bounds[-1])
            for clients in CLIENTS:
                for system in systems if repeat % 2 else systems[::-1]:
                    used = system.used_s
                    found = system.load(seconds=seconds, clients=clients)
                    runs.append(
                        {
                            "system": system.name,
                            "clients": clients,
                            "rate": found.rate,
                            "p50": found.percentile(0.5),
                            "p99": found.percentile(0.99),
                            "server cores": (system.used_s - used) / found.seconds,
                            "generator cores": found.processor_s / found.seconds,
                            "statuses": found.statuses,
                        }
                    )
                    _told(**runs[-1])
    return {"limits": bounds, "runs": runs}


def overload(into: Path, seconds: float) -> dict[str, Any]:
    """An open loop at four times what a closed one gets, and what comes after."""
    with semsearch(into) as system:
        system.load(seconds=WARM_S, clients=8)
        before, lone = system.resident_mib, system.load(seconds=3, clients=1)
        peak = max(system.load(seconds=5, clients=clients).rate for clients in (16, 32, 64))
        found = [system.load(seconds=seconds, rate=times * peak) for times in (0.5, 0.8, 1.5, 4)]
        time.sleep(1)
        after = system.load(seconds=3, clients=1)
        result: dict[str, Any] = {"peak, queries/s": peak, "before, MiB": before, "after, MiB": system.resident_mib}
    result |= {"one client before, ms": lone.percentile(0.5), "one client a second after, ms": after.percentile(0.5)}
    for times, one in zip(("0.5", "0.8", "1.5", "4"), found, strict=True):
        result[f"at {times} times"] = {
            "goodput / peak": one.rate / peak,
            "accepted p50, ms": one.percentile(0.5),
            "accepted p99, ms": one.percentile(0.99),
            "accepted slowest, ms": one.percentile(1.0),
            "refused p50, ms": one.percentile(0.5, "503"),
            "refused p99, ms": one.percentile(0.99, "503"),
            "statuses": one.statuses,
            "generator cores": one.processor_s / one.seconds,
        }
    _told(**result)
    return result


def repeated(into: Path, seconds: float) -> dict[str, Any]:
    """Queries of which the n-th most frequent is asked 1/n as often as the first (Zipf), with and without memory."""
    texts = asked(into)
    weights = 1 / np.arange(1, len(texts) + 1)
    drawn = np.random.default_rng(0).choice(len(texts), size=20_000, p=weights / weights.sum())
    runs: dict[str, list[float]] = {"with": [], "without": []}
    hits = 0.0
    with semsearch(into, remembered=0) as without, semsearch(into, remembered=1_000) as remembering:
        for system in (without, remembering):
            system.requests = [system.requests[place] for place in drawn.tolist()]
            system.load(seconds=WARM_S, clients=16)
        for _ in range(3):
            runs["without"].append(without.load(seconds=seconds, clients=64).rate)
            runs["with"].append(remembering.load(seconds=seconds, clients=64).rate)
        told = _metrics(remembering)
        memory, encoder = (told[f'semsearch_query_vectors_total{{source="{name}"}}'] for name in ("memory", "encoder"))
        hits = memory / (memory + encoder)
    result = {
        "different queries": len(set(drawn.tolist())),
        "with, queries/s": median(runs["with"]),
        "without, queries/s": median(runs["without"]),
        "hit rate": hits,
    }
    _told(**result)
    return result


def overhead(into: Path) -> dict[str, Any]:
    """Where the time of one client's request goes: medians of 500, in ms."""
    with semsearch(into) as system:
        client = Client(system.host, system.port)
        whole, parts = [], list[dict[str, float]]()
        for text in asked(into)[:600]:
            body = {"query": text, "k": K, "mode": "semantic"}
            started = perf_counter()
            answer = client.call("POST", "/api/search", body)
            whole.append(1000 * (perf_counter() - started))
            parts.append(answer["timing_ms"])
    whole, parts = whole[100:], parts[100:]
    stages = {f"{name}, ms": median(part[name] for part in parts) for name in parts[0]}
    beside = [time - part["encode"] - part["nearest"] for time, part in zip(whole, parts, strict=True)]
    shares = [part["rescale"] / time for time, part in zip(whole, parts, strict=True)]
    result = {
        "request, ms": median(whole),
        **stages,
        "neither encoder nor FAISS, ms": median(beside),
        "rescale / request": median(shares),
    }
    _told(**result)
    return result


def opening(index: Path) -> dict[str, Any]:
    """Seconds from the command to the first answer, and memory at rest."""
    runs = []
    for _ in range(3):
        started = perf_counter()
        process, client = start(index)
        ready_s = perf_counter() - started
        client.call("GET", "/api/search?query=warm")
        first_s = perf_counter() - started
        time.sleep(2)
        runs.append((ready_s, first_s, _resident(process.pid)))
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
    _told(**result)
    return result


def soak(into: Path, minutes: float) -> dict[str, Any]:
    """At 80% of its peak for a long time, while documents are put and domains adapted."""
    errors: list[str] = []
    with semsearch(into) as system:
        system.load(seconds=WARM_S, clients=8)
        peak = system.load(seconds=5, clients=16).rate
        client = Client(system.host, system.port)
        over = threading.Event()

        def change() -> None:
            number = 0
            while not over.wait(2):
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
            found = system.load(seconds=60, rate=0.8 * peak)
            rows.append(
                {
                    "minute": minute,
                    "rate": found.rate,
                    "p50": found.percentile(0.5),
                    "p99": found.percentile(0.99),
                    "MiB": system.resident_mib,
                    "statuses": found.statuses,
                }
            )
            _told(**rows[-1])
        over.set()
        changing.join()
    at = np.arange(len(rows))
    slopes = {name: float(np.polyfit(at, [row[name] for row in rows], 1)[0]) for name in ("p50", "p99", "MiB")}
    result = {"peak, queries/s": peak, "slope a minute": slopes, "errors": errors, "minutes": rows}
    _told(**slopes, errors=len(errors))
    return result


def _label(client: Client, number: int) -> None:
    domain = f"team-{number % 3}"
    [found] = client.call("POST", "/api/search", {"query": f"what is number {number}", "k": 3})["results"]
    for hit in found["hits"]:
        label = {"domain": domain, "query": f"what is number {number}", "document": hit["id"], "relevance": 1.0}
        client.call("POST", "/api/labels", label)
    client.call("POST", f"/api/domains/{domain}/adapt", {})


def _timed(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def _told(*names: str, **values: object) -> None:
    shown = [f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()]
    print(*names, "; ".join(shown), flush=True)


def _metrics(system: System) -> dict[str, float]:
    import http.client

    connection = http.client.HTTPConnection(system.host, system.port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def _family(pid: int) -> list[int]:
    """A process and those below it."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parts = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(parts[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += below.get(one, [])
    return found


def _times(pid: int) -> float:
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    told: Mapping[str, str] = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(int(told[name].split()[0]) for name in ("RssAnon", "RssShmem") if name in told) / 1024


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("corpus", "serving", "overload", "repeated", "overhead", "opening", "soak"))
    parser.add_argument("place", type=Path)
    parser.add_argument("into", type=Path, nargs="?")
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--peers", default="naive")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.what == "corpus":
        make_corpus(options.place, options.into, options.documents)
        return
    found: Mapping[str, Any]
    if options.what == "serving":
        names = [name for name in options.peers.split(",") if name]
        found = serving(options.place, names, options.repeats, options.seconds or 4)
    elif options.what == "overload":
        found = overload(options.place, options.seconds or 20)
    elif options.what == "repeated":
        found = repeated(options.place, options.seconds or 8)
    elif options.what == "overhead":
        found = overhead(options.place)
    elif options.what == "opening":
        found = opening(options.place)
    else:
        found = soak(options.place, options.minutes)
    if options.out:
        about = {"what": options.what, "machine": machine(), "python": platform.python_version()}
        options.out.write_text(json.dumps({**about, **found}, indent=1))


if __name__ == "__main__":
    main()
