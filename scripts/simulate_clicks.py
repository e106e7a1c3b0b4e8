"""Compare labels from corrected clicks with labels from raw clicks, simulated with a known position bias.

    python scripts/simulate_clicks.py DATA_DIR NAME... [--weights FILE] [--sessions 30]

DATA_DIR holds domains/NAME in BEIR's layout and embeddings/NAME.npz. 64 queries of one half of a data set are shown in
many sessions each, with the first ten results of the frozen encoder or of two disturbed versions of it. A user looks at
the result at position r with probability (1/r)^exponent, and then clicks it with probability 0.9 if it is relevant and
0.1 if not. The relevance estimated from raw clicks, from clicks corrected with the exponent estimated from the log, and
from clicks corrected with the true exponent is compared: by nDCG@10 of the shown results ranked by it, and by nDCG@10
of the other half's queries after adapting to it.
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


def simulated_clicks(
    dataset: Dataset, rows: np.ndarray, exponent: float, sessions: int, rng: np.random.Generator
) -> list[Click]:
    """Return the click log of `sessions` sessions of each query."""
    examined = np.arange(1, 11) ** -exponent
    log: list[Click] = []
    for row in rows.tolist():
        scores = dataset.documents @ dataset.queries[row]
        versions = [scores, *(scores + rng.normal(size=len(scores)) * 0.05 for _ in range(2))]
        rankings = [np.argsort(-version, kind="stable")[:10] for version in versions]
        for _ in range(sessions):
            shown = rankings[int(rng.integers(len(rankings)))].tolist()
            attraction = np.array([0.9 if document in dataset.texts.judgments[row] else 0.1 for document in shown])
            clicked = np.flatnonzero(rng.random(10) < examined * attraction).tolist()
            doc_ids = tuple(str(document) for document in shown)
            log += [Click("", "d", str(row), doc_ids[index], index + 1, doc_ids, "", "", NOW) for index in clicked]
            log += [] if clicked else [Click("", "d", str(row), None, None, doc_ids, "", "", NOW)]
    return log


def relevance_from_clicks(
    dataset: Dataset, log: list[Click], bias: PositionBias
) -> tuple[float, dict[int, dict[int, float]]]:
    """Return nDCG@10 of the shown results ranked by the relevance estimated from the clicks, and this relevance."""
    estimated = {
        int(query): {int(document): relevance for document, relevance in by_document.items()}
        for query, by_document in click_relevance(log, bias).items()
    }
    shown: dict[int, set[int]] = {}
    for click in log:
        shown.setdefault(int(click.query), set()).update(int(document) for document in click.shown)
    values = []
    for row, documents in shown.items():
        judged = {
            document: relevance for document, relevance in dataset.texts.judgments[row].items() if document in documents
        }
        if judged:
            scores = np.full((1, len(dataset.documents)), -1.0, np.float32)
            scores[0, list(documents)] = 0
            for document, relevance in estimated.get(row, {}).items():
                scores[0, document] = relevance
            values.append(float(measure(scores, [judged])["nDCG@10"][0]))
    return statistics.mean(values), estimated


def improvement(
    dataset: Dataset, weights: Weights, relevance: dict[int, dict[int, float]], held_out: np.ndarray
) -> float:
    """Return the improvement of nDCG@10 on other queries after adapting to this relevance."""
    judgments = [dataset.texts.judgments[row] for row in held_out]
    queries = dataset.queries[held_out]
    before = measure(queries @ dataset.documents.T, judgments)["nDCG@10"]
    support = build_support(
        dataset.documents,
        dataset.queries[list(relevance)],
        list(relevance.values()),
        partially_judged=[True] * len(relevance),
    )
    verdict = weights.adapt(dataset.basis, support)
    adapted = Adapter.from_states(dataset.basis, {"d": verdict.state}).transform(queries, ["d"] * len(held_out))
    return float((measure(adapted @ dataset.documents.T, judgments)["nDCG@10"] - before).mean())


def main() -> None:
    """Simulate clicks, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--sessions", type=int, default=30, help="sessions of each query")
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = Weights.open(options.weights)
    vectorizer = Vectorizer(Encoder.open, "all-MiniLM-L6-v2", default_cache(), options.data / "embeddings")
    for exponent in EXPONENTS:
        shown_ndcg: dict[str, list[float]] = {"raw": [], "corrected": [], "true": []}
        improvements: dict[str, list[float]] = {"raw": [], "corrected": [], "true": []}
        exponents = []
        for name in options.names:
            dataset = vectorizer.dataset(options.data / "domains" / name)
            for seed in range(SEEDS):
                pool, held_out = dataset.halves(seed)
                rng = np.random.default_rng([seed, 5])
                log = simulated_clicks(dataset, pool[:QUERIES], exponent, options.sessions, rng)
                estimated = estimate_bias(log)
                exponents.append(estimated.exponent)
                biases = {"raw": PositionBias(0.0), "corrected": estimated, "true": PositionBias(exponent)}
                for kind, bias in biases.items():
                    ndcg, relevance = relevance_from_clicks(dataset, log, bias)
                    shown_ndcg[kind].append(ndcg)
                    improvements[kind].append(improvement(dataset, weights, relevance, held_out[:300]))
        print(f"exponent {exponent}: estimated {min(exponents):.2f} to {max(exponents):.2f}")
        for kind, values in shown_ndcg.items():
            print(
                f"  {kind:9} nDCG@10 of the shown results {statistics.mean(values):.4f},"
                f" improvement on other queries after adapting {statistics.mean(improvements[kind]):+.4f}"
            )
        pairs = list(zip(shown_ndcg["corrected"], shown_ndcg["raw"], strict=True))
        print(f"  corrected above raw in {sum(corrected > raw for corrected, raw in pairs)} of {len(pairs)} runs")


if __name__ == "__main__":
    main()
