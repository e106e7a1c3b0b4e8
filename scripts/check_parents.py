"""Measure the benefit of a team's state as the parent of a user's domain: check_parents.py DATA_DIR WEIGHTS

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz. WEIGHTS is a file, or a folder of files written by
`semsearch learn --folds`. In each data set, 64 queries are the team's labels. A user's queries are one of five clusters
(k-means on the vectors): 0, 4, 8 and 16 are labelled, and up to 100 others are measured. Prints the improvement of
nDCG@10 over the frozen encoder by the user's labels alone, by the team's state, and by the user's labels with the
team's state as parent; all guarded.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import faiss
import numpy as np
import torch
from labelled_datasets import over_families, unseen, vectorizer

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.state import DomainState
from semsearch.adapters.support import MAX_DOCUMENTS
from semsearch.evaluation.measures import measure
from semsearch.evaluation.protocol import open_weights
from semsearch.metalearn.episodes import Dataset

TEAM = 64
CLUSTERS = 5
SIZES = (0, 4, 8, 16)
MAX_MEASURED = 100
MIN_MEASURED = 20


def users(dataset: Dataset) -> list[np.ndarray]:
    """Return the rows of the queries of each cluster."""
    means = faiss.Kmeans(dataset.queries.shape[1], CLUSTERS, seed=1, niter=20, spherical=True)
    means.train(dataset.queries)
    _, nearest = means.index.search(dataset.queries, 1)
    return [np.flatnonzero(nearest[:, 0] == cluster) for cluster in range(CLUSTERS)]


def improvement(dataset: Dataset, state: DomainState, rows: np.ndarray) -> float:
    """Return the improvement of nDCG@10 over the frozen encoder on these queries."""
    queries, judgments = dataset.queries[rows], [dataset.texts.judgments[row] for row in rows]
    adapted = Adapter.from_states(dataset.basis, {"d": state}).transform(queries, ["d"] * len(rows))
    before, after = (measure(x @ dataset.documents.T, judgments)["nDCG@10"] for x in (queries, adapted))
    return float((after - before).mean())


def main() -> int:
    if len(sys.argv) != 3:
        sys.stderr.write(__doc__ or "")
        return 2
    data = Path(sys.argv[1])
    torch.set_num_threads(1)
    opened = open_weights(Path(sys.argv[2]))
    reader = vectorizer(data)
    improvements: dict[tuple[int, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in sorted((data / "domains").iterdir()):
        dataset = reader.dataset(folder)
        weights = unseen(dataset, opened)
        if weights is None or len(dataset.queries) < TEAM + CLUSTERS * MIN_MEASURED:
            continue
        for number, cluster in enumerate(users(dataset)):
            rng = np.random.default_rng(number)
            own = rng.permutation(cluster)
            others = np.setdiff1d(np.arange(len(dataset.queries)), own)
            if len(own) < max(SIZES) + MIN_MEASURED or len(others) < TEAM:
                continue
            team_support = dataset.support(rng.choice(others, TEAM, replace=False), max_documents=MAX_DOCUMENTS)
            team = weights.adapt(dataset.basis, team_support)
            measured = own[max(SIZES) :][:MAX_MEASURED]
            for size in SIZES:
                states = {"alone": DomainState.identity(dataset.queries.shape[1]), "team's": team.state}
                states["from the team's"] = team.state
                if size:
                    support = dataset.support(own[:size], max_documents=MAX_DOCUMENTS)
                    states["alone"] = weights.adapt(dataset.basis, support).state
                    if team.adapted:
                        states["from the team's"] = weights.adapt(dataset.basis, support, team.state).state
                    else:
                        states["from the team's"] = states["alone"]
                for kind, state in states.items():
                    value = improvement(dataset, state, measured)
                    improvements[size, kind][dataset.family, dataset.name].append(value)
    for (size, kind), values in improvements.items():
        macro, means = over_families(values)
        print(f"{size:3} labels, {kind:16} {macro:+.4f}, worst domain {min(means.values()):+.4f}, {len(means)} domains")
    return 0


if __name__ == "__main__":
    sys.exit(main())
