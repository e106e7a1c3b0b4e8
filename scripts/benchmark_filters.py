"""Measure the cost and the recall of filtered search: benchmark_filters.py EMBEDDINGS [--documents 100000]

EMBEDDINGS is a folder of NAME.npz, as described in scripts/large_index.py. The index is built for each type of --types.
For filters that keep 50%, 10%, 1% and 0.01% of the documents at random, and for some that keep documents which are
near each other, prints

- recall@10 against exact search over the allowed documents, on 500 queries, and of the worst tenth of them;
- milliseconds of the nearest-neighbour search of one query, median, and as a ratio to the search without a filter;
- milliseconds of a whole hybrid search without encoding: median, 99th percentile, and the same ratio;
- milliseconds of the first evaluation of the filter.

The filters take turns: each query is searched with every filter before the next one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from large_index import corpus as read_corpus
from large_index import publish_index, texts

from semsearch.encoders.encoder import Encoder
from semsearch.filters.expression import parse_filter
from semsearch.filters.tree import Filter
from semsearch.ingest.index_selection import recall_of
from semsearch.ingest.recipe import IndexOptions
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import FUSION_DEPTH
from semsearch.storage.corpus import AllowedRows, Corpus
from semsearch.types import Query, Scores, Vectors

FILTERS = ("", "half = 0", "tenth = 0", "percent = 0", "rare = 0", "near < 50", "near < 10", "near = 7")
SELECTION_QUERIES, RECALL_QUERIES, TIMED_QUERIES = 200, 500, 200
WARM_UP_QUERIES = 20
ROWS_AT_A_TIME = 100_000


def timed_ms(work: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    started = perf_counter()
    work()
    return 1000 * (perf_counter() - started)


def nearest_scores(corpus: Corpus, queries: Vectors, allowed: AllowedRows) -> Scores:
    """Return the highest cosines, (n, 10), of n queries and the allowed rows."""
    rows = np.flatnonzero(allowed.passages)
    best = np.full((len(queries), 0), -np.inf, np.float32)
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        cosines = queries @ corpus.vectors(rows[start : start + ROWS_AT_A_TIME]).T
        best = -np.sort(-np.concatenate((best, cosines), axis=1), axis=1)[:, :10]
    return best


def measure(engine: SearchEngine, queries: Vectors, keyword_queries: list[str]) -> None:
    """Print the figures of every filter. keyword_queries: texts of the hybrid searches."""
    corpus = engine.corpus
    filters: dict[str, Filter | None] = {text: parse_filter(text) if text else None for text in FILTERS}
    first_ms = {text: timed_ms(partial(corpus.allowed_rows, chosen)) for text, chosen in filters.items()}

    def vectors_only(row: int, chosen: Filter | None) -> None:
        corpus.search_vectors(
            queries[row : row + 1],
            FUSION_DEPTH,
            ef_search=engine.manifest.search.ef_search,
            allowed=corpus.allowed_rows(chosen),
        )

    def hybrid(row: int, chosen: Filter | None) -> None:
        query = Query(keyword_queries[row], filter=chosen)
        [dense] = engine.search_vectors([query], queries[row : row + 1])
        engine.fetch(engine.rank(query, dense))

    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in range(-WARM_UP_QUERIES, TIMED_QUERIES):
        for text, chosen in filters.items():
            for name, search in (("vectors", vectors_only), ("hybrid", hybrid)):
                ms = timed_ms(partial(search, abs(row), chosen))
                if row >= 0:
                    times[text, name].append(ms)
    columns = ("share", "recall", "worst tenth", "vectors ms", "x", "hybrid ms", "p99", "x", "first ms")
    print(f"{'filter':12}" + "".join(f"{name:>12}" for name in columns))
    recall_queries = queries[:RECALL_QUERIES]
    for text, chosen in filters.items():
        allowed = corpus.allowed_rows(chosen)
        found = corpus.search_vectors(recall_queries, FUSION_DEPTH, allowed=allowed)[0]
        recall = recall_of(found, nearest_scores(corpus, recall_queries, allowed))
        figures = [
            allowed.document_count / corpus.documents,
            float(recall.mean()),
            float(np.sort(recall)[: RECALL_QUERIES // 10].mean()),
        ]
        for name in ("vectors", "hybrid"):
            median = float(np.median(times[text, name]))
            p99 = [float(np.quantile(times[text, name], 0.99))] if name == "hybrid" else []
            figures += [median, *p99, median / float(np.median(times["", name]))]
        line = "".join(f"{figure:12.4f}" for figure in [*figures, first_ms[text]])
        print(f"{text or 'none':12}{line}", flush=True)


def main() -> int:
    """Measure all filters with each type of index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--types", default="exact,hnsw")
    parser.add_argument("--keep", type=Path, help="folder for the indexes, which a second run opens; default: none")
    options = parser.parse_args()
    encoder = Encoder.open()
    vectors, queries = read_corpus(options.embeddings, options.documents)
    keyword_queries = [" ".join(text.split()[:6]) for text in texts(RECALL_QUERIES, seed=5)]
    for kind in options.types.split(","):
        with tempfile.TemporaryDirectory() as work:
            folder = (options.keep or Path(work)) / f"{kind}-{options.documents}"
            if not folder.exists():
                index_options = IndexOptions.model_validate({"type": kind})
                publish_index(folder, vectors, queries[-SELECTION_QUERIES:], encoder, index_options)
            engine = SearchEngine.open(folder, encoder=encoder)
            print(f"\n{kind}, {engine.manifest.documents:,} documents; {engine.manifest.index.reason}")
            measure(engine, queries, keyword_queries)
            engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
