"""The query cache: keyed by text and model, bounded, and without effect on results."""

from __future__ import annotations

import numpy as np
from flask.testing import FlaskClient

from semsearch.encoders.encoder import Encoder
from semsearch.server.runtime.query_cache import QueryCache

VECTOR = np.ones(32, np.float32)


def test_the_least_recently_used_vector_is_evicted_first(tiny_encoder: Encoder) -> None:
    hits: list[bool] = []
    cache = QueryCache(2, observe=hits.append)
    cache.add(tiny_encoder, "a", VECTOR)
    cache.add(tiny_encoder, "b", 2 * VECTOR)
    assert cache.get(tiny_encoder, "a") is not None
    cache.add(tiny_encoder, "c", 3 * VECTOR)
    assert cache.get(tiny_encoder, "b") is None
    np.testing.assert_array_equal(cache.get(tiny_encoder, "c"), 3 * VECTOR)
    assert (len(cache), hits) == (2, [True, False, True])


def test_another_prompt_is_another_key(tiny_encoder: Encoder) -> None:
    cache = QueryCache(2)
    cache.add(tiny_encoder, "a", VECTOR)
    other = Encoder(tiny_encoder.runtime, name="other", prompts={"query": "other: "})
    assert cache.get(other, "a") is None


def test_a_size_of_zero_disables_the_cache(tiny_encoder: Encoder) -> None:
    cache = QueryCache(0)
    cache.add(tiny_encoder, "a", VECTOR)
    assert (len(cache), cache.get(tiny_encoder, "a")) == (0, None)


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
