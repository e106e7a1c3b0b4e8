#!/usr/bin/env python3
"""What does remembering marks do to the marked queries, and to all others? check_memory.py DATA_DIR

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz. In every domain 1 to 128 queries of one half are
marked as a person could: of the first ten results, those that are relevant. Prints by how much nDCG@10 (all judgments)
changes for the marked queries and for up to 150 of the other half: mean over families, and the worst domain.
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
MOST_ASKED = 150


def marks(domain: Dataset, rows: np.ndarray) -> tuple[list[int], list[Judgments]]:
    """Queries among `rows` with a relevant document in their first ten, and those documents."""
    found = np.argsort(-(domain.queries[rows] @ domain.documents.T), axis=1, kind="stable")[:, :10]
    marked = {
        int(row): {int(one): domain.texts.judgments[row][int(one)] for one in first if int(one) in judged}
        for row, first, judged in zip(rows, found, (domain.texts.judgments[row] for row in rows), strict=True)
    }
    kept = [row for row, judged in marked.items() if judged]
    return kept, [marked[row] for row in kept]


def ndcg(domain: Dataset, queries: Vectors, rows: list[int]) -> float:
    """Mean nDCG@10 of queries that stand for these rows."""
    values = measure(queries @ domain.documents.T, [domain.texts.judgments[row] for row in rows])
    return float(values["nDCG@10"].mean())


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write(__doc__ or "")
        return 2
    data = Path(sys.argv[1])
    torch.set_num_threads(1)
    vectors = vectorizer(data)
    changes: dict[tuple[int, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in sorted((data / "domains").iterdir()):
        domain = vectors.dataset(folder)
        for seed in range(SEEDS):
            pool, asked = domain.halves(seed)
            others = asked[:MOST_ASKED].tolist()
            for size in SIZES:
                marked, judged = marks(domain, pool[:size])
                if not marked:
                    continue
                with torch.no_grad():
                    state = memorize(domain.basis, build_support(domain.documents, domain.queries[marked], judged))
                adapter = Adapter.from_states(domain.basis, {"d": state})
                for kind, rows in (("marked", marked), ("others", others)):
                    queries = domain.queries[rows]
                    moved = adapter.transform(queries, ["d"] * len(rows))
                    change = ndcg(domain, moved, rows) - ndcg(domain, queries, rows)
                    changes[size, kind][domain.family, domain.name].append(change)
    for (size, kind), domains in changes.items():
        macro, means = over_families(domains)
        print(f"{size:4} marked, {kind}: {macro:+.4f}, worst domain {min(means.values()):+.4f}, {len(means)} domains")
    return 0


if __name__ == "__main__":
    sys.exit(main())
