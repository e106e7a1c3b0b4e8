"""Kills builds and changes of an index at random moments and looks whether what is left is whole.

    python scripts/check_kill.py --times 100

An index is built; then builds of another corpus, updates (documents added, replaced and pruned), deletions and
compactions are started as commands and killed with SIGKILL, children included. Every second one is killed at a
random moment of the time that it writes, the others within milliseconds of a file's appearing: parts of a segment, the
manifest, the new generation, and the file that names the generation that serves. After each kill

- `semsearch check` must find nothing wrong: checksums, counts, cross-references;
- the index must open, answer, and hold exactly the documents of before or exactly those of after, each with its text.

At the end each kind is let through once, and nothing of the dead ones may be left. Exit code 1 if that failed once.
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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semsearch import Query, SearchEngine
from semsearch.encoders.encoder import Encoder
from semsearch.storage.checking import check

DEADLINE_S = 300
MILESTONES = (
    "s-*/documents.sqlite",
    "s-*/vectors.faiss",
    "deleted.safetensors",
    "basis.safetensors",
    "manifest.json",
    "a new generation",
    "a new current",
)
AFTER_MILESTONE_S = 0.02
TYPICAL_S = {"build": 2.5, "update": 1.5, "delete": 0.03, "compact": 0.4}
"""About how long each kind writes; the moment of a kill is drawn from it."""

Texts = Mapping[str, str]
"""Document id → text."""


@dataclass(frozen=True)
class Change:
    """One command, and what the index holds when it has run."""

    kind: str
    words: Sequence[str | Path]
    after: Texts


class World:
    """The index that is changed, and what it should hold."""

    def __init__(self, folder: Path, documents: int, seed: int) -> None:
        self.index = folder / "index"
        self.now: Texts = {}
        self._files = folder
        self._count = documents
        self._draw = random.Random(seed)
        self._number = 0

    def change(self, kind: str) -> Change:
        """A change of this kind, from what the index holds now."""
        self._number += 1
        match kind:
            case "build":
                after = {f"b{self._number}-{n}": self._text(n) for n in range(self._count)}
                return Change(kind, ["build", self._written(after), "--out", self.index], after)
            case "update":
                kept = dict(self._draw.sample(sorted(self.now.items()), max(1, len(self.now) * 9 // 10)))
                replaced = dict.fromkeys(self._draw.sample(sorted(kept), min(20, len(kept))), "")
                replaced = {identity: self._text(n) for n, identity in enumerate(replaced)}
                new = {f"u{self._number}-{n}": self._text(n) for n in range(40)}
                after = {**kept, **replaced, **new}
                return Change(kind, ["update", self.index, self._written(after), "--prune"], after)
            case "delete":
                gone = self._draw.sample(sorted(self.now), max(1, len(self.now) // 20))
                after = {identity: text for identity, text in self.now.items() if identity not in gone}
                return Change(kind, ["delete", self.index, *gone], after)
            case _:
                return Change(kind, ["compact", self.index], self.now)

    def held(self, encoder: Encoder, expected: Mapping[str, Texts]) -> str:
        """Which of the states the index is in; raises what opening raises, and AssertionError for any other."""
        found = check(self.index)
        assert not found.problems, found.problems
        engine = SearchEngine.open(self.index, encoder=encoder)
        try:
            holds = {}
            for identity in engine.corpus.all_doc_ids():
                document = engine.document(identity)
                assert document is not None
                holds[identity] = document.text
            [state] = [name for name, texts in expected.items() if texts == holds][:1]
            [outcome] = engine.search([Query("price of salt in year 7", k=20)])
            hits = outcome.hits
            assert len(hits) == min(20, len(holds)), "too few hits"
            assert {hit.id for hit in hits} <= set(holds), "hits from elsewhere"
        finally:
            engine.close()
        return state

    def _text(self, number: int) -> str:
        return f"Report {self._number}.{number} tells of harvests, rivers and the price of salt in year {number}."

    def _written(self, texts: Texts) -> Path:
        path = self._files / "documents.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for identity, text in texts.items():
                file.write(json.dumps({"id": identity, "title": "Report", "text": text}) + "\n")
        return path


def start(words: Sequence[str | Path]) -> subprocess.Popen[bytes]:
    """A command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "semsearch", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def present(folder: Path) -> set[str]:
    """What is in the folder, and in `current`."""
    return {path.name for path in folder.glob("g-*")} | {(folder / "current").read_text(encoding="utf-8")}


