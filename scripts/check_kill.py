"""Kills builds at random moments and looks whether the index that was there before still opens and answers.

    python scripts/check_kill.py --times 20

An index is built from one corpus; then builds of another corpus into the same folder are started and killed with
SIGKILL, children included. Every second one is killed at a random moment of the time that a build writes, the others
within milliseconds of a file's appearing: each of the index's parts, the manifest, the new generation, and the file
that names the generation that serves. After each kill the index is opened, all its checksums are checked, and it must
hold exactly the old or exactly the new documents and answer. At the end a build is let through, and nothing of the dead
ones may be left.

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
MILESTONES = ("vectors.faiss", "manifest.json", "basis.safetensors", "a new generation", "a new current")
AFTER_MILESTONE_S = 0.02


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


def reached(folder: Path, milestone: str, before: set[str]) -> bool:
    """Whether a build has come so far; before: what was in the folder and in `current` when it started."""
    if milestone == "a new current":
        return (folder / "current").read_text(encoding="utf-8") not in before
    if milestone == "a new generation":
        return any(path.name not in before for path in folder.glob("g-*"))
    return any((part / milestone).exists() for part in folder.glob("building-*"))


def wait_for(folder: Path, milestone: str, before: set[str], process: subprocess.Popen[bytes]) -> float:
    """Wait until the build has come so far, or has ended, and tell when that was."""
    deadline = time.monotonic() + DEADLINE_S
    while not reached(folder, milestone, before) and process.poll() is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"a build did not come to {milestone} in {DEADLINE_S} s")
        time.sleep(0.0005)
    return time.monotonic()


def present(folder: Path) -> set[str]:
    """What is in the folder, and in `current`."""
    return {path.name for path in folder.glob("g-*")} | {(folder / "current").read_text(encoding="utf-8")}


def holds(folder: Path, encoder: Encoder, sizes: dict[str, int]) -> str:
    """Which corpus the index holds; raises what opening raises, and AssertionError for a mixture."""
    engine = SearchEngine.open(folder, encoder=encoder)
    try:
        (hits,) = engine.search([Query("price of salt in year 7", k=20)])
        ids = {identity for identity, _ in engine.corpus.texts()}
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
    parser.add_argument("--documents", type=int, default=400)
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
        before = present(folder)
        trial = start_build(corpora[OLD], folder)
        began = wait_for(folder, "documents.sqlite", before, trial)
        lasts_s = wait_for(folder, "a new current", before, trial) - began
        assert trial.wait(DEADLINE_S) == 0
        print(f"a build writes for {lasts_s:.2f} s")
        for number in range(options.times):
            held, before = holds(folder, encoder, sizes), present(folder)
            process = start_build(corpora[NEW if held == OLD else OLD], folder)
            milestone = MILESTONES[number // 2 % len(MILESTONES)] if number % 2 else "documents.sqlite"
            wait_for(folder, milestone, before, process)
            moment_s = chooser.uniform(0, AFTER_MILESTONE_S if number % 2 else lasts_s)
            time.sleep(moment_s)
            begun = sorted(path.name for part in folder.glob("building-*") for path in part.iterdir())
            dead = process.poll() is None
            if dead:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            try:
                verdict = f"holds the {'same' if holds(folder, encoder, sizes) == held else 'new'} documents"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
                failures += 1
                verdict = f"FAILED: {error!r}"
            how = "killed" if dead else "had ended"
            print(
                f"{number + 1:3}  {how} {moment_s:.3f} s after {milestone}; begun: {', '.join(begun) or '-'}; {verdict}"
            )
            sys.stdout.flush()
        final = start_build(corpora[NEW], folder).wait(DEADLINE_S)
        left = sorted(path.name for path in folder.iterdir())
        clean = final == 0 and len(left) == 3 and holds(folder, encoder, sizes) == NEW
        print(f"a last build: {'nothing of the dead ones is left' if clean else f'FAILED, there is {left}'}")
    print(f"{options.times - failures} of {options.times} opened and answered")
    sys.exit(bool(failures) or not clean)


if __name__ == "__main__":
    main()
