"""Queries to label next: the JSON route, and the list on the page of a domain."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from semsearch.domains.registry import DomainRegistry
from semsearch.errors import StorageError
from semsearch.server.runtime.service import SearchService
from semsearch.server.security import WriteKeys
from tests.server.conftest import Serve

KEY = "a-key-of-enough-length"


@pytest.fixture
def client(client: FlaskClient) -> FlaskClient:
    """A client of a server whose domain `team` was asked three queries."""
    service: SearchService = client.application.extensions["semsearch"]
    registry = service.index("zoo").domains
    texts = ["purrs <b>", "purrs <b>", "soars", "honey"]
    registry.kept.add("team", [(text, registry.engine.encode_label(text).vector) for text in texts], days=30)
    assert client.post("/api/labels", json={"query": "honey", "document": "bee", "domain": "team"}).status_code == 201
    return client


def test_the_route_suggests_queries_with_results(client: FlaskClient) -> None:
    answer = client.get("/api/labels/suggested?domain=team&results=3").get_json()
    assert (answer["index"], answer["domain"], answer["reason"]) == ("zoo", "team", "")
    assert [(query["query"], query["times_asked"]) for query in answer["suggestions"]] == [
        ("purrs <b>", 2),
        ("soars", 1),
    ]
    [cat] = [hit for hit in answer["suggestions"][0]["hits"] if hit["id"] == "cat"]
    assert cat["title"] == "Cat"
    assert all(len(query["hits"]) == 3 for query in answer["suggestions"])
    first = client.get("/api/labels/suggested?domain=team&k=1").get_json()["suggestions"]
    assert [query["query"] for query in first] == ["purrs <b>"]


def test_the_route_suggests_results_of_one_query(client: FlaskClient) -> None:
    def suggested(query: str) -> Any:
        target = {"domain": "team", "query": query, "results": 50}
        return client.get("/api/labels/suggested", query_string=target).get_json()

    [first] = suggested(" honey ")["suggestions"]
    assert first["query"] == "honey"
    assert first["times_asked"] == 1
    assert {hit["id"] for hit in first["hits"]} == {"cat", "dog", "eagle", "salmon", "whale"}
    for document in ("cat", "dog", "eagle", "salmon", "whale"):
        label = {"query": "honey", "document": document, "domain": "team", "relevance": 0}
        assert client.post("/api/labels", json=label).status_code == 201
    answer = suggested("honey")
    assert answer["suggestions"] == []
    assert "is labelled" in answer["reason"]
    assert client.get("/api/labels/suggested?query=+").status_code == 422


def test_without_suggestions_the_reason_says_why(client: FlaskClient) -> None:
    answer = client.get("/api/labels/suggested?domain=other").get_json()
    assert answer["suggestions"] == []
    assert "--keep-queries" in answer["reason"]


@pytest.mark.parametrize("query", ["k=0", "k=51", "results=0", "results=x", "domain=../x", "other=1"])
def test_invalid_requests_are_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"/api/labels/suggested?{query}").status_code == 422


def test_the_page_lists_queries_that_lead_to_their_search(client: FlaskClient) -> None:
    page = client.get("/learned?domain=team").text
    assert "Suggested to mark next" in page
    assert 'href="/?query=purrs+%3Cb%3E&amp;domain=team"' in page
    assert "<bdi>purrs &lt;b&gt;</bdi>" in page
    assert "asked 2 times" in page
    assert "This server keeps 3 queries of this domain, the oldest asked on 20" in page
    assert "建议接下来标注" in client.get("/learned?domain=team&lang=zh-Hans").text
    assert "Suggested to mark next" not in client.get("/learned?domain=other").text


def test_the_page_is_shown_without_suggestions_if_they_fail(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StorageError("unreadable")

    monkeypatch.setattr(DomainRegistry, "suggest", fail)
    page = client.get("/learned?domain=team")
    assert (page.status_code, "Suggested" in page.text) == (200, False)


def test_suggestions_require_a_key(client: FlaskClient, serve: Serve) -> None:
    guarded = serve(keys=WriteKeys({"me": KEY}))
    for path in ("/api/labels/suggested?domain=team", "/learned?domain=team"):
        refused = guarded.get(path)
        assert (refused.status_code, "purrs" in refused.text) == (401, False)
        assert "purrs" in guarded.get(path, headers={"Authorization": f"Bearer {KEY}"}).text
