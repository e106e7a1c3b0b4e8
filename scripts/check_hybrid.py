#!/usr/bin/env python3
"""What are words worth beside meaning, and what does adapting add to both? check_hybrid.py DATA_DIR WEIGHTS [--json F]

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz, WEIGHTS is a file, or a folder of those that
`semsearch learn --folds` wrote. Every domain is indexed as `semsearch build` would and searched by meaning, by words
and by both (the default weight, and reciprocal ranks): nDCG@10 of up to 200 queries. Then 8, 32 and 128 other queries
are labelled, the domain adapts, for an index searched by meaning and for one searched by both, and the same queries are
asked again. Two seeds; means over families, with intervals by drawing families anew.
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
from semsearch.domains.judgments import JudgedQuery, ranking_ndcg
from semsearch.evaluation.dataset_index import dataset_engine, judged_queries
from semsearch.evaluation.protocol import open_weights
from semsearch.metalearn.episodes import Dataset
from semsearch.search.engine import SearchEngine
from semsearch.storage.manifest import SearchOptions
from semsearch.types import Mode, Query

SIZES = (8, 32, 128)
SEEDS = 2
MOST_ASKED = 200
WAYS = {
    "semantic": SearchOptions(mode=Mode.SEMANTIC),
    "lexical": SearchOptions(mode=Mode.KEYWORD),
    "hybrid": SearchOptions(),
    "hybrid, ranks": SearchOptions(lexical_weight="rrf"),
}
ADAPTED = ("semantic", "hybrid")


def ndcg(engine: SearchEngine, domain: Dataset, rows: Sequence[int]) -> float:
    """Mean nDCG@10 of these queries as the engine ranks them."""
    queries = [Query(domain.texts.queries[row], domain="d") for row in rows]
    values = []
    for row, hits in zip(rows, (outcome.hits for outcome in engine.search(queries)), strict=True):
        gains = {str(one): gain for one, gain in domain.texts.judgments[row].items()}
        values.append(ranking_ndcg([hit.id for hit in hits], JudgedQuery(domain.texts.queries[row], gains)))
    return float(np.mean(values))


def measured(folder: Path, *, data: Path, weights_file: Path) -> tuple[str, str, dict[str, float]]:
    """Name, family and every figure of one domain."""
    torch.set_num_threads(1)
    domain = vectorizer(data).dataset(folder)
    weights = unseen(domain, open_weights(weights_file))
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        for way, search in WAYS.items():
            (Path(place) / way).mkdir()
            engine = dataset_engine(domain, Path(place) / way, search)
            for seed in range(SEEDS):
                pool, asked = domain.halves(seed)
                rows = asked[:MOST_ASKED].tolist()
                engine.adapter = engine.adapter.updated({"d": DomainAdapter(None)})
                found[way].append(ndcg(engine, domain, rows))
                for size in SIZES if weights is not None and way in ADAPTED else ():
                    assert weights is not None
                    labels = judged_queries(domain, pool[:size].tolist())
                    outcome = adapt(engine, weights.adapt, labels, encode=engine.encode_label)
                    engine.adapter = engine.adapter.updated({"d": DomainAdapter(outcome.state)})
                    found[f"{way}, {size} labels"].append(ndcg(engine, domain, rows))
            engine.close()
    return domain.name, domain.family, {way: float(np.mean(values)) for way, values in found.items()}


def interval(differences: dict[tuple[str, str], list[float]]) -> str:
    """The mean over families with its 95% interval, and the worst domain."""
    mean, means = over_families(differences)
    by_family: dict[str, list[float]] = defaultdict(list)
    for family, name in differences:
        by_family[family].append(means[name])
    families = np.array([np.mean(values) for values in by_family.values()])
    drawn = np.random.default_rng(0).choice(families, (10_000, len(families))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    worst = min(means, key=lambda name: means[name])
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}], worst {means[worst]:+.3f} {worst}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    rows: dict[tuple[str, str], dict[str, float]] = {}
    work = partial(measured, data=given.data, weights_file=given.weights)
    with ProcessPoolExecutor(given.processes) as pool:
        for future in as_completed([pool.submit(work, one) for one in sorted((given.data / "domains").iterdir())]):
            name, family, figures = future.result()
            rows[family, name] = figures
            print(f"{name:26}", "  ".join(f"{way} {figures[way]:.3f}" for way in WAYS), flush=True)
    print(f"\n{'mean over families':34}{'':8}over the same without labels, or over semantic")
    for way in next(iter(rows.values())):
        plain, _, labelled = way.partition(",")
        base = plain if labelled.endswith("labels") else "semantic"
        mean, _ = over_families({key: [figures[way]] for key, figures in rows.items() if way in figures})
        change = {key: [figures[way] - figures[base]] for key, figures in rows.items() if way in figures}
        print(f"{way:34}{mean:.4f}  {interval(change)}")
    for size in SIZES:
        change = {
            key: [figures[f"hybrid, {size} labels"] - figures[f"semantic, {size} labels"]]
            for key, figures in rows.items()
            if f"hybrid, {size} labels" in figures
        }
        print(f"{f'hybrid over semantic, {size} labels':42}{interval(change)}")
    better = {key: [figures["hybrid"] - max(figures["semantic"], figures["lexical"])] for key, figures in rows.items()}
    print(f"{'hybrid over the better of the two':42}{interval(better)}")
    if given.json:
        given.json.write_text(json.dumps([{"family": f, "domain": n, **row} for (f, n), row in sorted(rows.items())]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
