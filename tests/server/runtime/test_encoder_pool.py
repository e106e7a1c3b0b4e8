"""The encoder pool: explanations are encoded in batches within a token limit, and dropped when their request ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from semsearch.encoders.encoder import EncodedQuery, Encoder
from semsearch.encoders.runtime import Batch, ModelInfo, Runtime
from semsearch.errors import DeadlineError, OverloadedError, QueryError
from semsearch.search.engine import SearchEngine
from semsearch.search.ranking import DenseResult, ResultPage
from semsearch.server.runtime.batching import AbandonedError
from semsearch.server.runtime.encoder_pool import EncoderPool
from semsearch.server.runtime.metrics import Metrics, count_outcome
from semsearch.server.schemas.search import Limits
from semsearch.types import Mode, Query, Vectors

BATCH_TOKENS = 32


class TokenRuntime:
    """Gives each token the vector of its text. Records the batches of `tokens`, which block until `go_on` is set."""

    name = "tokens"
    reason = "a test"
    workers = 1
    query_tokens = document_tokens = BATCH_TOKENS
    overhead_tokens = 10**6

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.info: ModelInfo = replace(runtime.info, pools_by_mean=True)
        self.read: list[tuple[int, int]] = []
        """Number of texts and of tokens, padding included, in each batch of `tokens`."""
        self.running = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def vectors(self, batch: Batch) -> Vectors:
        return self._runtime.vectors(batch)

    def tokens(self, batch: Batch) -> list[Vectors]:
        self.read.append((len(batch.texts), len(batch.texts) * int(batch.lengths.max())))
        self.running.set()
        assert self.go_on.wait(30)
        vectors = self._runtime.vectors(batch)
        return [np.tile(vector, (length, 1)) for vector, length in zip(vectors, batch.lengths, strict=True)]

    def vectors_and_tokens(self, batch: Batch) -> tuple[Vectors, list[Vectors]]:
        return self.vectors(batch), self.tokens(batch)

    def release_memory(self) -> None:
        self._runtime.release_memory()


@pytest.fixture
def runtime(tiny_encoder: Encoder) -> TokenRuntime:
    return TokenRuntime(tiny_encoder.runtime)


@pytest.fixture
def engine(animals: Path, runtime: TokenRuntime) -> Iterator[SearchEngine]:
    engine = SearchEngine.open(animals, encoder=Encoder(runtime, name="tokens"))
    yield engine
    engine.close()


@pytest.fixture
def pages(engine: SearchEngine) -> list[ResultPage]:
    """The result pages of four queries, each with all documents."""
    outcomes = engine.search([Query(text, mode=Mode.SEMANTIC) for text in ("cat", "dog", "honey", "whale")])
    return [outcome.page for outcome in outcomes]


def pool_of(engine: SearchEngine, deadline_s: float = 30.0, metrics: Metrics | None = None) -> EncoderPool:
    return EncoderPool([engine.encoder], limits=Limits(deadline_s=deadline_s), metrics=metrics or Metrics())


def counts(metrics: Metrics, name: str) -> dict[str, float]:
    """A counter's values by outcome."""
    [family] = [family for family in metrics.registry.collect() if family.name == name]
    return {sample.labels["outcome"]: sample.value for sample in family.samples if sample.name.endswith("_total")}


def test_an_explanation_is_encoded_in_batches_with_the_same_result(
    engine: SearchEngine, runtime: TokenRuntime, pages: list[ResultPage]
) -> None:
    unbatched = Encoder(runtime, name="tokens", document_tokens=10**6)
    texts = engine.corpus.encoder_texts(pages[0].passages)
    assert pages[0].vector is not None
    expected = unbatched.token_attributions(texts, pages[0].vector)
    assert [count for count, _ in runtime.read] == [len(texts)]
    runtime.read.clear()
    assert engine.encoder.token_attributions(texts, pages[0].vector) == expected
    assert len(runtime.read) > 2
    assert all(tokens <= BATCH_TOKENS or count == 1 for count, tokens in runtime.read)


