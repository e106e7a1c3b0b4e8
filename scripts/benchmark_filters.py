"""Measure the cost and the recall of filtered search: benchmark_filters.py EMBEDDINGS [--documents 100000]

EMBEDDINGS is a folder of NAME.npz, as described in scripts/large_index.py. The index is built twice, exact and with an
HNSW graph. For filters that keep 50%, 10%, 1% and 0.01% of the documents at random, and for some that keep documents
which are near each other, prints

- recall@10 against exact search over the allowed documents, on 500 queries, and of the worst tenth of them;
- milliseconds of the nearest-neighbour search, of one query and of 32, and as a ratio to the unfiltered search in the
  same run; of a whole hybrid search without encoding; and of the first evaluation of the filter.
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
from large_index import corpus as read_corpus
from large_index import publish_index, texts

from semsearch.encoders.encoder import Encoder
from semsearch.filters.expression import parse_filter
from semsearch.ingest.index_selection import recall_of
from semsearch.ingest.recipe import IndexOptions
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import FUSION_DEPTH
from semsearch.types import Query, Vectors

FILTERS = ("", "half = 0", "tenth = 0", "percent = 0", "rare = 0", "near < 50", "near < 10", "near = 7")
SELECTION_QUERIES, RECALL_QUERIES, REPEATS = 200, 500, 40


def median_ms(work: Callable[[int], object], turns: int = REPEATS) -> float:
    """Return the median milliseconds of a call."""
    seconds = []
    for turn in range(turns):
        started = perf_counter()
        work(turn)
        seconds.append(perf_counter() - started)
    return 1000 * median(seconds)


def measure(engine: SearchEngine, queries: Vectors, texts: list[str], expression: str) -> dict[str, float]:
    """Measure one filter. texts: keyword queries of the hybrid search."""
    corpus = engine.corpus
    filter_ = parse_filter(expression) if expression else None
    started = perf_counter()
    allowed = corpus.allowed_rows(filter_)
    figures = {"look_up_ms": 1000 * (perf_counter() - started), "share": allowed.document_count / corpus.documents}
    recall_queries = queries[:RECALL_QUERIES]
    rows = np.flatnonzero(allowed.passages)
    depth = min(10, len(rows))
    cosine = recall_queries @ corpus.vectors(rows).T
    exact_scores = -np.sort(-cosine, axis=1)[:, :depth]
    recall = recall_of(corpus.search_vectors(recall_queries, FUSION_DEPTH, allowed=allowed)[0], exact_scores)
    figures |= {"recall": float(recall.mean()), "worst_tenth": float(np.sort(recall)[: RECALL_QUERIES // 10].mean())}
    for together in (1, 32):

        def semantic(turn: int, many: int = together) -> None:
            corpus.search_vectors(queries[turn * many % RECALL_QUERIES :][:many], FUSION_DEPTH, allowed=allowed)

        figures[f"ms_{together}"] = median_ms(semantic)

    def hybrid(turn: int) -> None:
        query = Query(texts[turn], filter=filter_)
        [dense] = engine.search_vectors([query], queries[turn : turn + 1])
        engine.fetch(engine.rank(query, dense))

    figures["hybrid_ms"] = median_ms(hybrid)
    return figures


def main() -> int:
    """Measure all filters with an exact index and with a graph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--documents", type=int, default=100_000)
    options = parser.parse_args()
    encoder = Encoder.open()
    vectors, queries = read_corpus(options.embeddings, options.documents)
    keyword_queries = [" ".join(text.split()[:6]) for text in texts(RECALL_QUERIES, seed=5)]
    columns = ("share", "recall", "worst_tenth", "ms_1", "ms_32", "hybrid_ms", "look_up_ms")
    for kind in ("exact", "hnsw"):
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work, "large")
            publish_index(
                folder, vectors, queries[-SELECTION_QUERIES:], encoder, IndexOptions.model_validate({"type": kind})
            )
            engine = SearchEngine.open(folder, encoder=encoder)
            print(f"\n{kind}, {engine.manifest.documents:,} documents; {engine.manifest.index.reason}")
            print(f"{'filter':12}" + "".join(f"{name:>13}" for name in columns) + f"{'x of none':>12}")
            unfiltered_ms = 0.0
            for expression in FILTERS:
                figures = measure(engine, queries, keyword_queries, expression)
                unfiltered_ms = unfiltered_ms or figures["ms_1"]
                line = "".join(f"{figures[name]:13.4f}" for name in columns)
                print(f"{expression or 'none':12}{line}{figures['ms_1'] / unfiltered_ms:12.2f}", flush=True)
            engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
