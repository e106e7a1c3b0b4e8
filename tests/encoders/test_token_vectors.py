"""Late interaction: its scores, what the codes lose, and which tokens of a text count."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from semsearch.encoders.encoder import Encoder, _of_words
from semsearch.encoders.runtime import Batch
from semsearch.encoders.token_vectors import MAX_QUERY_TOKENS, code_bytes, late_interaction, quantize
from semsearch.types import Vectors, unit_rows

TEXT = "Bees make honey; the cat, 7 years old, sleeps!"


def random_tokens(seed: int, count: int, dimension: int) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


@pytest.mark.parametrize("dimension", [384, 100, 97, 30, 3, 1])
def test_scores_are_the_mean_of_each_query_tokens_best_cosine(dimension: int) -> None:
    passages = [random_tokens(seed, count, dimension) for seed, count in enumerate((3, 0, 1, 40, 0))]
    query = unit_rows(random_tokens(9, 5, dimension)).astype(np.float16)
    codes = [quantize(tokens) for tokens in passages]
    assert [each.shape[1] for each in codes] == [code_bytes(dimension)] * 5
    found = late_interaction(query, codes)
    expected = [float((query @ unit_rows(tokens).T).max(axis=1).mean()) if len(tokens) else 0.0 for tokens in passages]
    # two bits keep a cosine to 0.94 of it: the error falls with the number of dimensions
    np.testing.assert_allclose(found, expected, atol=0.75 * dimension**-0.5)
    assert found[1] == found[4] == 0


def test_codes_do_not_depend_on_the_length_of_vectors_and_keep_their_direction() -> None:
    tokens = random_tokens(0, 50, 384)
    codes, queries = quantize(tokens), unit_rows(tokens)[:, None].astype(np.float16)
    np.testing.assert_array_equal(codes, quantize(tokens * 8))
    # each token is nearest to itself, with the cosine that two bits keep of normally distributed numbers
    cosines = np.array([[late_interaction(row, [code[None]])[0] for code in codes] for row in queries])
    np.testing.assert_array_equal(cosines.argmax(axis=1), np.arange(50))
    assert cosines.diagonal().min() > 0.92


def test_without_tokens_a_query_matches_nothing() -> None:
    none, three = np.empty((0, 8), np.float16), unit_rows(random_tokens(0, 3, 8)).astype(np.float16)
    assert late_interaction(none, [quantize(random_tokens(0, 3, 8))]).tolist() == [0]
    assert late_interaction(three, []).tolist() == []
    assert late_interaction(three, [quantize(none.astype(np.float32))]).tolist() == [0]
    assert quantize(np.zeros((2, 8), np.float32)).shape == (2, 2)


@pytest.mark.parametrize("prompt", ["", "query, or: "])
def test_tokens_are_those_with_a_letter_or_digit_of_the_text_alone(token_encoder: Encoder, prompt: str) -> None:
    encoder = Encoder(token_encoder.runtime, name="prompted", prompts={"query": prompt, "document": prompt})
    encoded = encoder.encode_for_search([TEXT, "!?", "", TEXT * 100], with_tokens=True)
    plain = encoder.tokenizer.encode(TEXT, add_special_tokens=False)
    words = [TEXT[start:stop] for start, stop in plain.offsets if any(map(str.isalnum, TEXT[start:stop]))]
    counts = [len(query.tokens) for query in encoded if query.tokens is not None]
    assert counts[:3] == [len(words), 0, 0]
    assert counts[3] == MAX_QUERY_TOKENS
    tokens = encoded[0].tokens
    assert tokens is not None
    np.testing.assert_allclose(np.linalg.norm(tokens.astype(np.float32), axis=1), 1, rtol=1e-3)
    passages = encoder.encode_passages([TEXT], with_tokens=True)
    assert passages.tokens is not None
    assert (passages.tokens[0] != quantize(tokens.astype(np.float32))).mean() < 0.02


def test_vectors_do_not_depend_on_whether_tokens_are_wanted(token_encoder: Encoder) -> None:
    texts = [TEXT, "honey", "a b c"] * 3
    with_tokens, without = (token_encoder.encode_passages(texts, with_tokens=wanted) for wanted in (True, False))
    np.testing.assert_array_equal(with_tokens.vectors, without.vectors)
    assert without.tokens is None
    everything = token_encoder.encode_all_passages(texts, with_tokens=True)
    np.testing.assert_allclose(everything.vectors, without.vectors, atol=1e-5)
    assert everything.tokens is not None
    assert with_tokens.tokens is not None
    assert [len(codes) for codes in everything.tokens] == [len(codes) for codes in with_tokens.tokens]
    queries = token_encoder.encode_for_search(texts, with_tokens=True)
    expected = token_encoder.encode_for_search(texts, with_tokens=False)
    for query, plain in zip(queries, expected, strict=True):
        np.testing.assert_array_equal(query.vector, plain.vector)
        assert plain.tokens is None


def test_an_encoder_cut_to_fewer_dimensions_cuts_its_tokens(token_encoder: Encoder) -> None:
    encoder = Encoder(token_encoder.runtime, name="cut", dimension=10)
    [query] = encoder.encode_for_search([TEXT], with_tokens=True)
    assert query.tokens is not None
    assert query.tokens.shape[1] == 10
    passages = encoder.encode_passages([TEXT], with_tokens=True)
    assert passages.tokens is not None
    assert passages.tokens[0].shape[1] == code_bytes(10)


def test_the_shipped_model_finds_the_passage_that_answers_by_its_tokens(real_encoder: Encoder) -> None:
    assert real_encoder.has_token_vectors
    [query] = real_encoder.encode_for_search(["How is a password reset?"], with_tokens=True)
    passages = real_encoder.encode_passages(
        ["Honey is made by bees.", "Choose Settings, then Security, and enter a new password."], with_tokens=True
    )
    assert query.tokens is not None
    assert passages.tokens is not None
    honey, password = late_interaction(query.tokens, passages.tokens)
    assert password > honey + 0.2


@pytest.mark.parametrize("add_prefix_space", [True, False])
def test_the_first_word_after_a_prompt_counts_though_its_token_begins_in_the_prompt(
    token_encoder: Encoder, add_prefix_space: bool
) -> None:
    """Byte-level tokenizers may count the blank before a word to it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["query: cat"] * 9, trainer)
    encoding = tokenizer.encode("query: cat")
    batch = Batch("query", "query: ", ["cat"], [encoding])
    [tokens] = _of_words(batch, [np.arange(len(encoding.ids), dtype=np.float32)[:, None]])
    assert [encoding.tokens[int(index)] for index in tokens[:, 0]] == ["Ġcat"]