def test_a_query_waits_for_at_most_one_batch_of_explanations(
    engine: SearchEngine, runtime: TokenRuntime, pages: list[ResultPage]
) -> None:
    pool = pool_of(engine)
    runtime.go_on.clear()
    explanations: list[object] = []
    explaining = [
        threading.Thread(target=lambda: explanations.append(pool.stages(engine).token_attributions(pages)))
        for _ in range(3)
    ]
    for thread in explaining:
        thread.start()
    assert runtime.running.wait(30)
    read: list[int] = []

    def search() -> None:
        pool.stages(engine).retrieve([Query("bee")])
        read.append(len(runtime.read))

    query = threading.Thread(target=search)
    query.start()
    while pool.waiting < 1:
        query.join(0.01)
    runtime.go_on.set()
    query.join(30)
    for thread in explaining:
        thread.join(30)
    pool.close()
    assert read[0] <= 3
    assert len(explanations) == 3
    assert explanations[0] == engine.token_attributions(pages)


def test_an_explanation_ends_at_its_deadline(
    engine: SearchEngine, runtime: TokenRuntime, pages: list[ResultPage]
) -> None:
    pool = pool_of(engine, deadline_s=0.2)
    runtime.go_on.clear()
    stages, started = pool.stages(engine), monotonic()
    with pytest.raises(DeadlineError, match="ask for fewer queries, results or explanations"):
        stages.token_attributions(pages)
    assert monotonic() - started < 10
    with pytest.raises(DeadlineError):
        stages.retrieve([Query("bee")])
    with pytest.raises(DeadlineError):
        stages.check_deadline()
    runtime.go_on.set()
    pool.close()
    assert len(runtime.read) == 1


def test_an_explanation_ends_when_its_client_disconnects(
    engine: SearchEngine, runtime: TokenRuntime, pages: list[ResultPage]
) -> None:
    pool = pool_of(engine)
    stages = pool.stages(engine, abandoned=lambda: len(runtime.read) >= 2)
    with pytest.raises(AbandonedError):
        stages.token_attributions(pages)
    with pytest.raises(AbandonedError):
        stages.check_deadline()
    pool.close()
    assert len(runtime.read) == 2


