"""Labels and clicks over HTTP, what domains make of them, and who may send them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from flask.testing import FlaskClient

from semsearch.adapters.state import DomainState
from semsearch.server.security import WriteKeyError, WriteKeys
from semsearch.storage.domains import DomainStore
from tests.conftest import Command
from tests.server.conftest import Serve

KEY = "a-key-of-enough-length"


def label(query: str = "an animal", document: str = "whale", **more: object) -> dict[str, object]:
    return {"query": query, "document": document, **more}


def found(client: FlaskClient, query: str, domain: str = "default") -> list[tuple[str, float]]:
    answer = client.post("/api/search", json={"query": query, "domain": domain}).get_json()
    return [(hit["id"], hit["score"]) for hit in answer["results"][0]["hits"]]


def adapted(client: FlaskClient, domain: str = "default") -> dict[str, Any]:
    answer = client.post("/api/search", json={"query": "an animal", "domain": domain}).get_json()
    by: dict[str, Any] = answer["results"][0]["adaptation"]
    return by


def wait_for(client: FlaskClient, domain: str, met: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
    """The domain once it is as wished; it changes on another thread."""
    until = monotonic() + 20
    while monotonic() < until:
        described: dict[str, Any] = client.get(f"/api/domains/{domain}").get_json()
        if met(described) and not described["adapting"]:
            return described
        sleep(0.01)
    raise AssertionError(f"{domain} never came to it: {described}")


def test_labels_are_kept_once_listed_in_parts_and_withdrawn(client: FlaskClient) -> None:
    kept = client.post("/api/labels", json=label(id="one", user="ann"))
    assert kept.status_code == 201
    assert kept.get_json() == {"index": "zoo", "domain": "default", "ids": ["one"], "new": 1, "known": 0}
    many = {"domain": "team", "labels": [label(relevance=0), label(document="bee", relevance=2.5)]}
    assert client.post("/api/labels", json=many).get_json()["new"] == 2
    again = client.post("/api/labels", json=label(id="one", user="ann")).get_json()
    assert (again["new"], again["known"]) == (0, 1)
    first = client.get("/api/labels?limit=2").get_json()
    rest = client.get(f"/api/labels?limit=2&after={first['next']}").get_json()
    listed = [*first["labels"], *rest["labels"]]
    assert [(one["domain"], one["document"], one["relevance"], one["user"], one["source"]) for one in listed] == [
        ("default", "whale", 1.0, "ann", "local"),
        ("team", "whale", 0.0, "", "local"),
        ("team", "bee", 2.5, "", "local"),
    ]
    assert rest["next"] is None
    assert client.delete("/api/labels?domain=team&document=bee").get_json()["retracted"] == {"team": 1}
    assert len(client.get("/api/labels?domain=team").get_json()["labels"]) == 1
    # what was withdrawn does not come back because a client sends it again
    assert client.delete("/api/labels?id=one").get_json()["retracted"] == {"default": 1}
    assert client.post("/api/labels", json=label(id="one", user="ann")).get_json()["known"] == 1
    assert client.get("/api/labels?id=one").get_json()["labels"] == []


def test_clicks_are_kept_with_what_was_shown(client: FlaskClient) -> None:
    shown = ["cat", "dog", "bee"]
    clicks = [
        {"query": "honey", "document": "bee", "shown": shown},
        {"query": "honey", "document": "dog", "position": 7},
        {"query": "honey", "shown": shown},
    ]
    assert client.post("/api/clicks", json={"clicks": clicks}).get_json()["new"] == 3
    assert client.post("/api/clicks", json={"domain": "team", "clicks": clicks[:1]}).get_json()["new"] == 1
    kept = client.get("/api/clicks?domain=default").get_json()["clicks"]
    assert [(one["document"], one["position"], one["shown"]) for one in kept] == [
        ("bee", 3, shown),
        ("dog", 7, []),
        (None, None, shown),
    ]
    assert client.delete("/api/clicks?domain=default&document=dog").get_json()["retracted"] == {"default": 1}
    assert "semsearch_entries_total" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
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
        ("clicks", {"query": "a", "document": "bee", "position": 1, "shown": ["cat", "bee"]}, 422, "does not stand"),
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
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    client: FlaskClient, path: str, body: object, status: int, said: str
) -> None:
    answer = client.post(f"/api/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.text
    assert client.get("/api/labels").get_json()["labels"] == []
    assert client.get("/api/clicks").get_json()["clicks"] == []
    assert client.get("/api/domains").get_json()["domains"] == []


def test_marks_change_their_domain_at_once_and_no_other_and_are_undone(client: FlaskClient) -> None:
    others = {query: found(client, query) for query in ("an animal", "honey", "a bird of prey")}
    assert adapted(client, "team") == {
        "domain": None,
        "version": 0,
        "learner": "none",
        "reason": "nothing is known of this domain yet",
    }
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    described = client.post("/api/domains/team/adapt").get_json()
    assert described["history"][0]["event"] == "adapted"
    by = adapted(client, "team")
    assert (by["domain"], by["version"], by["learner"]) == ("team", 1, "memory")
    assert by["reason"].startswith("Memorized 1 judged query")
    assert found(client, "an animal", "team")[0][0] == "salmon" != others["an animal"][0][0]
    for query, before in others.items():
        assert found(client, query) == before
    assert client.post("/api/domains/team/adapt", json={}).get_json()["history"][0]["number"] == 1
    undone = client.post("/api/domains/team/rollback", json={}).get_json()
    assert [one["event"] for one in undone["history"]] == ["rolled back", "adapted"]
    assert found(client, "an animal", "team") == others["an animal"]
    assert client.post("/api/domains/team/rollback", json={"to": 1}).get_json()["adaptation"]["version"] == 3
    assert found(client, "an animal", "team")[0][0] == "salmon"
    assert client.post("/api/domains/team/reset").get_json()["adaptation"]["learner"] == "none"
    assert found(client, "an animal", "team") == others["an animal"]


def test_a_restart_serves_what_was_learned(client: FlaskClient, serve: Serve) -> None:
    client.post("/api/labels", json=label(domain="a/b ü", document="salmon"))
    client.post("/api/domains/a%2Fb%20%C3%BC/adapt")
    before = found(client, "an animal", "a/b ü")
    assert before[0][0] == "salmon"
    assert found(serve(), "an animal", "a/b ü") == before


def test_a_withdrawn_source_leaves_exactly_the_state_without_it(index: Path, serve: Serve) -> None:
    keys = {"good": f"{KEY}-1", "bad": f"{KEY}-2"}
    client = serve(keys=WriteKeys(keys))
    good, bad = ({"Authorization": f"Bearer {key}"} for key in keys.values())
    client.post("/api/labels", json=label(domain="team"), headers=good)
    client.post("/api/domains/team/adapt", headers=good)
    first = client.get("/api/domains/team/state", headers=good).data
    client.post("/api/labels", json=label(domain="team", query="honey", document="cat"), headers=bad)
    client.post("/api/clicks", json={"query": "fish", "document": "cat", "position": 1, "domain": "team"}, headers=bad)
    client.post("/api/domains/team/adapt", headers=good)
    assert client.get("/api/domains/team/state", headers=good).data != first
    for kind in ("labels", "clicks"):
        assert client.delete(f"/api/{kind}?source=bad", headers=good).get_json()["retracted"] == {"team": 1}
    until = monotonic() + 20
    while client.get("/api/domains/team", headers=good).get_json()["pending"] and monotonic() < until:
        sleep(0.01)
    path = DomainStore(index, encoder_sha256="").folder / "team"
    states = [DomainState.open(one)[0].to_bytes({}) for one in sorted(path.glob("*.safetensors"))]
    assert states[0] == states[-1] != states[1]


def test_entries_retracted_during_an_adaptation_do_not_keep_serving(
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
    status = wait_for(client, "team", lambda one: not one["adapting"] and not one["pending"])
    assert [version["labels"] for version in status["history"]] == [1, 2]


def test_enough_new_labels_adapt_a_domain_unasked_and_after_a_crash(serve: Serve) -> None:
    client = serve(after=3)
    client.post("/api/labels", json={"domain": "team", "labels": [label(), label(query="honey", document="bee")]})
    client.post("/api/labels", json=label(domain="team", query="fish", document="salmon"))
    described = wait_for(client, "team", lambda one: bool(one["history"]))
    assert (described["labels"], described["pending"], described["adaptation"]["version"]) == (3, 0, 1)
    client = serve(after=0)
    client.post("/api/labels", json={"domain": "late", "labels": [label(user=str(n)) for n in range(3)]})
    assert client.get("/api/domains/late").get_json()["history"] == []
    assert wait_for(serve(after=3), "late", lambda one: bool(one["history"]))["adaptation"]["learner"] == "memory"


def test_a_child_is_served_by_its_parent_until_it_learns_itself(client: FlaskClient) -> None:
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    client.post("/api/domains/team/adapt")
    client.post("/api/domains/ann/parent", json={"parent": "team"})
    assert adapted(client, "ann") == {
        "domain": "team",
        "version": 1,
        "learner": "memory",
        "reason": "inherited from 'team'",
    }
    assert found(client, "an animal", "ann") == found(client, "an animal", "team")
    client.post("/api/labels", json=label(domain="ann", document="bee"))
    client.post("/api/domains/ann/adapt")
    assert found(client, "an animal", "ann")[0][0] == "bee"
    # what it inherits goes on beside
    client.post("/api/labels", json=label(domain="team", query="a thing that flies", document="dog"))
    client.post("/api/domains/team/adapt")
    wait_for(client, "ann", lambda one: len(one["history"]) == 2)
    assert found(client, "a thing that flies", "ann")[0][0] == "dog"
    assert found(client, "an animal", "ann")[0][0] == "bee"
    client.post("/api/domains/ann/reset")
    assert found(client, "an animal", "ann")[0][0] == "salmon"
    # a change of the parent reaches its child
    client.post("/api/domains/team/reset")
    assert found(client, "an animal", "ann") == found(client, "an animal")
    listed = client.get("/api/domains").get_json()["domains"]
    assert [(one["domain"], one["parent"]) for one in listed] == [("ann", "team"), ("team", None)]


def test_states_are_exported_and_imported_and_nonsense_is_not(client: FlaskClient) -> None:
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    client.post("/api/domains/team/adapt")
    state = client.get("/api/domains/team/state").data
    assert client.put("/api/domains/copy/state", data=state).get_json()["history"][0]["event"] == "imported"
    assert found(client, "an animal", "copy") == found(client, "an animal", "team")
    for content in (b"", state[:-5], b"{}" * 50, state.replace(b"encoder_sha256", b"encoder_sha255")):
        assert client.put("/api/domains/copy/state", data=content).status_code == 422
    assert client.get("/api/domains/copy").get_json()["adaptation"]["version"] == 1
    assert client.get("/api/domains/nobody/state").status_code == 422


def test_compare_shows_both_rankings_and_where_each_document_went(client: FlaskClient) -> None:
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    client.post("/api/domains/team/adapt")
    both = client.post("/api/compare", json={"query": "an animal", "domain": "team", "k": 4}).get_json()
    assert [(hit["id"], hit["score"]) for hit in both["frozen"]] == found(client, "an animal")[:4]
    assert [(hit["id"], hit["score"]) for hit in both["adapted"]] == found(client, "an animal", "team")[:4]
    order = [one for one, _ in found(client, "an animal")]
    assert [hit["other_rank"] for hit in both["adapted"]] == [order.index(hit["id"]) + 1 for hit in both["adapted"]]
    assert both["moved"] > 0
    assert both["adaptation"]["version"] == 1


def test_recommendations_are_near_what_was_liked_and_new(client: FlaskClient) -> None:
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


@pytest.mark.parametrize("keys", ["wanted", "read-only"])
def test_without_a_right_key_nothing_is_told_or_changed(serve: Serve, keys: str) -> None:
    client = serve(keys=WriteKeys({"ops": KEY}) if keys == "wanted" else WriteKeys({}, refuse_all=True))
    for method, path, body in ROUTES:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}, {"Authorization": KEY}):
            answer = client.open(path, method=method, json=body, headers=headers)
            assert answer.status_code == (401 if keys == "wanted" else 403), (method, path, headers)
            assert keys == "read-only" or answer.headers["WWW-Authenticate"] == "Bearer"
    assert found(client, "honey")
    assert client.post("/api/compare", json={"query": "honey"}).status_code == 200


def test_every_route_that_writes_or_tells_is_among_those(client: FlaskClient) -> None:
    wanted = {
        (method, path.replace("{domain}", "x"))
        for path, methods in client.get("/api/openapi.json").get_json()["paths"].items()
        for method, described in methods.items()
        if "security" in described
    }
    assert wanted == {(method, path.partition("?")[0]) for method, path, _ in ROUTES}


def test_the_right_key_is_the_source(serve: Serve) -> None:
    client = serve(keys=WriteKeys({"ops": KEY, "shop": f"{KEY}!"}))
    headers = {"Authorization": f"Bearer {KEY}!"}
    assert client.post("/api/labels", json=label(), headers=headers).status_code == 201
    [kept] = client.get("/api/labels", headers=headers).get_json()["labels"]
    assert kept["source"] == "shop"


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
    # what a form or a script of another site can send without being asked first
    assert client.post("/api/labels", data='{"query": "a"}', content_type="text/plain").status_code == 415


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["no-sign-in-this-key"], "NAME=KEY"),
        (["ops=short"], "at least 16"),
        ([f"ops={KEY}", f"ops={KEY}"], "two write keys"),
        ([f"o ps={KEY}"], "the write key's name"),
        ([f"={KEY}"], "the write key's name"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_at_the_start(given: list[str], said: str) -> None:
    with pytest.raises(WriteKeyError, match=said):
        WriteKeys.parsed(given)


def test_beyond_loopback_a_server_without_keys_does_not_start(index: Path, command: Command) -> None:
    done = command("serve", index, "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "--write-key NAME=KEY" in done.stderr
    assert "--read-only" in done.stderr


def test_a_damaged_domain_is_served_frozen_and_says_so_while_others_go_on(
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
        assert found(client, "an animal", domain) == found(client, "an animal")
        assert adapted(client, domain)["reason"].startswith("damaged: ")
    assert found(client, "an animal", "well")[0][0] == "salmon"
    assert client.get("/api/domains/worse").status_code == 422
    assert client.post("/api/domains/hurt/adapt").get_json()["adaptation"]["version"] == 2
    assert found(client, "an animal", "hurt")[0][0] == "salmon"


def test_what_another_process_changes_is_taken_up(index: Path, client: FlaskClient, command: Command) -> None:
    client.post("/api/labels", json=label(domain="team", document="salmon"))
    client.post("/api/domains/team/adapt")
    assert command("domains", "reset", index, "team").returncode == 0
    assert wait_for(client, "team", lambda one: one["adaptation"]["version"] == 0)["history"][0]["event"] == "reset"
    assert found(client, "an animal", "team") == found(client, "an animal")


def test_a_disk_that_refuses_is_told_and_nothing_is_half_kept(index: Path, client: FlaskClient) -> None:
    (index / "labels.sqlite").write_bytes(b"this is no database" * 100)
    assert client.post("/api/labels", json=label()).status_code == 507
    assert client.get("/api/labels").status_code == 507
    assert found(client, "honey")
