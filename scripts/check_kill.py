"""Kills builds at random moments and looks whether the index that was there before still opens and answers.

    python scripts/check_kill.py --times 20

An index is built from one corpus; then builds of another corpus into the same folder are started and killed with
SIGKILL, children included, at moments spread over the whole time that they write. After each kill the index is opened,
all its checksums are checked, and it must hold exactly the old or exactly the new documents and find one of them.
At the end a build is let through, and nothing of the dead ones may be left.

Exit code 1 if that failed once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from semsearch import Query, SearchEngine
from semsearch.encoder import Encoder

OLD, NEW = "old", "new"
DEADLINE_S = 300


def write_corpus(path: Path, kind: str, documents: int) -> Path:
    """Documents whose ids and texts say which corpus they are of."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(documents):
            text = (
                f"The {kind} report number {number} tells of harvests, rivers and the price of salt in year {number}."
            )
            file.write(json.dumps({"id": f"{kind}-{number}", "title": f"Report {number}", "text": text}) + "\n")
    return path


def start_build(corpus: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A build in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "semsearch", "build", str(corpus), "--out", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for_work(folder: Path, process: subprocess.Popen[bytes]) -> float:
    """Wait until the build has begun to write, and tell when that was."""
    deadline = time.monotonic() + DEADLINE_S
    while not list(folder.glob("building-*")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("a build ended, or hung, before it wrote anything")
        time.sleep(0.005)
    return time.monotonic()


def holds(folder: Path, encoder: Encoder, sizes: dict[str, int]) -> str:
    """Which corpus the index holds; raises what opening raises, and AssertionError for a mixture."""
    engine = SearchEngine.open(folder, encoder=encoder)
    try:
        (hits,) = engine.search([Query("price of salt in year 7", k=20)])
        ids = {identity for identity, _ in engine.documents.passages()}
        (kind,) = {identity.partition("-")[0] for identity in ids}
        assert len(ids) == engine.manifest.documents == sizes[kind], "a part of the documents"
        assert len(hits) == 20, "too few hits"
        assert {hit.id for hit in hits} <= ids, "hits from elsewhere"
    finally:
        engine.close()
    return kind


def main() -> None:
    """Build, kill, look; again and again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chooser = random.Random(options.seed)
    encoder = Encoder.open()
    failures = 0
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "index")
        sizes = {OLD: options.documents, NEW: options.documents + 11}
        corpora = {kind: write_corpus(Path(work, f"{kind}.jsonl"), kind, size) for kind, size in sizes.items()}
        assert start_build(corpora[OLD], folder).wait(DEADLINE_S) == 0
        trial = start_build(corpora[OLD], folder)
        began = wait_for_work(folder, trial)
        assert trial.wait(DEADLINE_S) == 0
        lasts_s = time.monotonic() - began
        print(f"a build writes for {lasts_s:.2f} s; killing {options.times} at moments within that")
        for number in range(options.times):
            before = holds(folder, encoder, sizes)
            other = NEW if before == OLD else OLD
            process = start_build(corpora[other], folder)
            began = wait_for_work(folder, process)
            # one in each equal part of the time, at random within it, so that the whole of it is tried
            moment_s = lasts_s * (number + chooser.random()) / options.times
            time.sleep(max(0.0, began + moment_s - time.monotonic()))
            written = sorted(path.name for part in folder.glob("building-*") for path in part.iterdir())
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            try:
                after = holds(folder, encoder, sizes)
                verdict = "holds the old documents" if after == before else "holds the new documents, was complete"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
                failures += 1
                verdict = f"FAILED: {error!r}"
            begun = ", ".join(written) or "none"
            print(f"{number + 1:3}  killed after {moment_s:6.2f} s, files begun: {begun}; {verdict}", flush=True)
        final = start_build(corpora[NEW], folder).wait(DEADLINE_S)
        left = sorted(path.name for path in folder.iterdir())
        clean = final == 0 and len(left) == 3 and holds(folder, encoder, sizes) == NEW
        print(f"a last build: {'nothing of the dead ones is left' if clean else f'FAILED, there is {left}'}")
    print(f"{options.times - failures} of {options.times} opened and answered")
    sys.exit(bool(failures) or not clean)


if __name__ == "__main__":
    main()
