"""Searches a served index without pause while it is changed 1,000 times and compacted 10 times.

    python scripts/check_changes.py index/python

A copy of the index is served. First some clients search it alone for a while: the quiet latencies. Then one more client
adds, replaces and deletes documents, one change after the other, and has the index compacted now and then, while the
others go on. Every answer is compared with what must be true of it: a document is found, in the version that was
acknowledged before the search was asked or a later one, and none that was deleted before then; and documents that were
there from the beginning are always found. Prints what was answered, what was wrong, and the latencies as ratios; exit
code 1 if anything was wrong.
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
"""Documents that changes are about at any time."""


@dataclass
class Story:
    """What became of one document: its texts in turn, None where it was deleted."""

    versions: list[int | None] = field(default_factory=list)
    begun: int = 0
    """Versions that were sent."""
    done: int = 0
    """Versions that were acknowledged."""


@dataclass
class Watch:
    """What the searching clients saw."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def search(client: Client, stories: dict[str, Story], old: list[str], stop: threading.Event, watch: Watch) -> None:
    """Ask until told to stop."""
    draw = random.Random(threading.get_ident())
    while not stop.is_set():
        identity = draw.choice(list(stories)) if stories and draw.random() < 0.5 else draw.choice(old)
        story = stories.get(identity)
        first = story.done if story else 0
        began = time.perf_counter()
        try:
            answer = client.call("POST", "/api/search", {"query": identity, "k": 10})
        except (OSError, RuntimeError) as error:
            watch.wrong.append(f"{identity}: {error}")
            continue
        watch.seconds.append(time.perf_counter() - began)
        hits = {hit["id"]: hit for hit in answer["results"][0]["hits"]}
        if story is None:
            if identity not in hits:
                watch.wrong.append(f"{identity} was always there and is missing")
            continue
        last = story.begun
        possible = story.versions[max(0, first - 1) : last] if first else [None, *story.versions[:last]]
        found = int(hits[identity]["metadata"]["version"]) if identity in hits else None
        if found not in possible:
            watch.wrong.append(f"{identity}: version {found}, not one of {possible}")


def change(client: Client, stories: dict[str, Story], number: int, draw: random.Random) -> str:
    """One change: mostly of a document of our own, so that what must be found is known."""
    there = [identity for identity, story in stories.items() if story.versions[-1] is not None]
    kind = draw.choices(("add", "replace", "delete"), (5, 3, 2))[0] if len(there) > 20 else "add"
    if len(there) > FRESH:
        kind = "delete"
    identity = f"fresh-{number}" if kind == "add" else draw.choice(there)
    story = stories[identity] if identity in stories else Story()
    story.versions.append(None if kind == "delete" else number)
    stories[identity] = story
    story.begun += 1
    if kind == "delete":
        done = client.call("DELETE", f"/api/documents?id={identity}")
    else:
        text = f"Note {number} on {identity}: harvests, rivers and the price of salt."
        document = {"id": identity, "title": identity, "text": text, "metadata": {"version": number}}
        done = client.call("PUT", "/api/documents", {"documents": [document]})
    story.done += 1
    assert done["added"] + done["replaced"] + done["deleted"] == 1, done
    return kind


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = 1000 * np.percentile(seconds, [50, 99])
    return float(p50), float(p99)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--changes", type=int, default=1_000)
    parser.add_argument("--compactions", type=int, default=10)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--quiet-s", type=float, default=20.0)
    parser.add_argument("--pause-ms", type=float, default=0.0, help="between two changes")
    options = parser.parse_args()
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as place:
        index = Path(place, "index")
        shutil.copytree(options.index, index, ignore=shutil.ignore_patterns("domains", "labels.sqlite*"))
        generation = open_current(index)
        old = draw.sample(Corpus.open(generation, threads=1).all_doc_ids(), 500)
        generation.close()
        server, writer = start(index)
        try:
            stories: dict[str, Story] = {}
            quiet = searched(options.clients, writer, stories, old, lambda: time.sleep(options.quiet_s))
            kinds: dict[str, int] = {}
            every = max(1, options.changes // max(1, options.compactions))

            def work() -> None:
                for number in range(options.changes):
                    kind = change(writer, stories, number, draw)
                    kinds[kind] = kinds.get(kind, 0) + 1
                    if (number + 1) % every == 0:
                        writer.call("POST", "/api/compact", {})
                        kinds["compact"] = kinds.get("compact", 0) + 1
                    time.sleep(options.pause_ms / 1000)

            began = time.perf_counter()
            during = searched(options.clients, writer, stories, old, work)
            took = time.perf_counter() - began
            [told] = writer.call("GET", "/api/indexes")["indexes"]
        finally:
            writer.close()
            server.terminate()
            server.wait(30)
        found = check(index)
        alive = sum(story.versions[-1] is not None for story in stories.values())
    before, after = percentiles(quiet.seconds), percentiles(during.seconds)
    print(f"{', '.join(f'{count} x {kind}' for kind, count in kinds.items())} in {took:.1f} s")
    print(f"quiet:  {len(quiet.seconds):6} answers, p50 {before[0]:6.1f} ms, p99 {before[1]:6.1f} ms")
    print(f"during: {len(during.seconds):6} answers, p50 {after[0]:6.1f} ms, p99 {after[1]:6.1f} ms")
    print(f"ratio of p50 {after[0] / before[0]:.2f}, of p99 {after[1] / before[1]:.2f}")
    print(f"at the end: {told['documents']} documents, {alive} of them ours, {told['segments']} segments")
    wrong = [*quiet.wrong, *during.wrong, *found.problems]
    print(f"wrong: {len(wrong)}" + "".join(f"\n  {one}" for one in wrong[:20]))
    return int(bool(wrong))


def searched(clients: int, like: Client, stories: dict[str, Story], old: list[str], work: Callable[[], None]) -> Watch:
    """What so many clients see while the work is done."""
    watch, stop = Watch(), threading.Event()
    asking = [Client(like.host, like.port) for _ in range(clients)]
    threads = [threading.Thread(target=search, args=(one, stories, old, stop, watch)) for one in asking]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        stop.set()
        for thread in threads:
            thread.join(SLOWEST_S)
        for one in asking:
            one.close()
    return watch


if __name__ == "__main__":
    sys.exit(main())
