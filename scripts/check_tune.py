#!/usr/bin/env python3
"""Is what `semsearch tune` chooses better, and by as much as it says? check_tune.py DATA_DIR WEIGHTS [--labels 64]

DATA_DIR and WEIGHTS as of check_hybrid.py. In each domain that has them, so many queries of one half are labelled and
the index is tuned on them. Then the domain adapts to the same labels, as the index was and as it was tuned, and up to
200 queries of the other half are asked under both. Prints, by domain, what was chosen, what tuning said it would bring
and what it brought.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import torch
from check_hybrid import MOST_ASKED, interval, ndcg
from labelled_datasets import unseen, vectorizer

from semsearch.adapters.adapter import DomainAdapter
from semsearch.domains.adapting import adapt
from semsearch.domains.tuning import Budget, TuningResult, tune
from semsearch.evaluation.dataset_index import dataset_engine, judged_queries
from semsearch.evaluation.protocol import open_weights

BUDGET = Budget(search_ms=50, domain_kib=512)


def measured(
    folder: Path, *, data: Path, weights_file: Path, labels: int
) -> tuple[str, str, TuningResult, list[float]] | None:
    """Name, family, what was tuned, and nDCG@10 of the other queries as it was and as it was tuned."""
    torch.set_num_threads(1)
    domain = vectorizer(data).dataset(folder)
    weights = unseen(domain, open_weights(weights_file))
    pool, asked = domain.halves(0)
    if weights is None or len(pool) < labels:
        return None
    known = judged_queries(domain, pool[:labels].tolist())
    with tempfile.TemporaryDirectory() as place:
        engine = dataset_engine(domain, Path(place))
        *_, tuned = tune(engine, weights, {"d": known}, BUDGET)
        assert isinstance(tuned, TuningResult)
        found = []
        for trial in (tuned.trials[0], tuned.chosen):
            search, adaptation = trial.setting.search, trial.setting.adaptation
            engine.manifest = engine.manifest.model_copy(update={"search": search, "adaptation": adaptation})
            state = adapt(engine, weights.adapt, known, encode=engine.encode_label).state
            engine.adapter = engine.adapter.updated({"d": DomainAdapter(state)})
            found.append(ndcg(engine, domain, asked[:MOST_ASKED].tolist()))
        engine.close()
    return domain.name, domain.family, tuned, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--labels", type=int, default=64)
    parser.add_argument("--domains", help="Only these, by comma")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    folders = sorted((given.data / "domains").iterdir())
    if given.domains:
        folders = [one for one in folders if one.name in given.domains.split(",")]
    work = partial(measured, data=given.data, weights_file=given.weights, labels=given.labels)
    gained: dict[tuple[str, str], list[float]] = {}
    said: dict[tuple[str, str], list[float]] = {}
    with ProcessPoolExecutor(given.processes) as pool:
        for future in as_completed([pool.submit(work, one) for one in folders]):
            if (found := future.result()) is None:
                continue
            name, family, tuned, (before, after) = found
            gained[family, name], said[family, name] = [after - before], [tuned.improvement]
            setting = tuned.chosen.setting
            print(
                f"{name:24} {setting.search!s:12} {setting.adaptation!s:18} said {tuned.improvement:+.4f}"
                f" [{tuned.low:+.4f}, {tuned.high:+.4f}]  brought {after - before:+.4f}  ({before:.3f} to {after:.3f})",
                flush=True,
            )
    print(f"over families: said {interval(said)}\n            brought {interval(gained)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
