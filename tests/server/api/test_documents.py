"""Changes of documents over HTTP: their effect on searches, also concurrent ones, and write keys."""

from __future__ import annotations

import tempfile
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


def search(client: FlaskClient, query: str, **fields: object) -> list[str]:
    """Ids of the hits."""
    answer = client.post("/api/search", json={"query": query, **fields}).get_json()
    return [hit["id"] for hit in answer["results"][0]["hits"]]


def nested(depth: int) -> Any:
    value: Any = "x"
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


def service(client: FlaskClient) -> SearchService:
    service: SearchService = client.application.extensions["semsearch"]
    return service


def test_added_documents_are_found_at_once(client: FlaskClient, index: Path) -> None:
    bee = {"id": "bee", "text": "Sells carpets."}
    response = client.put("/api/documents", json={"documents": [OWL, bee]})
    assert response.status_code == 200
    assert response.get_json() == {
        "index": "zoo", "added": 1, "replaced": 1, "unchanged": 0, "deleted": 0, "unknown": [], "documents": 7,
        "segments": 1,
    }  # fmt: skip
    assert search(client, "hunts mice at night")[0] == "owl"
    assert search(client, "carpets", mode="keyword") == ["bee"]
    assert search(client, "nectar", mode="keyword") == []
    document = client.get("/api/document?id=owl").get_json()
    assert (document["metadata"], document["source"]) == ({"kind": "bird"}, "local")
    assert client.put("/api/documents", json={"documents": [OWL]}).get_json()["unchanged"] == 1
    assert check(index).problems == ()


def test_an_index_that_cannot_be_written_is_a_clear_error_and_searches_go_on(
    client: FlaskClient, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", refuse)
        full = client.put("/api/documents", json={"documents": [OWL]})
    assert (full.status_code, "disk is full" in full.get_json()["detail"]) == (507, True)
    assert client.put("/api/documents", json={"documents": [OWL]}).status_code == 200
    index.rename(index.with_name("moved"))
    for response in (
        client.put("/api/documents", json={"documents": [{**OWL, "text": "Something else."}]}),
        client.delete("/api/documents?id=bee"),
    ):
        assert (response.status_code, "moved or deleted" in response.get_json()["detail"]) == (503, True)
    assert search(client, "hunts mice at night")[0] == "owl"
    assert not index.exists()


def test_deleted_documents_are_not_found_any_more(client: FlaskClient) -> None:
    result = client.delete("/api/documents?id=bee&id=ghost&id=cat").get_json()
    assert (result["deleted"], result["unknown"], result["documents"]) == (2, ["ghost"], 4)
    assert set(search(client, "animal", k=100)).isdisjoint({"bee", "cat"})
    assert client.get("/api/document?id=bee").status_code == 404
    assert client.post("/api/labels", json={"query": "honey", "document": "bee"}).status_code == 422
    [index_info] = client.get("/api/indexes").get_json()["indexes"]
    assert (index_info["documents"], index_info["deleted"]) == (4, 2)
    assert 'semsearch_index_rows{index="zoo",kind="deleted"} 2.0' in client.get("/metrics").get_data(as_text=True)


def test_compaction_merges_all_segments_and_removes_deleted_documents(client: FlaskClient, index: Path) -> None:
    client.delete("/api/documents?id=bee")
    response = client.post("/api/compact", json={})
    for _ in range(300):
        if response.status_code == 200:
            break
        assert response.status_code == 202
        sleep(0.1)
        response = client.post("/api/compact", json={})
    assert (response.status_code, response.get_json()["segments"]) == (200, 1)
    [index_info] = client.get("/api/indexes").get_json()["indexes"]
    assert (index_info["documents"], index_info["deleted"]) == (5, 0)
    assert check(index).problems == ()


def test_changes_by_another_process_are_served_within_seconds(client: FlaskClient, index: Path) -> None:
    before = service(client).index("zoo").engine
    delete(index, ["bee"])
    until = monotonic() + 20
    while "bee" in search(client, "nectar and honey", k=100) and monotonic() < until:
        sleep(0.05)
    assert "bee" not in search(client, "nectar and honey", k=100)
    assert service(client).index("zoo").engine is not before


def test_generations_that_no_reader_uses_are_removed(client: FlaskClient, index: Path) -> None:
    for number in range(3):
        client.put("/api/documents", json={"documents": [{**OWL, "id": f"owl {number}"}]})
    until = monotonic() + 20
    # the fixture holds the first generation open
    expected = {"g-000001", (index / "current").read_text().strip()}
    while {path.name for path in index.glob("g-*")} != expected and monotonic() < until:
        sleep(0.1)
    assert {path.name for path in index.glob("g-*")} == expected
    assert len(search(client, "owl", k=100)) == 9


def test_domains_stay_adapted_when_the_index_changes(client: FlaskClient) -> None:
    client.post("/api/labels", json={"query": "something to stroke", "document": "salmon"})
    client.post("/api/domains/default/adapt", json={})
    params: dict[str, Any] = {"query": "something to stroke", "k": 3}
    assert search(client, **params)[0] == "salmon"
    client.put("/api/documents", json={"documents": [OWL]})
    assert search(client, **params)[0] == "salmon"
    client.post("/api/labels", json={"query": "who is awake", "document": "owl"})
    adapted = client.post("/api/domains/default/adapt", json={}).get_json()
    assert adapted["adaptation"]["version"] == 2
    assert search(client, "who is awake")[0] == "owl"


def test_searches_stay_correct_while_documents_change(client: FlaskClient) -> None:
    """No search fails, misses an unchanged document, or returns one that was deleted before the search started."""
    ended, failures = threading.Event(), list[str]()
    deleted: set[str] = set()

    def search_repeatedly() -> None:
        own_client = client.application.test_client()
        while not ended.is_set():
            forbidden = set(deleted)
            answer = own_client.post("/api/search", json={"query": "animal mice honey", "k": 100})
            if answer.status_code != 200:
                failures.append(answer.get_data(as_text=True))
                continue
            hits = {hit["id"] for hit in answer.get_json()["results"][0]["hits"]}
            if not {"cat", "dog", "eagle", "salmon", "bee", "whale"} <= hits or hits & forbidden:
                failures.append(f"{sorted(hits)} after {sorted(forbidden)} were deleted")

    threads = [threading.Thread(target=search_repeatedly) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(15):
        client.put("/api/documents", json={"documents": [{"id": f"n{number}", "text": f"mice number {number}"}]})
        if number:
            client.delete(f"/api/documents?id=n{number - 1}")
            deleted.add(f"n{number - 1}")
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"documents": []}, "the list is empty"),
        ({"documents": [{"id": "a"}]}, "neither title nor text"),
        ({"documents": [{"id": "", "text": "x"}]}, "the text is empty"),
        ({"documents": [OWL, OWL]}, "ids are unique"),
        ({"documents": [{"id": "a", "text": "\ud800"}]}, "surrogate"),
        ({"documents": [{**OWL, "metadata": {"a": nested(33)}}]}, "nested more than 32 levels"),
        ({"documents": [{**OWL, "colour": "grey"}]}, "unknown parameter"),
        ({"documents": [OWL], "index": "nowhere"}, "no index is called"),
    ],
)
def test_invalid_documents_are_refused(client: FlaskClient, body: dict[str, Any], message: str) -> None:
    response = client.put("/api/documents", json=body)
    assert response.status_code in {404, 422, 400}
    assert message in response.get_data(as_text=True) or response.status_code == 400
    assert client.get("/api/indexes").get_json()["indexes"][0]["documents"] == 6


