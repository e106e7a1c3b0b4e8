"""The Python API: its usual use in a notebook, and its errors."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import semsearch
from semsearch import (
    Document,
    EncoderError,
    FilterError,
    Index,
    InputError,
    LabelError,
    Mode,
    Query,
    QueryError,
    StateError,
)
from semsearch.encoders.encoder import Encoder
from semsearch.ingest.building import Published, Reading
from semsearch.ingest.recipe import EncoderOptions, Recipe, Source
from tests.conftest import ANIMALS, write_jsonl

TOPICS = ("falcon", "otter", "glacier", "beehive", "lantern", "harbour")


@pytest.fixture
def index(tiny_encoder: Encoder, tmp_path: Path) -> Iterator[Index]:
    with Index.build(tmp_path / "zoo", ANIMALS, title="Zoo", encoder=tiny_encoder) as built:
        yield built


def ids(index: Index, query: str, **options: object) -> list[str]:
    return [hit.id for hit in index.search(query, **options)]  # type: ignore[arg-type]


class Letters:
    """An encoder whose vectors count letters."""

    dimension = 26

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1e-3 + text.lower().count(chr(97 + letter)) for letter in range(26)] for text in texts])

    encode_documents = encode_queries


def test_all_public_names_can_be_imported() -> None:
    assert {name for name in semsearch.__all__ if getattr(semsearch, name) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        semsearch.magic  # noqa: B018


def test_a_search_has_filters_modes_pages_and_sort_orders(index: Index) -> None:
    assert ids(index, "nectar and honey", k=1) == ["bee"]
    assert set(ids(index, "an animal", filter="kind = mammal")) == {"cat", "dog", "whale"}
    assert ids(index, "barks", mode="keyword") == ids(index, "barks", mode="lexical") == ["dog"]
    pages = [ids(index, "an animal of the sea", k=2, offset=offset, mode=Mode.SEMANTIC) for offset in (0, 2, 4)]
    assert [doc_id for page in pages for doc_id in page] == ids(index, "an animal of the sea", k=6, mode="semantic")
    assert ids(index, "animal", k=6, mode="semantic", sort="-title") == [
        *("whale", "salmon", "eagle", "dog", "cat", "bee")
    ]
    many = index.search_many(["honey", "mice"], k=1)
    assert [[hit.id for hit in hits] for hits in many] == [["bee"], ["cat"]]
    assert index.search_many([]) == []
    [outcome] = index.execute([Query("honey", compare=True)], explain=True)
    assert (outcome.mode, outcome.frozen) == (Mode.HYBRID, outcome.hits)


def test_documents_are_added_replaced_deleted_and_compacted(index: Index) -> None:
    added = index.add([{"id": "owl", "text": "A bird that hunts mice at night."}, {**ANIMALS[0], "text": "It sleeps."}])
    assert (added.added, added.replaced, len(index)) == (1, 1, 7)
    assert ids(index, "hunts mice at night", k=1) == ["owl"]
    deleted = index.delete(["bee", "unicorn"])
    assert (deleted.deleted, deleted.unknown, index.document("bee")) == (1, ("unicorn",), None)
    assert index.delete("owl").deleted == 1
    assert index.compact().compacted
    assert (index.info().documents, len(index.info().manifest.segments)) == (5, 1)
    assert str(index.info()).startswith("Zoo: 5 documents in 5 passages, 1 segment; encoder ")


def test_a_reopened_index_has_the_adaptations_of_its_domains(index: Index, tiny_encoder: Encoder) -> None:
    team = index.domain("team")
    team.label("falcon", "whale")
    team.label_many([("otter", "bee"), ("otter", "dog", 0.0)], user="ann")
    team.click("glacier", "cat", shown=["dog", "cat"])
    team.click("glacier", None, shown=["dog", "cat"])
    result = team.adapt()
    assert (result.labels, result.learner, result.version, result.adapted) == (3, "memory", 1, False)
    assert "learned for 384 dimensions" not in result.reason
    assert ids(index, "falcon", k=1, domain="team") == ["whale"]
    assert [hit.id for hit in team.search("falcon", 1)] == ["whale"]
    assert team.compare("falcon", k=3).adapted[0].hit.id == "whale"
    assert [label.document for label in team.labels()] == ["whale", "bee", "dog"]
    assert (team.status().labels, team.status().clicks, index.domains()) == (3, 2, ["team"])
    recommended = team.recommend(2)
    assert recommended is not None
    assert len(recommended.hits) == 2
    with Index.open(index.folder, encoder=tiny_encoder) as other:
        assert ids(other, "falcon", k=1, domain="team") == ["whale"]
        other.domain("team").reset()
    index.refresh()
    assert team.rollback(1).restored == 1


def test_a_domain_suggests_what_to_label_of_clicked_and_kept_queries(index: Index) -> None:
    asking = index.domain("asking")
    assert "start the server with --keep-queries" in asking.suggest().reason
    asking.click("nectar", "bee", position=1)
    kept = index._registry.kept
    kept.add("asking", [("barks", index._engine.encode_label("barks").vector)] * 2, days=7)
    assert [(query.text, query.times_asked) for query in asking.suggest().queries] == [("barks", 2), ("nectar", 1)]
    [query] = asking.suggest(1, results=2).queries
    assert len(query.hits) == 2
    assert [(query.text, query.count) for query in asking.kept_queries()] == [("barks", 2)]
    assert (asking.status().kept.count, asking.forget_queries(), asking.forget_queries()) == (1, True, False)
    assert asking.kept_queries() == []
    with pytest.raises(semsearch.QueryError, match="k is 0: ask for 1 to 50"):
        asking.suggest(0)


def test_a_domain_adapts_with_the_shipped_weights(real_encoder: Encoder) -> None:
    documents = [
        {"id": name, "text": f"Handbook number {n}: {animal['text']}"}
        for n, (name, animal) in enumerate(zip(TOPICS, ANIMALS, strict=True))
    ]
    with Index.build(documents=documents, encoder=real_encoder) as index:
        team = index.domain("team")
        team.label_many(
            [(f"{prefix} {name}", name) for name in TOPICS for prefix in ("read about", "the book on", "look up")]
        )
        result = team.adapt()
        assert result.adapted
        assert result.improvement is not None
        assert result.interval is not None
        assert result.interval[0] < result.improvement < result.interval[1]
        assert result.reason.startswith("Adapted: expected ")


def test_files_folders_documents_mappings_and_recipes_are_indexed(tiny_encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "tea.md").write_text("# Tea\n\nSteep for three minutes.", encoding="utf-8")
    source = write_jsonl(tmp_path / "animals.jsonl", ANIMALS[:2])
    mixed: list[Any] = [
        source,
        str(tmp_path / "notes"),
        Document("x", "X", "A text.", "here"),
        {"text": "No id.", "year": 2020},
    ]
    with Index.build(documents=mixed, encoder=tiny_encoder) as index:
        assert len(index) == 5
        document = index.document("document-4")
        assert document is not None
        assert document.metadata == {"year": 2020}
        folder = index.folder
    assert not folder.exists()
    (tmp_path / "r.toml").write_text('title = "Two"\n[[sources]]\npath = "animals.jsonl"\n', encoding="utf-8")
    with Index.build(tmp_path / "two", tmp_path / "r.toml", encoder=tiny_encoder) as index:
        assert (index.info().manifest.title, len(index)) == ("Two", 2)


def test_a_relative_encoder_folder_is_found_from_any_directory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    write_jsonl(tmp_path / "zoo.jsonl", ANIMALS)
    (tmp_path / "zoo.toml").write_text('[encoder]\nmodel = "model"\n[[sources]]\npath = "zoo.jsonl"\n')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    builds: dict[str, dict[str, Any]] = {
        "api": {"documents": ANIMALS, "encoder": "./model"},
        "options": {"documents": Recipe(encoder=EncoderOptions(model="model"), sources=(Source(path="zoo.jsonl"),))},
        "recipe": {"documents": "zoo.toml"},
        "opened": {"documents": ANIMALS, "encoder": Encoder.open("model", device="cpu")},
    }
    for name, options in builds.items():
        Index.build(name, **options, device="cpu", threads=1).close()
        monkeypatch.chdir(tmp_path / "elsewhere")
        with Index.open(tmp_path / name, device="cpu", threads=1) as index:
            assert ids(index, "nectar and honey")[0] == "bee", name
            manifest = index.info().manifest
            assert manifest.encoder.name == str(model)
            assert manifest.recipe["encoder"]["model"] == str(model)  # type: ignore[index, call-overload]
            index.add([{"id": "owl", "text": "A bird of the night."}])
        monkeypatch.chdir(tmp_path)
    model.rename(tmp_path / "away")
    expected = f"the encoder of the index {tmp_path / 'api'} is missing: put it back at {model}, or build the index"
    with pytest.raises(EncoderError, match=re.escape(expected)):
        Index.open(tmp_path / "api", device="cpu")


def test_if_the_encoder_fails_keywords_answer_and_semantic_search_is_an_error(
    index: Index, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_texts: Sequence[str], **_: bool) -> np.ndarray:
        raise EncoderError("no memory")

    monkeypatch.setattr(index._engine.encoder, "encode_for_search", fail)
    assert ids(index, "nectar honey", k=1, mode="hybrid") == ["bee"]
    assert caplog.messages == ["keyword search answers instead of hybrid search: no memory"]
    [outcome] = index.execute([Query("nectar honey", mode=Mode.HYBRID)])
    assert (outcome.mode, outcome.adaptation.reason) == (
        Mode.KEYWORD,
        "the encoder failed: keyword search answered instead",
    )
    with pytest.raises(EncoderError, match="no memory"):
        index.search("nectar honey", mode="semantic")


def test_building_yields_progress(tiny_encoder: Encoder, tmp_path: Path) -> None:
    events = list(Index.building(tmp_path / "zoo", iter(ANIMALS), encoder=tiny_encoder))
    assert any(isinstance(event, Reading) for event in events)
    assert isinstance(events[-1], Published)


def test_an_index_with_an_encoder_object_needs_it_again_when_opened(tmp_path: Path) -> None:
    with Index.build(tmp_path / "zoo", ANIMALS, encoder=Letters()) as index:
        assert ids(index, ANIMALS[4]["text"], k=1, mode="semantic") == ["bee"]
        index.add({"id": "z", "text": "zzzz"})
        assert ids(index, "zz", k=1, mode="semantic") == ["z"]
        assert index.compact().compacted
    with pytest.raises(
        EncoderError, match=r"'custom:Letters' is an object .*semsearch.Index.open\(folder, encoder=…\)"
    ):
        Index.open(tmp_path / "zoo")
    with Index.open(tmp_path / "zoo", encoder=Letters()) as index:
        assert ids(index, "zz", k=1, mode="semantic") == ["z"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"documents": ANIMALS, "encoder": object()},
        {"documents": ANIMALS, "encoder": Letters(), "weights": "missing"},
        {"documents": ["missing"], "encoder": Letters()},
        {"documents": ANIMALS, "encoder": Letters(), "vectors": [[1.0]]},
        {"documents": None},
    ],
    ids=["encoder", "weights", "documents", "vectors", "nothing"],
)
def test_a_failed_build_leaves_no_temporary_folder(
    arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(semsearch.SemsearchError):
        Index.build(**arguments)
    assert not list(tmp_path.iterdir())


def test_given_vectors_replace_the_encoding_of_documents(
    tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{animal['title']}\n\n{animal['text']}" for animal in ANIMALS]
    vectors = 3 * tiny_encoder.encode_documents(texts)

    def encoded(self: Encoder, texts: Sequence[str]) -> np.ndarray:
        raise AssertionError("documents were encoded")

    monkeypatch.setattr(Encoder, "encode_passages", encoded)
    with Index.build(documents=ANIMALS, encoder=tiny_encoder, vectors=vectors) as index:
        assert ids(index, "nectar and honey", k=1, mode="semantic") == ["bee"]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((5, 32)), "6 documents and 5 vectors"),
        (np.ones((6, 31)), "shape .6, 31., the encoder .* makes 32 dimensions"),
        (np.zeros((6, 32)), "vector of document 0 is zero or not finite"),
        (np.full((6, 32), np.nan), "vector of document 0 is zero or not finite"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(tiny_encoder: Encoder, vectors: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Index.build(documents=ANIMALS, encoder=tiny_encoder, vectors=vectors)


def test_errors_name_the_value_and_the_remedy(index: Index, tiny_encoder: Encoder, tmp_path: Path) -> None:
    team = index.domain("team")

    def build(documents: Any) -> Index:
        return Index.build(documents=documents, encoder=tiny_encoder)

    for error, message, call in (
        (QueryError, "the query is empty", lambda: index.search(" ")),
        (QueryError, "k is 0", lambda: index.search("a", 0)),
        (QueryError, "mode is 'magic': choose from semantic, keyword, hybrid", lambda: index.search("a", mode="magic")),
        (FilterError, "cannot be read", lambda: index.search("a", filter="= 3")),
        (QueryError, "nothing to index", lambda: Index.build(tmp_path / "none")),
        (
            InputError,
            "no document 1|holds any text",
            lambda: Index.build(documents=[{"id": "a"}], encoder=tiny_encoder),
        ),
        (
            InputError,
            "item 1 of the documents is of type int",
            lambda: Index.build(documents=[3], encoder=tiny_encoder),  # type: ignore[list-item]
        ),
        (
            InputError,
            "a second document of id 'cat'",
            lambda: Index.build(documents=[ANIMALS[0]] * 2, encoder=tiny_encoder),
        ),
        (EncoderError, "cannot serve as encoder", lambda: Index.build(documents=ANIMALS, encoder=3)),  # type: ignore[arg-type]
        (LabelError, "no document 'unicorn'", lambda: team.label("a", "unicorn")),
        (LabelError, "blank query", lambda: team.label(" ", "cat")),
        (LabelError, "'cat' .*relevance -1.0 is not a number from 0 to 1,000", lambda: team.label("a", "cat", -1)),
        (LabelError, "'much': give a number", lambda: team.label("a", "cat", "much")),  # type: ignore[arg-type]
        (LabelError, "'cat' .*a click on a document has no position", lambda: team.click("a", "cat")),
        (LabelError, "half of a surrogate pair", lambda: team.label("\ud800", "cat")),
        (LabelError, "half of a surrogate pair", lambda: team.label("a", "\ud800")),
        (LabelError, "half of a surrogate pair", lambda: team.click("a", None, shown=["\ud800"])),
        (LabelError, "half of a surrogate pair", lambda: team.label("a", "cat", user="\ud800")),
        (StateError, "not valid UTF-8", lambda: index.domain("\ud800")),
        (QueryError, "looks like a path", lambda: index.search("a", domain="../../etc")),
        (StateError, "cannot be a domain's name", lambda: index.domain("")),
    ):
        with pytest.raises(error, match=message):
            call()
    assert team.labels() == []


@pytest.mark.parametrize("name", ["build_and_search", "label_and_adapt", "own_encoder"])
def test_examples_run(name: str) -> None:
    script = Path(__file__).parents[1] / "examples" / f"{name}.py"
    done = subprocess.run([sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    expected = {"build_and_search": "lost ", "label_and_adapt": "Adapted: ", "own_encoder": "['rotterdam', "}
    assert expected[name] in done.stdout
