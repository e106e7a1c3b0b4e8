"""The OpenAPI document agrees with the server: each address, method, parameter, body and status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from flask.testing import FlaskClient

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.runtime.service import AdaptationSettings
from semsearch.server.schemas.search import Limits

Json = Any
PAGES = {"/", "/document", "/explanation", "/learned", "/map", "/status", "/teach"}
METHODS = ("get", "head", "post", "put", "delete", "patch", "options")
BODY_METHODS = ("post", "put")
STATE = "/api/domains/{domain}/state"


@pytest.fixture
def client(shared_client: FlaskClient) -> FlaskClient:
    return shared_client


@pytest.fixture
def openapi(client: FlaskClient) -> Json:
    return client.get("/api/openapi.json").get_json()


def operations(openapi: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def resolve(openapi: Json, schema: Json) -> Json:
    """Replace a schema by what it refers to."""
    if "$ref" in schema:
        return resolve(openapi, openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    return schema


def body_schemas(openapi: Json, operation: Json) -> list[Json]:
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    options = [] if schema is None else schema.get("anyOf", [schema])
    return [resolve(openapi, option) for option in options]


def test_the_document_has_the_methods_that_the_server_accepts(client: FlaskClient, openapi: Json) -> None:
    rules = {rule.rule.replace("<domain:domain>", "{domain}") for rule in client.application.url_map.iter_rules()}
    assert {rule for rule in rules if not rule.startswith("/static")} - PAGES == set(openapi["paths"])
    for path, methods in openapi["paths"].items():
        address = path.replace("{domain}", "team")
        allowed = {method.lower() for method in client.options(address).headers["Allow"].split(", ")}
        assert allowed == set(methods)
        for method in METHODS:
            status = client.open(address, method=method.upper()).status_code
            assert (status == 405) == (method not in methods), (path, method)


def test_the_document_says_which_bodies_are_required(client: FlaskClient, openapi: Json) -> None:
    for path, method, operation in operations(openapi):
        body = operation.get("requestBody")
        assert (body is not None) == (method in BODY_METHODS)
        if body is not None and path != STATE:
            response = client.open(path.replace("{domain}", "team"), method=method.upper())
            assert (response.status_code == 400) == body["required"], (path, method)


def test_the_document_says_which_parameters_are_required(client: FlaskClient, openapi: Json) -> None:
    for path, method, operation in operations(openapi):
        if method not in {"get", "delete"}:
            continue
        named = {
            error["field"]
            for error in (client.open(path, method=method.upper()).get_json(silent=True) or {}).get("errors", ())
        }
        required = {one["name"] for one in operation.get("parameters", ()) if one["required"] and one["in"] == "query"}
        assert required <= named, (path, method)


def values(openapi: Json, schema: Json, name: str) -> Iterator[object]:
    """Yield valid and invalid values of a field, among them the largest that its schema allows."""
    schema = resolve(openapi, schema)
    yield from (None, "", "\0", "x", 0, -1, 1.5, True, [], {}, 10**30, "10000000000000000000", "é" * 10)
    for option in schema.get("anyOf", [schema]):
        yield largest(openapi, option, name)


CHOSEN = {
    "id": "bee",
    "document": "whale",
    "generation": "g",
    "index": "zoo",
    "domain": "d" * 200,
    "parent": "p",
    "filter": " and ".join(["not id = x"] * 15),
    "sort": "-title",
}
"""Values of fields whose largest value is not in their schema."""


def largest(openapi: Json, schema: Json, name: str) -> object:
    """Return the largest value that a schema allows; lists have at most 50 entries."""
    schema = resolve(openapi, schema)
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    kind = schema.get("type")
    value: object = ("nectar " * 2_000)[: schema.get("maxLength", 2_000)]
    if name in CHOSEN:
        value = CHOSEN[name]
    elif options:
        value = largest(openapi, options[0], name)
    elif "enum" in schema:
        value = schema["enum"][-1]
    elif kind in {"integer", "number"}:
        value = min(schema.get("maximum", 2**62), schema.get("exclusiveMaximum", 2**63) - 1)
    elif kind == "boolean":
        value = True
    elif kind == "array":
        value = [largest(openapi, schema["items"], name)] * min(schema.get("maxItems", 50), 50)
    elif "properties" in schema:
        value = {field: largest(openapi, inner, field) for field, inner in schema["properties"].items()}
    elif kind == "object":
        value = {f"field {number}": "x" * 100 for number in range(20)}
    return value


def check(openapi: Json, operation: Json, response: Any) -> None:
    """Assert that a response is one of those that the document describes."""
    described = operation["responses"].get(str(response.status_code))
    assert described is not None, (operation["summary"], response.status_code, response.text[:500])
    assert (
        response.status_code in {200, 201, 202, 304} or 400 <= response.status_code < 500 or response.status_code == 503
    )
    if response.status_code != 200 or response.data:
        assert response.mimetype in described.get("content", {response.mimetype: {}}), response.mimetype


def as_query(values_: dict[str, object]) -> dict[str, Any]:
    return {
        name: json.dumps(value) if isinstance(value, bool | dict) else value
        for name, value in values_.items()
        if value is not None
    }


def test_every_value_of_every_parameter_is_answered_as_the_document_says(client: FlaskClient, openapi: Json) -> None:
    """Each parameter alone, next to the smallest valid request; never a 500."""
    for path, method, operation in operations(openapi):
        if method not in {"get", "delete"} or path == "/api/documents":
            continue
        parameters = {one["name"]: one for one in operation.get("parameters", ()) if one["in"] == "query"}
        smallest = {"query": "honey"} if "query" in parameters else {}
        smallest |= {name: largest(openapi, one["schema"], name) for name, one in parameters.items() if one["required"]}
        for name, one in parameters.items():
            for value in values(openapi, one["schema"], name):
                query = as_query({**smallest, name: value})
                check(
                    openapi,
                    operation,
                    client.open(path.replace("{domain}", "t"), method=method.upper(), query_string=query),
                )


@pytest.fixture
def wide(index: Any, tiny_encoder: Encoder) -> Iterator[FlaskClient]:
    """A client of a server that accepts bodies of several MB, so that no other limit is hidden by that of the body."""
    engine = SearchEngine.open(index, encoder=tiny_encoder)
    app = create_app(
        {"zoo": engine}, limits=Limits(max_body_bytes=8 * 1024 * 1024), adaptation=AdaptationSettings(after=0)
    )
    yield app.test_client()
    app.extensions["semsearch"].close()
    engine.close()


def test_the_largest_values_of_every_body_are_answered_alone_and_together(wide: FlaskClient) -> None:
    openapi = wide.get("/api/openapi.json").get_json()
    for path, method, operation in operations(openapi):
        for schema in body_schemas(openapi, operation):
            every = {name: largest(openapi, field, name) for name, field in schema["properties"].items()}
            needed = {name: every[name] for name in schema.get("required", ())}
            if "query" in every:
                needed.setdefault("query", "honey")
            one_query = {name: value for name, value in every.items() if name != "queries"}
            many_queries = {name: value for name, value in every.items() if name != "query"}
            alone = ({**needed, name: value} for name, value in every.items())
            for body in chain(alone, [every, one_query, many_queries], wrong_types(needed, every)):
                response = wide.open(path.replace("{domain}", "team"), method=method.upper(), json=body)
                check(openapi, operation, response)


def wrong_types(needed: dict[str, object], every: dict[str, object]) -> Iterator[dict[str, object]]:
    for name in every:
        values_: tuple[object, ...] = (None, "", "\0", 0, -1, 1.5, 10**30, [], {}, [[]], {"a": {}})
        for value in values_:
            yield {**needed, name: value}


def test_the_largest_values_of_every_query_string_are_answered_together(client: FlaskClient, openapi: Json) -> None:
    for path, method, operation in operations(openapi):
        if method not in {"get", "delete"}:
            continue
        query = {
            one["name"]: largest(openapi, one["schema"], one["name"])
            for one in operation.get("parameters", ())
            if one["in"] == "query"
        }
        for left_out in (set(), {"query"}, {"queries"}):
            chosen = as_query({name: value for name, value in query.items() if name not in left_out})
            check(
                openapi,
                operation,
                client.open(path.replace("{domain}", "t"), method=method.upper(), query_string=chosen),
            )
