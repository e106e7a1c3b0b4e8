"""Votes of similar labelled queries: what they give to documents, what is stored, and when they are used."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semsearch.adapters.state import MAX_SHRINKAGE, DomainState, key_rows
from semsearch.adapters.support import Support, build_support
from semsearch.adapters.votes import MAX_ANSWER_BYTES, MAX_VOTERS, Votes, held_out_votes
from semsearch.domains.vote_weight import MIN_LABELS, WEIGHTS, choose_vote_weight
from semsearch.errors import StateError, StateFileError
from semsearch.types import Vectors, unit_rows

DIMENSION = 384


def vectors(count: int, *, seed: int = 0, near: Vectors | None = None, noise: float = 0.02) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return unit_rows(drawn if near is None else near + noise * drawn)


QUERIES = vectors(4)


def votes_of(queries: Vectors, answers: list[list[str]], weight: float = 0.3) -> Votes:
    votes = Votes.of(queries, answers, weight)
    assert votes is not None
    return votes


VOTES = votes_of(QUERIES, [["a", "b"], ["b"], ["c"], []])


def shares_of(votes: Votes, query: Vectors) -> dict[str, float]:
    return {doc_id: float(share) for doc_id, share in zip(votes.doc_ids, votes.shares(query), strict=True)}


@pytest.mark.parametrize(
    ("query", "high"), [(0, {"a", "b"}), (1, {"b"}), (2, {"c"}), (3, set())], ids=["two", "shared", "one", "none"]
)
def test_documents_get_the_votes_of_similar_queries(query: int, high: set[str]) -> None:
    for vector in (QUERIES[query], vectors(1, seed=9, near=QUERIES[query : query + 1], noise=0.01)[0]):
        shares = shares_of(VOTES, vector)
        assert {doc_id for doc_id, share in shares.items() if share > 0.5} == high
        assert all(0 <= share < 1 for share in shares.values())


def test_a_query_that_is_like_none_gives_few_votes() -> None:
    assert max(shares_of(VOTES, vectors(1, seed=5)[0]).values()) < 0.05


def test_cosines_are_estimated_from_signs() -> None:
    labelled = vectors(100)
    # in the order of the votes
    labelled = labelled[sorted(range(100), key=lambda index: labelled[index].tobytes())]
    votes = votes_of(labelled, [[str(row)] for row in range(100)])
    for noise in (0.0, 0.02, 0.05, 1.0):
        queries = vectors(100, seed=1, near=labelled, noise=noise)
        estimated = np.array([(votes._voters @ query)[row] for row, query in enumerate(queries)])
        exact = (queries * labelled).sum(axis=1)
        assert np.abs(estimated - exact).max() < 0.16
        assert abs(float((estimated - exact).mean())) < 0.015


def intents(labels: int, documents: int, *, of: int = 15) -> list[list[str]]:
    """The answers of queries about 15 intents: the documents of the intent."""
    return [[f"document-{number}" for number in range(documents) if number % of == row % of] for row in range(labels)]


@pytest.mark.parametrize(("labels", "documents"), [(8, 15), (128, 300), (1_000, 600)])
def test_a_limited_number_of_queries_and_all_their_documents_are_kept(labels: int, documents: int) -> None:
    votes = Votes.of(vectors(labels), intents(labels, documents), 0.3)
    assert votes is not None
    assert len(votes.norms) == min(labels, MAX_VOTERS)
    assert set(votes.doc_ids) == {doc_id for doc_ids in intents(labels, documents) for doc_id in doc_ids}
    arrays = votes.to_arrays()
    assert arrays["votes_doc_ids"].nbytes + arrays["votes_answers"].nbytes <= MAX_ANSWER_BYTES


def test_there_are_no_votes_if_too_many_documents_do_not_fit() -> None:
    rng = np.random.default_rng(0)
    answers = [[rng.bytes(40).hex() for _ in range(20)] for _ in range(128)]
    assert Votes.of(vectors(128), answers, 0.3) is None
    assert Votes.of(vectors(128), [["shared"] * 99 for _ in answers], 0.3) is not None


def full_state(votes: Votes | None) -> DomainState:
    rng, key_count = np.random.default_rng(0), key_rows(DIMENSION, with_votes=True)
    keys, shrinkage = (rng.standard_normal((rows, DIMENSION)).astype(np.float32) for rows in (key_count, MAX_SHRINKAGE))
    return replace(
        DomainState.identity(DIMENSION),
        shrinkage=shrinkage * np.float32(0.02),
        keys=keys,
        values=keys,
        sharpness=np.full(key_count, 2, np.float32),
        lexical_weight=0.4,
        votes=votes,
    )


def test_a_full_state_with_votes_is_read_as_it_was_written_and_has_less_than_64_kib(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    # as many documents as fit, each of a single query: nothing to compress
    ids = [[f"{rng.bytes(11).hex()}-{answer}" for answer in range(3)] for _ in range(128)]
    state = full_state(votes_of(vectors(128), ids, 0.6))
    assert state.votes is not None
    packed = state.votes.to_arrays()
    assert packed["votes_doc_ids"].nbytes + packed["votes_answers"].nbytes > 0.8 * MAX_ANSWER_BYTES
    state.save(tmp_path / "state", {})
    assert (tmp_path / "state").stat().st_size < 64 * 1024
    assert state.nbytes > full_state(None).nbytes
    opened, _ = DomainState.open(tmp_path / "state")
    assert opened.votes is not None
    assert state.votes is not None
    assert (opened.votes.doc_ids, opened.votes.weight) == (state.votes.doc_ids, 0.6)
    query = vectors(1, seed=3)[0]
    np.testing.assert_allclose(opened.votes.shares(query), state.votes.shares(query), rtol=0.02, atol=1e-4)
    assert DomainState.open(tmp_path / "state")[0].lexical_weight == 0.4


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("votes_codes", lambda array: array[:, 1:]),
        ("votes_codes", lambda array: array[1:]),
        ("votes_norms", lambda array: array * 0),
        ("votes_norms", lambda array: array * np.nan),
        ("votes_answers", lambda array: array[1:]),
        ("votes_answers", lambda array: array[:0]),
        ("votes_doc_ids", lambda array: array[:-1]),
        ("votes_doc_ids", lambda array: array[:0]),
        ("votes_weight", lambda array: array * 0),
        ("votes_weight", lambda array: array * 1e9),
    ],
)
def test_damaged_votes_are_refused(name: str, change: object, tmp_path: Path) -> None:
    assert callable(change)
    arrays = VOTES.to_arrays()
    with pytest.raises(StateError):
        Votes.from_arrays(arrays | {name: change(arrays[name])}, DIMENSION)
    state = replace(DomainState.identity(8), votes=None)
    with pytest.raises(StateError, match="dimensions"):
        replace(state, votes=VOTES)
    with pytest.raises(StateFileError):
        DomainState.open(tmp_path / "none")


def packed(value: object) -> np.ndarray:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return np.frombuffer(zlib.compress(content), np.uint8)


@pytest.mark.parametrize(
    "arrays",
    [
        {"votes_doc_ids": packed({"a": 1, "b": 2, "c": 3})},
        {"votes_doc_ids": packed("abc")},
        {"votes_doc_ids": packed([None, "b", "c"])},
        {"votes_doc_ids": packed(["\ud800", "b", "c"])},
        {"votes_doc_ids": packed(["a" * 1_000_000, "b", "c"])},
        {"votes_doc_ids": packed(b"[")},
        {"votes_doc_ids": np.zeros(100_000, np.uint8)},
        {"votes_answers": packed(bytes(10_000_000))},
        {
            "votes_codes": np.zeros((MAX_VOTERS + 1, DIMENSION // 8), np.uint8),
            "votes_norms": np.ones(MAX_VOTERS + 1, np.float16),
            "votes_answers": packed(bytes(3 * 17)),
        },
    ],
)
def test_hostile_votes_of_a_file_are_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises((StateError, ValueError)):
        Votes.from_arrays(VOTES.to_arrays() | arrays, DIMENSION)


def test_votes_do_not_depend_on_the_order_of_equal_queries() -> None:
    queries = vectors(1).repeat(6, axis=0)
    answers = [["b"], ["a"], ["c"], ["a", "c"], ["d"], ["b"]]
    one, other = votes_of(queries, answers), votes_of(queries[::-1], answers[::-1])
    assert one.doc_ids == other.doc_ids
    assert one.answers.tobytes() == other.answers.tobytes()


def test_a_query_does_not_vote_for_itself() -> None:
    queries = vectors(1, near=None).repeat(3, axis=0)
    votes = held_out_votes(queries, np.eye(3, 5, dtype=np.float32), 1.0)
    assert votes.argmax(axis=1).tolist() != [0, 1, 2]
    assert np.diag(votes[:, :3]).tolist() == [0, 0, 0]


def support_set(labels: int, *, shared: int | None, seed: int = 0, wrong: bool = False) -> Support:
    """Labelled queries, `shared` of which have one answer, that the encoder does not find. None: each has its own."""
    rng = np.random.default_rng(seed)
    documents = vectors(400, seed=seed + 1)
    intents = labels if shared is None else max(1, labels // shared)
    intent = np.arange(labels) % intents
    queries = vectors(labels, seed=seed + 2, near=vectors(intents, seed=seed + 3)[intent], noise=0.02)
    answer = rng.integers(400, size=labels) if wrong else rng.permutation(400)[intent]
    return build_support(documents, queries, [{int(row): 1.0} for row in answer])


@pytest.mark.parametrize(("labels", "is_used"), [(MIN_LABELS - 1, False), (16, True), (64, True)])
def test_votes_are_used_where_queries_share_answers_and_there_are_enough_labels(labels: int, is_used: bool) -> None:
    support = support_set(labels, shared=4)
    assert bool(choose_vote_weight(support, support.queries, 1.0)) is is_used


@pytest.mark.parametrize("labels", [8, 32, 128])
def test_votes_are_not_used_where_each_query_has_an_answer_of_its_own(labels: int) -> None:
    for seed in range(5):
        support = support_set(labels, shared=None, seed=seed)
        assert choose_vote_weight(support, support.queries, 1.0) == 0


@pytest.mark.parametrize("labels", [8, 32, 128])
def test_votes_are_not_used_for_answers_at_random(labels: int) -> None:
    used = 0
    for seed in range(50):
        support = support_set(labels, shared=4, seed=seed, wrong=True)
        used += choose_vote_weight(support, support.queries, 1.0) > 0
    assert used <= 1


@pytest.mark.parametrize("labels", [8, 32, 128])
def test_votes_are_not_used_for_one_document_that_answers_everything(labels: int) -> None:
    for seed in range(5):
        support = support_set(labels, shared=labels, seed=seed)
        assert choose_vote_weight(support, support.queries, 1.0) == 0


def test_weights_begin_with_none() -> None:
    assert WEIGHTS[0] == 0
    support = support_set(12, shared=4)
    assert choose_vote_weight(support, torch.flip(support.queries, [0]), 1.0) in WEIGHTS
