"""Small made-up domains in which it is known what there is to learn."""

from __future__ import annotations

import numpy as np

from semsearch.adapters.support import Judgments
from semsearch.metalearn.datasets import LabelledTexts
from semsearch.metalearn.episodes import Dataset
from semsearch.types import Vectors

DIMENSION = 24


def unit(rows: np.ndarray) -> Vectors:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Vectors = (rows / lengths).astype(np.float32)
    return scaled


def domain(
    seed: int = 0,
    *,
    family: str = "made up",
    name: str = "made-up",
    dialect: float = 1.0,
    queries: int = 160,
    documents: int = 300,
    dimension: int = DIMENSION,
    open_licence: bool = True,
) -> Dataset:
    """Every query means one topic, and 2 documents are of each topic.

    The domain's own way of putting things moves every query by one and the same accent, and by a different amount
    along each of 4 directions that mean nothing: what the frozen ranking falls for, and what labels reveal. With a
    dialect of 0 nothing can be learned.
    """
    rng = np.random.default_rng(seed)
    topics = unit(rng.normal(size=(documents // 2, dimension)))
    bodies = unit(np.repeat(topics, 2, axis=0) + 0.1 * rng.normal(size=(documents, dimension)))
    meant = rng.integers(len(topics), size=queries)
    accent, *nothing = unit(rng.normal(size=(5, dimension)))
    blurred = 0.5 * rng.normal(size=(queries, 4)) @ np.stack(nothing)
    asked = unit(topics[meant] + dialect * (0.5 * accent + blurred) + 0.1 * rng.normal(size=(queries, dimension)))
    judgments: list[Judgments] = [{int(2 * topic): 1.0, int(2 * topic + 1): 1.0} for topic in meant]
    texts = LabelledTexts(
        name,
        family,
        open_licence,
        [f"document {row}" for row in range(documents)],
        [f"query {row}" for row in range(queries)],
        judgments,
        labelled=True,
    )
    return Dataset(texts, bodies, asked)
