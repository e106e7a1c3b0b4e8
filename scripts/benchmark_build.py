"""Measure a build: its rate relative to the bare encoder on the same passages, and its peak memory.

    python scripts/benchmark_build.py rate FILES... [--passages 10000] [--repeats 3]
    python scripts/benchmark_build.py memory FILES... [--passages 100000]

FILES are JSONL corpora with `title` and `text`. `rate` alternates, for each repeat on other passages, the bare encoder
(`Encoder.encode_all`, which sorts by length) and a whole build (reading, cutting, storing, encoding,
basis, map, index, checksums, publishing; the model is loaded before). `memory` builds in separate processes, one of
them of a single passage to measure the model alone, and prints the peak memory that the operating system reports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

from build_timing import timed

from semsearch.encoders.encoder import Encoder
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe
from semsearch.storage.corpus import Corpus
from semsearch.storage.generations import open_current, read_manifest


def records(files: Sequence[Path]) -> Iterator[dict[str, str]]:
    """Yield the records of all files, repeatedly, each with a unique id."""
    rounds = 0
    while True:
        rounds += 1
        for file in files:
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines):
                    values = json.loads(line)
                    yield {
                        "id": f"{rounds}-{file.parent.name}-{file.name}-{number}",
                        "title": values.get("title", ""),
                        "text": values.get("text", "") if rounds == 1 else f"{values.get('text', '')} ({rounds})",
                    }


def write(path: Path, batch: Iterator[dict[str, str]]) -> Path:
    """Write records to a JSONL file and return its path."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in batch)
    return path


def rate(files: Sequence[Path], passages: int, repeats: int) -> None:
    """Alternate bare encoding and building, and print the ratios."""
    encoder = Encoder.open()
    stream = (record for record in records(files) if record["title"] or record["text"])
    ratios, encode_ratios = [], []
    with tempfile.TemporaryDirectory() as work:
        for repeat in range(repeats):
            corpus = write(Path(work, f"{repeat}.jsonl"), islice(stream, passages))
            folder = Path(work, f"index-{repeat}")
            times: dict[str, float] = {}
            order = ("build", "bare") if repeat % 2 else ("bare", "build")
            texts = _texts(corpus, folder)
            for task in order:
                started = perf_counter()
                if task == "bare":
                    encoder.encode_all("document", texts)
                    times["bare"] = perf_counter() - started
                else:
                    times.update(timed(build(_recipe(corpus), folder)))
            ratios.append(times["bare"] / times["all"])
            encode_ratios.append(times["bare"] / times["encode"])
            print(
                f"{repeat + 1}  {len(texts)} passages: bare {len(texts) / times['bare']:.1f}/s,"
                f" build {len(texts) / times['all']:.1f}/s (ratio {ratios[-1]:.3f}),"
                f" encoding within the build {len(texts) / times['encode']:.1f}/s (ratio {encode_ratios[-1]:.3f})",
                flush=True,
            )
    print(f"build against bare encoder, median of {repeats}: {statistics.median(ratios):.3f}")
    print(f"encoding within the build against bare encoder: {statistics.median(encode_ratios):.3f}")


def _texts(corpus: Path, folder: Path) -> list[str]:
    """Return the passages that a build of the corpus encodes. The index it builds warms the page cache for both."""
    for _ in build(_recipe(corpus), folder):
        pass
    opened = open_current(folder)
    texts = [text for _, text in Corpus.open(opened, threads=1).texts()]
    opened.close()
    return texts


def _recipe(corpus: Path) -> Recipe:
    return Recipe.model_validate({"sources": [{"path": str(corpus)}]})


def memory(files: Sequence[Path], passages: int) -> None:
    """Build in separate processes and print their peak memory."""
    with tempfile.TemporaryDirectory() as work:
        long_first = sorted(islice(records(files), 2_000), key=lambda record: -len(record["text"]))
        small = write(Path(work, "small.jsonl"), islice(cycle(long_first[:1]), 1))
        large = write(Path(work, "large.jsonl"), islice(records(files), passages))
        model_mib, _ = _peak(small, Path(work, "small"))
        started = perf_counter()
        peak_mib, folder = _peak(large, Path(work, "large"))
        seconds = perf_counter() - started
        manifest = read_manifest(folder)
        vectors_mib = manifest.passages * manifest.encoder.dimension * 4 / 2**20
        corpus_mib = large.stat().st_size / 2**20
    print(f"documents      {manifest.documents}, passages {manifest.passages}, corpus {corpus_mib:.1f} MiB")
    print(f"time           {seconds:.0f} s, {manifest.passages / seconds:.1f} passages/s with start and loading")
    print(f"peak           {peak_mib:.0f} MiB")
    print(f"model alone    {model_mib:.0f} MiB (model and libraries, one passage)")
    print(
        f"vectors        {vectors_mib:.0f} MiB; peak / (model + vectors) = {peak_mib / (model_mib + vectors_mib):.2f}"
    )


def _peak(corpus: Path, folder: Path) -> tuple[float, Path]:
    process = subprocess.Popen(
        [sys.executable, "-m", "semsearch", "build", str(corpus), "--out", str(folder), "--skip-bad"],
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the build of {corpus.name} failed with {process.returncode}")
    return usage.ru_maxrss / 1024, folder


def main() -> None:
    """Run the measurement named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("rate", "memory"))
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--passages", type=int, help="number of records; a short record is one passage")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.task == "rate":
        rate(options.files, options.passages or 10_000, options.repeats)
    else:
        memory(options.files, options.passages or 100_000)


if __name__ == "__main__":
    main()
