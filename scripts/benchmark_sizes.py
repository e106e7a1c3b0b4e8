#!/usr/bin/env python3
"""Measure the vector index that is selected for a number of vectors.

    python scripts/benchmark_sizes.py EMBEDDINGS [--sizes 10000,100000,1000000] [--vectors float32,float16,int8]

EMBEDDINGS is a folder of NAME.npz with `documents` and `queries` (float16 or float32, unit rows). If a size asks for
more documents than there are, they are repeated with noise (0.02 per dimension, then normalised). For each size prints
the index that `semsearch build` would select, the time of the selection, recall@10 against exact search on up to 500
queries that the selection did not use, milliseconds for one query and for 32 together (100 results each, as a search
uses), selected and exact, the size on disk, and, measured in a separate process, the time to open it and its memory
then and after 500 searches.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from large_index import corpus

from semsearch.ingest.index_selection import SelectedIndex, recall_of, select_index
from semsearch.ingest.recipe import IndexOptions
from semsearch.search.ranking import FUSION_DEPTH
from semsearch.storage.vectors import VectorIndex
from semsearch.system.threads import available_cores
from semsearch.types import Vectors

SELECTION_QUERIES = 200
RECALL_QUERIES = 500
REPEATS = 40


def timed_ms(index: VectorIndex, queries: Vectors, together: int, ef_search: int | None) -> float:
    """Return the median milliseconds of a search for `together` queries at once."""
    seconds = []
    for turn in range(REPEATS if together == 1 or ef_search else 8):
        start = turn * together % (len(queries) - together)
        started = perf_counter()
        index.search(queries[start : start + together], FUSION_DEPTH, ef_search=ef_search)
        seconds.append(perf_counter() - started)
    return 1000 * median(seconds)


def run_opening(folder: Path, ef_search: int | None, threads: int) -> dict[str, float]:
    """Run `measure_opening` in a separate process and return its figures."""
    done = subprocess.run(
        [sys.executable, __file__, "--open", str(folder), str(ef_search or 0), str(threads)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure_opening(folder: Path, ef_search: int | None, threads: int) -> None:
    """Print seconds to open the index in the folder, and MiB of memory, anonymous and mapped, at rest and after use."""

    def resident() -> dict[str, float]:
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        sizes = {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[0] in {"RssAnon:", "RssFile:"}}
        return {"anonymous": sizes["RssAnon"], "mapped": sizes["RssFile"]}

    before = resident()
    graph = folder / "graph"
    started = perf_counter()
    index = VectorIndex.open(folder / "vectors", graph if graph.exists() else None, threads=threads)
    seconds = perf_counter() - started
    at_rest = resident()
    queries = np.load(folder / "queries.npy")
    for row in range(len(queries)):
        index.search(queries[row : row + 1], FUSION_DEPTH, ef_search=ef_search)
    after = resident()
    figures = {"seconds": seconds}
    for kind in ("anonymous", "mapped"):
        figures[f"{kind}_at_rest_mib"] = at_rest[kind] - before[kind]
        figures[f"{kind}_after_mib"] = after[kind] - before[kind]
    sys.stdout.write(json.dumps(figures))


def main() -> int:
    """Measure all sizes and formats."""
    if sys.argv[1:2] == ["--open"]:
        measure_opening(Path(sys.argv[2]), int(sys.argv[3]) or None, int(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--vectors", default="float32")
    parser.add_argument("--threads", type=int, default=available_cores())
    options = parser.parse_args()
    for count, precision in product(map(int, options.sizes.split(",")), options.vectors.split(",")):
        documents, queries = corpus(options.embeddings, count)
        exact = VectorIndex.exact(documents.shape[1], threads=options.threads)
        exact.add(documents)
        started = perf_counter()
        *_, selected = select_index(
            documents,
            partial(np.copy, queries[:SELECTION_QUERIES]),
            IndexOptions(vectors=precision),
            threads=options.threads,
        )
        seconds = perf_counter() - started
        assert isinstance(selected, SelectedIndex)
        index, record = selected.index, selected.record
        held_out = queries[SELECTION_QUERIES : SELECTION_QUERIES + RECALL_QUERIES]
        rows = index.search(held_out, FUSION_DEPTH, ef_search=record.ef_search)[1][:, :10]
        scores = np.einsum("nd,nkd->nk", held_out, documents[np.maximum(rows, 0)])
        recall = recall_of(np.where(rows >= 0, scores, -np.inf), exact.search(held_out, 10)[0])
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            index.save(folder / "vectors", folder / "graph")
            np.save(folder / "queries.npy", held_out)
            disk = {path.name: path.stat().st_size / 2**20 for path in folder.iterdir()}
            opening = run_opening(folder, record.ef_search, options.threads)
        row = {
            "vectors": count,
            "chosen": record.model_dump(),
            "build_s": round(seconds, 1),
            "recall_on_others": round(float(recall.mean()), 4),
            **{
                f"{name}_{together}_ms": round(timed_ms(timed_index, queries, together, ef_search), 3)
                for name, timed_index, ef_search in (("chosen", index, record.ef_search), ("exact", exact, None))
                for together in (1, 32)
            },
            "disk_mib": {name: round(mib, 1) for name, mib in disk.items() if name != "queries.npy"},
            "opening": {name: round(value, 3) for name, value in opening.items()},
        }
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
