#!/usr/bin/env python3
"""What does an index of so many vectors get, and cost? benchmark_sizes.py EMBEDDINGS [--sizes 10000,100000,1000000]
[--vectors float32,float16,int8]

EMBEDDINGS is a folder of NAME.npz with `documents` and `queries` (float16 or float32, unit rows). Where a size asks for
more documents than there are, they are repeated with noise (0.02 a number, then brought to unit length). For each size
prints what `semsearch build` would choose, how long that took, recall@10 against exact on up to 500 other queries than
those it was chosen by, milliseconds for one query and for 32 together (100 places each, as a search
asks for), chosen and exact, what is on disk, and, in a
process of its own, how long opening takes and what it holds in memory then and after 500 searches.
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

ASKED = 200
TRIED = 500
TIMED = 40


def timed_ms(index: VectorIndex, queries: Vectors, together: int, effort: int | None) -> float:
    """Median milliseconds of a search for so many queries at once."""
    taken = []
    for turn in range(TIMED if together == 1 or effort else 8):
        start = turn * together % (len(queries) - together)
        started = perf_counter()
        index.search(queries[start : start + together], FUSION_DEPTH, ef_search=effort)
        taken.append(perf_counter() - started)
    return 1000 * median(taken)


def opened(folder: Path, effort: int | None, threads: int) -> dict[str, float]:
    """Seconds to open what is in the folder, and MiB of memory that is not the file's; in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--open", str(folder), str(effort or 0), str(threads)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure_opening(folder: Path, effort: int | None, threads: int) -> None:
    """What the process of its own does."""

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
        index.search(queries[row : row + 1], FUSION_DEPTH, ef_search=effort)
    after = resident()
    found = {"seconds": seconds}
    for kind in ("anonymous", "mapped"):
        found[f"{kind}_at_rest_mib"] = at_rest[kind] - before[kind]
        found[f"{kind}_after_mib"] = after[kind] - before[kind]
    sys.stdout.write(json.dumps(found))


def main() -> int:
    if sys.argv[1:2] == ["--open"]:
        measure_opening(Path(sys.argv[2]), int(sys.argv[3]) or None, int(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--vectors", default="float32")
    parser.add_argument("--threads", type=int, default=available_cores())
    given = parser.parse_args()
    for count, precision in product(map(int, given.sizes.split(",")), given.vectors.split(",")):
        documents, queries = corpus(given.embeddings, count)
        plain = VectorIndex.exact(documents.shape[1], threads=given.threads)
        plain.add(documents)
        started = perf_counter()
        *_, sized = select_index(
            documents, partial(np.copy, queries[:ASKED]), IndexOptions(vectors=precision), threads=given.threads
        )
        seconds = perf_counter() - started
        assert isinstance(sized, SelectedIndex)
        index, record = sized.index, sized.record
        others = queries[ASKED : ASKED + TRIED]
        found = index.search(others, FUSION_DEPTH, ef_search=record.ef_search)[1][:, :10]
        scores = np.einsum("nd,nkd->nk", others, documents[np.maximum(found, 0)])
        shares = recall_of(np.where(found >= 0, scores, -np.inf), plain.search(others, 10)[0])
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            index.save(folder / "vectors", folder / "graph")
            np.save(folder / "queries.npy", others)
            disk = {path.name: path.stat().st_size / 2**20 for path in folder.iterdir()}
            opening = opened(folder, record.ef_search, given.threads)
        row = {
            "vectors": count,
            "chosen": record.model_dump(),
            "build_s": round(seconds, 1),
            "recall_on_others": round(float(shares.mean()), 4),
            **{
                f"{name}_{together}_ms": round(timed_ms(one, queries, together, effort), 3)
                for name, one, effort in (("chosen", index, record.ef_search), ("exact", plain, None))
                for together in (1, 32)
            },
            "disk_mib": {name: round(mib, 1) for name, mib in disk.items() if name != "queries.npy"},
            "opening": {name: round(value, 3) for name, value in opening.items()},
        }
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
