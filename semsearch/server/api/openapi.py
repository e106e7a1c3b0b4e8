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
    """Besides those of every operation, of `_COMMON_ERRORS`."""
    parameters: type[BaseModel] | None = None
    """Model of the query string."""
    body: Sequence[type[BaseModel]] = ()
    """Models of the request body, one of which must match."""
    body_required: bool = True
    status: int = 200
    """Status of a successful response."""
    other_statuses: Sequence[int] = ()
    """Of further responses that are no errors."""
    write_key: bool = False
    """Whether a write key is required, if the server has any."""


def openapi(search_request: type[BaseModel], *, root_path: str) -> Json:
    """Return the OpenAPI document of a server.

    search_request: model of its search requests. root_path: the server's path behind a proxy, or an empty text.
    """
    operations = [
        Operation(
            "/api/search", "get", "search", "Search with parameters in the query string", SearchResponse,
            (404, 422), parameters=search_request,
        ),
        Operation(
            "/api/search", "post", "searchMany", "Search with a JSON body", SearchResponse,
            _PUBLIC_BODY_ERRORS, body=(search_request,),
        ),
        *_OPERATIONS,
    ]  # fmt: skip
    schemas = _schemas(operations)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation_object(operation, schemas)
    for path, operation_objects in _MONITORING_PATHS.items():
        paths[path] = dict(operation_objects)
    for operation_objects in paths.values():
        _add_automatic_methods(operation_objects)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "semsearch",
            "version": __version__,
            "description": "Semantic search over the indexes of one server, adapted to labels and clicks.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
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


