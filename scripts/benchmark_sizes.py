#!/usr/bin/env python3
"""Measure the vector index that is selected for a number of vectors.

    python scripts/benchmark_sizes.py EMBEDDINGS [--sizes 10000,100000,1000000] [--vectors float32,float16,int8]
        [--type auto,exact,hnsw,ivf] [--work FOLDER]

EMBEDDINGS is a folder of NAME.npz with `documents` and `queries` (float16 or float32, unit rows). If a size asks for
more documents than there are, they are repeated with noise (0.02 per dimension, then normalised), in a temporary file
in FOLDER. Queries are the real ones, not copies of documents. For each size prints the index that `semsearch build`
would select, the time of the selection and the highest memory meanwhile, recall@10 against exact search on up to 500
queries that the selection did not use, and the size on disk. Measured in a separate process: the time to open the
index, its memory then and after 500 searches, and milliseconds for one query (100 results, as a search uses), median
and 99th percentile, the first time and again, and for 32 queries together, selected and exact.

Ten million vectors need 30 GB of free disk in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter

import numpy as np
from large_index import corpus

from semsearch.ingest.index_selection import SelectedIndex, recall_of, select_index
from semsearch.ingest.inverted_file import highest_scores
from semsearch.ingest.recipe import IndexOptions
from semsearch.search.ranking import FUSION_DEPTH
from semsearch.storage.index_checkpoint import IndexCheckpoint
from semsearch.storage.vectors import VectorIndex
from semsearch.system.threads import available_cores
from semsearch.types import Vectors

SELECTION_QUERIES = 200
RECALL_QUERIES = 500
REPEATS = 40
SAMPLING_S = 0.1
"""Time between two readings of the memory."""


def resident_mib() -> dict[str, float]:
    """Return the memory of this process, anonymous and mapped from files."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    sizes = {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[0] in {"RssAnon:", "RssFile:"}}
    return {"anonymous": sizes["RssAnon"], "mapped": sizes["RssFile"]}


@contextmanager
def peak_mib() -> Iterator[dict[str, float]]:
    """Yield the highest memory of this process within the block, which is complete at its end."""
    peak, ended = resident_mib(), Event()

    def watch() -> None:
        while not ended.wait(SAMPLING_S):
            for kind, mib in resident_mib().items():
                peak[kind] = max(peak[kind], mib)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def query_ms(index: VectorIndex, queries: Vectors, ef_search: int | None) -> dict[str, float]:
    """Return the milliseconds of a search for one query, median and 99th percentile over the queries."""
    milliseconds = []
    for row in range(len(queries)):
        started = perf_counter()
        index.search(queries[row : row + 1], FUSION_DEPTH, ef_search=ef_search)
        milliseconds.append(1000 * (perf_counter() - started))
    return {"median": median(milliseconds), "p99": float(np.quantile(milliseconds, 0.99))}


def batch_ms(index: VectorIndex, queries: Vectors, together: int, ef_search: int | None) -> float:
    """Return the median milliseconds of a search for `together` queries at once."""
    seconds = []
    for turn in range(REPEATS if ef_search else 3):
        start = turn * together % (len(queries) - together)
        started = perf_counter()
        index.search(queries[start : start + together], FUSION_DEPTH, ef_search=ef_search)
        seconds.append(perf_counter() - started)
    return 1000 * median(seconds)


def run_opened(folder: Path, index_type: str, ef_search: int | None, threads: int) -> dict[str, float]:
    """Run `measure_opened` in a separate process and return its figures."""
    done = subprocess.run(
        [sys.executable, __file__, "--open", str(folder), index_type, str(ef_search or 0), str(threads)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure_opened(folder: Path, index_type: str, ef_search: int | None, threads: int) -> None:
    """Print seconds to open the index in the folder, MiB of memory at rest and after use, and times of searches."""
    queries = np.load(folder / "queries.npy")
    before = resident_mib()
    started = perf_counter()
    graph, lists = (folder / "more" if index_type == name else None for name in ("hnsw", "ivf"))
    index = VectorIndex.open(folder / "vectors", graph, lists=lists, threads=threads)
    figures = {"open_s": perf_counter() - started}
    at_rest = resident_mib()
    first = query_ms(index, queries, ef_search)
    after = resident_mib()
    again = query_ms(index, queries, ef_search)
    for kind in ("anonymous", "mapped"):
        figures[f"{kind}_at_rest_mib"] = at_rest[kind] - before[kind]
        figures[f"{kind}_after_mib"] = after[kind] - before[kind]
    for name, times in (("first", first), ("again", again), ("exact", query_ms(index, queries[:20], None))):
        figures |= {f"{name}_{statistic}_ms": value for statistic, value in times.items()}
    figures["together_32_ms"] = batch_ms(index, queries, 32, ef_search)
    figures["exact_together_32_ms"] = batch_ms(index, queries, 32, None)
    sys.stdout.write(json.dumps(figures))


def measure(count: int, options: IndexOptions, embeddings: Path, work: Path, threads: int) -> dict[str, object]:
    """Return the figures of one size."""
    documents, queries = corpus(embeddings, count, store=work)
    held_out = queries[SELECTION_QUERIES : SELECTION_QUERIES + RECALL_QUERIES]
    started = perf_counter()
    with peak_mib() as peak:
        *_, selected = select_index(
            documents,
            partial(np.copy, queries[:SELECTION_QUERIES]),
            options,
            threads=threads,
            open_checkpoint=partial(IndexCheckpoint, work, documents),
        )
    seconds = perf_counter() - started
    assert isinstance(selected, SelectedIndex)
    index, record = selected.index, selected.record
    rows = index.search(held_out, FUSION_DEPTH, ef_search=record.ef_search)[1][:, :10]
    scores = np.einsum("nd,nkd->nk", held_out, documents[np.maximum(rows, 0)])
    truth = highest_scores(documents, held_out, 10, threads=threads)
    recall = recall_of(np.where(rows >= 0, scores, -np.inf), truth)
    index.save(work / "vectors", work / "more")
    np.save(work / "queries.npy", held_out)
    del index, selected
    return {
        "vectors": count,
        "chosen": record.model_dump(),
        "build_s": round(seconds, 1),
        "build_peak_mib": {kind: round(mib) for kind, mib in peak.items()},
        "recall_on_others": round(float(recall.mean()), 4),
        "disk_mib": {
            name: round((work / name).stat().st_size / 2**20, 1)
            for name in ("vectors", "more")
            if (work / name).exists()
        },
        "opened": {
            name: round(value, 3) for name, value in run_opened(work, record.type, record.ef_search, threads).items()
        },
    }


def main() -> int:
    """Measure all sizes and formats."""
    if sys.argv[1:2] == ["--open"]:
        measure_opened(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]) or None, int(sys.argv[5]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--vectors", default="auto")
    parser.add_argument("--type", default="auto")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=available_cores())
    options = parser.parse_args()
    for count, precision, index_type in product(
        map(int, options.sizes.split(",")), options.vectors.split(","), options.type.split(",")
    ):
        index_options = IndexOptions.model_validate({"vectors": precision, "type": index_type})
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            row = measure(count, index_options, options.embeddings, Path(work), options.threads)
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
