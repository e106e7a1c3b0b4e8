"""Token vectors are stored if they are wanted, and follow their passages through updates."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.errors import EncoderError, IndexFolderError, InputError, SemsearchError
from semsearch.ingest import building
from semsearch.ingest.building import build
from semsearch.ingest.recipe import Recipe
from semsearch.ingest.updating import OpenIndex, compact, delete, update
from semsearch.search.engine import SearchEngine
from semsearch.types import Document

TEXTS = ["bees make honey", "a cat sleeps", "the dog barks at the cat", "!", "rivers and seas"]


def documents(texts: Sequence[str] = TEXTS, first: int = 0) -> list[Document]:
    return [Document(f"d{number}", "", text, "test") for number, text in enumerate(texts, start=first)]


def build_with(folder: Path, encoder: Encoder, wanted: object = "auto", **options: Any) -> None:
    recipe = Recipe.model_validate({"encoder": {"token_vectors": wanted}})
    for _ in build(recipe, folder, records=documents(), encoder=encoder, threads=1, **options):
        pass


def assert_every_passage_has_its_tokens(folder: Path, encoder: Encoder, passages: int) -> None:
    engine = SearchEngine.open(folder, encoder=encoder, threads=1)
    rows = engine.corpus.live_rows
    expected = encoder.encode_passages(engine.corpus.encoder_texts(rows), with_tokens=True).tokens
    assert expected is not None
    found = engine.corpus.token_codes(rows)
    engine.close()
    assert len(found) == passages
    for codes, of_text in zip(found, expected, strict=True):
        np.testing.assert_array_equal(codes, of_text)


@pytest.mark.parametrize("wanted", ["auto", True])
def test_they_are_stored(tmp_path: Path, token_encoder: Encoder, wanted: object) -> None:
    build_with(tmp_path / "index", token_encoder, wanted)
    assert_every_passage_has_its_tokens(tmp_path / "index", token_encoder, len(TEXTS))


@pytest.mark.parametrize("reason", ["not wanted", "no tokens", "too many tokens", "given vectors"])
def test_they_are_not_stored(
    tmp_path: Path, token_encoder: Encoder, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "too many tokens":
        monkeypatch.setattr(building, "MAX_AUTO_TOKEN_BYTES", 100)
    vectors = np.random.default_rng(0).normal(size=(len(TEXTS), 32)) if reason == "given vectors" else None
    encoder = tiny_encoder if reason == "no tokens" else token_encoder
    build_with(tmp_path / "index", encoder, False if reason == "not wanted" else "auto", vectors=vectors)
    engine = SearchEngine.open(tmp_path / "index", encoder=token_encoder, threads=1)
    assert not engine.uses_tokens
    engine.close()
    assert not list((tmp_path / "index").rglob("tokens.bin"))
    for _ in update(tmp_path / "index", documents(["one more"], 9), opened=opened(tmp_path / "index", token_encoder)):
        pass
    assert not list((tmp_path / "index").rglob("tokens.bin"))


def test_if_they_cannot_be_stored_the_error_says_why(
    tmp_path: Path, token_encoder: Encoder, tiny_encoder: Encoder
) -> None:
    cases: list[tuple[Encoder, dict[str, object], type[SemsearchError], str]] = [
        (tiny_encoder, {}, EncoderError, "no token vectors.*leave out `encoder.token_vectors`"),
        (
            token_encoder,
            {"vectors": np.eye(5, 32)},
            InputError,
            "nothing is encoded.*leave out `encoder.token_vectors`",
        ),
    ]
    for encoder, options, error, message in cases:
        with pytest.raises(error, match=message):
            build_with(tmp_path / "index", encoder, True, **options)


def opened(folder: Path, encoder: Encoder) -> OpenIndex:
    engine = SearchEngine.open(folder, encoder=encoder, threads=1)
    return OpenIndex(engine.corpus, encoder, encoder.encode_all_passages)


def test_they_follow_their_passages_through_updates(tmp_path: Path, token_encoder: Encoder) -> None:
    folder = tmp_path / "index"
    build_with(folder, token_encoder)

    def updated(texts: Sequence[str], first: int) -> None:
        for _ in update(folder, documents(texts, first), opened=opened(folder, token_encoder)):
            pass

    updated(["a new text", "and one more, longer"], 5)
    assert_every_passage_has_its_tokens(folder, token_encoder, 7)
    updated(["a replaced text", "rivers and seas", "honey"], 3)
    assert_every_passage_has_its_tokens(folder, token_encoder, 7)
    delete(folder, ["d0", "d6"], opened=opened(folder, token_encoder))
    assert_every_passage_has_its_tokens(folder, token_encoder, 5)
    updated(["the last one"], 20)
    for _ in compact(folder, encoder=token_encoder, threads=1):
        pass
    assert_every_passage_has_its_tokens(folder, token_encoder, 6)


def test_an_interrupted_build_continues_with_them(
    tmp_path: Path, token_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, texts_done = Encoder.encode_passages, list[str]()

    def interrupted(self: Encoder, texts: Sequence[str], *, with_tokens: bool) -> object:
        if texts_done:
            raise KeyboardInterrupt
        texts_done.extend(texts)
        return encode(self, texts, with_tokens=with_tokens)

    one_by_one = Encoder(token_encoder.runtime, name=token_encoder.name, document_tokens=1)
    monkeypatch.setattr(Encoder, "encode_passages", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_with(tmp_path / "index", one_by_one)
    encoded_again: list[str] = []

    def recorded(self: Encoder, texts: Sequence[str], *, with_tokens: bool) -> object:
        encoded_again.extend(texts)
        return encode(self, texts, with_tokens=with_tokens)

    monkeypatch.setattr(Encoder, "encode_passages", recorded)
    build_with(tmp_path / "index", one_by_one)
    assert texts_done
    assert sorted(texts_done + encoded_again) == sorted(TEXTS)
    monkeypatch.undo()
    assert_every_passage_has_its_tokens(tmp_path / "index", token_encoder, len(TEXTS))


def test_a_build_that_goes_on_encodes_again_what_has_no_token_vectors_yet(
    tmp_path: Path, token_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first build gave them up, because they were too many."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "MAX_AUTO_TOKEN_BYTES", 30)
    with monkeypatch.context() as patched:
        patched.setattr(building, "publish", interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            build_with(tmp_path / "index", token_encoder)
    assert (tmp_path / "index" / "unfinished.sqlite").exists()
    build_with(tmp_path / "index", token_encoder, True)
    assert_every_passage_has_its_tokens(tmp_path / "index", token_encoder, len(TEXTS))


def test_a_damaged_file_of_them_is_named(tmp_path: Path, token_encoder: Encoder) -> None:
    build_with(tmp_path / "index", token_encoder)
    [path] = (tmp_path / "index").rglob("tokens.bin")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(IndexFolderError, match=r"tokens.bin"):
        SearchEngine.open(tmp_path / "index", encoder=token_encoder, threads=1)
