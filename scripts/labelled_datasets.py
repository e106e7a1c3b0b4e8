"""Reads labelled data sets, picks unseen weights and averages over families, for the scripts that measure on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from semsearch.adapters.weights import Weights
from semsearch.encoders.encoder import Encoder
from semsearch.evaluation.protocol import without
from semsearch.metalearn.episodes import Dataset, Vectorizer, default_cache


def vectorizer(data: Path, embeddings: Path | None = None) -> Vectorizer:
    """Return a reader of the data sets of a folder.

    embeddings: the folder of their vectors, NAME.npz, by any encoder; by default `embeddings`, by all-MiniLM-L6-v2,
    which encodes those that it lacks.
    """
    return Vectorizer(Encoder.open, "all-MiniLM-L6-v2", default_cache(), embeddings or data / "embeddings")


def unseen(dataset: Dataset, weights: Sequence[Weights]) -> Weights | None:
    """Return the first weights that were not learned on the data set's family, or None."""
    families = weights[0].metadata.get("families")
    if len(weights) == 1 and isinstance(families, list) and dataset.family not in families:
        return weights[0]
    return without(dataset.family, weights)


def over_families(values: Mapping[tuple[str, str], Sequence[float]]) -> tuple[float, dict[str, float]]:
    """Return the mean over families of the mean over their data sets, and the mean of each data set.

    values: (family, name of the data set) → measured values.
    """
    means = {name: float(np.mean(measured)) for (_, name), measured in values.items()}
    families: dict[str, list[float]] = {}
    for family, name in values:
        families.setdefault(family, []).append(means[name])
    return float(np.mean([np.mean(family_means) for family_means in families.values()])), means
