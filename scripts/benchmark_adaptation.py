#!/usr/bin/env python3
"""The cost of an adaptation and of transforming queries on one core: benchmark_adaptation.py [PASSAGES]

Measures one adaptation, guard included, on 10,000 passages with 8 to 128 labelled queries, and transforming 32 queries
of 32 domains. Each is compared with encoding one query with the default encoder, in the same run on the same core. The
vectors are synthetic, of the default encoder's dimension: the work does not depend on their meaning.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.cross_validation import candidate_state
from semsearch.adapters.state import DomainState
from semsearch.adapters.support import Support, build_support
from semsearch.adapters.weights import Weights
from semsearch.encoders.encoder import Encoder
from semsearch.types import Vectors

LABELS = (8, 32, 128)
ROUNDS = 9


def unit(rows: np.ndarray) -> Vectors:
    scaled: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def main() -> None:
    passages = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    torch.set_num_threads(1)
    encoder = Encoder.open(threads=1)
    rng = np.random.default_rng(0)
    topics = unit(rng.normal(size=(300, encoder.dimension)))
    documents = unit(topics[rng.integers(300, size=passages)] + 0.8 * unit(rng.normal(size=(passages, 384))))
    relevant = rng.choice(passages, size=2 * max(LABELS), replace=False)
    shift = unit(rng.normal(size=(1, encoder.dimension)))
    queries = unit(documents[relevant] + 0.6 * shift + 1.0 * unit(rng.normal(size=(len(relevant), 384))))
    weights, basis = Weights.open(), SpectralBasis.from_vectors(documents)

    def support(labels: int) -> Support:
        return build_support(documents, queries[:labels], [{int(row): 1.0} for row in relevant[:labels]])

    def learned(labels: int) -> DomainState:
        strongest = max(weights.candidates, key=lambda candidate: candidate.shrinkage)
        return candidate_state(strongest, weights.meta_parameters, basis, support(labels)).to_domain_state()

    tasks: dict[str, Callable[[], object]] = {"encode 1 query": lambda: encoder.encode_queries(["how do I reset it"])}
    for labels in LABELS:
        tasks[f"adapt to {labels} labels"] = lambda labels=labels: weights.adapt(basis, support(labels))  # type: ignore[misc]
    for labels in LABELS[1:]:
        state = learned(labels)
        adapter = Adapter.from_states(basis, {str(domain): state for domain in range(32)})
        names = [str(domain) for domain in range(32)]
        name = f"transform 32 queries of 32 domains of {labels} labels"
        tasks[name] = lambda adapter=adapter, names=names: adapter.transform(queries[:32], names)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    with threadpool_limits(1):
        for _ in range(ROUNDS):
            for name, run in tasks.items():
                repeats = 20 if name.startswith("transform") else 1
                started = perf_counter()
                for _ in range(repeats):
                    run()
                seconds[name].append((perf_counter() - started) / repeats)
    encoding = median(seconds["encode 1 query"])
    print(f"{passages:,} passages, {encoder.dimension} dimensions, one core, median of {ROUNDS} interleaved runs")
    for name, times in seconds.items():
        low, high = min(times) * 1e3, max(times) * 1e3
        print(f"{name:55} {median(times) * 1e3:8.2f} ms ({low:.2f} to {high:.2f})", end=" ")
        print(f"{median(times) / encoding:8.2f} encodings")


if __name__ == "__main__":
    main()
