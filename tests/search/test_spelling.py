"""Corrections of a query's words from those of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.errors import EncoderError
from semsearch.filters.expression import parse_filter
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import DenseResult
from semsearch.storage.manifest import WeakSimilarity
from semsearch.types import Mode, Query
from tests.conftest import build_index, write_jsonl


def suggestion(engine: SearchEngine, query: Query) -> str | None:
    [outcome] = engine.search([query], correct=True)
    return outcome.did_you_mean


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("salmno", "salmon"),  # two letters exchanged
        ("nectr of flowers", "nectar of flowers"),  # one missing
        ("a bird that hunnts", "a bird that hunts"),  # one too many
        ("Salmom, RIVRS!", "salmon, rivers!"),  # several words, what is between them is kept
        ("salmon", None),
        ("quantum", None),  # nothing is similar
        ("slm", None),  # too short
        ("salm0n", None),  # a code
        ("the of and", None),
        ("a fish and its necta", "a fish and its nectar"),
        ("moun", "mountains"),  # too short for an edit, but some words begin with it
        ("salmno nectr hunnting rivrs", None),  # more unknown words than a misspelled query has
        ("xqzt wvut qrsty salm", None),
    ],
)
def test_unknown_words_are_replaced_by_similar_ones(
    engine: SearchEngine, query: str, expected: str | None, mode: Mode
) -> None:
    assert suggestion(engine, Query(query, mode=mode)) == expected


def test_words_of_documents_that_the_filter_excludes_are_not_shown(engine: SearchEngine) -> None:
    assert suggestion(engine, Query("salmno", filter=parse_filter("kind = fish"))) == "salmon"
    assert suggestion(engine, Query("salmno", filter=parse_filter("kind = bird"))) is None


def completion(engine: SearchEngine, query: Query) -> str | None:
    [outcome] = engine.search([query])
    return outcome.completed


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("salm", "salmon"),
        ("a bird over moun", "a bird over mountains"),
        ("a bird over MOUNT", "a bird over mountains"),
        ("mountain", None),  # a word by itself
        ("salm ", None),  # a space ends the word
        ("salm,", None),
        ("sa", None),  # too short
        ("salmx", None),
        ("salm1", None),
        ("salm over", None),  # not the last word
        ("the", None),
        ("...", None),
    ],
)
def test_an_unfinished_last_word_is_completed(
    engine: SearchEngine, query: str, expected: str | None, mode: Mode
) -> None:
    assert completion(engine, Query(query, mode=mode, complete=True)) == expected
    assert completion(engine, Query(query, mode=mode)) is None


def test_a_completed_query_finds_what_the_whole_word_finds(engine: SearchEngine) -> None:
    for mode in Mode:
        whole, typed, literal = engine.search(
            [
                Query("salmon", mode=mode),
                Query("salm", mode=mode, complete=True),
                Query("salm", mode=mode),
            ]
        )
        assert typed.query.text == "salm"
        assert typed.text == "salmon"
        assert [hit.id for hit in typed.hits] == [hit.id for hit in whole.hits]
        assert typed.hits[0].id == "salmon"
        if mode is Mode.KEYWORD:
            assert literal.hits == []


@pytest.mark.parametrize("typed", ["salm", "moun", "riv", "nect", "necta", "a bird over moun", "lives in the riv"])
@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.SEMANTIC])
def test_what_was_typed_stays_if_it_is_found_and_something_is_nearer_to_it(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch, typed: str, mode: Mode
) -> None:
    longer = completion(engine, Query(typed, mode=Mode.KEYWORD, complete=True))
    assert longer is not None
    found = WeakSimilarity(threshold=-1.0, queries=1)
    monkeypatch.setattr(engine, "manifest", engine.manifest.model_copy(update={"weak_similarity": found}))
    outcomes = engine.search([Query(text, mode=mode) for text in (typed, longer)])
    nearest = [float(outcome.dense.scores.max()) for outcome in outcomes if outcome.dense is not None]
    expected = longer if nearest[1] > nearest[0] else None
    assert completion(engine, Query(typed, mode=mode, complete=True)) == expected


def test_the_last_word_is_taken_to_be_unfinished_before_it_is_taken_to_be_misspelled(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder
) -> None:
    texts = ["multiple values", "a pool for multiprocessing"]
    source = write_jsonl(tmp_path / "a.jsonl", [{"id": str(row), "text": text} for row, text in enumerate(texts)])
    build_index(tmp_path / "a", source, model=tiny_model)
    engine = SearchEngine.open(tmp_path / "a", encoder=tiny_encoder)
    assert suggestion(engine, Query("multipro", mode=Mode.KEYWORD)) == "multiprocessing"
    assert suggestion(engine, Query("multipel", mode=Mode.KEYWORD)) == "multiple"
    assert suggestion(engine, Query("multipel numbers", mode=Mode.KEYWORD)) == "multiple numbers"
    engine.close()


@pytest.mark.parametrize(
    ("text", "typed", "expected"),
    [
        ("使用multiprocessing模块来并行", "multipro", "multiprocessing"),
        ("call multiproc2x here", "multip", None),  # a part of a code is no word
        ("error4711code", "err", None),
        ("सरकारी", "सरक", None),
        ("snake_casing", "cas", "casing"),
    ],
)
def test_words_are_those_that_keyword_search_finds(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, text: str, typed: str, expected: str | None
) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"id": "a", "text": text}])
    build_index(tmp_path / "a", source, model=tiny_model)
    engine = SearchEngine.open(tmp_path / "a", encoder=tiny_encoder)
    assert completion(engine, Query(typed, mode=Mode.KEYWORD, complete=True)) == expected
    assert suggestion(engine, Query(typed, mode=Mode.KEYWORD)) in {expected, None}
    engine.close()


def test_a_completion_that_cannot_be_encoded_leaves_what_was_typed(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrieve = engine.retrieve

    def fail_for_longer(queries: Sequence[Query]) -> Sequence[DenseResult]:
        if queries[0].text != "salm":
            raise EncoderError("out of memory")
        return retrieve(queries)

    monkeypatch.setattr(engine, "retrieve", fail_for_longer)
    [outcome] = engine.search([Query("salm", mode=Mode.SEMANTIC, complete=True)])
    assert (outcome.text, outcome.completed) == ("salm", None)
    assert outcome.hits


def test_words_of_excluded_documents_complete_nothing(engine: SearchEngine) -> None:
    assert completion(engine, Query("salm", filter=parse_filter("kind = fish"), complete=True)) == "salmon"
    assert completion(engine, Query("salm", filter=parse_filter("kind = bird"), complete=True)) is None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("éditi", "édition"), ("editi", "édition"), ("Übers", "übersetzung"), ("größ", "größer"), ("ёлоч", "ёлочка")],
)
def test_words_with_accents_are_completed(
    tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder, typed: str, expected: str
) -> None:
    texts = ["une édition nouvelle", "eine Übersetzung, die größer ist", "новогодняя ёлочка"]
    source = write_jsonl(tmp_path / "a.jsonl", [{"id": str(row), "text": text} for row, text in enumerate(texts)])
    build_index(tmp_path / "a", source, model=tiny_model)
    engine = SearchEngine.open(tmp_path / "a", encoder=tiny_encoder)
    assert completion(engine, Query(typed, mode=Mode.KEYWORD, complete=True)) == expected
    engine.close()
