"""The OpenAPI 3.1 document, generated from the models that validate requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from semsearch import __version__
from semsearch.server.schemas import documents, feedback, pages
from semsearch.server.schemas.search import DocumentRequest, DocumentResponse, IndexesResponse, Problem, SearchResponse

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One route and method of the API."""

    path: str
    method: str
    operation_id: str
    summary: str
    response: type[BaseModel] | None
    """Model of the response; None for a file."""
    error_statuses: Sequence[int]
    parameters: type[BaseModel] | None = None
    """Model of the query string."""
    body: Sequence[type[BaseModel]] = ()
    """Models of the request body, one of which must match."""
    status: int = 200
    """Status of a successful response."""
    write_key: bool = False
    """Whether a write key is required, if the server has any."""


def openapi(search_request: type[BaseModel]) -> Json:
    """Return the OpenAPI document of a server whose search requests are validated by `search_request`."""
    operations = [
        Operation(
            "/api/search", "get", "search", "Search with parameters in the query string", SearchResponse,
            (404, 422, 503), parameters=search_request,
        ),
        Operation(
            "/api/search", "post", "searchMany", "Search with a JSON body", SearchResponse,
            (400, 404, 413, 415, 422, 503), body=(search_request,),
        ),
        *_OPERATIONS,
    ]  # fmt: skip
    schemas = _schemas(operations)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation_object(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "semsearch",
            "version": __version__,
            "description": "Semantic search over the indexes of one server, adapted to labels and clicks.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**paths, **_MONITORING_PATHS},
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "writeKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "One of the server's write keys; not required if the server has none",
                }
            },
        },
    }


_KEY_ERRORS = (401, 403, 404, 422)
"""Error statuses of an operation that requires a write key."""
_BODY_ERRORS = (400, 401, 403, 404, 413, 415, 422)
"""Error statuses of an operation that requires a write key and a body."""
_DOMAIN = "/api/domains/{domain}"
_OPERATIONS = [
    Operation("/api/document", "get", "document", "A document with its full text", DocumentResponse, (404, 422),
              parameters=DocumentRequest),
    Operation("/api/documents", "put", "putDocuments", "Add documents, or replace those with the same id",
              documents.ChangedResponse, (*_BODY_ERRORS, 409, 503, 507), body=(documents.DocumentsRequest,),
              write_key=True),
    Operation("/api/documents", "delete", "deleteDocuments", "Delete documents by id",
              documents.ChangedResponse, (*_KEY_ERRORS, 409, 503, 507), parameters=documents.DeleteRequest,
              write_key=True),
    Operation("/api/compact", "post", "compact", "Merge the segments of an index and remove deleted documents",
              documents.ChangedResponse, (*_BODY_ERRORS, 409, 503, 507), body=(documents.CompactRequest,),
              write_key=True),
    Operation("/api/indexes", "get", "indexes", "All served indexes, the default index first",
              IndexesResponse, ()),
    Operation("/api/labels", "post", "label", "Store one label or several; they are on disk when this responds",
              feedback.StoredResponse, (*_BODY_ERRORS, 409, 507), body=(feedback.LabelRequest, feedback.LabelsRequest),
              status=201, write_key=True),
    Operation("/api/labels", "get", "labels", "Labels that are not retracted", feedback.LabelsResponse, _KEY_ERRORS,
              parameters=feedback.ListRequest, write_key=True),
    Operation("/api/labels", "delete", "retractLabels", "Retract labels; their domains are adapted again",
              feedback.RetractedResponse, (*_KEY_ERRORS, 507), parameters=feedback.EntryFilterRequest, write_key=True),
    Operation("/api/clicks", "post", "click", "Store one click or several; they are on disk when this responds",
              feedback.StoredResponse, (*_BODY_ERRORS, 409, 507), body=(feedback.ClickRequest, feedback.ClicksRequest),
              status=201, write_key=True),
    Operation("/api/clicks", "get", "clicks", "Clicks that are not retracted", feedback.ClicksResponse, _KEY_ERRORS,
              parameters=feedback.ListRequest, write_key=True),
    Operation("/api/clicks", "delete", "retractClicks", "Retract clicks; their domains are adapted again",
              feedback.RetractedResponse, (*_KEY_ERRORS, 507), parameters=feedback.EntryFilterRequest, write_key=True),
    Operation("/api/domains", "get", "domains", "All domains of an index", feedback.DomainsResponse, _KEY_ERRORS,
              parameters=feedback.DomainRequest, write_key=True),
    Operation(_DOMAIN, "get", "domain", "A domain with its history", feedback.DomainResponse, _KEY_ERRORS,
              parameters=feedback.DomainRequest, write_key=True),
    Operation(f"{_DOMAIN}/adapt", "post", "adapt", "Adapt a domain to its labels, or decline with a reason",
              feedback.DomainResponse, (*_BODY_ERRORS, 507), body=(feedback.AdaptRequest,), write_key=True),
    Operation(f"{_DOMAIN}/rollback", "post", "rollback", "Return a domain to an earlier version",
              feedback.DomainResponse, (*_BODY_ERRORS, 507), body=(feedback.RollbackRequest,), write_key=True),
    Operation(f"{_DOMAIN}/reset", "post", "reset", "Remove a domain's own adaptation; it then inherits from its parent",
              feedback.DomainResponse, (*_BODY_ERRORS, 507), body=(feedback.DomainRequest,), write_key=True),
    Operation(f"{_DOMAIN}/parent", "post", "parent", "Set the parent that a domain inherits from",
              feedback.DomainResponse, (*_BODY_ERRORS, 507), body=(feedback.ParentRequest,), write_key=True),
    Operation(f"{_DOMAIN}/state", "get", "exportState", "The current state of a domain, as safetensors", None,
              _KEY_ERRORS, parameters=feedback.DomainRequest, write_key=True),
    Operation(f"{_DOMAIN}/state", "put", "importState", "Replace the state of a domain by an exported one",
              feedback.DomainResponse, (*_KEY_ERRORS, 413, 507), parameters=feedback.DomainRequest, write_key=True),
    Operation("/api/compare", "post", "compare", "Rank one query with and without the domain's adaptation",
              feedback.CompareResponse, (400, 404, 413, 415, 422, 503), body=(feedback.CompareRequest,)),
    Operation("/api/suggestions", "get", "suggestions", "Past queries of a domain that contain the typed text",
              pages.SuggestionsResponse, _KEY_ERRORS, parameters=pages.SuggestionsRequest, write_key=True),
    Operation("/api/map/points", "get", "mapPoints", "Position of each passage on the map: x and y as 16-bit numbers",
              None, (404, 422), parameters=pages.MapRequest),
    Operation("/api/map/passage", "get", "mapPassage", "The passage at a point of the map", pages.MapPassageResponse,
              (404, 409, 422), parameters=pages.MapPassageRequest),
    Operation("/api/map/query", "get", "mapQuery", "Positions of a query and its results on the map",
              pages.MapQueryResponse, (404, 422, 503), parameters=pages.MapQueryRequest),
    Operation("/api/recommend", "get", "recommend", "Recommended documents for a domain, from its liked documents",
              feedback.RecommendResponse, _KEY_ERRORS, parameters=feedback.RecommendRequest, write_key=True),
]  # fmt: skip

