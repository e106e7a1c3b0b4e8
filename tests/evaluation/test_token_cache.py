"""Token vectors of a data set: a measured search is the served one, and nothing is encoded twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders.encoder import EncodedPassages, Encoder
from semsearch.errors import LabelError
from semsearch.evaluation.dataset_index import DatasetIndex, document_id
from semsearch.evaluation.token_cache import TokenSource
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe
from semsearch.metalearn.datasets import LabelledTexts
from semsearch.metalearn.episodes import Dataset
from semsearch.search.engine import SearchEngine
from semsearch.types import Document, Query, unit_rows

WORDS = [f"word{number}" for number in range(60)]


@pytest.fixture
def dataset(token_encoder: Encoder) -> Dataset:
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in range(120)]
    queries = [" ".join(rng.choice(WORDS, 4)) for _ in range(6)]
    texts = LabelledTexts("words", "words", True, documents, queries, [{row: 1.0} for row in range(6)], True)
    return Dataset(texts, token_encoder.encode_documents(documents), token_encoder.encode_queries(queries))


def test_a_measured_search_is_that_of_an_index_with_token_vectors(
    tmp_path: Path, token_encoder: Encoder, dataset: Dataset
) -> None:
    rows = np.arange(6)
    with DatasetIndex.build(dataset, TokenSource(lambda: token_encoder, tmp_path / "cache")) as index:
        measured = index.search("hybrid", rows, k=20)
        semantic = index.search("semantic", rows, k=20)
    with DatasetIndex.build(dataset) as index:
        without = index.search("hybrid", rows, k=20)
        for found, expected in zip(semantic, index.search("semantic", rows, k=20), strict=True):
            np.testing.assert_array_equal(found, expected)
    records = [Document(document_id(row), "", text, "test") for row, text in enumerate(dataset.texts.documents)]
    for _ in build(Recipe(), tmp_path / "index", records=records, encoder=token_encoder, threads=1):
        pass
    engine = SearchEngine.open(tmp_path / "index", encoder=token_encoder, threads=1)
    outcomes = engine.search([Query(text, 20) for text in dataset.texts.queries])
    engine.close()
    for found, outcome in zip(measured, outcomes, strict=True):
        assert [document_id(row) for row in found.tolist()] == [hit.id for hit in outcome.hits]
    assert [found.tolist() for found in measured] != [found.tolist() for found in without]


def test_only_candidates_are_encoded_and_only_once(
    tmp_path: Path, token_encoder: Encoder, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoded = Encoder.encode_passages, list[str]()

    def recorded(self: Encoder, texts: Sequence[str], *, with_tokens: bool) -> EncodedPassages:
        encoded.extend(texts)
        return encode(self, texts, with_tokens=with_tokens)

    monkeypatch.setattr(Encoder, "encode_passages", recorded)

    def search() -> list[list[int]]:
        with DatasetIndex.build(dataset, TokenSource(lambda: token_encoder, tmp_path)) as index:
            return [found.tolist() for found in index.search("hybrid", np.arange(1), k=10)]

    first = search()
    assert 0 < len(encoded) == len(set(encoded)) < len(dataset.texts.documents)
    encoded.clear()
    assert search() == first
    assert not encoded


@pytest.mark.parametrize("dimension", [32, 16])
def test_vectors_of_another_encoder_are_refused(
    tmp_path: Path, token_encoder: Encoder, dataset: Dataset, dimension: int
) -> None:
    other = replace(dataset, documents=unit_rows(np.roll(dataset.documents, 1, axis=1)[:, :dimension]))
    source = TokenSource(lambda: token_encoder, tmp_path)
    with (
        pytest.raises(LabelError, match=r"words are not by encoder.*--encoder.*--no-late-interaction"),
        source.of(other),
    ):
        pass
