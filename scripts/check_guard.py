#!/usr/bin/env python3
"""Check that wrong labels are declined: check_guard.py DATA_DIR [WEIGHTS [SEEDS]]

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz. For every data set, the labels of 8, 32 and 128
queries are replaced in five ways: by random documents, by the documents of other queries, by one document for all
queries, by unrelated documents for pairs of nearly equal queries, and by random marks of the first ten results. Prints
how many support sets were adapted to by a learner, for how many documents got votes, and the worst change of nDCG@10
by a learner on up to 200 other queries.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.meta_parameters import scale_of
from semsearch.adapters.state import DomainState
from semsearch.adapters.support import Judgments, build_support
from semsearch.adapters.weights import DEFAULT_WEIGHTS
from semsearch.domains.vote_weight import choose_vote_weight
from semsearch.encoders.encoder import Encoder
from semsearch.evaluation.measures import measure
from semsearch.evaluation.protocol import open_weights, without
from semsearch.metalearn.episodes import Dataset, Vectorizer, default_cache
from semsearch.types import Vectors

SIZES = (8, 32, 128)


MARKED = 0.3
"""Probability that a first result is marked as relevant."""
RANDOM_MARKS = "random marks"
"""The kind of error of which only the first ten results are judged."""


def wrong_labels(dataset: Dataset, size: int, rng: np.random.Generator) -> dict[str, tuple[Vectors, list[Judgments]]]:
    """Return queries and wrong judgments by the kind of error."""
    rows = rng.permutation(len(dataset.queries))[:size]
    queries, judgments = dataset.queries[rows], [dataset.texts.judgments[row] for row in rows]
    count, n = len(dataset.documents), len(rows)
    shifted = np.roll(np.arange(n), n // 2)
    halves = np.concatenate([queries[: n // 2]] * 2)
    pairs = (halves + 0.02 * rng.normal(size=halves.shape) / halves.shape[1] ** 0.5).astype(np.float32)
    pairs /= np.linalg.norm(pairs, axis=1, keepdims=True)
    wrong = {
        "random documents": (queries, [{int(rng.integers(count)): 1.0} for _ in rows]),
        "one another's": (queries, [judgments[index] for index in shifted]),
        "one document": (queries, [{int(rng.integers(count)): 1.0}] * n),
        "contradictions": (pairs, [{int(row): 1.0} for row in rng.choice(count, size=len(pairs))]),
    }
    first = np.argsort(-queries @ dataset.documents.T, axis=1, kind="stable")[:, :10]
    marks = [
        dict(zip(found.tolist(), (rng.random(10) < MARKED).astype(float).tolist(), strict=True)) for found in first
    ]
    marked = [index for index, by_row in enumerate(marks) if any(by_row.values())]
    wrong[RANDOM_MARKS] = queries[marked], [marks[index] for index in marked]
    return wrong


def change(dataset: Dataset, state: DomainState) -> float:
    """Return the change of mean nDCG@10 of up to 200 queries of a data set, labelled ones among them, by a state."""
    judgments = dataset.texts.judgments[:200]
    adapted = Adapter.from_states(dataset.basis, {"d": state}).transform(dataset.queries[:200], ["d"] * len(judgments))
    before, after = (
        measure(vectors @ dataset.documents.T, judgments)["nDCG@10"] for vectors in (dataset.queries[:200], adapted)
    )
    return float((after - before).mean())


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
    worst: defaultdict[tuple[str, int], float] = defaultdict(float)
    for folder in sorted((data / "domains").iterdir()):
        dataset = vectorizer.dataset(folder)
        unseen = without(dataset.family, weights) or weights[0]
        for seed in range(seeds):
            rng = np.random.default_rng([seed, 9])
            for size in SIZES:
                for kind, (queries, judgments) in wrong_labels(dataset, size, rng).items():
                    partial = [kind == RANDOM_MARKS] * len(judgments)
                    support = build_support(dataset.documents, queries, judgments, partially_judged=partial)
                    verdict = unseen.adapt(dataset.basis, support)
                    held_out = support.queries if verdict.held_out is None else verdict.held_out
                    voted[kind, size] += choose_vote_weight(support, held_out, scale_of(dataset.basis, support)) > 0
                    tried[kind, size] += 1
                    adapted[kind, size] += verdict.adapted
                    if verdict.adapted:
                        changed = change(dataset, verdict.state)
                        worst[kind, size] = min(worst[kind, size], changed)
                        print(f"{dataset.name}, {size} labels, {kind}: {changed:+.4f}, {verdict.explanation()}")
    for kind, size in tried:
        print(
            f"{kind:20} {size:4} labels: adapted to {adapted[kind, size]:3}, votes for {voted[kind, size]:3} of"
            f" {tried[kind, size]}, worst change {worst[kind, size]:+.4f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
