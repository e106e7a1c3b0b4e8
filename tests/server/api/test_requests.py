"""Requests as they come: each invalid one is answered by a sentence that names the field, the value and the remedy."""

from __future__ import annotations

import gzip
import json
from time import perf_counter
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from semsearch.server.validation import nearest, shown


@pytest.fixture
def client(shared_client: FlaskClient) -> FlaskClient:
    return shared_client


SEARCH_FIELDS = (
    "`collapse`, `complete`, `domain`, `explain`, `facets`, `filter`, `index`, `k`, `min_score`, `mode`, `offset`,"
    " `passages`, `queries`, `query`, `sort`"
)
FILTER_FIELDS = "`and`, `eq`, `exists`, `field`, `gt`, `gte`, `in`, `lt`, `lte`, `not`, `or`, `prefix`"
LISTED = "`after`, `document`, `domain`, `id`, `index`, `limit`, `query`, `source`, `user`"
SEARCH, LABELS, CLICKS, DOCUMENTS = "POST /api/search", "POST /api/labels", "POST /api/clicks", "PUT /api/documents"

BAD = [
    (SEARCH, {}, "give either `query` or `queries`"),
    (SEARCH, {"q": "a"}, f"q: unknown parameter: did you mean `query`? Known ones are {SEARCH_FIELDS}"),
    (SEARCH, {"query": "a", "top_k": 5}, f"top_k: unknown parameter: did you mean `k`? Known ones are {SEARCH_FIELDS}"),
    (SEARCH, {"query": "a", "zzz": 1}, f"zzz: unknown parameter: known ones are {SEARCH_FIELDS}"),
    (SEARCH, {"query": 5}, "query: 5 is not a text"),
    (SEARCH, {"query": ["a"]}, "query: a list is not allowed: give a text"),
    (SEARCH, {"query": "x" * 2001}, "query: the text has 2,001 characters: give at most 2,000"),
    (SEARCH, {"query": " "}, "query: a query is empty: give at least one word"),
    (SEARCH, {"queries": "a"}, "queries: 'a' is a text: give a list"),
    (SEARCH, {"queries": []}, "queries: the list is empty: give at least one entry"),
    (SEARCH, {"queries": ["a"] * 33}, "queries: the list is too long: give at most 32 entries"),
    (SEARCH, {"queries": ["a", None]}, "queries.1: null is not allowed: give a text, or leave the field out"),
    (SEARCH, {"query": "a", "k": "5"}, "k: '5' is a text: give a whole number"),
    (SEARCH, {"query": "a", "k": 1.5}, "k: 1.5 is not a whole number"),
    (SEARCH, {"query": "a", "k": 0}, "k: 0 is too small: give at least 1"),
    (SEARCH, {"query": "a", "k": 101}, "k: 101 is too large: give at most 100"),
    (SEARCH, {"query": "a", "offset": 1001}, "offset: 1001 is too large: give at most 1,000"),
    (SEARCH, {"query": "a", "explain": "yes"}, "explain: 'yes' is a text: give true or false"),
    (SEARCH, {"query": "a", "domain": ""}, "domain: '' cannot be a domain's name: it is blank"),
    (SEARCH, {"query": "a", "facets": "kind"}, "facets: 'kind' is a text: give a list"),
    (SEARCH, {"query": "a", "filter": 7}, "filter: 7 is not a text or an object"),
    (SEARCH, {"query": "a", "filter": ["a"]}, "filter: a list is not allowed: give a text or an object"),
    (
        SEARCH,
        {"query": "a", "filter": {"or": [{"field": "a", "eq": 1}, {"field": "a", "equals": 1}]}},
        f"filter.or.1.equals: unknown parameter: known ones are {FILTER_FIELDS}",
    ),
    (
        SEARCH,
        {"query": "a", "filter": {"not": {"field": "a", "eq": {"x": 1}}}},
        "filter.not.eq: an object is not allowed: give a text, true or false or a number",
    ),
    (SEARCH, {"query": "a", "filter": {"and": []}}, "filter.and: the list is empty: give at least one entry"),
    (SEARCH, {"query": "a", "filter": {"not": {"not": 5}}}, "filter.not.not: 5 is not an object"),
    (SEARCH, [], "a list is not allowed: give an object"),
    (SEARCH, 5, "5 is not an object"),
    ("GET /api/search?q=a", None, f"q: unknown parameter: did you mean `query`? Known ones are {SEARCH_FIELDS}"),
    ("GET /api/search?query=a&k=x", None, "k: 'x' is not a whole number"),
    ("GET /api/search?query=a&k=", None, "k: '' is not a whole number"),
    ("GET /api/search?query=a&k=1&k=2", None, "k: given 2 times: give it once"),
    ("GET /api/search?query=a&explain=maybe", None, "explain: 'maybe' is not true or false"),
    (
        "GET /api/search?query=a&filter=kind+%3D",
        None,
        "filter: the filter 'kind =' cannot be read at its end: write it like kind = \"how-to\" and year >= 2020",
    ),
    ("GET /api/document", None, "id: missing: this field is required"),
    (
        "GET /api/document?doc_id=bee",
        None,
        "doc_id: unknown parameter: did you mean `id`? Known ones are `id`, `index`",
    ),
    ("GET /api/labels?limit=0", None, "limit: 0 is too small: give at least 1"),
    (
        "GET /api/labels?after=10000000000000000000",
        None,
        "after: 10000000000000000000 is too large: give less than 9,223,372,036,854,775,808",
    ),
    (
        "GET /api/clicks?docment=a",
        None,
        f"docment: unknown parameter: did you mean `document`? Known ones are {LISTED}",
    ),
    ("DELETE /api/labels", None, "give at least one of id, domain, query, document, user and source"),
    ("DELETE /api/documents", None, "id: missing: this field is required"),
    ("GET /api/recommend?diversity=2", None, "diversity: 2 is too large: give at most 1"),
    ("GET /api/suggestions?k=51", None, "k: 51 is too large: give at most 50"),
    ("GET /api/map/passage?generation=g&row=-1", None, "row: -1 is too small: give at least 0"),
    ("GET /api/map/points?name=zoo", None, "name: unknown parameter: known ones are `index`"),
    ("GET /api/domains?limit=1", None, "limit: unknown parameter: known ones are `index`"),
    ("POST /api/compare", {"query": "a", "k": 1000}, "k: 1000 is too large: give at most 100"),
    (LABELS, {"query": "a"}, "document: missing: this field is required"),
    (LABELS, {"labels": {}}, "labels: an object is not allowed: give a list"),
    (LABELS, {"labels": [{"query": "a"}]}, "labels.0.document: missing: this field is required"),
    (LABELS, {"query": "a", "document": "bee", "relevance": -1}, "relevance: -1 is too small: give at least 0"),
    (LABELS, {"query": "a", "document": "bee", "relevance": "high"}, "relevance: 'high' is a text: give a number"),
    (
        CLICKS,
        {"query": "a", "document": "bee"},
        "position: a click on a document has no position: give the `position`, or `shown` with the document in it",
    ),
    (CLICKS, {"query": "a", "document": "bee", "position": 0}, "position: 0 is too small: give at least 1"),
    (DOCUMENTS, {"documents": [{"id": "a"}]}, "documents.0: neither title nor text: give at least one word"),
    (DOCUMENTS, {"documents": [{"id": 5, "text": "x"}]}, "documents.0.id: 5 is not a text"),
    (
        DOCUMENTS,
        {"documents": [{"id": "a", "text": "x", "meta": {}}]},
        "documents.0.meta: unknown parameter: did you mean `metadata`? Known ones are `id`, `metadata`, `source`,"
        " `text`, `title`",
    ),
    ("POST /api/compact", {"wait": 1}, "wait: 1 is not true or false"),
    ("POST /api/domains/team/adapt", {"index": 5}, "index: 5 is not a text"),
    ("POST /api/domains/team/rollback", {"to": -1}, "to: -1 is too small: give at least 0"),
    ("POST /api/domains/team/parent", {}, "parent: missing: this field is required"),
    ("POST /api/domains/team/reset", {"to": 1}, "to: unknown parameter: known ones are `index`"),
]


