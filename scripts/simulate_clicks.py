"""Are labels from corrected clicks better than from raw ones? Clicks with a known position bias, on real domains.

    python scripts/simulate_clicks.py DATA_DIR NAME... [--weights FILE] [--sessions 30]

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz. 64 queries of one half of a domain are each shown
to many people, as the frozen encoder ranks their first ten results and as two disturbed versions of it do. Whoever
looks at a result (with probability (1/r)^exponent at position r) clicks it with probability 0.9 if it is relevant and
0.1 if not. Compared are gains from raw clicks, from clicks corrected with the exponent that the log itself shows, and
with the true one: nDCG@10 of the shown results ranked by them, and nDCG@10 of the other half's queries once a domain is
adapted to them.
"""

from __future__ import annotations

import argparse
import statistics
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.support import build_support
from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
from semsearch.domains.position_bias import PositionBias, click_relevance, estimate_bias
from semsearch.encoders.encoder import Encoder
from semsearch.evaluation.measures import measure
from semsearch.metalearn.episodes import Dataset, Vectorizer, default_cache
from semsearch.types import Click

QUERIES = 64
EXPONENTS = (0.5, 1.0, 1.5)
SEEDS = 3
NOW = datetime.now(UTC)


def clicked(domain: Dataset, rows: np.ndarray, exponent: float, sessions: int, rng: np.random.Generator) -> list[Click]:
    """The log of so many sessions of each query."""
    looked = np.arange(1, 11) ** -exponent
    log: list[Click] = []
    for row in rows.tolist():
        scores = domain.documents @ domain.queries[row]
        versions = [scores, *(scores + rng.normal(size=len(scores)) * 0.05 for _ in range(2))]
        orders = [np.argsort(-one, kind="stable")[:10] for one in versions]
        for _ in range(sessions):
            shown = orders[int(rng.integers(len(orders)))].tolist()
            worth = np.array([0.9 if one in domain.texts.judgments[row] else 0.1 for one in shown])
            found = np.flatnonzero(rng.random(10) < looked * worth).tolist()
            names = tuple(str(one) for one in shown)
            log += [Click("", "d", str(row), names[place], place + 1, names, "", "", NOW) for place in found]
            log += [] if found else [Click("", "d", str(row), None, None, names, "", "", NOW)]
    return log


def judged_by(domain: Dataset, log: list[Click], bias: PositionBias) -> tuple[float, dict[int, dict[int, float]]]:
    """nDCG@10 of what was shown, ranked by the clicks' gains; and the gains by row."""
    found = {
        int(query): {int(one): gain for one, gain in rated.items()}
        for query, rated in click_relevance(log, bias).items()
    }
    shown: dict[int, set[int]] = {}
    for click in log:
        shown.setdefault(int(click.query), set()).update(int(one) for one in click.shown)
    values = []
    for row, documents in shown.items():
        judged = {one: gain for one, gain in domain.texts.judgments[row].items() if one in documents}
        if judged:
            scores = np.full((1, len(domain.documents)), -1.0, np.float32)
            scores[0, list(documents)] = 0
            for one, gain in found.get(row, {}).items():
                scores[0, one] = gain
            values.append(float(measure(scores, [judged])["nDCG@10"][0]))
    return statistics.mean(values), found


def adapted(domain: Dataset, weights: Weights, found: dict[int, dict[int, float]], asked: np.ndarray) -> float:
    """By how much nDCG@10 of other queries changes once a domain is adapted to these gains."""
    judgments = [domain.texts.judgments[row] for row in asked]
    before = measure(domain.queries[asked] @ domain.documents.T, judgments)["nDCG@10"]
    partial = [True] * len(found)
    support = build_support(
        domain.documents, domain.queries[list(found)], list(found.values()), partially_judged=partial
    )
    verdict = weights.adapt(domain.basis, support)
    moved = Adapter.from_states(domain.basis, {"d": verdict.state}).transform(domain.queries[asked], ["d"] * len(asked))
    return float((measure(moved @ domain.documents.T, judgments)["nDCG@10"] - before).mean())


def main() -> None:
    """Simulate, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--sessions", type=int, default=30, help="of each query")
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = Weights.open(options.weights)
    vectors = Vectorizer(Encoder.open, "all-MiniLM-L6-v2", default_cache(), options.data / "embeddings")
    for exponent in EXPONENTS:
        ranked: dict[str, list[float]] = {"raw": [], "corrected": [], "true": []}
        gained: dict[str, list[float]] = {"raw": [], "corrected": [], "true": []}
        exponents = []
        for name in options.names:
            domain = vectors.dataset(options.data / "domains" / name)
            for seed in range(SEEDS):
                pool, asked = domain.halves(seed)
                rng = np.random.default_rng([seed, 5])
                log = clicked(domain, pool[:QUERIES], exponent, options.sessions, rng)
                bias = estimate_bias(log)
                exponents.append(bias.exponent)
                for way, one in (("raw", PositionBias(0.0)), ("corrected", bias), ("true", PositionBias(exponent))):
                    value, found = judged_by(domain, log, one)
                    ranked[way].append(value)
                    gained[way].append(adapted(domain, weights, found, asked[:300]))
        print(f"exponent {exponent}: estimated {min(exponents):.2f} to {max(exponents):.2f}")
        for way, values in ranked.items():
            print(
                f"  {way:9} nDCG@10 of what was shown {statistics.mean(values):.4f},"
                f" of others' queries after adapting {statistics.mean(gained[way]):+.4f}"
            )
        better = [one - other for one, other in zip(ranked["corrected"], ranked["raw"], strict=True)]
        print(f"  corrected above raw in {sum(one > 0 for one in better)} of {len(better)} runs")


if __name__ == "__main__":
    main()