_KEY_ERRORS = (401, 403, 404, 422, 507)
"""Error statuses of an operation that requires a write key."""
_BODY_ERRORS = (*_KEY_ERRORS, 413, 415)
"""Error statuses of an operation that requires a write key and a body."""
_PUBLIC_BODY_ERRORS = (404, 413, 415, 422)
"""Error statuses of an operation that requires a body and no write key."""
_COMMON_ERRORS = (400, 408, 431, 500, 501, 503)
"""Error statuses of every operation."""
_DOMAIN = "/api/domains/{domain}"
NO_OPERATION = "".join(f"(?<!/{name})" for name in ("adapt", "rollback", "reset", "parent", "state"))
"""Regular expression at the end of a domain's name in an address: it does not end like the address of an operation."""
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
              body_required=False, other_statuses=(202,), write_key=True),
    Operation("/api/indexes", "get", "indexes", "All served indexes, the default index first",
              IndexesResponse, ()),
    Operation("/api/labels", "post", "label", "Store one label or several; they are on disk when this responds",
              feedback.StoredResponse, (*_BODY_ERRORS, 409), body=(feedback.LabelRequest, feedback.LabelsRequest),
              status=201, write_key=True),
    Operation("/api/labels", "get", "labels", "Labels that are not retracted", feedback.LabelsResponse, _KEY_ERRORS,
              parameters=feedback.ListRequest, write_key=True),
    Operation("/api/labels/suggested", "get", "suggestLabels", "Queries of a domain to label next, with results",
              feedback.SuggestedLabelsResponse, _KEY_ERRORS, parameters=feedback.SuggestedLabelsRequest,
              write_key=True),
    Operation("/api/labels", "delete", "retractLabels", "Retract labels; their domains are adapted again",
              feedback.RetractedResponse, _KEY_ERRORS, parameters=feedback.EntryFilterRequest, write_key=True),
    Operation("/api/clicks", "post", "click", "Store one click or several; they are on disk when this responds",
              feedback.StoredResponse, (*_BODY_ERRORS, 409), body=(feedback.ClickRequest, feedback.ClicksRequest),
              status=201, write_key=True),
    Operation("/api/clicks", "get", "clicks", "Clicks that are not retracted", feedback.ClicksResponse, _KEY_ERRORS,
              parameters=feedback.ListRequest, write_key=True),
    Operation("/api/clicks", "delete", "retractClicks", "Retract clicks; their domains are adapted again",
              feedback.RetractedResponse, _KEY_ERRORS, parameters=feedback.EntryFilterRequest, write_key=True),
    Operation("/api/domains", "get", "domains", "All domains of an index", feedback.DomainsResponse, _KEY_ERRORS,
              parameters=feedback.DomainRequest, write_key=True),
    Operation(_DOMAIN, "get", "domain", "A domain with its history", feedback.DomainResponse, _KEY_ERRORS,
              parameters=feedback.DomainRequest, write_key=True),
    Operation(f"{_DOMAIN}/adapt", "post", "adapt", "Adapt a domain to its labels, or decline with a reason",
              feedback.DomainResponse, _BODY_ERRORS, body=(feedback.AdaptRequest,), body_required=False,
              other_statuses=(202,), write_key=True),
    Operation(f"{_DOMAIN}/rollback", "post", "rollback", "Return a domain to an earlier version",
              feedback.DomainResponse, _BODY_ERRORS, body=(feedback.RollbackRequest,), body_required=False,
              write_key=True),
    Operation(f"{_DOMAIN}/reset", "post", "reset", "Remove a domain's own adaptation; it then inherits from its parent",
              feedback.DomainResponse, _BODY_ERRORS, body=(feedback.DomainRequest,), body_required=False,
              write_key=True),
    Operation(f"{_DOMAIN}/parent", "post", "parent", "Set the parent that a domain inherits from",
              feedback.DomainResponse, _BODY_ERRORS, body=(feedback.ParentRequest,), write_key=True),
    Operation(f"{_DOMAIN}/state", "get", "exportState", "The current state of a domain, as safetensors", None,
              _KEY_ERRORS, parameters=feedback.DomainRequest, write_key=True),
    Operation(f"{_DOMAIN}/state", "put", "importState", "Replace the state of a domain by an exported one",
              feedback.DomainResponse, _BODY_ERRORS, parameters=feedback.DomainRequest, write_key=True),
    Operation("/api/compare", "post", "compare", "Rank one query with and without the domain's adaptation",
              feedback.CompareResponse, _PUBLIC_BODY_ERRORS, body=(feedback.CompareRequest,)),
    Operation("/api/suggestions", "get", "suggestions", "Past queries of a domain that contain the typed text",
              pages.SuggestionsResponse, _KEY_ERRORS, parameters=pages.SuggestionsRequest, write_key=True),
    Operation("/api/map/points", "get", "mapPoints", "Position of each passage on the map: x and y as 16-bit numbers",
              None, (404, 422), parameters=pages.MapRequest, other_statuses=(304,)),
    Operation("/api/map/passage", "get", "mapPassage", "The passage at a point of the map", pages.MapPassageResponse,
              (404, 409, 422), parameters=pages.MapPassageRequest),
    Operation("/api/map/query", "get", "mapQuery", "Positions of a query and its results on the map",
              pages.MapQueryResponse, (404, 422), parameters=pages.MapQueryRequest),
    Operation("/api/recommend", "get", "recommend", "Recommended documents for a domain, from its liked documents",
              feedback.RecommendResponse, _KEY_ERRORS, parameters=feedback.RecommendRequest, write_key=True),
]  # fmt: skip

_DOMAIN_PARAMETER: Json = {
    "name": "domain",
    "in": "path",
    "required": True,
    "description": "Name of the domain; it may contain slashes, percent-encoded or not, but not end like the address"
    " of an operation",
    "schema": {"type": "string", "minLength": 1, "pattern": f"{NO_OPERATION}$"},
}

_OTHER_DESCRIPTIONS = {
    202: "Accepted; the work goes on after the response",
    304: "The client has the current content already",
}

