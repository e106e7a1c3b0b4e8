#!/usr/bin/env python3
"""Check how often weak matches are told: for queries of data sets, for those of other data sets, and for gibberish.

    python scripts/check_weak_matches.py DATA_DIR [--queries 200]

DATA_DIR holds domains.json, domains/NAME in BEIR's layout and embeddings/NAME.npz, by all-MiniLM-L6-v2; data sets
without vectors are left out. Each data set's threshold is measured as a build measures it. Queries of other families
stand for those that have nothing to do with the data set, though some subjects are related. The random letters are
others than those of the threshold. Prints the share of each kind that is weak, and exits with code 1 if, on average
over the data sets, more than 3% of their own queries are, or less than 90% of the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from labelled_datasets import vectorizer
from rich.console import Console
from rich.table import Table

from semsearch.encoders.encoder import Encoder
from semsearch.metalearn.datasets import find_datasets, read_texts
from semsearch.metalearn.episodes import Dataset
from semsearch.search.encoder_fit import measure_encoder_fit
from semsearch.search.unrelated_queries import gibberish
from semsearch.search.weak_matches import is_weak, measure_weak_similarity
from semsearch.storage.manifest import WeakSimilarity
from semsearch.text.tokens import Term, content_terms
from semsearch.types import Vectors

RESULTS = 10
OTHERS = 8
"""Queries of each data set of another family."""
GIBBERISH = 70
MAX_OWN, MIN_OTHER = 0.03, 0.9


def has_all(texts: Sequence[str], terms: Sequence[Term]) -> bool:
    """Whether one of the texts has all terms."""
    return any({*terms} <= {*content_terms(text)} for text in texts)


def share_weak(texts: Sequence[str], vectors: Vectors, dataset: Dataset, threshold: WeakSimilarity) -> float:
    """Share of queries whose best match in a data set is weak. vectors: (n, dim), unit rows."""
    cosines = vectors @ dataset.documents.T
    weak = 0
    for text, of_query in zip(texts, cosines, strict=True):
        rows = np.argpartition(-of_query, min(RESULTS, len(of_query) - 1))[:RESULTS]
        texts_found = [dataset.texts.documents[row] for row in rows.tolist()]
        weak += is_weak(text, float(of_query.max()), partial(has_all, texts_found), threshold)
    return weak / len(texts)


def check(
    dataset: Dataset,
    others: Sequence[tuple[str, Vectors]],
    encode: Callable[[Sequence[str]], Vectors],
    queries: int,
) -> tuple[float, float, float, float] | None:
    """Return threshold, and shares of own, other and random queries; None where no threshold is measured."""
    fit = measure_encoder_fit(dataset.documents, lambda rows: [dataset.texts.documents[row] for row in rows])
    threshold = measure_weak_similarity(dataset.documents, encode, fit)
    if threshold is None:
        return None
    own = np.random.default_rng(0).permutation(len(dataset.queries))[:queries]
    random_texts = gibberish(GIBBERISH, seed=1)  # others than those of the threshold
    return (
        threshold.threshold,
        share_weak([dataset.texts.queries[row] for row in own], dataset.queries[own], dataset, threshold),
        share_weak([text for text, _ in others], np.stack([vector for _, vector in others]), dataset, threshold),
        share_weak(random_texts, encode(random_texts), dataset, threshold),
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--queries", type=int, default=200, help="queries of each data set")
    arguments = parser.parse_args()

    read = vectorizer(arguments.data)
    folders = [
        folder
        for folder in find_datasets([arguments.data / "domains"])
        if (arguments.data / "embeddings" / f"{folder.name}.npz").exists()
    ]
    datasets = [read.vectorize(read_texts(folder), folder) for folder in folders]
    encode = Encoder.open("all-MiniLM-L6-v2").encode_queries
    drawn = {
        dataset.name: [
            (dataset.texts.queries[row], dataset.queries[row])
            for row in np.random.default_rng(1).permutation(len(dataset.queries))[:OTHERS].tolist()
        ]
        for dataset in datasets
    }
    table = Table("data set", "threshold", "own queries", "those of others", "random letters")
    measured = []
    for dataset in datasets:
        others = [query for other in datasets if other.family != dataset.family for query in drawn[other.name]]
        found = check(dataset, others, encode, arguments.queries)
        if found is None:
            table.add_row(dataset.name, "none: the encoder does not read it", "", "", "")
            continue
        measured.append(found[1:])
        table.add_row(dataset.name, f"{found[0]:.3f}", *(f"{share:.1%}" for share in found[1:]))
    own, other, letters = np.mean(measured, axis=0)
    table.add_row("mean", "", f"{own:.1%}", f"{other:.1%}", f"{letters:.1%}")
    Console().print(table)
    if own > MAX_OWN or min(other, letters) < MIN_OTHER:
        sys.exit("too many own queries are told as weak, or too few of the others")


if __name__ == "__main__":
    main()
