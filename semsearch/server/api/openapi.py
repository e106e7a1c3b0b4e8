"""The OpenAPI 3.1 document, generated from the models that validate requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from semsearch import __version__
from semsearch.server.schemas import documents, feedback
from semsearch.server.schemas import pages as page
from semsearch.server.schemas.search import DocumentRequest, DocumentResponse, IndexesResponse, Problem, SearchResponse

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One route and method of the API."""

    path: str
    method: str
    name: str
    summary: str
    answer: type[BaseModel] | None
    """Model of the response; None for a file."""
    failures: Sequence[int]
    address: type[BaseModel] | None = None
    """Model of the query string."""
    body: Sequence[type[BaseModel]] = ()
    """Models of the request body, one of which must match."""
    status: int = 200
    key: bool = False
    """Whether a write key is required, if the server has any."""


def openapi(search_request: type[BaseModel]) -> Json:
    """Return the OpenAPI document of a server whose search requests are validated by `search_request`."""
    operations = [
        Operation(
            "/api/search", "get", "search", "Search with fields in the address", SearchResponse, (404, 422, 503),
            address=search_request,
        ),
        Operation(
            "/api/search", "post", "searchMany", "Search with one query or many", SearchResponse,
            (400, 404, 413, 415, 422, 503), body=(search_request,),
        ),
        *_OPERATIONS,
    ]  # fmt: skip
    taken = {model: "validation" for one in operations for model in (one.address, *one.body) if model is not None}
    given = {one.answer: "serialization" for one in operations if one.answer is not None} | {Problem: "serialization"}
    _, parts = models_json_schema(
        [*taken.items(), *given.items()],  # type: ignore[list-item]
        ref_template="#/components/schemas/{model}",
    )
    schemas: Json = parts["$defs"]
    paths: Json = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method] = _described(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "semsearch",
            "version": __version__,
            "description": "Semantic search over the indexes of one server, and the labels that adapt it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            **paths,
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
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "writeKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "One of the server's write keys; none is wanted where it has none",
                }
            },
        },
    }