_ERROR_DESCRIPTIONS = {
    400: "The request cannot be read: its body is not JSON, its text is not UTF-8, or the host name is not served",
    401: "A write key is required",
    403: "The server is read-only, or the request comes from a page of another site",
    404: "The index or the requested item does not exist",
    408: "The request was not complete in time",
    409: "The id exists with different content, another process is writing the index, or the index has changed",
    413: "The body is too large, or is when it is decompressed",
    415: "The body is not application/json in UTF-8, or is compressed by something other than gzip",
    422: "A field is invalid; `errors` names it",
    431: "The address and the headers are too large",
    500: "The server failed; its log has the reason",
    501: "The Transfer-Encoding is not supported",
    503: "The server is overloaded, or the index cannot be changed now; try again after the seconds in Retry-After",
    507: "A file of the index cannot be read or written; nothing was stored",
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
    others: Json = {str(status): {"description": _OTHER_DESCRIPTIONS[status]} for status in operation.other_statuses}
    if 202 in operation.other_statuses:
        others["202"]["content"] = content
    described: Json = {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "parameters": _parameters(operation, schemas),
        "responses": {
            str(operation.status): {"description": operation.summary, "content": content},
            **others,
            **_errors((*_COMMON_ERRORS, *operation.error_statuses)),
        },
    }
    if operation.body:
        models = [model.__name__ for model in operation.body]
        described["requestBody"] = {"required": operation.body_required, "content": _content(*models)}
    elif operation.method == "put":
        described["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    if operation.write_key:
        described["security"] = [{"writeKey": []}, {}]
    return described


def _parameters(operation: Operation, schemas: Json) -> list[Json]:
    """Return the OpenAPI objects of an operation's path and query parameters."""
    parameters: list[Json] = []
    if "{domain}" in operation.path:
        parameters.append(_DOMAIN_PARAMETER)
    if operation.parameters is not None:
        schema = schemas[operation.parameters.__name__]
        parameters += [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": _as_parameter(field),
                "description": field.get("description", ""),
            }
            for name, field in schema["properties"].items()
        ]
    return parameters


def _as_parameter(schema: Json) -> Json:
    """Return the schema of a field in a query string, which can hold neither null nor an object."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") in {"string", "array"}]
    if not options:
        options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if not options:
        return schema
    others = {name: value for name, value in schema.items() if name != "anyOf" and value is not None}
    return {**others, **options[0]} if len(options) == 1 else {**others, "anyOf": options}


def _errors(statuses: Sequence[int]) -> Json:
    return {
        str(status): {
            "description": _ERROR_DESCRIPTIONS[status],
            "content": _content("Problem", media_type="application/problem+json"),
        }
        for status in sorted(set(statuses))
    }


def _add_automatic_methods(operations: Json) -> None:
    """Describe the methods that the server derives from the others of a path. operations: by method; changed."""
    if "get" in operations:
        got = operations["get"]
        operations["head"] = {
            "summary": f"{got['summary']}: the headers only",
            **{name: got[name] for name in ("parameters", "security") if name in got},
            "responses": {
                status: {"description": response["description"]} for status, response in got["responses"].items()
            },
        }
    any_operation = next(iter(operations.values()))
    path_parameters = [parameter for parameter in any_operation.get("parameters", ()) if parameter["in"] == "path"]
    statuses = (*_COMMON_ERRORS, 404) if path_parameters else _COMMON_ERRORS
    operations["options"] = {
        "summary": "The methods of this address, in the header Allow",
        "parameters": path_parameters,
        "responses": {"200": {"description": "The methods"}, **_errors(statuses)},
    }


def _content(*models: str, media_type: str = "application/json") -> Json:
    refs: list[Json] = [{"$ref": f"#/components/schemas/{model}"} for model in models]
    return {media_type: {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}


def _plain(summary: str, media_type: str) -> Json:
    described = {"200": {"description": summary, "content": {media_type: {}}}}
    return {"summary": summary, "responses": {**described, **_errors(_COMMON_ERRORS)}}


_MONITORING_PATHS: Json = {
    "/api/openapi.json": {"get": _plain("This document", "application/json")},
    "/healthz": {"get": _plain("The process is running", "text/plain")},
    "/readyz": {"get": _plain("Searches can be answered; otherwise the status is 503", "text/plain")},
    "/metrics": {"get": _plain("Metrics in Prometheus's text format", "text/plain")},
}