def reached(folder: Path, milestone: str, before: set[str]) -> bool:
    """Whether a command has come so far; before: what was in the folder and in `current` when it started."""
    if milestone == "a new current":
        return (folder / "current").read_text(encoding="utf-8") not in before
    if milestone == "a new generation":
        return any(path.name not in before for path in folder.glob("g-*"))
    if milestone == "work":
        return any(folder.glob("building-*/s-*"))
    return any(folder.glob(f"building-*/{milestone}"))


def wait_for(folder: Path, milestone: str, before: set[str], process: subprocess.Popen[bytes]) -> None:
    """Wait until the command has come so far, or has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while not reached(folder, milestone, before) and process.poll() is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"a command did not come to {milestone} in {DEADLINE_S} s")
        time.sleep(0.0003)


def trial(world: World, kind: str, number: int, chooser: random.Random, encoder: Encoder) -> str:
    """Start one change, kill it, look; tells how it ended, and prints more."""
    change = world.change(kind)
    if kind == "compact":
        # there must be something to make one piece of
        gone = next(iter(world.now))
        assert start(["delete", world.index, gone]).wait(DEADLINE_S) == 0
        world.now = {identity: text for identity, text in world.now.items() if identity != gone}
        change = Change(kind, change.words, world.now)
    before = present(world.index)
    process = start(change.words)
    milestone = chooser.choice(MILESTONES) if number % 2 else "work"
    wait_for(world.index, milestone, before, process)
    moment_s = chooser.uniform(0, AFTER_MILESTONE_S if number % 2 else TYPICAL_S[kind])
    time.sleep(moment_s)
    dead = process.poll() is None
    if dead:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    try:
        state = world.held(encoder, {"before": world.now, "after": change.after})
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        state = f"FAILED: {error!r}"
    if state == "before" and present(world.index) != before:
        state = "after"  # a compaction holds the same
    world.now = change.after if state == "after" else world.now
    how = "killed" if dead else "had ended"
    print(f"{number + 1:3}  {kind:8} {how} {moment_s:.3f} s after {milestone}: as {state}", flush=True)
    return f"{kind} {how}, as {state}"


def main() -> None:
    """Change, kill, look; again and again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chooser = random.Random(options.seed)
    encoder = Encoder.open()
    ends = Counter[str]()
    with tempfile.TemporaryDirectory() as work:
        world = World(Path(work), options.documents, options.seed)
        first = world.change("build")
        assert start(first.words).wait(DEADLINE_S) == 0
        world.now = first.after
        for number in range(options.times):
            kind = chooser.choice(("build", "update", "update", "delete", "compact"))
            ends[trial(world, kind, number, chooser, encoder)] += 1
        clean = True
        for kind in ("delete", "update", "compact", "build"):
            change = world.change(kind)
            done = start(change.words).wait(DEADLINE_S) == 0
            clean = clean and done and world.held(encoder, {"after": change.after}) == "after"
            world.now = change.after
        left = sorted(path.name for path in world.index.iterdir())
        clean = clean and len(left) == 3
        print(f"at last each kind ran: {'nothing of the dead ones is left' if clean else f'FAILED, there is {left}'}")
    for what, count in sorted(ends.items()):
        print(f"{count:4} x {what}")
    failures = sum(count for what, count in ends.items() if "FAILED" in what)
    print(f"{options.times - failures} of {options.times} were sound and held exactly one state")
    sys.exit(bool(failures) or not clean)


if __name__ == "__main__":
    main()
