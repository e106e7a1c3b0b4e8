"""API routes that add, replace and delete documents, and compact an index."""

from __future__ import annotations

from concurrent.futures import TimeoutError as NotReady

from flask import Blueprint, Response, request

from semsearch.ingest.updating import UpdateResult
from semsearch.server.http import answer, from_body, from_query_string
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.documents import ChangedResponse, CompactRequest, DeleteRequest, DocumentsRequest
from semsearch.server.security import WriteKeys
from semsearch.types import Document


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """Return the routes. Each requires a write key if the server has any."""
    routes = Blueprint("documents", __name__)

    @routes.put("/api/documents")
    def put() -> Response:
        source = keys.source(request)
        params = from_body(DocumentsRequest)
        index = service.index(params.index)
        documents = []
        for document in params.documents:
            # without a source a document keeps the one it has: another client's key alone is no change
            indexed = None if document.source else index.engine.document(document.id)
            origin = document.source or (source if indexed is None else indexed.source)
            documents.append(Document(document.id, document.title, document.text, origin, document.metadata))
        return _answer(index, index.writer.update(documents))

    @routes.delete("/api/documents")
    def remove() -> Response:
        keys.source(request)
        params = from_query_string(DeleteRequest, many=frozenset({"id"}))
        index = service.index(params.index)
        return _answer(index, index.writer.delete(params.id))

    @routes.post("/api/compact")
    def compact() -> Response:
        keys.source(request)
        params = from_body(CompactRequest, optional=True)
        index = service.index(params.index)
        future = index.writer.compact()
        if params.wait:
            try:
                future.result(timeout=service.limits.deadline_s)
            except NotReady:
                return _answer(index, None, 202)
        return _answer(index, None, 200 if params.wait else 202)

    return routes


def _answer(index: ServedIndex, result: UpdateResult | None, status: int = 200) -> Response:
    manifest = index.engine.manifest
    return answer(
        ChangedResponse(
            index=index.name,
            added=result.added if result else 0,
            replaced=result.replaced if result else 0,
            unchanged=result.unchanged if result else 0,
            deleted=result.deleted if result else 0,
            unknown=result.unknown if result else (),
            documents=manifest.documents,
            segments=len(manifest.segments),
        ),
        status,
    )
