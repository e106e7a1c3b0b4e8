#!/usr/bin/env python3
"""Check that wrong labels are declined: check_guard.py DATA_DIR [WEIGHTS [SEEDS]]

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz. For every data set, the labels of 8, 32 and 128
queries are replaced in four ways: by random documents, by the documents of other queries, by one document for all
queries, and by unrelated documents for pairs of nearly equal queries. Prints how many support sets were adapted to by a
learner, and for how many documents got votes.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from semsearch.adapters.meta_parameters import scale_of
from semsearch.adapters.support import Judgments, build_support
from semsearch.adapters.weights import DEFAULT_WEIGHTS
from semsearch.domains.vote_weight import choose_vote_weight
from semsearch.encoders.encoder import Encoder
from semsearch.evaluation.protocol import open_weights, without
from semsearch.metalearn.episodes import Dataset, Vectorizer, default_cache
from semsearch.types import Vectors

SIZES = (8, 32, 128)


def wrong_labels(dataset: Dataset, size: int, rng: np.random.Generator) -> dict[str, tuple[Vectors, list[Judgments]]]:
    """Return queries and wrong judgments by the kind of error."""
    rows = rng.permutation(len(dataset.queries))[:size]
    queries, judgments = dataset.queries[rows], [dataset.texts.judgments[row] for row in rows]
    count, n = len(dataset.documents), len(rows)
    shifted = np.roll(np.arange(n), n // 2)
    halves = np.concatenate([queries[: n // 2]] * 2)
    pairs = (halves + 0.02 * rng.normal(size=halves.shape) / halves.shape[1] ** 0.5).astype(np.float32)
    pairs /= np.linalg.norm(pairs, axis=1, keepdims=True)
    return {
        "random documents": (queries, [{int(rng.integers(count)): 1.0} for _ in rows]),
        "one another's": (queries, [judgments[index] for index in shifted]),
        "one document": (queries, [{int(rng.integers(count)): 1.0}] * n),
        "contradictions": (pairs, [{int(row): 1.0} for row in rng.choice(count, size=len(pairs))]),
    }


def main() -> int:
    if len(sys.argv) < 2:
        sys.stderr.write(__doc__ or "")
        return 2
    data = Path(sys.argv[1])
    weights = open_weights(Path(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_WEIGHTS)
    vectorizer = Vectorizer(Encoder.open, "all-MiniLM-L6-v2", default_cache(), data / "embeddings")
    seeds = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    adapted: Counter[tuple[str, int]] = Counter()
    voted: Counter[tuple[str, int]] = Counter()
    tried: Counter[tuple[str, int]] = Counter()
    for folder in sorted((data / "domains").iterdir()):
        dataset = vectorizer.dataset(folder)
        unseen = without(dataset.family, weights) or weights[0]
        for seed in range(seeds):
            rng = np.random.default_rng([seed, 9])
            for size in SIZES:
                for kind, (queries, judgments) in wrong_labels(dataset, size, rng).items():
                    support = build_support(dataset.documents, queries, judgments)
                    verdict = unseen.adapt(dataset.basis, support)
                    held_out = support.queries if verdict.held_out is None else verdict.held_out
                    voted[kind, size] += choose_vote_weight(support, held_out, scale_of(dataset.basis, support)) > 0
                    tried[kind, size] += 1
                    adapted[kind, size] += verdict.adapted
                    if verdict.adapted:
                        print(f"{dataset.name}, {size} labels, {kind}: {verdict.explanation()}")
    for kind, size in tried:
        print(
            f"{kind:20} {size:4} labels: adapted to {adapted[kind, size]:3}, votes for {voted[kind, size]:3} of"
            f" {tried[kind, size]}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
