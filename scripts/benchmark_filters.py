"""What does a filter cost, and does it lose anything? benchmark_filters.py EMBEDDINGS [--documents 100000]

EMBEDDINGS is a folder of NAME.npz, as scripts/large_index.py takes it. An index of so many documents is made twice,
with every vector compared and with a graph; for filters that keep 50%, 10%, 1% and 0.01% of the documents, whatever
they say, and for some that keep documents which lie together, prints

- recall@10 against a comparison of every allowed document, on 500 queries, and of the worst tenth of them;
- milliseconds of the nearest-neighbour search, of one query and of 32, and as a ratio to the unfiltered search in the
  same run; of a whole hybrid search without encoding; and of looking the condition up for the first time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from large_index import corpus, publish_index, texts

from semsearch.encoders.encoder import Encoder
from semsearch.filters.expression import parse_filter
from semsearch.ingest.index_selection import recall_of
from semsearch.ingest.recipe import IndexOptions
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import FUSION_DEPTH
from semsearch.types import Query, Vectors

FILTERS = ("", "half = 0", "tenth = 0", "percent = 0", "rare = 0", "near < 50", "near < 10", "near = 7")
ASKED, TRIED, TIMED = 200, 500, 40


def median_ms(work: Callable[[int], object], turns: int = TIMED) -> float:
    """Median milliseconds."""
    taken = []
    for turn in range(turns):
        started = perf_counter()
        work(turn)
        taken.append(perf_counter() - started)
    return 1000 * median(taken)


def measured(engine: SearchEngine, queries: Vectors, words: list[str], expression: str) -> dict[str, float]:
    """The figures of one filter."""
    index = engine.corpus
    condition = parse_filter(expression) if expression else None
    started = perf_counter()
    allowed = index.allowed_rows(condition)
    found = {"look_up_ms": 1000 * (perf_counter() - started), "share": allowed.document_count / index.documents}
    tried = queries[:TRIED]
    rows = np.flatnonzero(allowed.passages)
    depth = min(10, len(rows))
    near = tried @ index.vectors(rows).T
    truth = -np.sort(-near, axis=1)[:, :depth]
    shares = recall_of(index.search_vectors(tried, FUSION_DEPTH, allowed=allowed)[0], truth)
    found |= {"recall": float(shares.mean()), "worst_tenth": float(np.sort(shares)[: TRIED // 10].mean())}
    for together in (1, 32):

        def semantic(turn: int, many: int = together) -> None:
            index.search_vectors(queries[turn * many % TRIED :][:many], FUSION_DEPTH, allowed=allowed)

        found[f"ms_{together}"] = median_ms(semantic)

    def hybrid(turn: int) -> None:
        query = Query(words[turn], filter=condition)
        [nearest] = engine.search_vectors([query], queries[turn : turn + 1])
        engine.fetch(engine.rank(query, nearest))

    found["hybrid_ms"] = median_ms(hybrid)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--documents", type=int, default=100_000)
    options = parser.parse_args()
    encoder = Encoder.open()
    vectors, queries = corpus(options.embeddings, options.documents)
    words = [" ".join(text.split()[:6]) for text in texts(TRIED, seed=5)]
    columns = ("share", "recall", "worst_tenth", "ms_1", "ms_32", "hybrid_ms", "look_up_ms")
    for kind in ("exact", "hnsw"):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, "large")
            publish_index(folder, vectors, queries[-ASKED:], encoder, IndexOptions.model_validate({"type": kind}))
            engine = SearchEngine.open(folder, encoder=encoder)
            print(f"\n{kind}, {engine.manifest.documents:,} documents; {engine.manifest.index.reason}")
            print(f"{'filter':12}" + "".join(f"{name:>13}" for name in columns) + f"{'x of none':>12}")
            plain = 0.0
            for expression in FILTERS:
                found = measured(engine, queries, words, expression)
                plain = plain or found["ms_1"]
                line = "".join(f"{found[name]:13.4f}" for name in columns)
                print(f"{expression or 'none':12}{line}{found['ms_1'] / plain:12.2f}", flush=True)
            engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
