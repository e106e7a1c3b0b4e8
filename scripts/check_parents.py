"""Is it worth starting from a parent? A user's few labels, a team's many. check_parents.py DATA_DIR WEIGHTS

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz, WEIGHTS is a file, or a folder of those that
`semsearch learn --folds` wrote. In each domain the team's labels are 64 queries; a user's queries are those of one of
five clusters (k-means on the vectors), of which 0, 4, 8 and 16 are labelled and up to 100 others are asked. Prints
nDCG@10 over frozen: of the user alone, of the team's state, and of the user's inner loop started from it; each guarded.
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
from semsearch.evaluation.measures import measure
from semsearch.evaluation.protocol import open_weights
from semsearch.metalearn.episodes import Dataset

TEAM = 64
CLUSTERS = 5
SIZES = (0, 4, 8, 16)
MOST_ASKED = 100
FEWEST_ASKED = 20


def users(domain: Dataset) -> list[np.ndarray]:
    """Rows of the queries of each cluster."""
    means = faiss.Kmeans(domain.queries.shape[1], CLUSTERS, seed=1, niter=20, spherical=True)
    means.train(domain.queries)
    _, nearest = means.index.search(domain.queries, 1)
    return [np.flatnonzero(nearest[:, 0] == cluster) for cluster in range(CLUSTERS)]


def gain(domain: Dataset, state: DomainState, rows: np.ndarray) -> float:
    """nDCG@10 over frozen on these queries."""
    queries, judgments = domain.queries[rows], [domain.texts.judgments[row] for row in rows]
    moved = Adapter.from_states(domain.basis, {"d": state}).transform(queries, ["d"] * len(rows))
    before, after = (measure(one @ domain.documents.T, judgments)["nDCG@10"] for one in (queries, moved))
    return float((after - before).mean())


def main() -> int:
    if len(sys.argv) != 3:
        sys.stderr.write(__doc__ or "")
        return 2
    data = Path(sys.argv[1])
    torch.set_num_threads(1)
    weights = open_weights(Path(sys.argv[2]))
    vectors = vectorizer(data)
    gains: dict[tuple[int, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in sorted((data / "domains").iterdir()):
        domain = vectors.dataset(folder)
        learned = unseen(domain, weights)
        if learned is None or len(domain.queries) < TEAM + CLUSTERS * FEWEST_ASKED:
            continue
        for number, cluster in enumerate(users(domain)):
            rng = np.random.default_rng(number)
            mine = rng.permutation(cluster)
            others = np.setdiff1d(np.arange(len(domain.queries)), mine)
            if len(mine) < max(SIZES) + FEWEST_ASKED or len(others) < TEAM:
                continue
            team = learned.adapt(
                domain.basis, domain.support(rng.choice(others, TEAM, replace=False), max_documents=2048)
            )
            asked = mine[max(SIZES) :][:MOST_ASKED]
            for size in SIZES:
                states = {"alone": DomainState.identity(domain.queries.shape[1]), "team's": team.state}
                states["from the team's"] = team.state
                if size:
                    support = domain.support(mine[:size], max_documents=2048)
                    states["alone"] = learned.adapt(domain.basis, support).state
                    if team.adapted:
                        states["from the team's"] = learned.adapt(domain.basis, support, team.state).state
                    else:
                        states["from the team's"] = states["alone"]
                for way, state in states.items():
                    gains[size, way][domain.family, domain.name].append(gain(domain, state, asked))
    for (size, way), domains in gains.items():
        macro, means = over_families(domains)
        print(f"{size:3} labels, {way:16} {macro:+.4f}, worst domain {min(means.values()):+.4f}, {len(means)} domains")
    return 0


if __name__ == "__main__":
    sys.exit(main())
