"""Pages and the API routes behind them: sorting, suggestions, explanations, the map, languages, old links."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.schemas.search import Limits
from semsearch.server.security import WriteKeys
from semsearch.storage.generations import current
from tests.server.conftest import Serve

KEY = "a-key-of-enough-length"


def label(client: FlaskClient, query: str, document: str = "bee", **other: object) -> None:
    assert client.post("/api/labels", json={"query": query, "document": document, **other}).status_code == 201


def test_results_are_sorted_across_pages(client: FlaskClient) -> None:
    def ids(sort: str, **other: object) -> list[str]:
        answer = client.post("/api/search", json={"query": "animal", "sort": sort, **other}).get_json()
        return [hit["id"] for hit in answer["results"][0]["hits"]]

    assert ids("title") == ["bee", "cat", "dog", "eagle", "salmon", "whale"]
    assert ids("-title", k=2) == ["whale", "salmon"]
    assert ids("-title", k=2, offset=2) == ["eagle", "dog"]
    kinds = ids("kind")
    assert kinds[:3] == ["eagle", "salmon", "bee"]
    assert set(kinds[3:]) == {"cat", "dog", "whale"}


@pytest.mark.parametrize("sort", ["", " ", "-", " - "])
def test_a_sort_that_names_no_field_is_refused(client: FlaskClient, sort: str) -> None:
    response = client.post("/api/search", json={"query": "animal", "sort": sort})
    assert response.status_code == 422
    assert "names no field" in response.get_json()["detail"]


def test_suggestions_are_the_domains_queries_most_frequent_first(client: FlaskClient) -> None:
    label(client, "Honey from the comb", domain="a")
    label(client, "honey in tea", domain="a")
    label(client, "honey in tea", "cat", domain="a")
    label(client, "honey of others", domain="b")
    label(client, "100% pure_ honey", domain="c")

    def suggested(query: str, domain: str = "a") -> list[str]:
        answer = client.get("/api/suggestions", query_string={"query": query, "domain": domain}).get_json()
        return list(answer["suggestions"])

    assert suggested("HONEY") == ["honey in tea", "Honey from the comb"]
    assert suggested("comb") == ["Honey from the comb"]
    assert suggested("") == ["honey in tea", "Honey from the comb"]
    assert suggested("%") == []
    assert suggested("%", "c") == suggested("e_ h", "c") == ["100% pure_ honey"]
    assert suggested("honey", "unlabelled") == []


def test_suggestions_and_the_domain_page_require_a_key_and_suggestions_can_be_switched_off(
    serve: Serve, index: Path, tiny_encoder: Encoder
) -> None:
    guarded = serve(keys=WriteKeys({"me": KEY}))
    for path in ("/api/suggestions?query=a", "/learned"):
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    engine = SearchEngine.open(index, encoder=tiny_encoder)
    app = create_app({"zoo": engine}, limits=Limits(suggestions=False))
    client = app.test_client()
    label(client, "honey")
    assert client.get("/api/suggestions?query=h").get_json()["suggestions"] == []
    assert 'data-suggestions="no"' in client.get("/").text
    app.extensions["semsearch"].close()
    engine.close()


def test_another_site_may_link_to_the_domain_page_but_not_request_it_otherwise(
    client: FlaskClient,
) -> None:
    cross_site = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/learned", headers={**cross_site, "Sec-Fetch-Dest": "document"}).status_code == 200
    assert client.get("/learned", headers={**cross_site, "Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert client.get("/learned", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    posted = {**cross_site, "Sec-Fetch-Dest": "document"}
    assert client.post("/api/domains/x/adapt", json={}, headers=posted).status_code == 403


def test_the_status_page_names_domains_only_without_write_keys(serve: Serve) -> None:
    client = serve()
    label(client, "honey", domain="secret-team")
    assert "secret-team" in client.get("/status").text
    assert "secret-team" not in serve(keys=WriteKeys({"me": KEY})).get("/status").text
    assert "1 domain" in serve(keys=WriteKeys({"me": KEY})).get("/status").text


def test_an_explanation_adds_up_after_adaptation(client: FlaskClient) -> None:
    label(client, "something sweet", "bee", domain="sweet")
    assert client.post("/api/domains/sweet/adapt", json={}).status_code == 200
    answer = client.get("/api/search?query=something+sweet&domain=sweet&explain=true").get_json()
    hit = answer["results"][0]["hits"][0]
    assert hit["id"] == "bee"
    page = client.get("/explanation?id=bee&query=something+sweet&domain=sweet").text
    numbers = [float(part.split("<", 1)[0]) for part in page.split('class="number">')[1:5]]
    dense, adaptation, lexical, total = numbers
    assert adaptation > 0
    assert dense + adaptation + lexical == pytest.approx(total, abs=0.002)
    assert total == pytest.approx(hit["score"], abs=0.001)
    assert "Rank 1 of 6" in page


def test_an_explanation_without_document_query_or_rank_says_so(client: FlaskClient) -> None:
    assert client.get("/explanation?id=no-such-id&query=honey").status_code == 404
    assert client.get("/explanation?id=bee&query=").status_code == 422
    assert client.get("/explanation?id=bee&query=honey&filter=kind+%3D").status_code == 422
    absent = client.get("/explanation?id=bee&query=honey&filter=kind+%3D+mammal")
    assert (absent.status_code, "not among the first" in absent.text) == (200, True)
    assert "BM25" in client.get("/explanation?id=bee&query=honey&mode=lexical").text


def test_the_map_has_a_point_for_each_passage_except_deleted_ones(client: FlaskClient) -> None:
    response = client.get("/api/map/points")
    points = np.frombuffer(response.data, "<u2").reshape(-1, 2)
    assert points.shape == (6, 2)
    assert points.max() < 0xFFFF
    generation = response.headers["X-Generation"]
    again = client.get("/api/map/points", headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304
    bee = {"generation": generation, "row": 4}
    assert client.get("/api/map/passage", query_string=bee).get_json()["id"] == "bee"
    assert client.delete("/api/documents?id=cat").status_code == 200
    assert client.put("/api/documents", json={"documents": [{"id": "owl", "text": "hunts mice"}]}).status_code == 200
    points = np.frombuffer(client.get("/api/map/points").data, "<u2").reshape(-1, 2)
    assert (points == 0xFFFF).all(axis=1).tolist() == [True] + 6 * [False]
    assert client.get("/api/map/passage", query_string=bee).status_code == 409
    beyond = {"generation": client.get("/api/map/points").headers["X-Generation"], "row": 7}
    assert client.get("/api/map/passage", query_string=beyond).status_code == 404


def test_the_map_has_the_query_with_and_without_adaptation(client: FlaskClient) -> None:
    label(client, "something sweet", "bee", domain="sweet")
    assert client.post("/api/domains/sweet/adapt", json={}).status_code == 200
    frozen = client.get("/api/map/query?query=something+sweet").get_json()
    assert frozen["query"] == frozen["before"]
    adapted = client.get("/api/map/query?query=something+sweet&domain=sweet").get_json()
    assert adapted["before"] == frozen["query"] != adapted["query"]
    assert adapted["results"][0]["id"] == "bee"
    keyword = client.get("/api/map/query?query=honey&mode=lexical").get_json()
    assert (keyword["query"], keyword["before"], len(keyword["results"])) == (None, None, 1)
    assert client.get("/api/map/query?query=").status_code == 422


def test_an_index_without_a_map_can_be_searched(index: Path, serve: Serve) -> None:
    generation = current(index)
    manifest = generation / "manifest.json"
    values = json.loads(manifest.read_text())
    for name in ("map.safetensors", "s-000001/places.npy"):
        (generation / name).unlink()
        del values["files"][name]
    manifest.write_text(json.dumps(values))
    client = serve()
    assert client.get("/?query=honey").status_code == 200
    assert "has no map" in client.get("/map").text
    refused = client.get("/api/map/points")
    assert (refused.status_code, refused.mimetype) == (404, "application/problem+json")
    assert client.post("/api/compact", json={}).status_code == 200


def test_error_pages_use_the_browsers_language(client: FlaskClient) -> None:
    page = client.get("/?query=a&index=none", headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert page.status_code == 404
    assert ("没有找到" in page.text, 'lang="zh-Hans"' in page.text) == (True, True)
    assert "没有名为 &#39;none&#39; 的索引" in page.text


@pytest.mark.parametrize("path", ["//example.org/", "/%2F%2Fexample.org", "/?lang=//example.org"])
def test_a_link_to_another_language_stays_on_this_server(client: FlaskClient, path: str) -> None:
    page = client.get(path).text
    assert 'href="//' not in page
    assert "https://example.org" not in page


def test_responses_are_compressed_for_clients_that_accept_it(client: FlaskClient) -> None:
    plain = client.get("/?query=animal")
    packed = client.get("/?query=animal", headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "br"
    assert len(packed.data) < len(plain.data) / 3
    assert "Content-Encoding" not in plain.headers


@pytest.mark.parametrize("address", ["/", "/map", "/document?id=bee", "/explanation?id=bee"])
def test_links_of_earlier_versions_use_q(client: FlaskClient, address: str) -> None:
    sign = "&" if "?" in address else "?"

    def page(values: str) -> str:
        text = client.get(f"{address}{sign}{values}").text
        # leave out the duration and the links that contain the parameters
        return re.sub(r"\d+ ms|(query=honey&amp;q=mice|query=honey|\bq=honey)", "", text)

    present = page("query=honey")
    assert "honey" in present
    assert page("q=honey") == page("query=honey&q=mice") == present
    assert page("q=mice") != present