def test_a_search_checks_its_deadline_before_each_query(engine: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(engine)
    ranked: list[Query] = []
    rank = engine.rank

    def recorded(query: Query, dense: DenseResult | None) -> ResultPage:
        ranked.append(query)
        return rank(query, dense)

    monkeypatch.setattr(engine, "rank", recorded)
    with pytest.raises(AbandonedError):
        engine.search(
            [Query(f"bee {number}") for number in range(5)],
            stages=pool.stages(engine, abandoned=lambda: len(ranked) >= 2),
        )
    pool.close()
    assert len(ranked) == 2


def test_an_explanation_that_waits_for_its_turn_ends_when_its_client_has_gone(
    engine: SearchEngine, runtime: TokenRuntime, pages: list[ResultPage]
) -> None:
    pool = pool_of(engine)
    runtime.go_on.clear()
    first = threading.Thread(target=lambda: pool.stages(engine).token_attributions(pages))
    first.start()
    assert runtime.running.wait(30)
    with pytest.raises(AbandonedError):
        pool.stages(engine, abandoned=lambda: True).token_attributions(pages)
    runtime.go_on.set()
    first.join(30)
    pool.close()


def test_explanations_use_all_threads_of_the_encoder(
    engine: SearchEngine, runtime: TokenRuntime, pages: list[ResultPage]
) -> None:
    runtime.workers = 2
    pool = pool_of(engine)
    runtime.go_on.clear()
    explaining = [threading.Thread(target=lambda: pool.stages(engine).token_attributions(pages)) for _ in range(3)]
    for thread in explaining:
        thread.start()
    end = monotonic() + 30
    while len(runtime.read) < 2:
        assert monotonic() < end
        explaining[0].join(0.01)
    runtime.go_on.set()
    for thread in explaining:
        thread.join(30)
    pool.close()


def test_closing_the_pool_ends_explanations(
    engine: SearchEngine, runtime: TokenRuntime, pages: list[ResultPage]
) -> None:
    pool = pool_of(engine)
    runtime.go_on.clear()
    errors: list[Exception] = []

    def explain() -> None:
        try:
            pool.stages(engine).token_attributions(pages)
        except OverloadedError as error:
            errors.append(error)

    explaining = threading.Thread(target=explain)
    explaining.start()
    assert runtime.running.wait(30)
    closing = threading.Thread(target=pool.close)
    closing.start()
    while pool.alive:
        closing.join(0.01)
    runtime.go_on.set()
    closing.join(30)
    explaining.join(30)
    assert len(errors) == len(runtime.read) == 1


def test_explanations_labels_and_passages_are_not_counted_as_queries(
    engine: SearchEngine, pages: list[ResultPage]
) -> None:
    metrics = Metrics()
    pool = pool_of(engine, metrics=metrics)
    pool.stages(engine).token_attributions(pages)
    pool.encode_label(lambda: engine, "honey")
    pool.encode_passages(lambda: engine, ["a text"] * 9, with_tokens=False)
    assert metrics.registry.get_sample_value("semsearch_batch_queries_count") == 0
    assert (counts(metrics, "semsearch_queries"), counts(metrics, "semsearch_explanations")) == ({}, {"answered": 4})
    pool.stages(engine).retrieve([Query("bee"), Query("cat")])
    pool.close()
    assert metrics.registry.get_sample_value("semsearch_batch_queries_sum") == 2


def test_an_explanation_that_expires_while_it_waits_for_its_turn_is_counted_as_expired(
    engine: SearchEngine, runtime: TokenRuntime, pages: list[ResultPage]
) -> None:
    metrics = Metrics()
    pool = pool_of(engine, deadline_s=0.4, metrics=metrics)
    runtime.go_on.clear()
    errors: list[Exception] = []

    def explain() -> None:
        try:
            pool.stages(engine).token_attributions(pages)
        except DeadlineError as error:
            errors.append(error)

    explaining = [threading.Thread(target=explain) for _ in range(3)]
    for thread in explaining:
        thread.start()
    for thread in explaining:
        thread.join(30)
    runtime.go_on.set()
    pool.close()
    # one has its batch in the encoder, the others wait for it to end
    assert (len(errors), len(runtime.read)) == (3, 1)
    assert counts(metrics, "semsearch_explanations") == {"expired": 12}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (QueryError("no field"), "invalid"),
        (OverloadedError("full", retry_after_s=1), "refused"),
        (DeadlineError("late", retry_after_s=1), "expired"),
        (AbandonedError(), "abandoned"),
        (RuntimeError("out of memory"), "failed"),
    ],
)
def test_a_query_is_counted_by_how_it_ended(error: Exception, outcome: str) -> None:
    metrics = Metrics()
    with suppress(type(error)), count_outcome(metrics.queries, 3):
        raise error
    with count_outcome(metrics.queries, 2):
        pass
    assert counts(metrics, "semsearch_queries") == {outcome: 3, "answered": 2}


FAILURES = [DeadlineError("late", retry_after_s=1), AbandonedError(), RuntimeError("out of memory")]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_other_clients_are_answered_though_an_explanation_or_a_query_in_their_batch_fails(
    engine: SearchEngine, runtime: TokenRuntime, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """The batch is held back until all of its calls wait."""
    pool, gate, held = pool_of(engine), threading.Event(), threading.Event()
    encode = engine.encoder.encode_for_search

    def fail() -> object:
        raise failure

    def checked(texts: Sequence[str], *, with_tokens: bool) -> list[EncodedQuery]:
        if "poison" in texts:
            fail()
        if "hold" in texts:
            held.set()
            assert gate.wait(30)
        return encode(texts, with_tokens=with_tokens)

    monkeypatch.setattr(engine.encoder, "encode_for_search", checked)

    with ThreadPoolExecutor() as threads:
        holding = threads.submit(pool.encode_label, lambda: engine, "hold")
        assert held.wait(30)
        failing: list[Future[object]] = [
            threads.submit(pool.explain_batch, pool.stages(engine), fail, 1),
            threads.submit(lambda: pool.stages(engine).retrieve([Query("poison")])),
        ]
        answered = [threads.submit(pool.stages(engine).retrieve, [Query(f"bee {number}")]) for number in range(3)]
        end = monotonic() + 30
        while pool.waiting < 5:
            assert monotonic() < end
            threading.Event().wait(0.001)
        gate.set()
        holding.result(30)
        for future in failing:
            with pytest.raises(type(failure)):
                future.result(30)
        assert [len(future.result(30)) for future in answered] == [1, 1, 1]
    pool.close()
