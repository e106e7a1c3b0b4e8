"""Cutting: passages that fit, cover the text, and end where the meaning does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.errors import RecipeError
from semsearch.ingest.chunking import SLAB_CHARS, Chunker
from semsearch.storage.documents import encoder_text


def test_a_text_that_fits_is_one_passage_unchanged(real_encoder: Encoder) -> None:
    heading, ((passage, tokens),) = Chunker(real_encoder).cut("A title", "A short  text.\n")
    assert (heading, passage.text, passage.start, passage.stop) == ("A title", "A short  text.\n", 0, 15)
    assert tokens == real_encoder.count_tokens(["A title A short  text.\n"])[0]


@pytest.mark.parametrize("seed", range(6))
def test_passages_fit_the_window_and_cover_the_text(real_encoder: Encoder, seed: int) -> None:
    draw = random.Random(seed)
    words = ["harvest", "the", "river.", "Salt", "unbelievably", "数据库检索。", "x" * 400, "😀", "end.\n\n", "line\n"]
    text = " ".join(draw.choices(words, k=3000))
    chunker = Chunker(real_encoder, max_tokens=draw.choice((None, 64)), overlap_tokens=draw.choice((0, 16)))
    heading, passages = chunker.cut("Title " * draw.choice((1, 200)), text)
    covered = [False] * len(text)
    for passage, tokens in passages:
        assert passage.text == text[passage.start : passage.stop]
        assert tokens == real_encoder.count_tokens([encoder_text(heading, passage.text)])[0] <= chunker.max_tokens
        covered[passage.start : passage.stop] = [True] * len(passage.text)
    assert all(seen or character.isspace() for seen, character in zip(covered, text, strict=True))
    assert [passage.start for passage, _ in passages] == sorted(passage.start for passage, _ in passages)


def test_cuts_fall_between_sentences_and_overlap(real_encoder: Encoder) -> None:
    text = " ".join(f"The report of year {year} tells of rivers." for year in range(100))
    _, passages = Chunker(real_encoder, max_tokens=60, overlap_tokens=12).cut("", text)
    assert all(passage.text.startswith("The") and passage.text.endswith("rivers.") for passage, _ in passages)
    assert all(after.start < before.stop for (before, _), (after, _) in pairwise(passages))


def test_an_endless_word_is_cut_all_the_same(real_encoder: Encoder) -> None:
    _, passages = Chunker(real_encoder).cut("", "x" * 1_000_000)
    assert max(len(passage.text) for passage, _ in passages) <= 16 * 254
    assert all(tokens <= 254 for _, tokens in passages)
    assert sum(len(passage.text) for passage, _ in passages) == 1_000_000


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"max_tokens": 300}, "max_tokens is 300"), ({"max_tokens": 40, "overlap_tokens": 30}, "overlap_tokens is 30")],
)
def test_options_that_cannot_work_are_refused(real_encoder: Encoder, options: dict[str, int], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        Chunker(real_encoder, max_tokens=options["max_tokens"], overlap_tokens=options.get("overlap_tokens", 0))


def test_no_call_takes_a_large_text_as_a_whole(real_encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    count_tokens = Encoder.count_tokens

    def counting(self: Encoder, texts: Sequence[str]) -> list[int]:
        counted.extend(map(len, texts))
        return count_tokens(self, texts)

    monkeypatch.setattr(Encoder, "count_tokens", counting)
    text = "Words of a large text. " * 20_000
    parts = list(Chunker(real_encoder).passages("", text))
    # control returns between the parts, so that a build can be interrupted and shows progress
    assert len(parts) >= len(text) // SLAB_CHARS
    assert max(counted) < SLAB_CHARS