def test_a_document_of_the_deepest_metadata_is_returned_by_searches(client: FlaskClient) -> None:
    deep = {"id": "deep", "text": "Sells carpets.", "metadata": {"a": nested(32)}}
    assert client.put("/api/documents", json={"documents": [deep]}).status_code == 200
    body = {"query": "carpets", "mode": "keyword"}
    (hit,) = client.post("/api/search", json=body).get_json()["results"][0]["hits"]
    assert hit["metadata"] == deep["metadata"]
    assert client.get("/api/document?id=deep").get_json()["metadata"] == deep["metadata"]
    assert client.get("/?q=carpets").status_code == 200
    assert client.get("/document?id=deep").status_code == 200


def test_changes_require_a_valid_write_key(serve: Serve, index: Path) -> None:
    client = serve(keys=WriteKeys({"ops": KEY}))
    headers = {"Authorization": f"Bearer {KEY}"}
    for call, path, body in (
        (client.put, "/api/documents", {"documents": [OWL]}),
        (client.delete, "/api/documents?id=bee", None),
        (client.post, "/api/compact", {}),
    ):
        assert call(path, json=body).status_code == 401
        assert call(path, json=body, headers={**headers, "Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert read_manifest(index).documents == 6
    response = client.put("/api/documents", json={"documents": [OWL]}, headers=headers)
    assert response.status_code == 200
    assert client.get("/api/document?id=owl").get_json()["source"] == "ops"
    # the key of another client is no change, a source is
    client = serve(keys=WriteKeys({"web": KEY}))
    for source, unchanged in (({}, 1), ({"source": "ops"}, 1), ({"source": "https://a.example"}, 0), ({}, 1)):
        response = client.put("/api/documents", json={"documents": [{**OWL, **source}]}, headers=headers)
        assert response.get_json()["unchanged"] == unchanged
    assert client.get("/api/document?id=owl").get_json()["source"] == "https://a.example"
    assert serve(keys=WriteKeys({}, refuse_all=True)).delete("/api/documents?id=bee").status_code == 403


def test_a_second_writer_is_refused(client: FlaskClient, index: Path) -> None:
    with begin_build(index):
        response = client.put("/api/documents", json={"documents": [OWL]})
    assert response.status_code == 409
    assert response.get_json()["detail"] == "another build or change is writing the index: try again later"
    assert client.put("/api/documents", json={"documents": [OWL]}).status_code == 200
