#!/usr/bin/env python3
"""Measure how memorizing marked queries changes these queries and all others.

    python scripts/check_memory.py DATA_DIR

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz. In each data set, 1 to 128 queries of one half are
marked as a person could: the relevant documents among the first ten results. Prints the change of nDCG@10 (over all
judgments) of the marked queries and of up to 150 queries of the other half: the mean over families, and the worst data
set.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from labelled_datasets import over_families, vectorizer

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.memory import memorize
from semsearch.adapters.support import Judgments, build_support
from semsearch.evaluation.measures import measure
from semsearch.metalearn.episodes import Dataset
from semsearch.types import Vectors

SIZES = (1, 4, 32, 128)
SEEDS = 2
MAX_OTHERS = 150


def mark(dataset: Dataset, rows: np.ndarray) -> tuple[list[int], list[Judgments]]:
    """Return the queries among `rows` with a relevant document in their first ten, and the relevance of those."""
    scores = dataset.queries[rows] @ dataset.documents.T
    first = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    marked: dict[int, Judgments] = {}
    for row, documents in zip(rows.tolist(), first.tolist(), strict=True):
        judged = dataset.texts.judgments[row]
        if relevance := {document: judged[document] for document in documents if document in judged}:
            marked[row] = relevance
    return list(marked), list(marked.values())


def ndcg(dataset: Dataset, queries: Vectors, rows: list[int]) -> float:
    """Mean nDCG@10 of query vectors (n, dim). rows: the queries of the data set whose judgments apply."""
    values = measure(queries @ dataset.documents.T, [dataset.texts.judgments[row] for row in rows])
    return float(values["nDCG@10"].mean())


def main() -> int:
    """Measure all data sets."""
    if len(sys.argv) != 2:
        sys.stderr.write(__doc__ or "")
        return 2
    data = Path(sys.argv[1])
    torch.set_num_threads(1)
    vectors = vectorizer(data)
    changes: dict[tuple[int, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in sorted((data / "domains").iterdir()):
        dataset = vectors.dataset(folder)
        for seed in range(SEEDS):
            pool, held_out = dataset.halves(seed)
            others = held_out[:MAX_OTHERS].tolist()
            for size in SIZES:
                marked, relevance = mark(dataset, pool[:size])
                if not marked:
                    continue
                with torch.no_grad():
                    state = memorize(
                        dataset.basis, build_support(dataset.documents, dataset.queries[marked], relevance)
                    )
                adapter = Adapter.from_states(dataset.basis, {"d": state})
                for kind, rows in (("marked", marked), ("others", others)):
                    queries = dataset.queries[rows]
                    adapted = adapter.transform(queries, ["d"] * len(rows))
                    change = ndcg(dataset, adapted, rows) - ndcg(dataset, queries, rows)
                    changes[size, kind][dataset.family, dataset.name].append(change)
    for (size, kind), differences in changes.items():
        mean, means = over_families(differences)
        print(f"{size:4} marked, {kind}: {mean:+.4f}, worst domain {min(means.values()):+.4f}, {len(means)} domains")
    return 0


if __name__ == "__main__":
    sys.exit(main())
