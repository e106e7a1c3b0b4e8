"""Recent queries' vectors: found by text and model, bounded, and without effect on what is found."""

from __future__ import annotations

import numpy as np
from flask.testing import FlaskClient

from semsearch.encoders.encoder import Encoder
from semsearch.server.runtime.query_cache import QueryCache

VECTOR = np.ones(32, np.float32)


def test_the_least_recently_asked_for_is_forgotten_first(tiny_encoder: Encoder) -> None:
    told: list[bool] = []
    vectors = QueryCache(2, observe=told.append)
    vectors.add(tiny_encoder, "a", VECTOR)
    vectors.add(tiny_encoder, "b", 2 * VECTOR)
    assert vectors.get(tiny_encoder, "a") is not None
    vectors.add(tiny_encoder, "c", 3 * VECTOR)
    assert vectors.get(tiny_encoder, "b") is None
    np.testing.assert_array_equal(vectors.get(tiny_encoder, "c"), 3 * VECTOR)
    assert (len(vectors), told) == (2, [True, False, True])


def test_it_is_another_model_with_another_prompt(tiny_encoder: Encoder) -> None:
    vectors = QueryCache(2)
    vectors.add(tiny_encoder, "a", VECTOR)
    other = Encoder(tiny_encoder.runtime, name="other", prompts={"query": "other: "})
    assert vectors.get(other, "a") is None


def test_none_are_kept_where_none_are_wanted(tiny_encoder: Encoder) -> None:
    vectors = QueryCache(0)
    vectors.add(tiny_encoder, "a", VECTOR)
    assert (len(vectors), vectors.get(tiny_encoder, "a")) == (0, None)


def test_a_query_asked_again_is_answered_alike_and_not_encoded(client: FlaskClient) -> None:
    def found() -> object:
        return client.get("/api/search?query=who+remembers+honey").get_json()["results"]

    def counted(source: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        name = f'semsearch_query_vectors_total{{source="{source}"}} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = counted("memory"), counted("encoder")
    assert found() == found()
    assert (counted("memory") - before[0], counted("encoder") - before[1]) == (1, 1)
