"""The search API: valid and invalid requests, filters and facets, its OpenAPI document, and the pages that use it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from html import unescape
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from semsearch.encoders.encoder import Encoder
from semsearch.errors import DeadlineError, EncoderError, OverloadedError
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.search import Limits
from semsearch.storage.manifest import WeakSimilarity
from semsearch.types import Mode
from tests.conftest import build_index, write_jsonl

SMALL = Limits(max_query_chars=100, max_queries=3, max_k=5, max_offset=10, max_body_bytes=2_000)
HOSTILE = {
    "id": "a/b \"<i>&'?#",
    "title": "<script>alert(1)</script>",
    "text": "honey <img src=x onerror=alert(2)> honey",
    "url": "javascript:alert(3)",
    "kind": "<b>",
}


@pytest.fixture(scope="module")
def app(
    animals: Path, tiny_model: Path, tiny_encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("hostile")
    build_index(folder / "hostile", write_jsonl(folder / "h.jsonl", [HOSTILE]), model=tiny_model, title="<Hostile>")
    engines = {
        "animals": SearchEngine.open(animals, encoder=tiny_encoder),
        "hostile": SearchEngine.open(folder / "hostile", encoder=tiny_encoder),
    }
    app = create_app(engines, limits=SMALL, trusted_hosts=["localhost"])
    yield app
    app.extensions["semsearch"].close()
    for engine in engines.values():
        engine.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.mark.parametrize(
    ("body", "best_ids"),
    [
        ({"query": "nectar and honey"}, ["bee"]),
        ({"query": "nectar and honey", "k": 2, "domain": "biologists", "index": "animals"}, ["bee"]),
        ({"queries": ["barks and guards the house", "swims up rivers"], "k": 1}, ["dog", "salmon"]),
        ({"query": "honey", "index": "hostile"}, [HOSTILE["id"]]),
    ],
)
def test_posted_queries_are_answered_in_order(client: FlaskClient, body: dict[str, Any], best_ids: list[str]) -> None:
    answer = client.post("/api/search", json=body).get_json()
    assert [result["hits"][0]["id"] for result in answer["results"]] == best_ids
    assert all(len(result["hits"]) <= body.get("k", 5) for result in answer["results"])
    assert (answer["index"], answer["domain"]) == (body.get("index", "animals"), body.get("domain", "default"))


def test_a_hit_has_all_fields_to_display(client: FlaskClient) -> None:
    answer = client.get("/api/search?query=nectar+and+honey&k=1").get_json()
    (hit,) = answer["results"][0]["hits"]
    assert (hit["title"], hit["source"], hit["metadata"]) == ("Bee", "animals.jsonl:5", {"kind": "insect"})
    assert [hit["snippet"][start:stop] for start, stop in hit["marks"]] == ["nectar", "honey"]
    assert hit["score"] == round(hit["score"], 6)
    assert set(answer["timing_ms"]) == {
        *("queue", "encode", "adapt", "search_vectors", "rank", "fetch", "explain", "total")
    }
    assert all(value >= 0 for value in answer["timing_ms"].values())


@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid", None])
def test_every_mode_answers_and_is_reported(client: FlaskClient, mode: str | None) -> None:
    body = {"query": "nectar and honey", "k": 2, "explain": True} | ({"mode": mode} if mode else {})
    (result,) = client.post("/api/search", json=body).get_json()["results"]
    assert result["mode"] == mode or (mode is None and result["mode"] == "hybrid")
    assert result["hits"][0]["id"] == "bee"
    breakdown = result["hits"][0]["score_breakdown"]
    assert (breakdown["similarity"] is None) == (mode == "keyword")
    assert (breakdown["lexical_score"] is None) == (mode == "semantic")
    (unexplained,) = client.post("/api/search", json={**body, "explain": False}).get_json()["results"]
    assert unexplained["hits"][0]["score_breakdown"] is None
    page = client.get("/", query_string={"query": "nectar and honey", "mode": mode or ""})
    assert page.status_code == 200
    assert "Bee" in page.text


def test_the_mode_lexical_is_accepted_for_keyword(client: FlaskClient) -> None:
    answers = [
        client.get("/api/search?query=some+nectar&mode=lexical"),
        client.post("/api/search", json={"query": "some nectar", "mode": "lexical"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.get_json()["results"][0]["mode"] for answer in answers] == ["keyword", "keyword"]


def test_the_openapi_document_lists_the_modes(client: FlaskClient) -> None:
    schemas = client.get("/api/openapi.json").get_json()["components"]["schemas"]
    assert schemas["Mode"]["enum"] == ["semantic", "keyword", "hybrid"]


def test_a_phrase_that_no_document_contains_is_named_in_the_answer_and_on_the_page(client: FlaskClient) -> None:
    query = '"prey of bird" <b>'
    [result] = client.post("/api/search", json={"query": query, "mode": "keyword"}).get_json()["results"]
    assert result["unmatched_phrases"] == ["prey of bird"]
    assert [hit["id"] for hit in result["hits"]] == ["eagle"]
    compared = client.post("/api/compare", json={"query": query, "mode": "hybrid"}).get_json()
    assert compared["unmatched_phrases"] == ["prey of bird"]
    for compare in ("false", "true"):
        page = client.get("/", query_string={"query": query, "mode": "hybrid", "compare": compare}).get_data(
            as_text=True
        )
        assert "“prey of bird” was not found word for word; its words were searched." in page
    [result] = client.post("/api/search", json={"query": '"bird of prey"'}).get_json()["results"]
    assert result["unmatched_phrases"] == []


def test_a_page_without_hits_suggests_semantic_search(client: FlaskClient) -> None:
    for params in ({"query": "zeppelin", "mode": "keyword"}, {"query": '"zeppelin balloon"', "mode": "keyword"}):
        page = client.get("/", query_string=params)
        assert page.status_code == 200
        assert "Nothing found" in page.text
        assert "mode=semantic" in page.text


def test_if_the_encoder_fails_keyword_search_answers_and_says_so(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise EncoderError("encoder 'tiny' failed on 1 texts (out of memory)")

    # no query of this test may be cached: a cached one needs no encoder
    monkeypatch.setattr(app.extensions["semsearch"].index("animals").engine.encoder, "encode_for_search", broken)
    (result,) = client.get("/api/search?query=nectar+or+honey").get_json()["results"]
    assert (result["mode"], result["hits"][0]["id"]) == ("keyword", "bee")
    assert result["adaptation"]["reason"] == "the encoder failed: keyword search answered instead"
    assert "keyword search answered instead" in client.get("/?query=nectar+only").text
    compared = client.post("/api/compare", json={"query": "only nectar"}).get_json()
    assert compared["frozen"] == compared["adapted"]
    assert client.get("/api/search?query=some+nectar&mode=lexical").get_json()["results"][0]["mode"] == "keyword"
    assert client.get("/api/search?query=some+nectar&mode=semantic").status_code == 500


def test_pages_of_results_are_contiguous(client: FlaskClient) -> None:
    def ids(k: int, offset: int) -> list[str]:
        answer = client.get(f"/api/search?query=animal&k={k}&offset={offset}").get_json()
        return [hit["id"] for hit in answer["results"][0]["hits"]]

    assert ids(5, 0) == ids(2, 0) + ids(2, 2) + ids(1, 4)
    assert ids(5, 10) == []


BAD = [
    ({}, 422, ""),
    ({"query": "a", "queries": ["b"]}, 422, ""),
    ({"query": " "}, 422, "query"),
    ({"query": 5}, 422, "query"),
    ({"query": "x" * 101}, 422, "query"),
    ({"queries": []}, 422, "queries"),
    ({"queries": ["a", "b", "c", "d"]}, 422, "queries"),
    ({"queries": ["a", ""]}, 422, "queries"),
    ({"query": "a", "k": 0}, 422, "k"),
    ({"query": "a", "k": 6}, 422, "k"),
    ({"query": "a", "k": "5"}, 422, "k"),
    ({"query": "a", "k": True}, 422, "k"),
    ({"query": "a", "k": 10**30}, 422, "k"),
    ({"query": "a", "offset": -1}, 422, "offset"),
    ({"query": "a", "offset": 11}, 422, "offset"),
    ({"query": "a", "domain": ""}, 422, "domain"),
    ({"query": "a", "mode": "magic"}, 422, "mode"),
    ({"query": "a", "speed": 1}, 422, "speed"),
    ({"query": "a", "index": "nowhere"}, 404, "index"),
    ([], 422, ""),
]


@pytest.mark.parametrize(("body", "status", "field"), BAD)
def test_a_bad_request_is_a_problem_that_names_the_field(
    client: FlaskClient, body: object, status: int, field: str
) -> None:
    response = client.post("/api/search", json=body)
    problem = response.get_json()
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert problem["status"] == status
    assert problem["errors"][0]["field"].partition(".")[0] == field


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/api/search", {"data": "{", "content_type": "application/json"}, 400),
        ("/api/search", {"data": '{"query": "\\ud800"}', "content_type": "application/json"}, 400),
        ("/api/search", {"data": "[" * 1500, "content_type": "application/json"}, 400),
        ("/api/search", {"data": b"\xff", "content_type": "application/json"}, 400),
        ("/api/search", {"data": "query=x", "content_type": "text/plain"}, 415),
        ("/api/search", {"data": " " * 3000, "content_type": "application/json"}, 413),
        ("/api/indexes", {}, 405),
        ("/api/nothing", {}, 404),
        ("/api/search", {"json": {"query": "x"}, "headers": {"Host": "evil.example"}}, 400),
    ],
)
def test_a_malformed_request_is_a_problem_too(
    client: FlaskClient, path: str, options: dict[str, Any], status: int
) -> None:
    response = client.post(path, **options)
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [("query=a&k=x", 422, "k"), ("query=a&query=b", 422, "query"), ("query=a&foo=1", 422, "foo"), ("", 422, "")],
)
def test_query_strings_are_validated_alike(client: FlaskClient, query: str, status: int, field: str) -> None:
    response = client.get(f"/api/search?{query}")
    assert (response.status_code, response.get_json()["errors"][0]["field"]) == (status, field)


@pytest.mark.parametrize("body", [{"query": "a"}, {"queries": ["a", "b"]}], ids=["single", "several"])
@pytest.mark.parametrize("error", [OverloadedError("full", retry_after_s=7), DeadlineError("late", retry_after_s=7)])
def test_overload_is_reported_alike_for_one_and_several_queries(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], error: Exception
) -> None:
    def overloaded(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(SearchService, "search", overloaded)
    response = client.post("/api/search", json=body)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
    assert response.mimetype == "application/problem+json"
    assert client.get("/?query=a").status_code == 503


@pytest.mark.parametrize("path", ["/api/search?query=a", "/?query=a"])
def test_an_unexpected_error_reveals_no_details(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is 1234")

    monkeypatch.setattr(SearchService, "search", broken)
    response = client.get(path)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "Traceback" not in response.text


@pytest.mark.parametrize("path", ["/", "/?query=a", "/api/search?query=a", "/api/search", "/no", "/static/search.js"])
def test_every_response_has_the_security_headers(client: FlaskClient, path: str) -> None:
    with client.get(path) as response:
        headers = response.headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_documents_and_indexes_can_be_read(client: FlaskClient) -> None:
    document = client.get("/api/document", query_string={"index": "hostile", "id": HOSTILE["id"]}).get_json()
    assert (document["title"], document["text"]) == (HOSTILE["title"], HOSTILE["text"])
    assert client.get("/api/document?id=unknown").status_code == 404
    assert client.get("/api/document").status_code == 422
    assert [index["name"] for index in client.get("/api/indexes").get_json()["indexes"]] == ["animals", "hostile"]


def test_the_openapi_document_is_valid_and_complete(app: Flask, client: FlaskClient) -> None:
    openapi = client.get("/api/openapi.json").get_json()
    OpenAPIV31SpecValidator(openapi).validate()
    fields = openapi["components"]["schemas"]["SearchRequest"]["properties"]
    assert (fields["k"]["maximum"], fields["offset"]["maximum"]) == (5, 10)
    assert "100" in json.dumps(fields["query"])
    page = {"/", "/document", "/explanation", "/learned", "/map", "/status", "/teach"}
    routes = {
        (rule.rule.replace("<domain:domain>", "{domain}"), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule not in page and rule.endpoint != "static"
        for method in rule.methods or set()
    }
    assert routes == {(path, method) for path, methods in openapi["paths"].items() for method in methods}


def test_responses_match_the_openapi_document(client: FlaskClient) -> None:
    openapi = client.get("/api/openapi.json").get_json()
    for response, name in (
        (client.get("/api/search?query=a"), "SearchResponse"),
        (client.get("/api/search"), "Problem"),
        (client.get("/api/document?id=bee"), "DocumentResponse"),
        (client.get("/api/indexes"), "IndexesResponse"),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": openapi["components"]}
        jsonschema.validate(response.get_json(), schema)


def test_health_and_metrics_are_served(client: FlaskClient) -> None:
    assert (client.get("/healthz").text, client.get("/readyz").text) == ("ok\n", "ready\n")

    def answered(what: str) -> float:
        name = f'semsearch_{what}_total{{outcome="answered"}}'
        values = [line.split()[1] for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
        return float(values[0]) if values else 0.0

    before = answered("queries"), answered("explanations")
    client.post("/api/search", json={"queries": ["a", "b"]})
    client.post("/api/search", json={"query": "honey", "mode": "keyword"})
    client.post("/api/search", json={"query": "honey", "explain": True})
    assert (answered("queries"), answered("explanations")) == (before[0] + 4, before[1] + 1)


def test_the_page_works_without_scripts(client: FlaskClient) -> None:
    page = client.get("/?query=nectar+and+honey").text
    assert 'value="nectar and honey"' in page
    assert "collects <mark>nectar</mark>" in page
    assert page.index(">Bee</a>") < page.index(">Whale</a>")
    assert "No more results" in client.get("/?query=a&page=2").text
    assert "shorten it" in client.get(f"/?query={'x' * 101}").text


def test_markup_in_documents_is_escaped(client: FlaskClient) -> None:
    page = client.get("/?query=honey&index=hostile").text
    document = client.get("/document", query_string={"index": "hostile", "id": HOSTILE["id"], "query": "<u>"}).text
    for html in (page, document):
        assert "&lt;script&gt;alert(1)" in html
        assert not [
            markup for markup in ("<script>alert", "<img src=x", 'href="javascript', "<b>", "<u>") if markup in html
        ]


def test_a_document_opens_from_its_link(client: FlaskClient) -> None:
    page = client.get("/?query=honey&index=hostile").text
    link = page.split('class="open" data-panel href="', 1)[1].split('"', 1)[0]
    assert "honey &lt;img" in client.get(unescape(link)).text


@pytest.mark.parametrize("path", ["/?query=a&index=nowhere", "/document?id=unknown", "/?query=a&page=0"])
def test_errors_of_pages_are_rendered_as_pages(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code in {404, 422}
    assert response.mimetype == "text/html"
    assert 'role="alert"' in response.text


FILTERS = [
    ('kind = mammal and not id = "dog"', {"cat", "whale"}),
    ({"field": "kind", "in": ["bird", "fish"]}, {"eagle", "salmon"}),
    ({"or": [{"field": "id", "eq": "bee"}, {"not": {"field": "kind", "exists": True}}]}, {"bee"}),
    ("source ^= animals.jsonl:1", {"cat"}),
    ("kind = dragon", set()),
    ("", {"cat", "dog", "eagle", "salmon", "bee"}),
]


@pytest.mark.parametrize(("filter_value", "ids"), FILTERS)
@pytest.mark.parametrize("mode", ["semantic", "hybrid"])
def test_only_documents_that_match_the_filter_are_found(
    client: FlaskClient, filter_value: Any, ids: set[str], mode: str
) -> None:
    body = {"query": "an animal with honey", "filter": filter_value, "k": 5, "mode": mode}
    answer = client.post("/api/search", json=body).get_json()
    hit_ids = {hit["id"] for hit in answer["results"][0]["hits"]}
    assert hit_ids == ids or (not filter_value and len(hit_ids) == 5)
    assert answer["matching"] == (6 if filter_value == "" else len(ids))
    if isinstance(filter_value, str):
        same = client.get("/api/search", query_string=body).get_json()
        assert {hit["id"] for hit in same["results"][0]["hits"]} == hit_ids
    comparison = client.post("/api/compare", json={"query": "honey", "filter": filter_value, "k": 100}).get_json()
    assert len(comparison["adapted"]) == answer["matching"]


def facets_of(client: FlaskClient, **body: Any) -> dict[str, Any]:
    facets: dict[str, Any] = client.post("/api/search", json={"query": "animal", **body}).get_json()["facets"]
    return facets


def test_facets_count_the_documents_that_a_query_ranks(client: FlaskClient) -> None:
    facets = facets_of(client, facets=["kind"])
    assert facets["kind"]["values"][0] == {"value": "mammal", "count": 3}
    assert [value["value"] for value in facets["kind"]["values"][1:]] == ["bird", "fish", "insect"]
    assert (facets["kind"]["documents"], facets["kind"]["more"]) == (6, 0)
    from_get = client.get("/api/search?query=animal&facets=kind&facets=id").get_json()["facets"]
    assert from_get["kind"] == facets["kind"]
    assert len(from_get["id"]["values"]) == 6


def test_facets_of_a_keyword_search_count_all_its_matches(client: FlaskClient) -> None:
    for query in ("honey", "honey and fish", "nothing-like-this"):
        body = {"query": query, "mode": "keyword", "k": 1}
        everything = client.post("/api/search", json={**body, "k": 5}).get_json()["results"][0]["hits"]
        kinds = Counter(hit["metadata"]["kind"] for hit in everything)
        facet = facets_of(client, **body, facets=["kind"])["kind"]
        assert {value["value"]: value["count"] for value in facet["values"]} == kinds
        assert facet["documents"] == len(everything)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_facet_leaves_out_its_own_conditions_and_keeps_the_others(client: FlaskClient, mode: Mode) -> None:
    body = {"query": "animal water honey", "mode": mode, "facets": ["kind", "id"]}
    unfiltered = facets_of(client, **body)
    filtered = facets_of(client, **body, filter="kind in (bird, fish)")
    assert filtered["kind"] == unfiltered["kind"]
    assert {value["value"] for value in filtered["id"]["values"]} <= {"eagle", "salmon"}
    both = facets_of(client, **body, filter="kind in (bird, fish) and id = eagle")
    assert {value["value"] for value in both["kind"]["values"]} <= {"bird"}


def test_facets_are_counted_for_one_query(client: FlaskClient) -> None:
    response = client.post("/api/search", json={"queries": ["a", "b"], "facets": ["kind"]})
    assert response.status_code == 422
    assert "`facets` are counted for one query" in response.text


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"filter": "knd = mammal"}, "filter", "the filter's field 'knd' is in no document: use 'kind'?"),
        (
            {"filter": "kind = mammal or not zzz exists"},
            "filter",
            "'zzz' is in no document (the fields are id, title,",
        ),
        ({"sort": "-knd"}, "sort", "the sort field 'knd' is in no document: use 'kind'?"),
        ({"facets": ["kind", "nothing"]}, "facets", "the facet 'nothing' is in no document"),
        ({"facets": ["kind,id"]}, "facets", "give `facets` once for each field"),
    ],
)
def test_a_field_that_no_document_has_is_refused_with_the_nearest(
    client: FlaskClient, body: dict[str, Any], field: str, message: str
) -> None:
    response = client.post("/api/search", json={"query": "animal", **body})
    assert response.status_code == 422
    assert message in response.get_json()["detail"]
    assert response.get_json()["errors"][0]["field"] == field


def test_a_condition_on_values_of_another_kind_is_explained(client: FlaskClient) -> None:
    answer = client.post(
        "/api/search", json={"query": "animal", "filter": "kind = 5 or kind > true2 or id = 7"}
    ).get_json()
    assert answer["results"][0]["hits"] == []
    assert answer["notes"] == [
        "the field `kind` holds texts, and the filter compares it with numbers: write texts in quotation marks, or give"
        " the field a type in the recipe (types.kind)"
    ]
    assert client.post("/api/search", json={"query": "animal", "filter": "kind = bird"}).get_json()["notes"] == []


@pytest.mark.parametrize(
    "filter_value",
    [
        "kind = ", {"field": "kind"}, {"field": "kind", "eq": {"x": 1}}, {"nor": []}, 7, ["kind = a"],
        "not " * 40 + "a = 1", reduce(lambda inner, _: {"not": inner}, range(25), {"field": "a", "eq": 1}),
    ],
)  # fmt: skip
def test_an_invalid_filter_is_named_in_the_error(client: FlaskClient, filter_value: Any) -> None:
    for path in ("/api/search", "/api/compare"):
        answer = client.post(path, json={"query": "honey", "filter": filter_value})
        assert answer.status_code == 422
        assert all(error["field"].startswith("filter") for error in answer.get_json()["errors"])


def test_queries_with_and_without_filters_share_a_batch(app: Flask) -> None:
    from semsearch.filters.expression import parse_filter
    from semsearch.types import Query

    service: SearchService = app.extensions["semsearch"]
    queries = [Query("animal", 5, filter=tree) for tree in (None, parse_filter("kind = fish"), None)]
    answer = service.search("animals", queries)
    results = [outcome.hits for outcome in answer.outcomes]
    assert [len(hits) for hits in results] == [5, 1, 5]
    assert [hit.id for hit in results[0]] == [hit.id for hit in results[2]]


def test_the_page_filters_and_reports_an_invalid_filter(client: FlaskClient) -> None:
    page = client.get("/?query=animal&filter=kind+%3D+mammal").get_data(as_text=True)
    assert "Results 1 to 3 from a total of 3 that match the filters" in page
    assert 'value="kind = mammal"' in page
    broken = client.get("/?query=animal&filter=kind+%3D")
    assert broken.status_code == 422
    assert "cannot be read at its end" in unescape(broken.get_data(as_text=True))
    nothing = client.get("/?query=animal&filter=kind+%3D+dragon").get_data(as_text=True)
    assert "No document matches the filter" in nothing
    assert "<img" not in client.get('/?query=a&filter=a="><img src=x>"').get_data(as_text=True).replace(
        '<img src="/static', ""
    )


@pytest.fixture
def strict_client(animals: Path, tiny_encoder: Encoder) -> Iterator[FlaskClient]:
    """A server whose index tells every match as weak that has not all words of the query."""
    engine = SearchEngine.open(animals, encoder=tiny_encoder)
    engine.manifest = engine.manifest.model_copy(update={"weak_similarity": WeakSimilarity(threshold=1.5, queries=1)})
    app = create_app({"animals": engine})
    yield app.test_client()
    app.extensions["semsearch"].close()
    engine.close()


@pytest.mark.parametrize(
    ("query", "mode", "weak"),
    [
        ("horoscope", "hybrid", True),
        ("horoscope", "semantic", True),
        ("horoscope", "keyword", False),
        ("nectar", "hybrid", False),
    ],
)
def test_a_weak_match_is_told_in_the_answer_and_on_the_page(
    strict_client: FlaskClient, query: str, mode: str, weak: bool
) -> None:
    [result] = strict_client.post("/api/search", json={"query": query, "mode": mode}).get_json()["results"]
    assert result["weak"] is weak
    page = strict_client.get("/", query_string={"query": query, "mode": mode}).text
    assert ("Nothing here seems to answer this." in page) is weak


def test_an_index_that_was_not_measured_tells_nothing(client: FlaskClient) -> None:
    [result] = client.post("/api/search", json={"query": "horoscope"}).get_json()["results"]
    assert result["weak"] is False


def test_min_score_is_checked(client: FlaskClient) -> None:
    [result] = client.post("/api/search", json={"query": "an animal of the sea", "k": 5}).get_json()["results"]
    scores = [hit["score"] for hit in result["hits"]]
    between = (scores[2] + scores[3]) / 2
    limited = client.get(f"/api/search?query=an+animal+of+the+sea&k=5&min_score={between}").get_json()
    assert [hit["score"] for hit in limited["results"][0]["hits"]] == scores[:3]
    refused = client.get("/api/search?query=animal&min_score=much")
    assert refused.status_code == 422
    assert "min_score" in refused.get_json()["detail"]


def test_a_misspelled_word_is_corrected_in_the_answer_and_on_the_page(client: FlaskClient) -> None:
    [result] = client.post("/api/search", json={"query": "salmno"}).get_json()["results"]
    assert result["did_you_mean"] == "salmon"
    for mode in ("hybrid", "keyword"):
        page = client.get("/", query_string={"query": "salmno", "mode": mode}).text
        assert re.search(r'Did you mean <a [^>]*href="[^"]*query=salmon[^"]*">salmon</a>', page), mode
    [result] = client.post("/api/search", json={"query": "salmon"}).get_json()["results"]
    assert result["did_you_mean"] is None


def test_an_unfinished_query_is_completed_if_asked_for(client: FlaskClient) -> None:
    query = {"query": "a fish, a salm", "mode": "keyword"}
    [result] = client.post("/api/search", json={**query, "complete": True}).get_json()["results"]
    assert (result["query"], result["completed"]) == ("a fish, a salm", "a fish, a salmon")
    [literal] = client.post("/api/search", json=query).get_json()["results"]
    assert literal["completed"] is None
    assert result["hits"][0]["id"] == "salmon"
    # the words that were searched are marked
    start, stop = result["hits"][0]["marks"][0]
    assert result["hits"][0]["snippet"][start:stop].lower() in {"fish", "salmon"}
