"""Small synthetic data sets in which it is known what can be learned."""

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
    """Each query is about one topic, and each topic has 2 documents, which are relevant.

    All queries are shifted by one common vector, and by random amounts along 4 directions without meaning: both mislead
    the frozen encoder, and labels reveal them. `dialect` scales both; with 0 nothing can be learned.
    """
    rng = np.random.default_rng(seed)
    topics = unit(rng.normal(size=(documents // 2, dimension)))
    document_vectors = unit(np.repeat(topics, 2, axis=0) + 0.1 * rng.normal(size=(documents, dimension)))
    topic_of = rng.integers(len(topics), size=queries)
    shift, *directions = unit(rng.normal(size=(5, dimension)))
    noise = 0.5 * rng.normal(size=(queries, 4)) @ np.stack(directions)
    query_vectors = unit(
        topics[topic_of] + dialect * (0.5 * shift + noise) + 0.1 * rng.normal(size=(queries, dimension))
    )
    judgments: list[Judgments] = [{int(2 * topic): 1.0, int(2 * topic + 1): 1.0} for topic in topic_of]
    texts = LabelledTexts(
        name,
        family,
        open_licence,
        [f"document {row}" for row in range(documents)],
        [f"query {row}" for row in range(queries)],
        judgments,
        labelled=True,
    )
    return Dataset(texts, document_vectors, query_vectors)
