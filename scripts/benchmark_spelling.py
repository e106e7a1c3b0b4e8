#!/usr/bin/env python3
"""Measure how long correcting and completing a query takes, next to keyword search for the same query.

    python scripts/benchmark_spelling.py DATA_DIR [--sizes 10000,100000,1000000] [--queries 200]

DATA_DIR holds domains/NAME in BEIR's layout; passages are made of its texts as in benchmark_keywords.py, with random
vectors, which nothing here reads. In each query one word of five or more letters is misspelled (a letter left out,
doubled, replaced or exchanged with the next), or its last word is cut after three letters or more. Prints, for those
that are corrected or completed, milliseconds (median, mean, 99th percentile) and how often the original word came back.
"""

from __future__ import annotations

import argparse
import random
import re
import string
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from benchmark_keywords import describe, multiplied, real_passages, real_queries
from large_index import publish_index

from semsearch.encoders.encoder import Encoder
from semsearch.ingest.recipe import IndexOptions
from semsearch.search.engine import SearchEngine
from semsearch.search.spelling import completed, corrected
from semsearch.types import Mode, Query, unit_rows

MIN_LETTERS = 5


def misspelled(query: str, draw: random.Random) -> str | None:
    """The query with a letter of one of its words changed; None if it has no long word."""
    words = [match for match in re.finditer(r"[a-z]+", query) if len(match[0]) >= MIN_LETTERS]
    if not words:
        return None
    word = draw.choice(words)
    place = draw.randrange(word.start() + 1, word.end() - 1)
    letter, following = query[place], query[place + 1]
    edits = ["", letter * 2, draw.choice(string.ascii_lowercase), following + letter]
    chosen = draw.randrange(len(edits))
    return query[:place] + edits[chosen] + query[place + (2 if chosen == len(edits) - 1 else 1) :]


def unfinished(query: str, draw: random.Random) -> str | None:
    """The query cut within its last word; None if that is short."""
    word = re.search(rf"[a-z]{{{MIN_LETTERS},}}$", query)
    return None if word is None else query[: draw.randrange(word.start() + 3, word.end())]


def measure(folder: Path, queries: list[str], encoder: Encoder) -> None:
    """Print the figures of an index."""
    engine = SearchEngine.open(folder, encoder=encoder)
    everything = engine.corpus.allowed_rows(None)
    draw = random.Random(4)
    change: Callable[[str, random.Random], str | None]
    for name, change, mend in (("corrected", misspelled, corrected), ("completed", unfinished, completed)):
        took: dict[str, list[float]] = {name: [], "keyword search": []}
        restored = 0
        for query in queries:
            changed = change(query, draw)
            mended = None if changed is None else mend(changed, engine.corpus, everything)
            if changed is None or mended is None:
                continue
            restored += mended == query
            stages: dict[str, Callable[[], object]] = {
                name: partial(mend, changed, engine.corpus, everything),
                "keyword search": partial(engine.search, [Query(query, mode=Mode.KEYWORD)]),
            }
            for stage, call in stages.items():
                started = perf_counter()
                call()
                took[stage].append(1000 * (perf_counter() - started))
        print(f"{name}: {len(took[name])} of {len(queries)} queries, {restored} as they were")
        for stage, milliseconds in took.items():
            print(f"  {stage:16}{describe(milliseconds)}", flush=True)
    engine.close()


def main() -> int:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    encoder = Encoder.open("all-MiniLM-L6-v2")
    passages = real_passages(options.data)
    queries = [query.lower().strip(" ?.!") for query in real_queries(options.data, options.queries)]
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, options.sizes.split(",")):
            vectors = unit_rows(np.random.default_rng(0).standard_normal((size, encoder.dimension), np.float32))
            index = Path(folder) / str(size)
            texts = multiplied(passages, size)
            publish_index(index, vectors, vectors[:200], encoder, IndexOptions(type="exact"), passages=texts)
            del vectors
            print(f"\n{size:,} passages")
            measure(index, queries, encoder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
