"""The query cache: keyed by text and model, bounded, and without effect on results."""

from __future__ import annotations

import numpy as np
from flask.testing import FlaskClient

from semsearch.encoders.encoder import EncodedQuery, Encoder
from semsearch.encoders.token_vectors import QueryTokens
from semsearch.server.runtime.query_cache import BYTES_PER_QUERY, QueryCache
from semsearch.types import Vectors

VECTOR = np.ones(32, np.float32)


def encoded(vector: Vectors = VECTOR, tokens: QueryTokens | None = None) -> EncodedQuery:
    return EncodedQuery(vector, tokens)


def test_the_least_recently_used_vector_is_evicted_first(tiny_encoder: Encoder) -> None:
    hits: list[bool] = []
    cache = QueryCache(2, observe=hits.append)
    cache.add(tiny_encoder, "a", encoded())
    cache.add(tiny_encoder, "b", encoded(2 * VECTOR))
    assert cache.get(tiny_encoder, "a", with_tokens=False) is not None
    cache.add(tiny_encoder, "c", encoded(3 * VECTOR))
    assert cache.get(tiny_encoder, "b", with_tokens=False) is None
    third = cache.get(tiny_encoder, "c", with_tokens=False)
    assert third is not None
    np.testing.assert_array_equal(third.vector, 3 * VECTOR)
    assert (len(cache), hits) == (2, [True, False, True])


def test_another_prompt_is_another_key(tiny_encoder: Encoder) -> None:
    cache = QueryCache(2)
    cache.add(tiny_encoder, "a", encoded())
    other = Encoder(tiny_encoder.runtime, name="other", prompts={"query": "other: "})
    assert cache.get(other, "a", with_tokens=False) is None


def test_a_size_of_zero_disables_the_cache(tiny_encoder: Encoder) -> None:
    cache = QueryCache(0)
    cache.add(tiny_encoder, "a", encoded())
    assert (len(cache), cache.get(tiny_encoder, "a", with_tokens=False)) == (0, None)


def test_a_query_without_token_vectors_is_encoded_again_if_they_are_wanted(tiny_encoder: Encoder) -> None:
    cache = QueryCache(2)
    cache.add(tiny_encoder, "a", encoded())
    assert cache.get(tiny_encoder, "a", with_tokens=True) is None
    cache.add(tiny_encoder, "a", encoded(tokens=np.ones((2, 32), np.float16)))
    assert cache.get(tiny_encoder, "a", with_tokens=True) is not None
    assert cache.get(tiny_encoder, "a", with_tokens=False) is not None


def test_long_queries_do_not_fill_the_memory(tiny_encoder: Encoder) -> None:
    cache = QueryCache(4)
    for text in "abcdef":
        cache.add(tiny_encoder, text, encoded(tokens=np.ones((BYTES_PER_QUERY // 32, 32), np.float16)))
        cache.add(tiny_encoder, text, encoded(tokens=np.ones((BYTES_PER_QUERY // 32, 32), np.float16)))
    assert len(cache) == 1
    for text in "abcdef":
        cache.add(tiny_encoder, text, encoded())
    assert len(cache) == 4


def test_a_repeated_query_gets_the_same_answer_without_encoding(client: FlaskClient) -> None:
    def results() -> object:
        return client.get("/api/search?query=who+remembers+honey").get_json()["results"]

    def count(source: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        name = f'semsearch_query_vectors_total{{source="{source}"}} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = count("memory"), count("encoder")
    assert results() == results()
    assert (count("memory") - before[0], count("encoder") - before[1]) == (1, 1)
