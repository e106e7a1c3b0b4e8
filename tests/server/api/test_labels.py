"""Labels, clicks and domains over HTTP: storage, adaptation, versions and write keys."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from flask.testing import FlaskClient

from semsearch.adapters.state import DomainState
from semsearch.search.engine import SearchEngine
from semsearch.server.security import WriteKeyError, WriteKeys
from semsearch.storage.domains import DomainStore
from semsearch.types import Query, Vectors
from tests.conftest import Command
from tests.server.conftest import Serve

KEY = "a-key-of-enough-length"


def label(query: str = "an animal", document: str = "whale", **fields: object) -> dict[str, object]:
    return {"query": query, "document": document, **fields}


def search(client: FlaskClient, query: str, domain: str = "default") -> list[tuple[str, float]]:
    """Return (id, score) of the hits."""
    answer = client.post("/api/search", json={"query": query, "domain": domain}).get_json()
    return [(hit["id"], hit["score"]) for hit in answer["results"][0]["hits"]]


def applied_adaptation(client: FlaskClient, domain: str = "default") -> dict[str, Any]:
    answer = client.post("/api/search", json={"query": "an animal", "domain": domain}).get_json()
    adaptation: dict[str, Any] = answer["results"][0]["adaptation"]
    return adaptation


def wait_for(client: FlaskClient, domain: str, condition: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
    """Wait until a domain meets the condition and is not being adapted, and return it."""
    until = monotonic() + 20
    while monotonic() < until:
        status: dict[str, Any] = client.get(f"/api/domains/{domain}").get_json()
        if condition(status) and not status["adapting"]:
            return status
        sleep(0.01)
    raise AssertionError(f"{domain} did not meet the condition: {status}")


def test_labels_are_stored_once_listed_in_pages_and_retracted(client: FlaskClient) -> None:
    stored = client.post("/api/labels", json=label(id="one", user="ann"))
    assert stored.status_code == 201
    assert stored.get_json() == {"index": "zoo", "domain": "default", "ids": ["one"], "new": 1, "known": 0}
    several = {"domain": "team", "labels": [label(relevance=0), label(document="bee", relevance=2.5)]}
    assert client.post("/api/labels", json=several).get_json()["new"] == 2
    again = client.post("/api/labels", json=label(id="one", user="ann")).get_json()
    assert (again["new"], again["known"]) == (0, 1)
    first_page = client.get("/api/labels?limit=2").get_json()
    last_page = client.get(f"/api/labels?limit=2&after={first_page['next']}").get_json()
    listed = [*first_page["labels"], *last_page["labels"]]
    fields = ("domain", "document", "relevance", "user", "source")
    assert [tuple(entry[field] for field in fields) for entry in listed] == [
        ("default", "whale", 1.0, "ann", "local"),
        ("team", "whale", 0.0, "", "local"),
        ("team", "bee", 2.5, "", "local"),
    ]
    assert last_page["next"] is None
    assert client.delete("/api/labels?domain=team&document=bee").get_json()["retracted"] == {"team": 1}
    assert len(client.get("/api/labels?domain=team").get_json()["labels"]) == 1
    # a retracted label stays retracted when a client sends it again
    assert client.delete("/api/labels?id=one").get_json()["retracted"] == {"default": 1}
    assert client.post("/api/labels", json=label(id="one", user="ann")).get_json()["known"] == 1
    assert client.get("/api/labels?id=one").get_json()["labels"] == []


def test_clicks_are_stored_with_the_shown_documents(client: FlaskClient) -> None:
    shown = ["cat", "dog", "bee"]
    clicks = [
        {"query": "honey", "document": "bee", "shown": shown},
        {"query": "honey", "document": "dog", "position": 7},
        {"query": "honey", "shown": shown},
    ]
    assert client.post("/api/clicks", json={"clicks": clicks}).get_json()["new"] == 3
    assert client.post("/api/clicks", json={"domain": "team", "clicks": clicks[:1]}).get_json()["new"] == 1
    stored = client.get("/api/clicks?domain=default").get_json()["clicks"]
    assert [(click["document"], click["position"], click["shown"]) for click in stored] == [
        ("bee", 3, shown),
        ("dog", 7, []),
        (None, None, shown),
    ]
    assert client.delete("/api/clicks?domain=default&document=dog").get_json()["retracted"] == {"default": 1}
    assert "semsearch_entries_total" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("labels", label(document="unicorn"), 422, "no document 'unicorn'"),
        ("labels", {"labels": [label(), label(document="unicorn")]}, 422, "1.document"),
        ("labels", label(relevance=-1), 422, "relevance"),
        ("labels", label(relevance="much"), 422, "relevance"),
        ("labels", label(colour="red"), 422, "colour"),
        ("labels", {"labels": []}, 422, "labels"),
        ("labels", {"labels": [label()] * 1001}, 422, "labels"),
        ("labels", label(domain=".hidden"), 422, "cannot be a domain's name"),
        ("labels", label(domain="x" * 300), 422, "domain"),
        ("labels", label(index="none"), 404, "no index"),
        ("labels", {"labels": [label(id="a"), label(id="a", document="bee")]}, 409, "another content"),
        ("labels", [1], 422, "object"),
        ("clicks", {"query": "a", "document": "bee"}, 422, "give the `position`"),
        ("clicks", {"query": "a"}, 422, "without a document"),
        (
            "clicks",
            {"query": "a", "document": "bee", "position": 1, "shown": ["cat", "bee"]},
            422,
            "is not at this `position`",
        ),
        ("clicks", {"query": "a", "document": "bee", "position": 0}, 422, "position"),
        ("clicks", {"query": "a", "document": "unicorn", "position": 1}, 422, "unicorn"),
        ("domains/x/rollback", {}, 422, "no version to return from"),
        ("domains/x/rollback", {"to": -1}, 422, "to"),
        ("domains/x/parent", {"parent": "x"}, 422, "its own ancestor"),
        ("domains/x/parent", {}, 422, "parent"),
        ("domains/.x/adapt", {}, 422, "cannot be a domain's name"),
        ("compare", {"query": " "}, 422, "empty"),
    ],
)
def test_invalid_requests_are_refused_and_store_nothing(
    client: FlaskClient, path: str, body: object, status: int, message: str
) -> None:
    answer = client.post(f"/api/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert message in answer.text
    assert client.get("/api/labels").get_json()["labels"] == []
    assert client.get("/api/clicks").get_json()["clicks"] == []
    assert client.get("/api/domains").get_json()["domains"] == []


BAD_NAMES = [
    *("../../etc", "..", ".", ".x", "a/../b", "/etc/passwd", "a//b", "a/", "..\\x", " ", "a\0b", "a\nb", "\x7f"),
    *("lock", "changed", "x" * 201, "ü" * 40, "\ufffd"),
]
"""Names that no domain can have."""


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_of_a_domain_is_refused_everywhere_with_a_reason(
    client: FlaskClient, index: Path, name: str
) -> None:
    before = sorted(index.rglob("*"))
    query = {"query": "a", "domain": name}
    path = f"/api/domains/{quote(name, safe='')}"
    answers = [
        client.get("/api/search", query_string=query),
        client.post("/api/search", json=query),
        client.post("/api/compare", json=query),
        client.get("/api/recommend", query_string={"domain": name}),
        client.get("/api/suggestions", query_string=query),
        client.get("/api/map/query", query_string=query),
        client.post("/api/labels", json=label(domain=name)),
        client.post("/api/clicks", json={"query": "a", "document": "bee", "position": 1, "domain": name}),
        client.post("/api/domains/ann/parent", json={"parent": name}),
    ]
    if not {"", ".", ".."}.intersection(name.split("/")):  # clients and servers change such paths
        answers += [
            client.get(path),
            client.post(f"{path}/adapt"),
            client.post(f"{path}/rollback"),
            client.post(f"{path}/reset"),
            client.post(f"{path}/parent", json={"parent": "team"}),
            client.get(f"{path}/state"),
            client.put(f"{path}/state", data=b"x"),
        ]
    for answer in answers:
        assert answer.status_code in {400, 404, 422}, (answer.request.path, answer.status_code)
        assert answer.status_code == 404 or "domain" in answer.text or "parent" in answer.text
    if name.strip():  # the page takes a blank name for the default domain
        assert client.get("/", query_string=query).status_code == 422
        assert client.get("/learned", query_string={"domain": name}).status_code == 422
    assert len(name) > 200 or "cannot be a domain's name: it " in answers[1].text
    assert sorted(index.rglob("*")) == before


def test_a_name_that_is_not_utf_8_is_refused(client: FlaskClient) -> None:
    answer = client.get("/api/domains/%FF%FE")
    assert answer.status_code in {400, 422}
    assert "UTF-8" in answer.text


def test_a_request_to_search_or_to_adapt_creates_no_domain(client: FlaskClient, index: Path) -> None:
    service = client.application.extensions["semsearch"]
    domains = service.index("zoo").domains
    before = sorted(index.rglob("*"))
    for number in range(10_000):
        name = f"nobody-{number}"
        adaptation = domains.engine.search_vectors([Query("a", domain=name)], frozen_vector(domains.engine))[
            0
        ].adaptation
        assert adaptation.domain is None
        if number % 10 == 0:  # these read the disk
            assert domains.adapt(name).number == 0
            assert domains.reset(name) is None
    for number in range(30):
        path = f"/api/domains/other-{number}"
        assert applied_adaptation(client, f"other-{number}")["version"] == 0
        for body in ({}, {"wait": False}):
            assert client.post(f"{path}/adapt", json=body).get_json()["history"] == []
        assert client.post(f"{path}/reset").get_json()["history"] == []
        assert client.post(f"{path}/parent", json={"parent": None}).get_json()["parent"] is None
        assert client.get(path).get_json()["adaptation"]["version"] == 0
        assert client.delete(f"/api/labels?domain=other-{number}").get_json()["retracted"] == {}
    assert sorted(index.rglob("*")) == before
    assert (len(domains.engine.adapter), service.worker.waiting) == (0, 0)
    assert client.get("/api/domains").get_json()["domains"] == []


def frozen_vector(engine: SearchEngine) -> Vectors:
    return np.eye(1, engine.encoder.dimension, dtype=np.float32)


NESTED = [
    "[" * 200_000,
    '{"labels":' * 20_000,
    "[" * 100_000 + "]" * 100_000,
    '{"query":' + "[" * 100_000 + "]" * 100_000 + "}",
]


@pytest.mark.parametrize("body", NESTED)
def test_a_deeply_nested_body_is_refused_by_every_route(client: FlaskClient, body: str) -> None:
    for method, path in [(method, path) for method, path, sent in ROUTES if sent is not None] + [
        ("post", "/api/search")
    ]:
        if path.endswith("/state"):
            continue
        answer = client.open(path, method=method, data=body, content_type="application/json")
        assert answer.status_code in {400, 422}, (path, answer.status_code)
        assert len(answer.text) < 2_000


def test_an_older_log_with_a_time_without_an_offset_and_a_bad_name_is_served(index: Path, serve: Serve) -> None:
    client = serve(after=1)
    client.post("/api/labels", json=label(domain="team", document="salmon", id="new"))
    with sqlite3.connect(index / "labels.sqlite") as file:
        for number, domain in enumerate(["../x", "team"]):
            file.execute(
                "INSERT INTO events (kind, id, domain, query, document, gain, shown, user, source, at)"
                " VALUES ('label', ?, ?, 'an animal', 'bee', 1, '[]', 'bob', 'old', '2020-01-01T00:00:00')",
                [f"old-{number}", domain],
            )
    file.close()
    status = wait_for(client, "team", lambda status: bool(status["history"]) and not status["pending"])
    assert (status["labels"], status["adaptation"]["learner"]) == (2, "memory")
    assert [entry["at"] for entry in client.get("/api/labels?source=old").get_json()["labels"]] == [
        "2020-01-01T00:00:00Z"
    ] * 2
    assert client.get("/learned?domain=team").status_code == 200
    assert [domain["domain"] for domain in client.get("/api/domains").get_json()["domains"]] == ["team"]
    assert client.delete("/api/labels?domain=../x").get_json()["retracted"] == {"../x": 1}


def test_labels_adapt_their_own_domain_only_and_a_rollback_undoes_it(client: FlaskClient) -> None:
    unadapted = {query: search(client, query) for query in ("an animal", "honey", "a bird of prey")}
    assert applied_adaptation(client, "team") == {
        "domain": None,
        "version": 0,
        "learner": "none",
        "reason": "nothing is known of this domain yet",
    }
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    status = client.post("/api/domains/team/adapt").get_json()
    assert status["history"][0]["event"] == "adapted"
    adaptation = applied_adaptation(client, "team")
    assert (adaptation["domain"], adaptation["version"], adaptation["learner"]) == ("team", 1, "memory")
    assert adaptation["reason"].startswith("Memorized 1 judged query")
    assert search(client, "an animal", "team")[0][0] == "salmon" != unadapted["an animal"][0][0]
    for query, before in unadapted.items():
        assert search(client, query) == before
    assert client.post("/api/domains/team/adapt", json={}).get_json()["history"][0]["number"] == 1
    rolled_back = client.post("/api/domains/team/rollback", json={}).get_json()
    assert [version["event"] for version in rolled_back["history"]] == ["rolled back", "adapted"]
    assert search(client, "an animal", "team") == unadapted["an animal"]
    assert client.post("/api/domains/team/rollback", json={"to": 1}).get_json()["adaptation"]["version"] == 3
    assert search(client, "an animal", "team")[0][0] == "salmon"
    assert client.post("/api/domains/team/reset").get_json()["adaptation"]["learner"] == "none"
    assert search(client, "an animal", "team") == unadapted["an animal"]


def test_a_restart_serves_the_adapted_domain(client: FlaskClient, serve: Serve) -> None:
    client.post("/api/labels", json=label(domain="a/b ü", document="salmon"))
    client.post("/api/domains/a%2Fb%20%C3%BC/adapt")
    before = search(client, "an animal", "a/b ü")
    assert before[0][0] == "salmon"
    assert search(serve(), "an animal", "a/b ü") == before


def test_retracting_a_source_gives_exactly_the_state_without_it(index: Path, serve: Serve) -> None:
    keys = {"good": f"{KEY}-1", "bad": f"{KEY}-2"}
    client = serve(keys=WriteKeys(keys))
    good, bad = ({"Authorization": f"Bearer {key}"} for key in keys.values())
    client.post("/api/labels", json=label(domain="team"), headers=good)
    client.post("/api/domains/team/adapt", headers=good)
    first_state = client.get("/api/domains/team/state", headers=good).data
    client.post("/api/labels", json=label(domain="team", query="honey", document="cat"), headers=bad)
    client.post("/api/clicks", json={"query": "fish", "document": "cat", "position": 1, "domain": "team"}, headers=bad)
    client.post("/api/domains/team/adapt", headers=good)
    assert client.get("/api/domains/team/state", headers=good).data != first_state
    for kind in ("labels", "clicks"):
        assert client.delete(f"/api/{kind}?source=bad", headers=good).get_json()["retracted"] == {"team": 1}
    until = monotonic() + 20
    while client.get("/api/domains/team", headers=good).get_json()["pending"] and monotonic() < until:
        sleep(0.01)
    folder = DomainStore(index, encoder_sha256="", dimension=1).folder / "team"
    states = [DomainState.open(path)[0].to_bytes({}) for path in sorted(folder.glob("*.safetensors"))]
    assert states[0] == states[-1] != states[1]


def test_entries_retracted_during_an_adaptation_have_no_lasting_effect(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = client.application.extensions["semsearch"].index("zoo").domains
    decide, decided, go = domains.decide, threading.Event(), threading.Event()

    def slow(domain: str) -> Any:
        outcome = decide(domain)
        decided.set()
        assert go.wait(10)
        return outcome

    monkeypatch.setattr(domains, "decide", slow)
    client.post("/api/labels", json=label(domain="team"))
    client.post("/api/labels", json=label(domain="team", query="honey", document="cat", id="wrong"))
    client.post("/api/domains/team/adapt", json={"wait": False})
    assert decided.wait(10)
    client.delete("/api/labels?id=wrong")
    go.set()
    status = wait_for(client, "team", lambda status: not status["adapting"] and not status["pending"])
    assert [version["labels"] for version in status["history"]] == [1, 2]


def test_enough_new_labels_adapt_a_domain_automatically_and_after_a_restart(serve: Serve) -> None:
    client = serve(after=3)
    client.post("/api/labels", json={"domain": "team", "labels": [label(), label(query="honey", document="bee")]})
    client.post("/api/labels", json=label(domain="team", query="fish", document="salmon"))
    status = wait_for(client, "team", lambda status: bool(status["history"]))
    assert (status["labels"], status["pending"], status["adaptation"]["version"]) == (3, 0, 1)
    client = serve(after=0)
    client.post("/api/labels", json={"domain": "late", "labels": [label(user=str(n)) for n in range(3)]})
    assert client.get("/api/domains/late").get_json()["history"] == []
    assert wait_for(serve(after=3), "late", lambda status: bool(status["history"]))["adaptation"]["learner"] == "memory"


def test_a_child_uses_its_parents_state_until_it_is_adapted_itself(client: FlaskClient) -> None:
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    client.post("/api/domains/team/adapt")
    client.post("/api/domains/ann/parent", json={"parent": "team"})
    assert applied_adaptation(client, "ann") == {
        "domain": "team",
        "version": 1,
        "learner": "memory",
        "reason": "inherited from 'team'",
    }
    assert search(client, "an animal", "ann") == search(client, "an animal", "team")
    client.post("/api/labels", json=label(domain="ann", document="bee"))
    client.post("/api/domains/ann/adapt")
    assert search(client, "an animal", "ann")[0][0] == "bee"
    # the inherited state still applies to other queries
    client.post("/api/labels", json=label(domain="team", query="a thing that flies", document="dog"))
    client.post("/api/domains/team/adapt")
    wait_for(client, "ann", lambda status: len(status["history"]) == 2)
    assert search(client, "a thing that flies", "ann")[0][0] == "dog"
    assert search(client, "an animal", "ann")[0][0] == "bee"
    client.post("/api/domains/ann/reset")
    assert search(client, "an animal", "ann")[0][0] == "salmon"
    # a change of the parent reaches its child
    client.post("/api/domains/team/reset")
    assert search(client, "an animal", "ann") == search(client, "an animal")
    listed = client.get("/api/domains").get_json()["domains"]
    assert [(domain["domain"], domain["parent"]) for domain in listed] == [("ann", "team"), ("team", None)]


def test_states_are_exported_and_imported_and_invalid_ones_are_refused(client: FlaskClient) -> None:
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    client.post("/api/domains/team/adapt")
    state = client.get("/api/domains/team/state").data
    assert client.put("/api/domains/copy/state", data=state).get_json()["history"][0]["event"] == "imported"
    assert search(client, "an animal", "copy") == search(client, "an animal", "team")
    for content in (b"", state[:-5], b"{}" * 50, state.replace(b"encoder_sha256", b"encoder_sha255")):
        assert client.put("/api/domains/copy/state", data=content).status_code == 422
    assert client.get("/api/domains/copy").get_json()["adaptation"]["version"] == 1
    assert client.get("/api/domains/unknown/state").status_code == 422


def test_compare_returns_both_rankings_and_each_documents_other_rank(client: FlaskClient) -> None:
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    client.post("/api/domains/team/adapt")
    comparison = client.post("/api/compare", json={"query": "an animal", "domain": "team", "k": 4}).get_json()
    assert [(hit["id"], hit["score"]) for hit in comparison["frozen"]] == search(client, "an animal")[:4]
    assert [(hit["id"], hit["score"]) for hit in comparison["adapted"]] == search(client, "an animal", "team")[:4]
    frozen = [doc_id for doc_id, _ in search(client, "an animal")]
    adapted = comparison["adapted"]
    assert [hit["other_rank"] for hit in adapted] == [frozen.index(hit["id"]) + 1 for hit in adapted]
    assert comparison["moved"] > 0
    assert comparison["adaptation"]["version"] == 1


def test_recommendations_are_new_documents_similar_to_the_liked_ones(client: FlaskClient) -> None:
    assert client.get("/api/recommend?domain=ann").status_code == 404
    client.post("/api/labels", json=label(domain="ann", query="", document="cat"))
    client.post("/api/clicks", json={"domain": "ann", "query": "x", "document": "bee", "shown": ["eagle", "bee"]})
    answer = client.get("/api/recommend?domain=ann&k=10").get_json()
    assert answer["liked"] == 2
    assert sorted(hit["id"] for hit in answer["hits"]) == ["dog", "salmon", "whale"]
    assert all(set(hit["similar_to"]) == {"cat", "bee"} for hit in answer["hits"])
    client.post("/api/labels", json=label(domain="bob", query="", document="salmon"))
    answer = client.get("/api/recommend?domain=ann&diversity=0").get_json()
    assert answer["hits"][0]["id"] == "salmon"


ROUTES = [
    ("put", "/api/documents", {"documents": [{"id": "a", "text": "x"}]}),
    ("delete", "/api/documents?id=bee", None),
    ("post", "/api/compact", {}),
    ("post", "/api/labels", label()),
    ("post", "/api/clicks", {"query": "a", "document": "bee", "position": 1}),
    ("get", "/api/suggestions?query=a", None),
    ("get", "/api/labels", None),
    ("get", "/api/labels/suggested", None),
    ("get", "/api/clicks", None),
    ("delete", "/api/labels?domain=default", None),
    ("delete", "/api/clicks?domain=default", None),
    ("get", "/api/domains", None),
    ("get", "/api/domains/x", None),
    ("get", "/api/domains/x/state", None),
    ("put", "/api/domains/x/state", {}),
    ("post", "/api/domains/x/adapt", {}),
    ("post", "/api/domains/x/rollback", {}),
    ("post", "/api/domains/x/reset", {}),
    ("post", "/api/domains/x/parent", {"parent": None}),
    ("get", "/api/recommend", None),
]


@pytest.mark.parametrize("keys", ["required", "read-only"])
def test_without_a_valid_key_nothing_is_revealed_or_changed(serve: Serve, keys: str) -> None:
    client = serve(keys=WriteKeys({"ops": KEY}) if keys == "required" else WriteKeys({}, refuse_all=True))
    for method, path, body in ROUTES:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}, {"Authorization": KEY}):
            answer = client.open(path, method=method, json=body, headers=headers)
            assert answer.status_code == (401 if keys == "required" else 403), (method, path, headers)
            assert keys == "read-only" or answer.headers["WWW-Authenticate"] == "Bearer"
    assert search(client, "honey")
    assert client.post("/api/compare", json={"query": "honey"}).status_code == 200


def test_routes_lists_every_operation_that_requires_a_key(client: FlaskClient) -> None:
    operations = {
        (method, path.replace("{domain}", "x"))
        for path, methods in client.get("/api/openapi.json").get_json()["paths"].items()
        for method, operation in methods.items()
        if "security" in operation and method != "head"
    }
    assert operations == {(method, path.partition("?")[0]) for method, path, _ in ROUTES}


def test_the_name_of_the_key_is_stored_as_source(serve: Serve) -> None:
    client = serve(keys=WriteKeys({"ops": KEY, "shop": f"{KEY}!"}))
    headers = {"Authorization": f"Bearer {KEY}!"}
    assert client.post("/api/labels", json=label(), headers=headers).status_code == 201
    [stored] = client.get("/api/labels", headers=headers).get_json()["labels"]
    assert stored["source"] == "shop"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_cannot_write(client: FlaskClient, headers: dict[str, str]) -> None:
    for method, path, body in ROUTES:
        assert client.open(path, method=method, json=body, headers=headers).status_code == 403
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/labels", json=label(), headers=own).status_code == 201
    # a form or script of another site can send this type without a preflight request
    assert client.post("/api/labels", data='{"query": "a"}', content_type="text/plain").status_code == 415


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["no-sign-in-this-key"], "NAME=KEY"),
        (["ops=short"], "at least 16"),
        ([f"ops={KEY}", f"ops={KEY}"], "two write keys"),
        ([f"o ps={KEY}"], "the write key's name"),
        ([f"={KEY}"], "the write key's name"),
    ],
)
def test_invalid_keys_are_refused_at_start(options: list[str], message: str) -> None:
    with pytest.raises(WriteKeyError, match=message):
        WriteKeys.parse(options)


def test_a_server_without_keys_does_not_start_beyond_loopback(index: Path, command: Command) -> None:
    process = command("serve", index, "--host", "0.0.0.0", "--port", "0")
    assert process.returncode == 1
    assert "--write-key NAME=KEY" in process.stderr
    assert "--read-only" in process.stderr


def test_a_damaged_domain_is_unadapted_with_a_reason_and_others_are_unaffected(
    index: Path, client: FlaskClient, serve: Serve
) -> None:
    for domain in ("hurt", "worse", "well"):
        client.post("/api/labels", json=label(domain=domain, document="salmon"))
        client.post(f"/api/domains/{domain}/adapt")
    [state] = (index / "domains" / "hurt").glob("*.safetensors")
    state.write_bytes(state.read_bytes()[:-9])
    (index / "domains" / "worse" / "domain.json").write_text("{")
    client = serve()
    for domain in ("hurt", "worse"):
        assert search(client, "an animal", domain) == search(client, "an animal")
        assert applied_adaptation(client, domain)["reason"].startswith("damaged: ")
        assert str(index) not in client.get(f"/api/search?query=a&domain={domain}").text
    assert search(client, "an animal", "well")[0][0] == "salmon"
    assert client.get("/api/domains/worse").status_code == 422
    assert client.post("/api/domains/hurt/adapt").get_json()["adaptation"]["version"] == 2
    assert search(client, "an animal", "hurt")[0][0] == "salmon"


def test_changes_by_another_process_are_served(index: Path, client: FlaskClient, command: Command) -> None:
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    client.post("/api/domains/team/adapt")
    assert command("domains", "reset", index, "team").returncode == 0
    assert (
        wait_for(client, "team", lambda status: status["adaptation"]["version"] == 0)["history"][0]["event"] == "reset"
    )
    assert search(client, "an animal", "team") == search(client, "an animal")


def test_a_failing_label_log_is_reported_and_searches_continue(index: Path, client: FlaskClient) -> None:
    (index / "labels.sqlite").write_bytes(b"this is no database" * 100)
    assert client.post("/api/labels", json=label()).status_code == 507
    assert client.get("/api/labels").status_code == 507
    assert search(client, "honey")
