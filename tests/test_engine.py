"""The main path: what is found, in which order, and what an index refuses to be opened with."""

from __future__ import annotations

from pathlib import Path

import pytest

from semsearch.encoder import Encoder
from semsearch.engine import SearchEngine
from semsearch.records import BundleError, Query
from tests.conftest import ANIMALS, build_index, write_jsonl


def test_words_of_a_document_find_it_first(engine: SearchEngine) -> None:
    results = engine.search([Query("nectar and honey"), Query("swims up rivers")])
    assert [hits[0].id for hits in results] == ["bee", "salmon"]
    assert results[0][0].metadata == {"kind": "insect"}
    assert results[0][0].passage.text == ANIMALS[4]["text"]
    assert results[0][0].source == "animals.jsonl:5"


def test_no_queries_no_results(engine: SearchEngine) -> None:
    assert engine.search([]) == []


def test_scores_fall_and_no_document_comes_twice(engine: SearchEngine) -> None:
    (hits,) = engine.search([Query("animal", k=100)])
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert sorted(hit.id for hit in hits) == sorted(str(animal["id"]) for animal in ANIMALS)


def test_pages_join_without_gap_or_overlap(engine: SearchEngine) -> None:
    (whole,) = engine.search([Query("animal of the sea", k=6)])
    pages = engine.search([Query("animal of the sea", k=2, offset=offset) for offset in (0, 2, 4, 6)])
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in whole]
    assert pages[-1] == []


def test_a_long_document_is_found_once_by_its_best_passage(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder
) -> None:
    filler = "The weather was fine and nothing of note occurred on that long day. " * 12
    text = f"{filler}\n\n{filler}\n\nThe volcano erupted at midnight.\n\n{filler}"
    records = [{"id": "diary", "text": text}, *({"id": f"note-{n}", "text": f"volcano note {n}"} for n in range(3))]
    source = write_jsonl(tmp_path / "notes.jsonl", records)
    chunking = {"max_tokens": 40, "overlap_tokens": 5}
    published = build_index(tmp_path / "notes", source, model=tiny_model, chunking=chunking)
    assert published.manifest.passages > 10
    engine = SearchEngine.open(tmp_path / "notes", encoder=tiny_encoder)
    (hits,) = engine.search([Query("the volcano erupted at midnight", k=4)])
    engine.close()
    assert sorted(hit.id for hit in hits) == ["diary", "note-0", "note-1", "note-2"]
    diary = next(hit for hit in hits if hit.id == "diary")
    assert "volcano erupted" in diary.passage.text
    assert text[diary.passage.start : diary.passage.stop] == diary.passage.text


def test_another_encoder_is_refused(animals: Path, real_encoder: Encoder) -> None:
    with pytest.raises(BundleError, match=r"was built with encoder .*tiny.* not 'all-MiniLM-L6-v2'"):
        SearchEngine.open(animals, encoder=real_encoder)


def test_other_prompts_are_refused(animals: Path, tiny_model: Path) -> None:
    other = Encoder.open(str(tiny_model), device="cpu", prompts={"query": "question: "})
    with pytest.raises(BundleError, match="built with the prompts"):
        SearchEngine.open(animals, encoder=other)


def test_the_shipped_model_finds_by_meaning(tmp_path: Path, real_encoder: Encoder) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    build_index(tmp_path / "animals", source, model="all-MiniLM-L6-v2")
    engine = SearchEngine.open(tmp_path / "animals", encoder=real_encoder)
    results = engine.search([Query("kitten"), Query("puppy"), Query("what pollinates flowers"), Query("ocean giant")])
    engine.close()
    assert [hits[0].id for hits in results] == ["cat", "dog", "bee", "whale"]
