"""Search a served index continuously while it is changed 1,000 times and compacted 10 times.

    python scripts/check_changes.py index/python

A copy of the index is served. First some clients only search, for the quiet latencies. Then another client adds,
replaces and deletes documents, one change after the other, and compacts the index from time to time, while the others
continue to search. Every answer is checked: a changed document must be found in the version that was acknowledged
before the search or a later one, a deleted document must not be found, and documents from the original index must
always be found. Prints the numbers of answers, the errors, and the latencies with their ratios.

Exit code 1 if an answer was wrong.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from servers import Client, start

from semsearch.storage.checking import check
from semsearch.storage.corpus import Corpus
from semsearch.storage.generations import open_current

SLOWEST_S = 60
FRESH = 200
"""Number of added documents from which on changes only delete."""


@dataclass
class History:
    """The versions of one document, oldest first; None where it was deleted."""

    versions: list[int | None] = field(default_factory=list)
    sent: int = 0
    """Number of versions sent."""
    acknowledged: int = 0
    """Number of versions acknowledged."""


@dataclass
class Observations:
    """Latencies and errors that the searching clients saw."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def search(
    client: Client,
    histories: dict[str, History],
    original: list[str],
    stop: threading.Event,
    observations: Observations,
) -> None:
    """Search until `stop` is set."""
    draw = random.Random(threading.get_ident())
    while not stop.is_set():
        doc_id = draw.choice(list(histories)) if histories and draw.random() < 0.5 else draw.choice(original)
        history = histories.get(doc_id)
        first = history.acknowledged if history else 0
        started = time.perf_counter()
        try:
            answer = client.call("POST", "/api/search", {"query": doc_id, "k": 10})
        except (OSError, RuntimeError) as error:
            observations.errors.append(f"{doc_id}: {error}")
            continue
        observations.seconds.append(time.perf_counter() - started)
        hits = {hit["id"]: hit for hit in answer["results"][0]["hits"]}
        if history is None:
            if doc_id not in hits:
                observations.errors.append(f"{doc_id} is in the original index and was not found")
            continue
        last = history.sent
        possible = history.versions[max(0, first - 1) : last] if first else [None, *history.versions[:last]]
        version = int(hits[doc_id]["metadata"]["version"]) if doc_id in hits else None
        if version not in possible:
            observations.errors.append(f"{doc_id}: version {version}, not one of {possible}")


def change(client: Client, histories: dict[str, History], number: int, draw: random.Random) -> str:
    """Change one document that this script added, so that the expected answers are known. Return the change's kind."""
    present = [doc_id for doc_id, history in histories.items() if history.versions[-1] is not None]
    kind = draw.choices(("add", "replace", "delete"), (5, 3, 2))[0] if len(present) > 20 else "add"
    if len(present) > FRESH:
        kind = "delete"
    doc_id = f"fresh-{number}" if kind == "add" else draw.choice(present)
    history = histories[doc_id] if doc_id in histories else History()
    history.versions.append(None if kind == "delete" else number)
    histories[doc_id] = history
    history.sent += 1
    if kind == "delete":
        result = client.call("DELETE", f"/api/documents?id={doc_id}")
    else:
        text = f"Note {number} on {doc_id}: harvests, rivers and the price of salt."
        document = {"id": doc_id, "title": doc_id, "text": text, "metadata": {"version": number}}
        result = client.call("PUT", "/api/documents", {"documents": [document]})
    history.acknowledged += 1
    assert result["added"] + result["replaced"] + result["deleted"] == 1, result
    return kind


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """Return p50 and p99 in milliseconds."""
    p50, p99 = 1000 * np.percentile(seconds, [50, 99])
    return float(p50), float(p99)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--changes", type=int, default=1_000)
    parser.add_argument("--compactions", type=int, default=10)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--quiet-s", type=float, default=20.0)
    parser.add_argument("--pause-ms", type=float, default=0.0, help="pause between two changes")
    options = parser.parse_args()
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as work_folder:
        index = Path(work_folder, "index")
        shutil.copytree(options.index, index, ignore=shutil.ignore_patterns("domains", "labels.sqlite*"))
        generation = open_current(index)
        original = draw.sample(Corpus.open(generation, threads=1).all_doc_ids(), 500)
        generation.close()
        server, writer = start(index)
        try:
            histories: dict[str, History] = {}
            quiet = search_while(options.clients, writer, histories, original, lambda: time.sleep(options.quiet_s))
            kinds: dict[str, int] = {}
            every = max(1, options.changes // max(1, options.compactions))

            def work() -> None:
                for number in range(options.changes):
                    kind = change(writer, histories, number, draw)
                    kinds[kind] = kinds.get(kind, 0) + 1
                    if (number + 1) % every == 0:
                        writer.call("POST", "/api/compact", {})
                        kinds["compact"] = kinds.get("compact", 0) + 1
                    time.sleep(options.pause_ms / 1000)

            started = time.perf_counter()
            during = search_while(options.clients, writer, histories, original, work)
            seconds = time.perf_counter() - started
            [info] = writer.call("GET", "/api/indexes")["indexes"]
        finally:
            writer.close()
            server.terminate()
            server.wait(30)
        report = check(index)
        alive = sum(history.versions[-1] is not None for history in histories.values())
    before, after = percentiles(quiet.seconds), percentiles(during.seconds)
    print(f"{', '.join(f'{count} x {kind}' for kind, count in kinds.items())} in {seconds:.1f} s")
    print(f"quiet:  {len(quiet.seconds):6} answers, p50 {before[0]:6.1f} ms, p99 {before[1]:6.1f} ms")
    print(f"during: {len(during.seconds):6} answers, p50 {after[0]:6.1f} ms, p99 {after[1]:6.1f} ms")
    print(f"ratio of p50 {after[0] / before[0]:.2f}, of p99 {after[1] / before[1]:.2f}")
    print(f"at the end: {info['documents']} documents, {alive} of them added, {info['segments']} segments")
    errors = [*quiet.errors, *during.errors, *report.problems]
    print(f"wrong: {len(errors)}" + "".join(f"\n  {error}" for error in errors[:20]))
    return int(bool(errors))


def search_while(
    clients: int, client: Client, histories: dict[str, History], original: list[str], work: Callable[[], None]
) -> Observations:
    """Let `clients` threads search while `work` runs, and return what they observed."""
    observations, stop = Observations(), threading.Event()
    searching = [Client(client.host, client.port) for _ in range(clients)]
    threads = [
        threading.Thread(target=search, args=(searcher, histories, original, stop, observations))
        for searcher in searching
    ]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        stop.set()
        for thread in threads:
            thread.join(SLOWEST_S)
        for searcher in searching:
            searcher.close()
    return observations


if __name__ == "__main__":
    sys.exit(main())