_WRITE = (401, 403, 404, 422)
_SEND = (400, 401, 403, 404, 413, 415, 422)
_DOMAIN = "/api/domains/{domain}"
_OPERATIONS = [
    Operation(
        "/api/document", "get", "document", "A whole document", DocumentResponse, (404, 422), address=DocumentRequest
    ),
    Operation("/api/documents", "put", "putDocuments", "Add documents, or replace those of the same id",
              documents.ChangedResponse, (*_SEND, 409, 503), body=(documents.DocumentsRequest,), key=True),
    Operation("/api/documents", "delete", "deleteDocuments", "Delete documents by id",
              documents.ChangedResponse, (*_WRITE, 409, 503), address=documents.DeleteRequest, key=True),
    Operation("/api/compact", "post", "compact", "Make an index one piece again, without what was deleted",
              documents.ChangedResponse, (*_SEND, 409, 503), body=(documents.CompactRequest,), key=True),
    Operation("/api/indexes", "get", "indexes", "The indexes that are served, the default one first",
              IndexesResponse, ()),
    Operation("/api/labels", "post", "label", "Keep one label or many; they are on the disk when this answers",
              feedback.StoredResponse, (*_SEND, 409, 507), body=(feedback.LabelRequest, feedback.LabelsRequest),
              status=201, key=True),
    Operation("/api/labels", "get", "labels", "Labels that were not withdrawn", feedback.LabelsResponse, _WRITE,
              address=feedback.ListRequest, key=True),
    Operation("/api/labels", "delete", "withdrawLabels", "Have labels count no more; their domains are adapted again",
              feedback.RetractedResponse, (*_WRITE, 507), address=feedback.EntryFilterRequest, key=True),
    Operation("/api/clicks", "post", "click", "Keep one click or many; they are on the disk when this answers",
              feedback.StoredResponse, (*_SEND, 409, 507), body=(feedback.ClickRequest, feedback.ClicksRequest),
              status=201, key=True),
    Operation("/api/clicks", "get", "clicks", "Clicks that were not withdrawn", feedback.ClicksResponse, _WRITE,
              address=feedback.ListRequest, key=True),
    Operation("/api/clicks", "delete", "withdrawClicks", "Have clicks count no more; their domains are adapted again",
              feedback.RetractedResponse, (*_WRITE, 507), address=feedback.EntryFilterRequest, key=True),
    Operation("/api/domains", "get", "domains", "All domains of an index", feedback.DomainsResponse, _WRITE,
              address=feedback.DomainRequest, key=True),
    Operation(_DOMAIN, "get", "domain", "A domain and its history", feedback.DomainResponse, _WRITE,
              address=feedback.DomainRequest, key=True),
    Operation(f"{_DOMAIN}/adapt", "post", "adapt", "Adapt a domain to its labels, or decline and say why",
              feedback.DomainResponse, (*_SEND, 507), body=(feedback.AdaptRequest,), key=True),
    Operation(f"{_DOMAIN}/rollback", "post", "rollback", "Return a domain to an earlier version",
              feedback.DomainResponse, (*_SEND, 507), body=(feedback.RollbackRequest,), key=True),
    Operation(f"{_DOMAIN}/reset", "post", "reset", "Serve a domain with nothing of its own",
              feedback.DomainResponse, (*_SEND, 507), body=(feedback.DomainRequest,), key=True),
    Operation(f"{_DOMAIN}/parent", "post", "parent", "Have a domain inherit from another one",
              feedback.DomainResponse, (*_SEND, 507), body=(feedback.ParentRequest,), key=True),
    Operation(f"{_DOMAIN}/state", "get", "exportState", "The state that serves a domain, as safetensors", None, _WRITE,
              address=feedback.DomainRequest, key=True),
    Operation(f"{_DOMAIN}/state", "put", "importState", "Serve a domain with an exported state",
              feedback.DomainResponse, (*_WRITE, 413, 507), address=feedback.DomainRequest, key=True),
    Operation("/api/compare", "post", "compare", "One query as the frozen encoder and as a domain's adaptation rank it",
              feedback.CompareResponse, (400, 404, 413, 415, 422, 503), body=(feedback.CompareRequest,)),
    Operation("/api/suggestions", "get", "suggestions", "Past queries of a domain that contain what is being typed",
              page.SuggestionsResponse, _WRITE, address=page.SuggestionsRequest, key=True),
    Operation("/api/map/points", "get", "mapPoints", "Where each passage stands on the map: x and y as 16-bit numbers",
              None, (404, 422), address=page.MapRequest),
    Operation("/api/map/passage", "get", "mapPassage", "The passage at a point of the map", page.MapPassageResponse,
              (404, 409, 422), address=page.MapPassageRequest),
    Operation("/api/map/query", "get", "mapQuery", "Where a query and its results stand on the map",
              page.MapQueryResponse, (404, 422, 503), address=page.MapQueryRequest),
    Operation("/api/recommend", "get", "recommend", "Documents for a person, from what they liked",
              feedback.RecommendResponse, _WRITE, address=feedback.RecommendRequest, key=True),
]  # fmt: skip

_FAILURES = {
    400: "Not JSON, or a host name that is not served",
    401: "A write key is required",
    403: "The server is read-only, or a page of another site asks",
    404: "No such index, or nothing there",
    409: "The id is known with another content, or another process is writing the index, or it has changed",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "A field is wrong; `errors` names it",
    503: "Overloaded; Retry-After says when to come again",
    507: "The disk refuses; nothing was kept",
}


def _described(one: Operation, schemas: Json) -> Json:
    parameters: list[Json] = []
    if "{domain}" in one.path:
        parameters.append({"name": "domain", "in": "path", "required": True, "schema": {"type": "string"}})
    if one.address is not None:
        schema = schemas[one.address.__name__]
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
    content = {"application/octet-stream": {}} if one.answer is None else _content(one.answer.__name__)
    described: Json = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": parameters,
        "responses": {
            str(one.status): {"description": one.summary, "content": content},
            **{
                str(status): {
                    "description": _FAILURES[status],
                    "content": _content("Problem", media_type="application/problem+json"),
                }
                for status in one.failures
            },
        },
    }
    if one.body:
        described["requestBody"] = {"required": True, "content": _content(*(model.__name__ for model in one.body))}
    elif one.method == "put":
        described["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    if one.key:
        described["security"] = [{"writeKey": []}, {}]
    return described


def _content(*models: str, media_type: str = "application/json") -> Json:
    refs: list[Json] = [{"$ref": f"#/components/schemas/{model}"} for model in models]
    return {media_type: {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}


def _plain(summary: str, media_type: str) -> Json:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {media_type: {}}}}}
