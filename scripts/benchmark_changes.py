"""Measure adding documents to a large index: benchmark_changes.py EMBEDDINGS [--documents 100000] [--new 1000]

EMBEDDINGS is a folder of NAME.npz, as described in scripts/large_index.py. Several times in turn, adds new documents to
the large index and builds an index of the new ones alone. Prints the seconds of both without loading the encoder,
their ratio, and the time besides encoding; then the time of deleting and compacting.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from build_timing import timed
from large_index import corpus, publish_index, texts

from semsearch.encoders.encoder import Encoder
from semsearch.ingest.building import build
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import IndexOptions, Recipe, Source
from semsearch.ingest.updating import compact, delete, update


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--new", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    encoder = Encoder.open()
    vectors, queries = corpus(options.embeddings, options.documents)
    with tempfile.TemporaryDirectory() as work:
        large = Path(work, "large")
        publish_index(large, vectors, queries[-200:], encoder, IndexOptions())
        ratios = []
        for turn in range(options.times):
            path = Path(work, "new.jsonl")
            with path.open("w", encoding="utf-8") as file:
                for number, text in enumerate(texts(options.new, seed=10 + turn)):
                    file.write(json.dumps({"id": f"n{turn}-{number}", "text": text}) + "\n")
            source = Source(path=path)
            alone = timed(build(Recipe(sources=(source,)), Path(work, "alone")))
            index = Path(shutil.copytree(large, Path(work, "copy")))
            added = timed(update(index, read(source)))
            ratios.append(added["all"] / alone["all"])
            rest = added["all"] - added["encode"], alone["all"] - alone["encode"]
            print(
                f"adding {options.new:,} to {options.documents:,}: {added['all']:.2f} s, building them alone:"
                f" {alone['all']:.2f} s, ratio {ratios[-1]:.3f}; without encoding {rest[0]:.2f} and {rest[1]:.2f} s",
                flush=True,
            )
            if turn == options.times - 1:
                started = perf_counter()
                delete(index, [f"d{number}" for number in range(100)])
                print(f"deleting 100: {perf_counter() - started:.3f} s")
                started = perf_counter()
                for _ in compact(index):
                    pass
                print(f"compacting {options.documents + options.new - 100:,}: {perf_counter() - started:.1f} s")
            shutil.rmtree(index)
    print(f"median ratio {median(ratios):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
