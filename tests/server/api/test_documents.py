"""Documents over HTTP: what a change does to searches, while they go on, and who may send one."""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from flask.testing import FlaskClient

from semsearch.ingest.updating import delete
from semsearch.server.runtime.service import SearchService
from semsearch.server.security import WriteKeys
from semsearch.storage.checking import check
from semsearch.storage.generations import begin_build, read_manifest
from tests.server.conftest import Serve

KEY = "a-key-of-enough-length"
OWL = {"id": "owl", "title": "Owl", "text": "A bird that hunts mice at night.", "metadata": {"kind": "bird"}}


@pytest.fixture
def client(serve: Serve) -> FlaskClient:
    return serve()


def found(client: FlaskClient, query: str, **more: object) -> list[str]:
    answer = client.post("/api/search", json={"query": query, **more}).get_json()
    return [hit["id"] for hit in answer["results"][0]["hits"]]


def service(client: FlaskClient) -> SearchService:
    of: SearchService = client.application.extensions["semsearch"]
    return of


def test_documents_are_found_as_soon_as_they_are_taken(client: FlaskClient, index: Path) -> None:
    bee = {"id": "bee", "text": "Sells carpets."}
    done = client.put("/api/documents", json={"documents": [OWL, bee]})
    assert done.status_code == 200
    assert done.get_json() == {
        "index": "zoo", "added": 1, "replaced": 1, "unchanged": 0, "deleted": 0, "unknown": [], "documents": 7,
        "segments": 1,
    }  # fmt: skip
    assert found(client, "hunts mice at night")[0] == "owl"
    assert found(client, "carpets", mode="keyword") == ["bee"]
    assert found(client, "nectar", mode="keyword") == []
    shown = client.get("/api/document?id=owl").get_json()
    assert (shown["metadata"], shown["source"]) == ({"kind": "bird"}, "local")
    assert client.put("/api/documents", json={"documents": [OWL]}).get_json()["unchanged"] == 1
    assert check(index).problems == ()


def test_deleted_documents_are_gone_at_once(client: FlaskClient) -> None:
    done = client.delete("/api/documents?id=bee&id=ghost&id=cat").get_json()
    assert (done["deleted"], done["unknown"], done["documents"]) == (2, ["ghost"], 4)
    assert set(found(client, "animal", k=100)).isdisjoint({"bee", "cat"})
    assert client.get("/api/document?id=bee").status_code == 404
    assert client.post("/api/labels", json={"query": "honey", "document": "bee"}).status_code == 422
    [described] = client.get("/api/indexes").get_json()["indexes"]
    assert (described["documents"], described["deleted"]) == (4, 2)
    assert 'semsearch_index_rows{index="zoo",kind="deleted"} 2.0' in client.get("/metrics").get_data(as_text=True)


def test_compacting_makes_one_piece(client: FlaskClient, index: Path) -> None:
    client.delete("/api/documents?id=bee")
    done = client.post("/api/compact", json={})
    for _ in range(300):
        if done.status_code == 200:
            break
        assert done.status_code == 202
        sleep(0.1)
        done = client.post("/api/compact", json={})
    assert (done.status_code, done.get_json()["segments"]) == (200, 1)
    [described] = client.get("/api/indexes").get_json()["indexes"]
    assert (described["documents"], described["deleted"]) == (5, 0)
    assert check(index).problems == ()


def test_what_another_process_changes_is_served_within_seconds(client: FlaskClient, index: Path) -> None:
    before = service(client).index("zoo").engine
    delete(index, ["bee"])
    until = monotonic() + 20
    while "bee" in found(client, "nectar and honey", k=100) and monotonic() < until:
        sleep(0.05)
    assert "bee" not in found(client, "nectar and honey", k=100)
    assert service(client).index("zoo").engine is not before


def test_states_that_nobody_reads_any_more_are_removed(client: FlaskClient, index: Path) -> None:
    for number in range(3):
        client.put("/api/documents", json={"documents": [{**OWL, "id": f"owl {number}"}]})
    until = monotonic() + 20
    # the first one is the caller's, who has it open
    left = {"g-000001", (index / "current").read_text().strip()}
    while {path.name for path in index.glob("g-*")} != left and monotonic() < until:
        sleep(0.1)
    assert {path.name for path in index.glob("g-*")} == left
    assert len(found(client, "owl", k=100)) == 9


