"""The JSON endpoint's documents: added, replaced, deleted, and the index made one piece again."""

from __future__ import annotations

from concurrent.futures import TimeoutError as NotReady

from flask import Blueprint, Response, request

from semsearch.ingest.updating import UpdateResult
from semsearch.server.http import answer, from_address, from_body
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.documents import ChangedResponse, CompactRequest, DeleteRequest, DocumentsRequest
from semsearch.server.security import WriteKeys
from semsearch.types import Document


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The routes of one service."""
    routes = Blueprint("documents", __name__)

    @routes.put("/api/documents")
    def put() -> Response:
        source = keys.source(request)
        sent = from_body(DocumentsRequest)
        index = service.index(sent.index)
        documents = [
            Document(one.id, one.title, one.text, one.source or source, one.metadata) for one in sent.documents
        ]
        return _answer(index, index.writer.update(documents))

    @routes.delete("/api/documents")
    def remove() -> Response:
        keys.source(request)
        asked = from_address(DeleteRequest, many=frozenset({"id"}))
        index = service.index(asked.index)
        return _answer(index, index.writer.delete(asked.id))

    @routes.post("/api/compact")
    def compact() -> Response:
        keys.source(request)
        asked = from_body(CompactRequest, optional=True)
        index = service.index(asked.index)
        future = index.writer.compact()
        if asked.wait:
            try:
                future.result(timeout=service.limits.deadline_s)
            except NotReady:
                asked = asked.model_copy(update={"wait": False})
        return _answer(index, None, 200 if asked.wait else 202)

    return routes


def _answer(index: ServedIndex, done: UpdateResult | None, status: int = 200) -> Response:
    manifest = index.engine.manifest
    return answer(
        ChangedResponse(
            index=index.name,
            added=done.added if done else 0,
            replaced=done.replaced if done else 0,
            unchanged=done.unchanged if done else 0,
            deleted=done.deleted if done else 0,
            unknown=done.unknown if done else (),
            documents=manifest.documents,
            segments=len(manifest.segments),
        ),
        status,
    )
