"""Whether an encoder reads a corpus: vectors of the words' meaning, by chance, and of corpora too small to tell."""

from __future__ import annotations

import numpy as np
import pytest

from semsearch.search.encoder_fit import MIN_PASSAGES, measure_encoder_fit
from semsearch.storage.manifest import EncoderFit
from semsearch.types import Rows, Vectors
from tests.adapters.test_adapter import unit_rows

TOPICS, DIMENSION = 25, 32
LATIN = [f"topic{number} subject{number} detail{number} word{number}" for number in range(TOPICS)]
CHINESE = ["".join(chr(0x4E00 + 8 * number + offset) for offset in range(6)) for number in range(TOPICS)]


def corpus(passages: int, topics: list[str] = LATIN) -> tuple[list[str], Vectors]:
    """Passages of a few topics each, and vectors that are near each other for those of one topic."""
    texts = [f"{topics[number % TOPICS]} the {number}" for number in range(passages)]
    centres = unit_rows(TOPICS, dimension=DIMENSION)[np.arange(passages) % TOPICS]
    noisy = centres + 0.1 * unit_rows(passages, dimension=DIMENSION)
    return texts, (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


def measured(texts: list[str], vectors: Vectors) -> EncoderFit | None:
    def read(rows: Rows) -> list[str]:
        return [texts[row] for row in rows]

    return measure_encoder_fit(vectors, read)


@pytest.mark.parametrize("topics", [LATIN, CHINESE], ids=["words", "no spaces"])
@pytest.mark.parametrize("passages", [MIN_PASSAGES, 400, 3_000])
def test_an_encoder_reads_a_corpus_whose_neighbours_share_words(passages: int, topics: list[str]) -> None:
    texts, vectors = corpus(passages, topics)
    fit = measured(texts, vectors)
    assert fit is not None
    assert fit.agreement > 0.9
    assert fit.reads_language
    assert fit == measured(texts, vectors)


@pytest.mark.parametrize("topics", [LATIN, CHINESE], ids=["words", "no spaces"])
@pytest.mark.parametrize("passages", [MIN_PASSAGES, 400, 3_000])
def test_vectors_by_chance_do_not_read_a_corpus(passages: int, topics: list[str]) -> None:
    texts, _ = corpus(passages, topics)
    fit = measured(texts, unit_rows(passages, dimension=DIMENSION))
    assert fit is not None
    assert abs(fit.agreement) < 0.15
    assert not fit.reads_language


@pytest.mark.parametrize(
    "texts",
    [
        LATIN[: MIN_PASSAGES - 1] * 3,
        ["😀 !?"] * MIN_PASSAGES,
        ["the same words"] * MIN_PASSAGES,
        [f"word{number}" for number in range(MIN_PASSAGES)],
    ],
    ids=["few", "no words", "all alike", "nothing in common"],
)
def test_a_corpus_that_cannot_tell_is_not_measured(texts: list[str]) -> None:
    assert measured(texts, unit_rows(len(texts), dimension=DIMENSION)) is None