def test_domains_go_on_over_another_state_of_the_index(client: FlaskClient) -> None:
    client.post("/api/labels", json={"query": "something to stroke", "document": "salmon"})
    client.post("/api/domains/default/adapt", json={})
    ask: dict[str, Any] = {"query": "something to stroke", "k": 3}
    assert found(client, **ask)[0] == "salmon"
    client.put("/api/documents", json={"documents": [OWL]})
    assert found(client, **ask)[0] == "salmon"
    client.post("/api/labels", json={"query": "who is awake", "document": "owl"})
    adapted = client.post("/api/domains/default/adapt", json={}).get_json()
    assert adapted["adaptation"]["version"] == 2
    assert found(client, "who is awake")[0] == "owl"


def test_searches_go_on_while_documents_come_and_go(client: FlaskClient) -> None:
    """No answer fails, misses what was always there or has what was deleted before it was asked."""
    ended, wrong = threading.Event(), list[str]()
    gone: set[str] = set()

    def search() -> None:
        mine = client.application.test_client()
        while not ended.is_set():
            forbidden = set(gone)
            answer = mine.post("/api/search", json={"query": "animal mice honey", "k": 100})
            if answer.status_code != 200:
                wrong.append(answer.get_data(as_text=True))
                continue
            hits = {hit["id"] for hit in answer.get_json()["results"][0]["hits"]}
            if not {"cat", "dog", "eagle", "salmon", "bee", "whale"} <= hits or hits & forbidden:
                wrong.append(f"{sorted(hits)} after {sorted(forbidden)} went")

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(15):
        client.put("/api/documents", json={"documents": [{"id": f"n{number}", "text": f"mice number {number}"}]})
        if number:
            client.delete(f"/api/documents?id=n{number - 1}")
            gone.add(f"n{number - 1}")
    ended.set()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"documents": []}, "at least 1 item"),
        ({"documents": [{"id": "a"}]}, "neither title nor text"),
        ({"documents": [{"id": "", "text": "x"}]}, "at least 1 character"),
        ({"documents": [OWL, OWL]}, "ids are unique"),
        ({"documents": [{"id": "a", "text": "\ud800"}]}, "surrogate"),
        ({"documents": [{**OWL, "colour": "grey"}]}, "Extra inputs"),
        ({"documents": [OWL], "index": "nowhere"}, "no index is called"),
    ],
)
def test_what_is_no_document_is_refused(client: FlaskClient, body: dict[str, Any], complaint: str) -> None:
    done = client.put("/api/documents", json=body)
    assert done.status_code in {404, 422, 400}
    assert complaint in done.get_data(as_text=True) or done.status_code == 400
    assert client.get("/api/indexes").get_json()["indexes"][0]["documents"] == 6


def test_only_those_who_may_write_change_anything(serve: Serve, index: Path) -> None:
    client = serve(keys=WriteKeys({"ops": KEY}))
    right = {"Authorization": f"Bearer {KEY}"}
    for call, path, body in (
        (client.put, "/api/documents", {"documents": [OWL]}),
        (client.delete, "/api/documents?id=bee", None),
        (client.post, "/api/compact", {}),
    ):
        assert call(path, json=body).status_code == 401
        assert call(path, json=body, headers={**right, "Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert read_manifest(index).documents == 6
    done = client.put("/api/documents", json={"documents": [OWL]}, headers=right)
    assert done.status_code == 200
    assert client.get("/api/document?id=owl").get_json()["source"] == "ops"
    assert serve(keys=WriteKeys({}, refuse_all=True)).delete("/api/documents?id=bee").status_code == 403


def test_two_writers_at_once_are_told(client: FlaskClient, index: Path) -> None:
    with begin_build(index):
        done = client.put("/api/documents", json={"documents": [OWL]})
    assert done.status_code == 409
    assert "another build or change is writing" in done.get_json()["detail"]
    assert client.put("/api/documents", json={"documents": [OWL]}).status_code == 200