@pytest.mark.parametrize(("address", "body", "sentence"), BAD)
def test_an_invalid_request_is_answered_by_a_sentence(
    client: FlaskClient, address: str, body: object, sentence: str
) -> None:
    method, path = address.split(" ")
    response = client.open(path, method=method, json=body) if body is not None else client.open(path, method=method)
    problem = response.get_json()
    assert (response.status_code, response.mimetype) == (422, "application/problem+json")
    assert problem["detail"] == sentence
    named = sentence.partition(": ")[0] if ": " in sentence else ""
    assert problem["errors"][0]["field"] == ("" if " " in named else named)
    for internal in ("tagged-union", "function-", "Input should", "Extra inputs", "Field required", "type="):
        assert internal not in response.text


def test_many_errors_are_counted_and_the_first_ones_listed(client: FlaskClient) -> None:
    labels = [{"query": "a"}] * 500
    problem = client.post("/api/labels", json={"labels": labels}).get_json()
    assert len(problem["errors"]) == 20
    assert problem["detail"].endswith("; and 480 more errors")


@pytest.mark.parametrize(
    ("value", "text"),
    [("a" * 100, f"'{'a' * 59}…'"), (10**100, f"1{'0' * 58}…"), (None, "null"), (True, "true"), ([], "a list")],
)
def test_values_are_shown_short(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("name", "meant"),
    [("q", "query"), ("Query", "query"), ("querry", "query"), ("off", "offset"), ("x", None), ("y" * 10_000, None)],
)
def test_an_unknown_name_suggests_the_nearest_one(name: str, meant: str | None) -> None:
    assert nearest(name, ["k", "offset", "query"]) == meant


