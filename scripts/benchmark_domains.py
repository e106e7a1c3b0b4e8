"""A thousand adapted domains in one process: their memory, their cost per batch, and their isolation.

    python scripts/benchmark_domains.py INDEX --domains 1000

Every domain gets a random state of full size. Batches of 32 queries of random domains are encoded, adapted and searched
by the engine, alternating with the same queries without a domain. Then one domain's state is replaced, and the vectors
and results of all other domains must be bit-identical.

Exit code 1 if they are not.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from semsearch import Query, SearchEngine
from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.state import MAX_KEYS, MAX_SHRINKAGE, DomainState
from semsearch.storage.domains import DomainStore
from semsearch.types import Vectors

BATCH = 32
ROUNDS = 40


def random_state(dimension: int, seed: int) -> DomainState:
    """Return a random state of full size with a small displacement, as learned states have."""
    rng = np.random.default_rng(seed)

    def rows(count: int, length: float) -> Vectors:
        vectors = rng.normal(size=(count, dimension)).astype(np.float32)
        vectors *= length / np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    gains, shift = np.ones(dimension, np.float32), np.zeros(dimension, np.float32)
    return DomainState(
        gains,
        shrinkage=rows(MAX_SHRINKAGE, 0.3),
        keys=rows(MAX_KEYS, 1.0),
        values=rows(MAX_KEYS, 0.2),
        shift=shift,
        sharpness=np.full(MAX_KEYS, 2.0, np.float32),
    ).quantized()


def resident_mib() -> float:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    """Measure the cost of adapted domains, and check their isolation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--domains", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    engine = SearchEngine.open(options.index, threads=options.threads)
    torch.set_num_threads(options.threads)
    names = [f"domain {number}" for number in range(options.domains)]
    with tempfile.TemporaryDirectory() as folder:
        store = DomainStore(
            Path(folder),
            encoder_sha256=engine.manifest.encoder.weights_sha256,
            dimension=engine.corpus.dimension,
        )
        for number, name in enumerate(names):
            state = random_state(engine.encoder.dimension, number)
            store.append(name, "adapted", explanation="random", state=state, learner="listwise")
        sizes = [path.stat().st_size for path in Path(folder).glob("domains/*/*")]
        before, started = resident_mib(), perf_counter()
        adapters = store.domain_adapters(store.names())
        seconds, mib = perf_counter() - started, resident_mib() - before
    engine.adapter = Adapter(engine.adapter.basis, adapters)
    print(f"{len(names)} domains: {sum(sizes) / len(names) / 1024:.0f} KiB each on disk,", end=" ")
    print(f"{1024 * mib / len(names):.0f} KiB in memory, opened in {seconds:.1f} s")

    rng = np.random.default_rng(0)
    texts = [" ".join(text.split()[:12]) for _, text in engine.corpus.texts()]
    shares, ratios = [], []
    for _ in range(ROUNDS):
        batch = [str(text) for text in rng.choice(texts, BATCH)]
        mixed = [Query(text, domain=str(name)) for text, name in zip(batch, rng.choice(names, BATCH), strict=True)]
        plain = [Query(text) for text in batch]
        times = engine.retrieve(mixed)[0].times
        plain_start = perf_counter()
        engine.retrieve(plain)
        mixed_start = perf_counter()
        engine.retrieve(mixed)
        ratios.append((perf_counter() - mixed_start) / (mixed_start - plain_start))
        shares.append(times.adapt / (times.encode + times.adapt + times.search_vectors))
    print(
        f"adapting a batch of {BATCH} queries of {BATCH} domains: {statistics.median(shares):.2%} of the batch's time"
    )
    print(f"(median of {ROUNDS}, worst {max(shares):.2%}); the whole batch against one without domains:", end=" ")
    print(f"{statistics.median(ratios):.3f} times")

    vectors = engine.encoder.encode_queries(texts[:BATCH])
    domains = [names[int(index)] for index in rng.choice(len(names), BATCH, replace=False)]
    queries = [Query(text, domain=domain) for text, domain in zip(texts[:BATCH], domains, strict=True)]
    first = engine.adapter.transform(vectors, domains)
    before_change = engine.retrieve(queries)
    changed = {
        domains[3]: DomainAdapter(random_state(engine.encoder.dimension, -1 % 2**32), domain=domains[3], version=2)
    }
    engine.adapter = engine.adapter.updated(changed)
    again, after = engine.adapter.transform(vectors, domains), engine.retrieve(queries)
    others = [index for index in range(BATCH) if index != 3]
    same = np.array_equal(first[others], again[others]) and not np.array_equal(first[3], again[3])
    same &= all(
        np.array_equal(before_change[index].passages, after[index].passages)
        and np.array_equal(before_change[index].scores, after[index].scores)
        for index in others
    )
    print(f"after one domain changed, the other {len(others)} of its batch are", "bit-identical" if same else "CHANGED")
    engine.close()
    sys.exit(not same)


if __name__ == "__main__":
    main()
