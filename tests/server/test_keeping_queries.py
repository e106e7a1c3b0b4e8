"""A server that may keep queries: which ones, when they are written, what goes wrong without a search noticing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from semsearch.domains.registry import DomainRegistry
from semsearch.encoders.encoder import Encoder
from semsearch.errors import StorageError
from semsearch.search.engine import Outcome, SearchEngine
from semsearch.server.runtime import query_collector
from semsearch.server.runtime.query_collector import QueryCollector
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.search import Limits
from semsearch.server.security import WriteKeys
from semsearch.storage.kept_queries import FILE, KeptQueries
from semsearch.types import Query
from tests.server.conftest import Serve

LABEL = {"query": "honey", "document": "bee", "domain": "team"}
KEEP = Limits(keep_queries=30)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(query_collector, "monotonic", clock)
    return clock


@pytest.fixture
def client(serve: Serve, clock: Clock) -> FlaskClient:
    """A client of a server that keeps queries, with a labelled domain."""
    client = serve(limits=KEEP)
    assert client.post("/api/labels", json=LABEL).status_code == 201
    return client


def service_of(client: FlaskClient) -> SearchService:
    service: SearchService = client.application.extensions["semsearch"]
    return service


def registry_of(client: FlaskClient) -> DomainRegistry:
    return service_of(client).index("zoo").domains


def flushed(client: FlaskClient, clock: Clock, domain: str = "team") -> dict[str, int]:
    """What is on disk of a domain after the next write: counts by text."""
    clock.now += 60
    service_of(client)._collector.flush("zoo", domain)
    return {query.text: query.count for query in registry_of(client).kept.queries(domain)}


def search(client: FlaskClient, query: str, **values: object) -> None:
    assert client.post("/api/search", json={"query": query, "domain": "team", **values}).status_code == 200


def visit(client: FlaskClient, query: str, **values: object) -> None:
    assert client.get("/", query_string={"query": query, "domain": "team", **values}).status_code == 200


def files(index: Path) -> list[Path]:
    return sorted(index.glob(f"domains/*/*{FILE}*"))


def test_searches_of_a_named_domain_are_kept_with_the_vectors_of_the_encoder(
    client: FlaskClient, clock: Clock, tiny_encoder: Encoder
) -> None:
    search(client, "a pet that purrs")
    search(client, " a pet that purrs ")
    assert client.post("/api/search", json={"queries": ["sweet food", "deep sea"], "domain": "team"}).status_code == 200
    visit(client, "snow and ice")
    assert flushed(client, clock) == {"a pet that purrs": 2, "sweet food": 1, "deep sea": 1, "snow and ice": 1}
    queries, vectors = registry_of(client).kept.read("team")
    expected = tiny_encoder.encode_queries([query.text for query in queries])
    assert np.abs(vectors - expected).max() < 1e-3
    assert (registry_of(client).kept_vectors("team") == vectors).all()


def test_the_vector_is_the_one_before_adaptation(client: FlaskClient, clock: Clock, tiny_encoder: Encoder) -> None:
    assert client.post("/api/domains/team/adapt", json={}).get_json()["adaptation"]["version"] == 1
    [outcome] = service_of(client).search("zoo", [Query("honey", domain="team")]).outcomes
    assert outcome.dense is not None
    assert np.abs(outcome.dense.vector - outcome.dense.encoded).max() > 1e-3
    search(client, "honey")
    flushed(client, clock)
    [vector] = registry_of(client).kept.vectors("team")
    assert np.abs(vector - tiny_encoder.encode_queries(["honey"])[0]).max() < 1e-3


def test_other_requests_keep_nothing(client: FlaskClient, clock: Clock, index: Path) -> None:
    search(client, "everyone", domain="default")
    visit(client, "everyone", domain="")
    search(client, "second page", offset=2, k=2)
    visit(client, "second page", page=2)
    search(client, "no vector", mode="keyword")
    visit(client, "honey", compare=1)
    assert client.post("/api/compare", json={"query": "honey", "domain": "team"}).status_code == 200
    for path in ("/api/suggestions", "/api/map/query", "/map", "/explanation", "/document", "/learned"):
        client.get(path, query_string={"query": "honey", "domain": "team", "id": "bee"})
    assert client.post("/api/labels", json={**LABEL, "query": "labelled"}).status_code == 201
    assert client.post("/api/search", json={"query": " ", "domain": "team"}).status_code == 422
    assert flushed(client, clock) == {}
    assert files(index) == []


def test_a_domain_that_does_not_exist_keeps_nothing(client: FlaskClient, clock: Clock, index: Path) -> None:
    for number in range(5):
        search(client, "honey", domain=f"made up {number}")
        assert flushed(client, clock, f"made up {number}") == {}
    assert not list(index.glob("domains/made*"))
    assert 'semsearch_kept_queries_total{outcome="dropped"} 5.0' in client.get("/metrics").text


def test_a_server_keeps_nothing_unless_it_is_told_to(serve: Serve, index: Path, clock: Clock) -> None:
    client = serve()
    assert client.post("/api/labels", json=LABEL).status_code == 201
    search(client, "honey")
    visit(client, "honey")
    assert flushed(client, clock) == {}
    service_of(client).close()
    assert not (index / "domains").exists()


def test_queries_are_written_at_the_end_and_stay_when_a_server_may_not_keep_any(
    client: FlaskClient, serve: Serve, index: Path, clock: Clock
) -> None:
    search(client, "honey")
    assert files(index) == []
    with capture_logs() as logs:
        again = serve()
    [note] = [entry for entry in logs if entry["event"] == "queries of an earlier start are kept"]
    assert (note["index"], note["domains"]) == ("zoo", 1)
    assert note["delete_them_with"] == f"semsearch domains forget-queries {index}"
    before = files(index)[0].read_bytes()
    search(again, "deep sea")
    assert flushed(again, clock) == {"honey": 1}
    assert files(index)[0].read_bytes() == before


def test_letters_on_the_way_to_a_query_are_not_kept(client: FlaskClient, clock: Clock) -> None:
    for text in ("ho", "honey b", "honey bee", "honey bee", "honey be", "honey bees"):
        visit(client, text)
        clock.now += 1
    visit(client, "sea")
    clock.now += 6
    visit(client, "sea lion")  # another query, later
    search(client, "a")
    search(client, "a b")  # programs mean what they send
    assert flushed(client, clock) == {"honey bees": 1, "sea": 1, "sea lion": 1, "a": 1, "a b": 1}


def test_what_may_still_be_typed_waits_for_the_next_write(client: FlaskClient, clock: Clock) -> None:
    visit(client, "hon")
    service_of(client)._collector.flush("zoo", "team")
    assert registry_of(client).kept.queries("team") == []
    visit(client, "honey")
    assert flushed(client, clock) == {"honey": 1}


def test_guesses_at_what_is_being_typed_are_not_kept(client: FlaskClient, clock: Clock) -> None:
    page = client.get("/", query_string={"query": "a fish and salm", "domain": "team", "typing": "true"}).text
    assert "a fish and salmon" in page
    visit(client, "a fish and salt", typing="true")
    assert flushed(client, clock) == {"a fish and salt": 1}


def test_an_adaptation_finds_the_queries_on_disk(client: FlaskClient, clock: Clock) -> None:
    search(client, "deep sea")
    clock.now += 6
    assert client.post("/api/domains/team/adapt", json={}).status_code == 200
    assert [query.text for query in registry_of(client).kept.queries("team")] == ["deep sea"]


def test_the_interface_tells_how_many_queries_are_kept_to_those_with_a_key(
    client: FlaskClient, serve: Serve, clock: Clock
) -> None:
    search(client, "deep sea")
    flushed(client, clock)
    domain = client.get("/api/domains/team").get_json()
    assert (domain["kept_queries"], domain["kept_since"][:2]) == (1, "20")
    [listed] = client.get("/api/domains").get_json()["domains"]
    assert listed["kept_queries"] == 1
    guarded = serve(keys=WriteKeys({"me": "a-key-of-enough-length"}))
    assert guarded.get("/api/domains/team").status_code == 401


def test_a_damaged_file_breaks_no_search_adaptation_or_start(
    client: FlaskClient, serve: Serve, index: Path, clock: Clock
) -> None:
    search(client, "deep sea")
    flushed(client, clock)
    [path] = files(index)
    for content in (b"", b"nothing of this kind" * 9):
        path.write_bytes(content)
        client = serve(limits=KEEP)
        search(client, "honey")
        assert client.post("/api/domains/team/adapt", json={}).status_code == 200
        assert client.get("/api/domains/team").get_json()["kept_queries"] == 0
        assert registry_of(client).kept_vectors("team").shape == (0, 32)
        for page in ("/learned?domain=team", "/status"):
            assert client.get(page).status_code == 200
        assert flushed(client, clock) == {"honey": 1}


def test_a_failed_write_is_logged_once_and_no_search_fails(
    client: FlaskClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise StorageError("the disk is full: free space")

    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(KeptQueries, "add", fail)
        for _ in range(3):
            search(client, "secret words")
            assert flushed(client, clock) == {}
    errors = [entry for entry in logs if entry["event"] == "queries cannot be kept"]
    assert [(entry["log_level"], entry["error"]) for entry in errors] == [("error", "the disk is full: free space")]
    assert "secret words" not in str(logs)
    assert 'semsearch_kept_queries_total{outcome="failed"} 3.0' in client.get("/metrics").text
    search(client, "deep sea")
    assert flushed(client, clock) == {"deep sea": 1}


@pytest.fixture
def collector(index: Path, tiny_encoder: Encoder, clock: Clock) -> Iterator[tuple[QueryCollector, DomainRegistry]]:
    engine = SearchEngine.open(index, encoder=tiny_encoder)
    registry = DomainRegistry(index, engine, None)
    registry.set_parent("team", "all")
    collector = QueryCollector({"zoo": registry}, days=7)
    yield collector, registry
    collector.close()
    registry.close()
    engine.close()


def outcomes(registry: DomainRegistry, texts: Sequence[str]) -> list[Outcome]:
    return registry.engine.search([Query(text, domain="team") for text in texts])


def test_requests_and_writes_at_the_same_time_lose_no_query(
    collector: tuple[QueryCollector, DomainRegistry], clock: Clock
) -> None:
    keeping, registry = collector
    found = outcomes(registry, [f"query {number}" for number in range(20)])

    def work(number: int) -> None:
        for _ in range(25):
            keeping.collect("zoo", found)
            if number % 2:
                clock.now += 10
                keeping.flush("zoo", "team")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    keeping.close()
    assert {query.text: query.count for query in registry.kept.queries("team")} == {
        f"query {number}": 8 * 25 for number in range(20)
    }


def test_the_memory_that_waits_is_limited(
    collector: tuple[QueryCollector, DomainRegistry], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    keeping, registry = collector
    monkeypatch.setattr(query_collector, "MAX_PENDING", 3)
    found = outcomes(registry, ["one a", "two b", "three c", "four d"])
    keeping.collect("zoo", [*found, found[0]])
    for number in range(9):
        [other] = registry.engine.search([Query("x", domain=f"made up {number}")])
        keeping.collect("zoo", [other])
    assert sum(map(len, keeping._pending.values())) == 3
    assert len(keeping._pending) == 1
    clock.now += 10
    keeping.flush("zoo", "team")
    assert {query.text: query.count for query in registry.kept.queries("team")} == {
        "one a": 2,
        "two b": 1,
        "three c": 1,
    }
    keeping.collect("zoo", found[3:])
    keeping.close()
    assert "four d" in [query.text for query in registry.kept.queries("team")]


def test_the_thread_writes_without_being_asked(
    index: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(query_collector, "FLUSH_INTERVAL_S", 0.01)
    engine = SearchEngine.open(index, encoder=tiny_encoder)
    registry = DomainRegistry(index, engine, None)
    registry.set_parent("team", "all")
    written = _once(registry, monkeypatch)
    keeping = QueryCollector({"zoo": registry}, days=7)
    keeping.collect("zoo", outcomes(registry, ["deep sea"]))
    clock.now += 10
    assert written(10)
    keeping.close()
    assert [query.text for query in registry.kept.queries("team")] == ["deep sea"]
    registry.close()
    engine.close()


def _once(registry: DomainRegistry, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], bool]:
    """A function that waits for the next write, at most some seconds, and returns whether it came."""
    event, add = threading.Event(), registry.kept.add

    def adding(*args: object, **options: object) -> int:
        count = add(*args, **options)  # type: ignore[arg-type]
        event.set()
        return count

    monkeypatch.setattr(registry.kept, "add", adding)
    return event.wait
