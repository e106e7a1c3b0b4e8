"""Kill builds and changes of an index at random moments, and check that the index is still sound.

    python scripts/check_kill.py --times 100

An index is built; then builds of another corpus, updates (documents added, replaced and pruned), deletions and
compactions are started as commands and killed with SIGKILL, children included. Every second one is killed at a random
moment while it writes, the others within milliseconds of the appearance of a file: parts of a segment, the manifest,
the new generation, and the file that names the current generation. After each kill

- `semsearch check` must find nothing wrong: checksums, counts, cross-references;
- the index must open, answer, and hold exactly the documents from before or exactly those from after the change.

At the end each kind of change runs to completion, and no files of the killed ones may be left. Exit code 1 if a check
failed.
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
"""Approximate seconds that each kind writes; the moment of a kill is drawn from this range."""

Texts = Mapping[str, str]
"""Document id → text."""


@dataclass(frozen=True)
class Change:
    """A command, and the documents that the index holds after it."""

    kind: str
    arguments: Sequence[str | Path]
    after: Texts


class TestedIndex:
    """The index under test, and the documents that it should hold."""

    def __init__(self, folder: Path, documents: int, seed: int) -> None:
        self.index = folder / "index"
        self.documents: Texts = {}
        self._files = folder
        self._count = documents
        self._draw = random.Random(seed)
        self._number = 0

    def change(self, kind: str) -> Change:
        """Return a change of this kind to the present documents."""
        self._number += 1
        match kind:
            case "build":
                after = {f"b{self._number}-{n}": self._text(n) for n in range(self._count)}
                return Change(kind, ["build", self._written(after), "--out", self.index], after)
            case "update":
                kept = dict(self._draw.sample(sorted(self.documents.items()), max(1, len(self.documents) * 9 // 10)))
                replaced = dict.fromkeys(self._draw.sample(sorted(kept), min(20, len(kept))), "")
                replaced = {doc_id: self._text(n) for n, doc_id in enumerate(replaced)}
                new = {f"u{self._number}-{n}": self._text(n) for n in range(40)}
                after = {**kept, **replaced, **new}
                return Change(kind, ["update", self.index, self._written(after), "--prune"], after)
            case "delete":
                deleted = self._draw.sample(sorted(self.documents), max(1, len(self.documents) // 20))
                after = {doc_id: text for doc_id, text in self.documents.items() if doc_id not in deleted}
                return Change(kind, ["delete", self.index, *deleted], after)
            case _:
                return Change(kind, ["compact", self.index], self.documents)

    def state(self, encoder: Encoder, expected: Mapping[str, Texts]) -> str:
        """Return the name of the expected state that the index is in. Raises an error if it is in none of them."""
        report = check(self.index)
        assert not report.problems, report.problems
        engine = SearchEngine.open(self.index, encoder=encoder)
        try:
            texts_by_id = {}
            for doc_id in engine.corpus.all_doc_ids():
                document = engine.document(doc_id)
                assert document is not None
                texts_by_id[doc_id] = document.text
            [state] = [name for name, texts in expected.items() if texts == texts_by_id][:1]
            [outcome] = engine.search([Query("price of salt in year 7", k=20)])
            hits = outcome.hits
            assert len(hits) == min(20, len(texts_by_id)), "too few hits"
            assert {hit.id for hit in hits} <= set(texts_by_id), "unknown hits"
        finally:
            engine.close()
        return state

    def _text(self, number: int) -> str:
        return f"Report {self._number}.{number} tells of harvests, rivers and the price of salt in year {number}."

    def _written(self, texts: Texts) -> Path:
        path = self._files / "documents.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for doc_id, text in texts.items():
                file.write(json.dumps({"id": doc_id, "title": "Report", "text": text}) + "\n")
        return path


def start(arguments: Sequence[str | Path]) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "semsearch", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def present(folder: Path) -> set[str]:
    """Return the generations in the folder, and the content of `current`."""
    return {path.name for path in folder.glob("g-*")} | {(folder / "current").read_text(encoding="utf-8")}


def reached(folder: Path, milestone: str, before: set[str]) -> bool:
    """Whether a command has reached a milestone. before: the result of `present` when it started."""
    if milestone == "a new current":
        return (folder / "current").read_text(encoding="utf-8") not in before
    if milestone == "a new generation":
        return any(path.name not in before for path in folder.glob("g-*"))
    if milestone == "work":
        return any(folder.glob("building-*/s-*"))
    return any(folder.glob(f"building-*/{milestone}"))


def wait_for(folder: Path, milestone: str, before: set[str], process: subprocess.Popen[bytes]) -> None:
    """Wait until the command has reached the milestone, or has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while not reached(folder, milestone, before) and process.poll() is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"a command did not reach {milestone!r} in {DEADLINE_S} s")
        time.sleep(0.0003)


def trial(tested: TestedIndex, kind: str, number: int, chooser: random.Random, encoder: Encoder) -> str:
    """Start one change, kill it and check the index. Print and return the outcome."""
    change = tested.change(kind)
    if kind == "compact":
        # without a deletion there would be nothing to compact
        deleted = next(iter(tested.documents))
        assert start(["delete", tested.index, deleted]).wait(DEADLINE_S) == 0
        tested.documents = {doc_id: text for doc_id, text in tested.documents.items() if doc_id != deleted}
        change = Change(kind, change.arguments, tested.documents)
    before = present(tested.index)
    process = start(change.arguments)
    milestone = chooser.choice(MILESTONES) if number % 2 else "work"
    wait_for(tested.index, milestone, before, process)
    moment_s = chooser.uniform(0, AFTER_MILESTONE_S if number % 2 else TYPICAL_S[kind])
    time.sleep(moment_s)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    try:
        state = tested.state(encoder, {"before": tested.documents, "after": change.after})
    except Exception as error:  # noqa: BLE001 - any error is a failed check
        state = f"FAILED: {error!r}"
    if state == "before" and present(tested.index) != before:
        state = "after"  # a compaction keeps the documents
    tested.documents = change.after if state == "after" else tested.documents
    how = "killed" if running else "had ended"
    print(f"{number + 1:3}  {kind:8} {how} {moment_s:.3f} s after {milestone}: as {state}", flush=True)
    return f"{kind} {how}, as {state}"


def main() -> None:
    """Repeatedly change, kill and check the index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chooser = random.Random(options.seed)
    encoder = Encoder.open()
    outcomes = Counter[str]()
    with tempfile.TemporaryDirectory() as work:
        tested = TestedIndex(Path(work), options.documents, options.seed)
        first = tested.change("build")
        assert start(first.arguments).wait(DEADLINE_S) == 0
        tested.documents = first.after
        for number in range(options.times):
            kind = chooser.choice(("build", "update", "update", "delete", "compact"))
            outcomes[trial(tested, kind, number, chooser, encoder)] += 1
        clean = True
        for kind in ("delete", "update", "compact", "build"):
            change = tested.change(kind)
            done = start(change.arguments).wait(DEADLINE_S) == 0
            clean = clean and done and tested.state(encoder, {"after": change.after}) == "after"
            tested.documents = change.after
        files = sorted(path.name for path in tested.index.iterdir())
        clean = clean and len(files) == 3
        print(f"at the end each kind ran: {'no files are left over' if clean else f'FAILED, the folder holds {files}'}")
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:4} x {outcome}")
    failures = sum(count for outcome, count in outcomes.items() if "FAILED" in outcome)
    print(f"{options.times - failures} of {options.times} were sound and in exactly one state")
    sys.exit(bool(failures) or not clean)


if __name__ == "__main__":
    main()
