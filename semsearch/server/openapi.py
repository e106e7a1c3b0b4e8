"""The OpenAPI 3.1 document, made from the models that validate."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from semsearch import __version__
from semsearch.server.schemas import DocumentResponse, IndexesResponse, Problem, SearchRequest, SearchResponse

Json = dict[str, Any]


def openapi(search_request: type[SearchRequest]) -> Json:
    """The document of a server that validates with `search_request`."""
    _, parts = models_json_schema(
        [(search_request, "validation"), *((model, "serialization") for model in _ANSWERS)],
        ref_template="#/components/schemas/{model}",
    )
    schemas: Json = parts["$defs"]
    fields: Json = schemas["SearchRequest"]["properties"]
    in_address = [
        {"name": name, "in": "query", "schema": field, "description": field.get("description", "")}
        for name, field in fields.items()
    ]
    found = _responses("SearchResponse", "Answers, one for each query")
    search_failures = _failures(400, 404, 413, 415, 422, 503)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "semsearch",
            "version": __version__,
            "description": "Semantic search over the indexes of one server.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/api/search": {
                "get": {
                    "operationId": "search",
                    "summary": "Search with fields in the address",
                    "parameters": in_address,
                    "responses": {**found, **_failures(404, 422, 503)},
                },
                "post": {
                    "operationId": "searchMany",
                    "summary": "Search with one query or many",
                    "requestBody": {"required": True, "content": _content("SearchRequest")},
                    "responses": {**found, **search_failures},
                },
            },
            "/api/document": {
                "get": {
                    "operationId": "document",
                    "summary": "A whole document",
                    "parameters": [
                        {"name": "id", "in": "query", "required": True, "schema": {"type": "string"}},
                        {"name": "index", "in": "query", "schema": {"type": "string"}},
                    ],
                    "responses": {**_responses("DocumentResponse", "The document"), **_failures(404, 422)},
                }
            },
            "/api/indexes": {
                "get": {
                    "operationId": "indexes",
                    "summary": "The indexes that are served",
                    "responses": _responses("IndexesResponse", "The indexes, the default one first"),
                }
            },
            "/api/openapi.json": {"get": _plain("This document", "application/json")},
            "/healthz": {"get": _plain("The process lives", "text/plain")},
            "/readyz": {
                "get": {
                    **_plain("Searches can be answered", "text/plain"),
                    "responses": {
                        "200": {"description": "Ready"},
                        "503": {"description": "Not ready; Retry-After says when to ask again"},
                    },
                }
            },
            "/metrics": {"get": _plain("Metrics in Prometheus's text format", "text/plain")},
        },
        "components": {"schemas": schemas},
    }


_ANSWERS = (SearchResponse, DocumentResponse, IndexesResponse, Problem)

_FAILURES = {
    400: "Not JSON, or a host name that is not served",
    404: "No such index or document",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "A field is wrong; `errors` names it",
    503: "Overloaded; Retry-After says when to come again",
}


def _content(model: str, media_type: str = "application/json") -> Json:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{model}"}}}


def _responses(model: str, description: str) -> Json:
    return {"200": {"description": description, "content": _content(model)}}


def _failures(*statuses: int) -> Json:
    return {
        str(status): {
            "description": _FAILURES[status],
            "content": _content("Problem", "application/problem+json"),
        }
        for status in statuses
    }


def _plain(summary: str, media_type: str) -> Json:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {media_type: {}}}}}
