#!/usr/bin/env python3
"""Does the guard decline labels that are wrong? check_guard.py DATA_DIR [WEIGHTS]

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz. For every domain, 8, 32 and 128 labelled queries
are spoiled in four ways: answered by random documents, by one another's documents, all by one document, and each asked
twice with answers that have nothing in common. Prints how many of the supports were adapted to.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from semsearch.adapters.support import Judgments, build_support
from semsearch.adapters.weights import DEFAULT_WEIGHTS
from semsearch.encoders.encoder import Encoder
from semsearch.evaluation.protocol import open_weights, without
from semsearch.metalearn.episodes import Dataset, Vectorizer, default_cache
from semsearch.types import Vectors

SIZES = (8, 32, 128)
SEEDS = 1


def spoiled(domain: Dataset, size: int, rng: np.random.Generator) -> dict[str, tuple[Vectors, list[Judgments]]]:
    """Four ways in which labels can be wrong."""
    rows = rng.permutation(len(domain.queries))[:size]
    queries, true = domain.queries[rows], [domain.texts.judgments[row] for row in rows]
    count, n = len(domain.documents), len(rows)
    turn = np.roll(np.arange(n), n // 2)
    halves = np.concatenate([queries[: n // 2]] * 2)
    again = (halves + 0.02 * rng.normal(size=halves.shape) / halves.shape[1] ** 0.5).astype(np.float32)
    again /= np.linalg.norm(again, axis=1, keepdims=True)
    return {
        "random documents": (queries, [{int(rng.integers(count)): 1.0} for _ in rows]),
        "one another's": (queries, [true[place] for place in turn]),
        "one document": (queries, [{int(rng.integers(count)): 1.0}] * n),
        "contradictions": (again, [{int(row): 1.0} for row in rng.choice(count, size=len(again))]),
    }


def main() -> int:
    if len(sys.argv) < 2:
        sys.stderr.write(__doc__ or "")
        return 2
    data = Path(sys.argv[1])
    weights = open_weights(Path(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_WEIGHTS)
    vectors = Vectorizer(Encoder.open, "all-MiniLM-L6-v2", default_cache(), data / "embeddings")
    adapted: Counter[tuple[str, int]] = Counter()
    tried: Counter[tuple[str, int]] = Counter()
    for folder in sorted((data / "domains").iterdir()):
        domain = vectors.dataset(folder)
        learned = without(domain.family, weights) or weights[0]
        for seed in range(SEEDS):
            rng = np.random.default_rng([seed, 9])
            for size in SIZES:
                for way, (queries, judgments) in spoiled(domain, size, rng).items():
                    verdict = learned.adapt(domain.basis, build_support(domain.documents, queries, judgments))
                    tried[way, size] += 1
                    adapted[way, size] += verdict.adapted
                    if verdict.adapted:
                        print(f"{domain.name}, {size} labels, {way}: {verdict.explanation()}")
    for way, size in tried:
        print(f"{way:20} {size:4} labels: adapted to {adapted[way, size]:3} of {tried[way, size]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
