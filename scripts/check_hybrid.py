#!/usr/bin/env python3
"""Measure semantic, keyword and hybrid search, without and with adaptation.

    python scripts/check_hybrid.py DATA_DIR WEIGHTS [--embeddings DIR] [--json FILE]

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz; --embeddings names a folder of vectors by another
encoder, which hold `documents` and `queries` of every data set. WEIGHTS is a weights file, or a folder of those
that `semsearch learn --folds` wrote. Each data set is indexed as `semsearch build` would, and up to 200 queries are
searched in each mode (hybrid with the default weight and with reciprocal rank fusion). Then 8, 32 and 128 other queries
are labelled, a domain adapts, in an index with semantic search and in one with hybrid search, and the same queries are
searched again. Prints nDCG@10, the mean of two seeds, and means over families with bootstrap intervals over families.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np
import torch
from labelled_datasets import over_families, unseen, vectorizer

from semsearch.adapters.adapter import DomainAdapter
from semsearch.domains.adapting import adapt
from semsearch.domains.judgments import ranking_ndcg
from semsearch.evaluation.dataset_index import dataset_engine, judged_queries
from semsearch.evaluation.protocol import open_weights
from semsearch.metalearn.episodes import Dataset
from semsearch.search.engine import SearchEngine
from semsearch.storage.manifest import SearchOptions
from semsearch.types import Mode, Query

SIZES = (8, 32, 128)
SEEDS = 2
MAX_QUERIES = 200
METHODS = {
    "semantic": SearchOptions(mode=Mode.SEMANTIC),
    "keyword": SearchOptions(mode=Mode.KEYWORD),
    "hybrid": SearchOptions(),
    "hybrid, rank fusion": SearchOptions(lexical_weight="rrf"),
}
ADAPTED = ("semantic", "hybrid")


def ndcg(engine: SearchEngine, dataset: Dataset, rows: Sequence[int]) -> float:
    """Mean nDCG@10 of some queries of a data set, as the engine ranks them. rows: indices of the queries."""
    queries = [Query(dataset.texts.queries[row], domain="d") for row in rows]
    values = []
    for row, outcome in zip(rows, engine.search(queries), strict=True):
        [judged] = judged_queries(dataset, [row])
        values.append(ranking_ndcg([hit.id for hit in outcome.hits], judged))
    return float(np.mean(values))


def measure(
    folder: Path, *, data: Path, embeddings: Path | None, weights_file: Path
) -> tuple[str, str, dict[str, float]]:
    """Return the name, the family and the nDCG@10 of each method on one data set."""
    torch.set_num_threads(1)
    dataset = vectorizer(data, embeddings).dataset(folder)
    weights = unseen(dataset, open_weights(weights_file))
    values: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as work:
        for method, search in METHODS.items():
            (Path(work) / method).mkdir()
            engine = dataset_engine(dataset, Path(work) / method, search)
            for seed in range(SEEDS):
                pool, held_out = dataset.halves(seed)
                rows = held_out[:MAX_QUERIES].tolist()
                engine.adapter = engine.adapter.updated({"d": DomainAdapter(None)})
                values[method].append(ndcg(engine, dataset, rows))
                for size in SIZES if weights is not None and method in ADAPTED else ():
                    assert weights is not None
                    labels = judged_queries(dataset, pool[:size].tolist())
                    outcome = adapt(engine, weights.adapt, labels, encode=engine.encode_label)
                    engine.adapter = engine.adapter.updated({"d": DomainAdapter(outcome.state)})
                    values[f"{method}, {size} labels"].append(ndcg(engine, dataset, rows))
            engine.close()
    return dataset.name, dataset.family, {method: float(np.mean(numbers)) for method, numbers in values.items()}


def interval(differences: dict[tuple[str, str], list[float]]) -> str:
    """Describe the mean over families with its 95% interval, and the worst data set. differences: by (family, name)."""
    mean, means = over_families(differences)
    by_family: dict[str, list[float]] = defaultdict(list)
    for family, name in differences:
        by_family[family].append(means[name])
    families = np.array([np.mean(values) for values in by_family.values()])
    resampled = np.random.default_rng(0).choice(families, (10_000, len(families))).mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    worst = min(means, key=lambda name: means[name])
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}], worst {means[worst]:+.3f} {worst}"


def print_summary(rows: dict[tuple[str, str], dict[str, float]]) -> None:
    """Print means over families and differences between methods. rows: (family, name) → method → nDCG@10."""
    print(f"\n{'mean over families':34}{'':8}over the same without labels, or over semantic")
    for method in next(iter(rows.values())):
        unlabelled, _, labelled = method.partition(",")
        base = unlabelled if labelled.endswith("labels") else "semantic"
        mean, _ = over_families({key: [figures[method]] for key, figures in rows.items() if method in figures})
        change = {key: [figures[method] - figures[base]] for key, figures in rows.items() if method in figures}
        print(f"{method:34}{mean:.4f}  {interval(change)}")
    for size in SIZES:
        change = {
            key: [figures[f"hybrid, {size} labels"] - figures[f"semantic, {size} labels"]]
            for key, figures in rows.items()
            if f"hybrid, {size} labels" in figures
        }
        print(f"{f'hybrid over semantic, {size} labels':42}{interval(change)}")
    over_best = {
        key: [figures["hybrid"] - max(figures["semantic"], figures["keyword"])] for key, figures in rows.items()
    }
    print(f"{'hybrid over the better of the two':42}{interval(over_best)}")


def main() -> int:
    """Measure all data sets, in parallel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    rows: dict[tuple[str, str], dict[str, float]] = {}
    work = partial(measure, data=options.data, embeddings=options.embeddings, weights_file=options.weights)
    folders = sorted((options.data / "domains").iterdir())
    with ProcessPoolExecutor(options.processes) as pool:
        for future in as_completed([pool.submit(work, folder) for folder in folders]):
            name, family, figures = future.result()
            rows[family, name] = figures
            print(f"{name:26}", "  ".join(f"{method} {figures[method]:.3f}" for method in METHODS), flush=True)
    print_summary(rows)
    if options.json:
        options.json.write_text(json.dumps([{"family": f, "domain": n, **row} for (f, n), row in sorted(rows.items())]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
