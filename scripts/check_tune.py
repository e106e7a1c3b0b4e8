#!/usr/bin/env python3
"""Check that the choice of `semsearch tune` improves held-out queries, and by as much as it estimates.

    python scripts/check_tune.py DATA_DIR WEIGHTS [--labels 64]

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz. WEIGHTS is a weights file, or a folder of those
that `semsearch learn --folds` wrote. In each data set with enough queries, `--labels` queries of one half are labelled,
and the index is tuned on them. Then a domain adapts to the same labels, with the settings before and after tuning, and
up to 200 queries of the other half are searched with both. Prints, for each data set, the choice, the estimated
improvement and the measured one.
"""

from __future__ import annotations

import argparse
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
from semsearch.domains.tuning import Budget, TuningResult, tune
from semsearch.evaluation.dataset_index import dataset_engine, judged_queries
from semsearch.evaluation.protocol import open_weights
from semsearch.metalearn.episodes import Dataset
from semsearch.search.engine import SearchEngine
from semsearch.types import Query

BUDGET = Budget(search_ms=50, domain_kib=512)
MAX_QUERIES = 200


def ndcg(engine: SearchEngine, dataset: Dataset, rows: Sequence[int]) -> float:
    """Mean nDCG@10 of some queries of a data set, as the engine ranks them. rows: indices of the queries."""
    queries = [Query(dataset.texts.queries[row], domain="d") for row in rows]
    values = []
    for row, outcome in zip(rows, engine.search(queries), strict=True):
        [judged] = judged_queries(dataset, [row])
        values.append(ranking_ndcg([hit.id for hit in outcome.hits], judged))
    return float(np.mean(values))


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


def measure(
    folder: Path, *, data: Path, weights_file: Path, labels: int
) -> tuple[str, str, TuningResult, list[float]] | None:
    """Return name, family and tuning of a data set, and nDCG@10 of other queries before and after tuning.

    None if the data set has too few queries, or all weights were learned on its family.
    """
    torch.set_num_threads(1)
    dataset = vectorizer(data).dataset(folder)
    weights = unseen(dataset, open_weights(weights_file))
    pool, held_out = dataset.halves(0)
    if weights is None or len(pool) < labels:
        return None
    judged = judged_queries(dataset, pool[:labels].tolist())
    with tempfile.TemporaryDirectory() as work:
        engine = dataset_engine(dataset, Path(work))
        *_, tuning = tune(engine, weights, {"d": judged}, BUDGET)
        assert isinstance(tuning, TuningResult)
        values = []
        for trial in (tuning.trials[0], tuning.chosen):
            search, adaptation = trial.setting.search, trial.setting.adaptation
            engine.manifest = engine.manifest.model_copy(update={"search": search, "adaptation": adaptation})
            state = adapt(engine, weights.adapt, judged, encode=engine.encode_label).state
            engine.adapter = engine.adapter.updated({"d": DomainAdapter(state)})
            values.append(ndcg(engine, dataset, held_out[:MAX_QUERIES].tolist()))
        engine.close()
    return dataset.name, dataset.family, tuning, values


def main() -> int:
    """Tune and measure all data sets, in parallel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--labels", type=int, default=64)
    parser.add_argument("--domains", help="only these data sets, separated by commas")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    folders = sorted((options.data / "domains").iterdir())
    if options.domains:
        folders = [folder for folder in folders if folder.name in options.domains.split(",")]
    work = partial(measure, data=options.data, weights_file=options.weights, labels=options.labels)
    measured: dict[tuple[str, str], list[float]] = {}
    estimated: dict[tuple[str, str], list[float]] = {}
    with ProcessPoolExecutor(options.processes) as pool:
        for future in as_completed([pool.submit(work, folder) for folder in folders]):
            if (result := future.result()) is None:
                continue
            name, family, tuning, (before, after) = result
            measured[family, name], estimated[family, name] = [after - before], [tuning.improvement]
            setting = tuning.chosen.setting
            print(
                f"{name:24} {setting.search!s:12} {setting.adaptation!s:18} estimated {tuning.improvement:+.4f}"
                f" [{tuning.low:+.4f}, {tuning.high:+.4f}]  measured {after - before:+.4f}"
                f"  ({before:.3f} to {after:.3f})",
                flush=True,
            )
    print(f"over families: estimated {interval(estimated)}\n               measured {interval(measured)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