JSON = {"Content-Type": "application/json"}
BODY = json.dumps({"query": "honey"}).encode()
GZIP = JSON | {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("headers", "body", "status", "detail"),
    [
        (JSON, BODY, 200, ""),
        (JSON, b"\xef\xbb\xbf" + BODY, 200, ""),
        ({"Content-Type": "application/json; charset=utf-8"}, BODY, 200, ""),
        ({"Content-Type": 'Application/JSON; charset="UTF-8"; x=1'}, BODY, 200, ""),
        (GZIP, gzip.compress(BODY), 200, ""),
        (JSON | {"Content-Encoding": "identity"}, BODY, 200, ""),
        ({"Content-Type": "application/json; charset=utf-16"}, BODY, 415, "the body's charset is 'utf-16': send JSON"),
        ({"Content-Type": "text/plain"}, BODY, 415, "the body's Content-Type is 'text/plain': send application/json"),
        ({"Content-Type": ";;;"}, BODY, 415, "the body's Content-Type is missing: send application/json"),
        ({}, BODY, 415, "the body's Content-Type is missing: send application/json"),
        (JSON | {"Content-Encoding": "br"}, BODY, 415, "the body's Content-Encoding is 'br': send gzip"),
        (GZIP | {"Content-Encoding": "gzip, gzip"}, BODY, 415, "the body's Content-Encoding is 'gzip, gzip'"),
        (GZIP, BODY, 400, "the body is not valid gzip"),
        (GZIP, gzip.compress(BODY)[:-4], 400, "the body is not one complete gzip stream"),
        (GZIP, gzip.compress(BODY) + b"x", 400, "the body is not one complete gzip stream"),
        (GZIP, gzip.compress(b" " * 300_000), 413, "the body has more than 262,144 bytes, the limit"),
        (JSON, b" " * 300_000, 413, "the body has 300,000 bytes, more than 262,144 bytes, the limit of this server"),
        (JSON, b"", 400, "the body is empty: send a JSON object"),
        (JSON, b" \n", 400, "the body is empty: send a JSON object"),
        (JSON, b"{", 400, "the body is not valid JSON: EOF while parsing"),
        (JSON, b"\xff", 400, "the body is not valid JSON: "),
        (JSON, b'{"query": "\\ud800"}', 400, "the body is not valid JSON: "),
        (JSON, b"[" * 100_000, 400, "the body is not valid JSON: "),
    ],
)
def test_bodies_are_read_or_refused_with_the_reason(
    client: FlaskClient, headers: dict[str, str], body: bytes, status: int, detail: str
) -> None:
    response = client.post("/api/search", data=body, headers=headers)
    assert response.status_code == status
    assert status == 200 or response.get_json()["detail"].startswith(detail)
    assert ("Accept-Encoding" in response.headers) == (status == 415)


def test_a_bomb_is_not_unpacked(client: FlaskClient) -> None:
    packed = gzip.compress(b"\0" * 200_000_000)
    assert len(packed) < 256 * 1024
    assert client.post("/api/search", data=packed, headers=GZIP).status_code == 413


