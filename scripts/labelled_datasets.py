"""Shared by the scripts that measure on labelled data sets: reading them, unseen weights, and means over families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from semsearch.adapters.weights import Weights
from semsearch.encoders.encoder import Encoder
from semsearch.evaluation.protocol import without
from semsearch.metalearn.episodes import Dataset, Vectorizer, default_cache


def vectorizer(data: Path) -> Vectorizer:
    """Reads the data sets of a folder, with the vectors of its `embeddings` where there are any."""
    return Vectorizer(Encoder.open, "all-MiniLM-L6-v2", default_cache(), data / "embeddings")


def unseen(dataset: Dataset, weights: Sequence[Weights]) -> Weights | None:
    """Weights that were not learned on the data set's family; None where there are none."""
    families = weights[0].metadata.get("families")
    if len(weights) == 1 and isinstance(families, list) and dataset.family not in families:
        return weights[0]
    return without(dataset.family, weights)


def over_families(values: Mapping[tuple[str, str], Sequence[float]]) -> tuple[float, dict[str, float]]:
    """The mean over families of the means over their data sets, and the mean of each; by (family, name)."""
    means = {name: float(np.mean(numbers)) for (_, name), numbers in values.items()}
    families: dict[str, list[float]] = {}
    for family, name in values:
        families.setdefault(family, []).append(means[name])
    return float(np.mean([np.mean(numbers) for numbers in families.values()])), means