_ERROR_DESCRIPTIONS = {
    400: "The body is not JSON, or the host name is not served",
    401: "A write key is required",
    403: "The server is read-only, or the request comes from a page of another site",
    404: "The index or the requested item does not exist",
    409: "The id exists with different content, another process is writing the index, or the index has changed",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "A field is invalid; `errors` names it",
    503: "The server is overloaded, try again after the seconds in Retry-After; or the index on disk is damaged",
    507: "Writing to disk failed; nothing was stored",
}


def _schemas(operations: Sequence[Operation]) -> Json:
    """Return the JSON schemas of all models, by name."""
    requests = dict.fromkeys(model for operation in operations for model in (operation.parameters, *operation.body))
    responses = dict.fromkeys([*(operation.response for operation in operations), Problem])
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in requests if model is not None),
        *((model, "serialization") for model in responses if model is not None),
    ]
    _, document = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas: Json = document["$defs"]
    return schemas


def _operation_object(operation: Operation, schemas: Json) -> Json:
    """Return the OpenAPI object of an operation."""
    response = operation.response
    content = {"application/octet-stream": {}} if response is None else _content(response.__name__)
    errors = {
        str(status): {
            "description": _ERROR_DESCRIPTIONS[status],
            "content": _content("Problem", media_type="application/problem+json"),
        }
        for status in operation.error_statuses
    }
    described: Json = {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "parameters": _parameters(operation, schemas),
        "responses": {str(operation.status): {"description": operation.summary, "content": content}, **errors},
    }
    if operation.body:
        models = [model.__name__ for model in operation.body]
        described["requestBody"] = {"required": True, "content": _content(*models)}
    elif operation.method == "put":
        described["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    if operation.write_key:
        described["security"] = [{"writeKey": []}, {}]
    return described


def _parameters(operation: Operation, schemas: Json) -> list[Json]:
    """Return the OpenAPI objects of an operation's path and query parameters."""
    parameters: list[Json] = []
    if "{domain}" in operation.path:
        parameters.append({"name": "domain", "in": "path", "required": True, "schema": {"type": "string"}})
    if operation.parameters is not None:
        schema = schemas[operation.parameters.__name__]
        parameters += [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": field,
                "description": field.get("description", ""),
            }
            for name, field in schema["properties"].items()
        ]
    return parameters


def _content(*models: str, media_type: str = "application/json") -> Json:
    refs: list[Json] = [{"$ref": f"#/components/schemas/{model}"} for model in models]
    return {media_type: {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}


def _plain(summary: str, media_type: str) -> Json:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {media_type: {}}}}}


_MONITORING_PATHS: Json = {
    "/api/openapi.json": {"get": _plain("This document", "application/json")},
    "/healthz": {"get": _plain("The process is running", "text/plain")},
    "/readyz": {
        "get": {
            **_plain("Searches can be answered", "text/plain"),
            "responses": {
                "200": {"description": "Ready"},
                "503": {"description": "Not ready; try again after the seconds in Retry-After"},
            },
        }
    },
    "/metrics": {"get": _plain("Metrics in Prometheus's text format", "text/plain")},
}
