"""The stages of a search: results, their order, and the checks when an index is opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.errors import IndexFolderError, QueryError
from semsearch.filters.expression import parse_filter
from semsearch.search.engine import SearchEngine
from semsearch.storage.manifest import LEXICAL_WEIGHT
from semsearch.text.tokens import FUNCTION_WORDS
from semsearch.types import Mode, Query, Sort
from tests.conftest import ANIMALS, build_index, hits_of, write_jsonl


def test_a_document_is_first_for_a_query_of_its_words(engine: SearchEngine) -> None:
    results = hits_of(engine, [Query("nectar and honey"), Query("swims up rivers")])
    assert [hits[0].id for hits in results] == ["bee", "salmon"]
    assert results[0][0].metadata == {"kind": "insect"}
    assert results[0][0].passage.text == ANIMALS[4]["text"]
    assert results[0][0].source == "animals.jsonl:5"


def test_no_queries_have_no_results(engine: SearchEngine) -> None:
    assert hits_of(engine, []) == []


def test_scores_descend_and_every_document_is_listed_once(engine: SearchEngine) -> None:
    (hits,) = hits_of(engine, [Query("animal", k=100)])
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert sorted(hit.id for hit in hits) == sorted(str(animal["id"]) for animal in ANIMALS)


def test_pages_join_without_gap_or_overlap(engine: SearchEngine) -> None:
    (full_list,) = hits_of(engine, [Query("animal of the sea", k=6)])
    pages = hits_of(engine, [Query("animal of the sea", k=2, offset=offset) for offset in (0, 2, 4, 6)])
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in full_list]
    assert pages[-1] == []


def test_a_long_document_is_listed_once_with_its_best_passage(
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
    (hits,) = hits_of(engine, [Query("the volcano erupted at midnight", k=4)])
    engine.close()
    assert sorted(hit.id for hit in hits) == ["diary", "note-0", "note-1", "note-2"]
    diary = next(hit for hit in hits if hit.id == "diary")
    assert "volcano erupted" in diary.passage.text
    assert text[diary.passage.start : diary.passage.stop] == diary.passage.text


def test_another_encoder_is_refused(animals: Path, real_encoder: Encoder) -> None:
    with pytest.raises(IndexFolderError, match=r"was built with encoder .*tiny.* not 'all-MiniLM-L6-v2'"):
        SearchEngine.open(animals, encoder=real_encoder)


def test_the_same_weights_with_another_tokenizer_are_refused(
    animals: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    path = next(model.rglob("tokenizer.json"))
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    words = tokenizer["model"]["vocab"]
    words["the"], words["honey"] = words["honey"], words["the"]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    changed = Encoder.open(str(model), device="cpu")
    with pytest.raises(IndexFolderError, match=r"another tokenizer, pooling or window: put the model's files back"):
        SearchEngine.open(animals, encoder=changed)
    # an index of before it was recorded opens
    engine = SearchEngine.open(animals, load_encoder=False)
    encoder = engine.manifest.encoder.model_copy(update={"configuration_sha256": None})
    monkeypatch.setattr(engine, "manifest", engine.manifest.model_copy(update={"encoder": encoder}))
    engine._check_encoder(changed)
    engine.close()


def test_other_prompts_are_refused(animals: Path, tiny_model: Path) -> None:
    other = Encoder.open(str(tiny_model), device="cpu", prompts={"query": "question: "})
    with pytest.raises(IndexFolderError, match="built with the prompts"):
        SearchEngine.open(animals, encoder=other)


def test_the_shipped_model_matches_synonyms(tmp_path: Path, real_encoder: Encoder) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    build_index(tmp_path / "animals", source, model="all-MiniLM-L6-v2")
    engine = SearchEngine.open(tmp_path / "animals", encoder=real_encoder)
    results = hits_of(engine, [Query("kitten"), Query("puppy"), Query("what pollinates flowers"), Query("ocean giant")])
    engine.close()
    assert [hits[0].id for hits in results] == ["cat", "dog", "bee", "whale"]


@pytest.fixture(scope="module")
def catalogue(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_encoder: Encoder
) -> Iterator[SearchEngine]:
    """More documents than are fused, some of them with several passages."""
    folder = tmp_path_factory.mktemp("catalogue")
    colours = ["red", "green", "blue", "black", "white"]
    things = ["chair", "table", "lamp", "shelf", "desk", "stool", "bench"]
    records = [
        {
            "id": f"SKU-{n}",
            "title": f"item {n}",
            "text": f"A {colours[n % 5]} {things[n % 7]} for rooms. " * (1 + n % 4),
        }
        for n in range(300)
    ]
    records.append({"id": "code", "text": "The code ZX-81 opens the attic."})
    source = write_jsonl(folder / "c.jsonl", records)
    build_index(folder / "c", source, model=tiny_model, chunking={"max_tokens": 16, "overlap_tokens": 0})
    engine = SearchEngine.open(folder / "c", encoder=tiny_encoder, threads=1)
    yield engine
    engine.close()


@pytest.mark.parametrize("mode", list(Mode))
def test_pages_of_every_mode_join_without_gap_or_overlap(catalogue: SearchEngine, mode: Mode) -> None:
    (full_list,) = hits_of(catalogue, [Query("a red chair", k=301, mode=mode)])
    pages = hits_of(catalogue, [Query("a red chair", k=25, offset=offset, mode=mode) for offset in range(0, 301, 25)])
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in full_list]
    assert len({hit.id for hit in full_list}) == len(full_list)
    assert len(full_list) == (94 if mode is Mode.KEYWORD else 301)


def test_exact_names_and_ids_are_ranked_first(catalogue: SearchEngine) -> None:
    queries = ["ZX-81", "zx 81", "SKU-123", "SKU-7"]
    for mode in (Mode.KEYWORD, Mode.HYBRID):
        results = hits_of(catalogue, [Query(query, k=1, mode=mode) for query in queries])
        assert [hits[0].id for hits in results] == ["code", "code", "SKU-123", "SKU-7"]


def test_only_passages_with_the_quoted_phrase_have_a_lexical_score(catalogue: SearchEngine) -> None:
    lexical, hybrid = hits_of(
        catalogue, [Query('"red chair" something', k=100, mode=mode) for mode in (Mode.KEYWORD, Mode.HYBRID)]
    )
    assert len(lexical) == 9
    assert all("red chair" in hit.passage.text for hit in lexical)
    assert {hit.id for hit in hybrid if hit.score_breakdown is not None and hit.score_breakdown.lexical_score} == {
        hit.id for hit in lexical
    }


@pytest.mark.parametrize("mode", [Mode.KEYWORD, Mode.HYBRID])
@pytest.mark.parametrize(
    ("query", "words", "unmatched"),
    [
        ('"chair red" lamp', "chair red lamp", ("chair red",)),
        ('"red chair" "no such text"', '"red chair" no such text', ("no such text",)),
        ('"red chair" "blue chair"', "red chair blue chair", ("red chair", "blue chair")),
        ('24" or 27" chair', "24 or 27 chair", ()),
        ('"red chair"', '"red chair"', ()),
    ],
)
def test_a_phrase_that_no_passage_contains_is_searched_as_words(
    catalogue: SearchEngine, mode: Mode, query: str, words: str, unmatched: tuple[str, ...]
) -> None:
    quoted, unquoted = catalogue.search([Query(text, k=20, mode=mode) for text in (query, words)])
    assert quoted.unmatched_phrases == unmatched
    assert unquoted.unmatched_phrases == ()
    assert quoted.page.lexical_scores
    assert quoted.page.lexical_scores == unquoted.page.lexical_scores


def test_a_phrase_that_no_allowed_document_contains_is_searched_as_words(engine: SearchEngine) -> None:
    query = Query('"bird of prey" animal', mode=Mode.KEYWORD)
    everywhere, filtered = engine.search([query, replace(query, filter=parse_filter("kind = mammal"))])
    assert ([hit.id for hit in everywhere.hits], everywhere.unmatched_phrases) == (["eagle"], ())
    assert {hit.id for hit in filtered.hits} == {"cat", "dog", "whale"}
    assert filtered.unmatched_phrases == ("bird of prey",)


def test_an_id_is_found_with_invisible_characters(catalogue: SearchEngine) -> None:
    [hits] = hits_of(catalogue, [Query("\ufeffSKU-\u200b12", k=1)])
    assert hits[0].id == "SKU-12"


def test_a_hit_has_the_breakdown_of_its_score(catalogue: SearchEngine) -> None:
    semantic, lexical, hybrid = hits_of(catalogue, [Query("red chair", k=5, mode=mode) for mode in Mode])
    for rank, hit in enumerate(semantic, start=1):
        assert hit.score_breakdown is not None
        assert (hit.score_breakdown.similarity, hit.score_breakdown.dense_rank, hit.score_breakdown.lexical_score) == (
            hit.score,
            rank,
            None,
        )
    for rank, hit in enumerate(lexical, start=1):
        assert hit.score_breakdown is not None
        assert (
            hit.score_breakdown.lexical_score,
            hit.score_breakdown.lexical_rank,
            hit.score_breakdown.similarity,
        ) == (hit.score, rank, None)
    best = lexical[0].score
    for hit in hybrid:
        assert hit.score_breakdown is not None
        assert hit.score_breakdown.similarity is not None
        assert hit.score_breakdown.lexical_score is not None
        assert hit.score == pytest.approx(
            hit.score_breakdown.similarity + LEXICAL_WEIGHT * hit.score_breakdown.lexical_score / best, abs=2e-6
        )


def test_without_a_common_word_hybrid_search_equals_semantic_search(catalogue: SearchEngine) -> None:
    semantic, hybrid = hits_of(catalogue, [Query("sofa", k=20, mode=mode) for mode in (Mode.SEMANTIC, Mode.HYBRID)])
    assert [(hit.id, hit.score) for hit in hybrid] == [(hit.id, hit.score) for hit in semantic]
    assert hits_of(catalogue, [Query("sofa", mode=Mode.KEYWORD)]) == [[]]


def test_ranks_can_be_fused_instead_of_scores(tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    build_index(tmp_path / "a", source, model=tiny_model, search={"lexical_weight": "rrf"})
    engine = SearchEngine.open(tmp_path / "a", encoder=tiny_encoder)
    (hits,) = hits_of(engine, [Query("nectar and honey", k=6)])
    engine.close()
    assert hits[0].id == "bee"
    assert hits[0].score == pytest.approx(2 / 61, abs=1e-6)
    assert hits[1].score == pytest.approx(1 / 62, abs=1e-6)


STORY = [
    {"id": "diary", "text": "\n\n".join(f"{'The weather was fine. ' * 8}{last}" for last in (
        "The volcano erupted at midnight.", "Nobody wrote anything.", "Lava from the volcano reached the sea."))},
    {"id": "copy", "text": "A long walk through the hills led us to a lake with boats and swans on it."},
    {"id": "copy again", "text": "A long walk through the hills led us to a lake with boats and swans on it!"},
    {"id": "other", "text": "A walk to the lake."},
]  # fmt: skip


@pytest.fixture
def story(tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    source = write_jsonl(tmp_path / "story.jsonl", STORY)
    build_index(tmp_path / "story", source, model=tiny_model, chunking={"max_tokens": 60, "overlap_tokens": 5})
    opened = SearchEngine.open(tmp_path / "story", encoder=tiny_encoder)
    yield opened
    opened.close()


@pytest.mark.parametrize("mode", list(Mode))
def test_several_passages_of_a_document_are_listed_best_first(story: SearchEngine, mode: Mode) -> None:
    (hits,) = hits_of(story, [Query("volcano", mode=mode, passages=2)])
    diary = next(hit for hit in hits if hit.id == "diary")
    assert len(diary.more_passages) == 1
    texts = [diary.passage.text, diary.more_passages[0].text]
    # the vectors of the tiny model have no meaning
    assert mode is Mode.SEMANTIC or all("volcano" in text for text in texts)
    assert texts[0] != texts[1]
    document = story.document("diary")
    assert document is not None
    for passage in (diary.passage, *diary.more_passages):
        assert document.text[passage.start : passage.stop] == passage.text
    (many,) = hits_of(story, [Query("volcano", mode=mode, passages=10)])
    # keyword search only lists passages that contain the word
    assert len(next(hit for hit in many if hit.id == "diary").more_passages) == (1 if mode is Mode.KEYWORD else 2)
    (default,) = hits_of(story, [Query("volcano", mode=mode)])
    assert all(hit.more_passages == () for hit in default)


@pytest.mark.parametrize("mode", list(Mode))
def test_near_duplicates_are_listed_with_the_best_of_them(story: SearchEngine, mode: Mode) -> None:
    (plain,) = hits_of(story, [Query("a walk through the hills to a lake", mode=mode)])
    (collapsed,) = hits_of(story, [Query("a walk through the hills to a lake", mode=mode, collapse=True)])
    best = next(hit.id for hit in plain if hit.id.startswith("copy"))
    duplicate = ({"copy", "copy again"} - {best}).pop()
    assert [hit.id for hit in collapsed] == [hit.id for hit in plain if hit.id != duplicate]
    assert {hit.id: hit.duplicates for hit in collapsed if hit.duplicates} == {best: (duplicate,)}
    pages = [
        hits_of(story, [Query("a walk through the hills to a lake", 1, n, mode=mode, collapse=True)])[0]
        for n in range(4)
    ]
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in collapsed]


def test_the_attributions_of_words_nearly_add_up_to_the_score(real_encoder: Encoder, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS)
    build_index(tmp_path / "animals", source, model="all-MiniLM-L6-v2")
    engine = SearchEngine.open(tmp_path / "animals", encoder=real_encoder)
    query = Query("kitten", k=3, mode=Mode.SEMANTIC)
    page = engine.rank(query, engine.retrieve([query])[0])
    [by_word] = engine.token_attributions([page])
    assert by_word is not None
    assert by_word[0][0][0] in {"Cat", "purrs", "mice"}
    assert {word.lower() for word, _ in by_word[0]}.isdisjoint(FUNCTION_WORDS)
    texts = engine.corpus.encoder_texts(page.passages)
    assert page.vector is not None
    by_token = real_encoder.token_attributions(texts, page.vector)
    assert by_token is not None
    for attributions, score in zip(by_token, page.scores.tolist(), strict=True):
        # the difference is the contribution of the special tokens
        assert 0 <= score - sum(value for *_, value in attributions) < score / 3
    engine.close()


def test_attributions_are_none_where_they_are_not_available(engine: SearchEngine) -> None:
    query = Query("honey", mode=Mode.SEMANTIC)
    [attributions] = engine.token_attributions([engine.rank(query, engine.retrieve([query])[0])])
    assert attributions is None or all(isinstance(of_hit, list) for of_hit in attributions)
    lexical = Query("honey", mode=Mode.KEYWORD)
    assert engine.token_attributions([engine.rank(lexical, None)]) == [None]


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("collapse", [False, True])
def test_min_score_leaves_out_what_is_below_it(engine: SearchEngine, mode: Mode, collapse: bool) -> None:
    query = Query("an animal of the sea", k=6, mode=mode, collapse=collapse)
    (hits,) = hits_of(engine, [query])
    least = hits[1].score
    (kept,) = hits_of(engine, [replace(query, min_score=least)])
    assert [hit.id for hit in kept] == [hit.id for hit in hits if hit.score >= least]
    (second,) = hits_of(engine, [replace(query, min_score=least, k=1, offset=1)])
    assert [hit.id for hit in second] == [hits[1].id]
    (sorted_hits,) = hits_of(engine, [replace(query, min_score=least, sort=Sort("title"))])
    assert {hit.id for hit in sorted_hits} == {hit.id for hit in kept}
    assert hits_of(engine, [replace(query, min_score=1e9)]) == [[]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_min_score_must_be_finite(value: float) -> None:
    with pytest.raises(QueryError, match="min_score is"):
        Query("animal", min_score=value)