def test_a_label_may_come_compressed(client: FlaskClient) -> None:
    body = gzip.compress(json.dumps({"labels": [{"query": "honey", "document": "bee"}]}).encode())
    assert client.post("/api/labels", data=body, headers=GZIP).status_code == 201


@pytest.mark.parametrize(
    "address",
    ["/api/search?query=%FF", "/?query=%C3", "/api/search?query=a&k=1&x=%ED%A0%80", "/api/domains/\xff", "/\x80"],
)
@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_text_that_is_not_utf8_is_refused(client: FlaskClient, address: str, accept: str) -> None:
    # the test client would replace invalid bytes of a path
    path = {"PATH_INFO": address.partition("?")[0]}
    response = client.get(address, headers={"Accept": accept}, environ_overrides=path)
    assert response.status_code == 400
    assert "is not UTF-8 (byte 0x" in response.text


@pytest.mark.parametrize("query", ["é", "a+b", "a\0b", "a\nb", "100%", "😀", "\u202e", "a&b=c", "%00", "'\"`;--"])
def test_any_text_may_be_searched_and_is_returned_as_it_was_sent(client: FlaskClient, query: str) -> None:
    for encoded in (quote(query, safe=""), quote(query, safe="").lower().replace("%25", "%")):
        if "%00" in query and encoded != quote(query, safe=""):
            continue
        response = client.get(f"/api/search?query={encoded}")
        assert response.status_code == 200
        assert response.get_json()["results"][0]["query"] == query
    assert client.get("/", query_string={"query": query}).status_code == 200
    assert client.get(f"/api/search?query={quote(query, safe='').replace('%20', '+')}").status_code == 200


HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("method", "path", "accept", "status", "mimetype"),
    [
        ("GET", "/api/serach", HTML, 404, "application/problem+json"),
        ("GET", "/api", HTML, 404, "application/problem+json"),
        ("GET", "/api//search?query=a", "*/*", 404, "application/problem+json"),
        ("GET", "/nothing", HTML, 404, "text/html"),
        ("GET", "/nothing", "*/*", 404, "application/problem+json"),
        ("GET", "/nothing", "application/json", 404, "application/problem+json"),
        ("GET", "/document?id=no", "application/json", 404, "application/problem+json"),
        ("GET", "/document?id=no", HTML, 404, "text/html"),
        ("GET", "/document?id=no", "*/*", 404, "text/html"),
        ("POST", "/", HTML, 405, "text/html"),
        ("POST", "/", "application/json", 405, "application/problem+json"),
        ("DELETE", "/api/search", HTML, 405, "application/problem+json"),
        ("BREW", "/api/search", "*/*", 405, "application/problem+json"),
        ("GET", "/static/nothing.js", "*/*", 404, "application/problem+json"),
    ],
)
def test_an_error_is_a_page_for_browsers_and_a_problem_for_programs(
    client: FlaskClient, method: str, path: str, accept: str, status: int, mimetype: str
) -> None:
    response = client.open(path, method=method, headers={"Accept": accept})
    assert (response.status_code, response.mimetype) == (status, mimetype)
    if status == 405:
        assert "GET" in response.headers["Allow"]
        assert "use GET" in response.text or "DELETE" in response.text


def test_an_unknown_address_suggests_the_nearest_one(client: FlaskClient) -> None:
    detail: Any = client.get("/api/serach").get_json()["detail"]
    assert detail == "there is nothing at '/api/serach': did you mean /api/search?"


@pytest.mark.parametrize("path", ["/", "/api/search?query=a", "/healthz", "/api/document?id=bee"])
def test_head_has_the_headers_of_get_and_options_the_methods(client: FlaskClient, path: str) -> None:
    head, got = client.head(path), client.get(path)
    assert (head.status_code, head.mimetype, head.data) == (got.status_code, got.mimetype, b"")
    options = client.options(path)
    assert options.status_code == 200
    assert {"GET", "HEAD", "OPTIONS"} <= set(options.headers["Allow"].split(", "))


def test_a_request_with_very_many_unknown_fields_is_refused_at_once(client: FlaskClient) -> None:
    body = {"query": "a", **{f"a{number}": 0 for number in range(20_000)}}
    started = perf_counter()
    response = client.post("/api/search", json=body)
    # comparing every field with every other took minutes
    assert perf_counter() - started < 10
    assert response.status_code == 422
    assert len(response.get_json()["errors"]) == 20
    assert response.get_json()["detail"].endswith("and 19,980 more errors")
