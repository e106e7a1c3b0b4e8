"""API routes that show, adapt and roll back domains, set their parents, and export and import their states."""

from __future__ import annotations

from concurrent.futures import TimeoutError as NotReady

from flask import Blueprint, Response, request
from werkzeug.routing import PathConverter

from semsearch.domains.registry import DomainStatus
from semsearch.server.api.openapi import NO_OPERATION
from semsearch.server.api.search import adaptation_model
from semsearch.server.http import answer, from_body, from_query_string, read_body
from semsearch.server.runtime.served_index import ServedIndex
from semsearch.server.runtime.service import SearchService
from semsearch.server.schemas.feedback import (
    AdaptRequest,
    DomainModel,
    DomainRequest,
    DomainResponse,
    DomainsResponse,
    ParentRequest,
    RollbackRequest,
    VersionModel,
)
from semsearch.server.security import WriteKeys


class DomainConverter(PathConverter):
    """A domain's name in an address; it may contain slashes, but not end like the address of an operation."""

    regex = PathConverter.regex + NO_OPERATION


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """Return the routes. Each requires a write key if the server has any, because names of domains are not public."""
    routes = Blueprint("domains", __name__)

    @routes.get("/api/domains")
    def list_domains() -> Response:
        keys.source(request)
        index = service.index(from_query_string(DomainRequest).index)
        models = tuple(domain_model(service, index, status) for status in index.domains.all_statuses())
        return answer(DomainsResponse(index=index.name, domains=models))

    @routes.get("/api/domains/<domain:domain>")
    def get_domain(domain: str) -> Response:
        keys.source(request)
        return _domain(service, service.index(from_query_string(DomainRequest).index), domain)

    @routes.post("/api/domains/<domain:domain>/adapt")
    def adapt(domain: str) -> Response:
        keys.source(request)
        params = from_body(AdaptRequest, optional=True)
        index = service.index(params.index)
        return _domain(service, index, domain, 200 if adapt_domain(service, index, domain, wait=params.wait) else 202)

    @routes.post("/api/domains/<domain:domain>/rollback")
    def rollback(domain: str) -> Response:
        keys.source(request)
        params = from_body(RollbackRequest, optional=True)
        index = service.index(params.index)
        with index.changing() as domains:
            domains.rollback(domain, params.to)
        return _domain(service, index, domain)

    @routes.post("/api/domains/<domain:domain>/reset")
    def reset(domain: str) -> Response:
        keys.source(request)
        index = service.index(from_body(DomainRequest, optional=True).index)
        with index.changing() as domains:
            domains.reset(domain)
        return _domain(service, index, domain)

    @routes.post("/api/domains/<domain:domain>/parent")
    def parent(domain: str) -> Response:
        keys.source(request)
        params = from_body(ParentRequest)
        index = service.index(params.index)
        with index.changing() as domains:
            domains.set_parent(domain, params.parent)
        current = index.domains.store.record(domain).current
        if current is not None and current.state is not None:
            service.worker.adapt(index.name, domain)
        return _domain(service, index, domain)

    @routes.get("/api/domains/<domain:domain>/state")
    def export_state(domain: str) -> Response:
        keys.source(request)
        index = service.index(from_query_string(DomainRequest).index)
        content = index.domains.history.export_state(domain)
        headers = {"Content-Disposition": 'attachment; filename="domain.safetensors"'}
        return Response(content, mimetype="application/octet-stream", headers=headers)

    @routes.put("/api/domains/<domain:domain>/state")
    def import_state(domain: str) -> Response:
        keys.source(request)
        index = service.index(from_query_string(DomainRequest).index)
        body = read_body()
        with index.changing() as domains:
            domains.import_state(domain, body)
        return _domain(service, index, domain)

    return routes


def adapt_domain(service: SearchService, index: ServedIndex, domain: str, *, wait: bool) -> bool:
    """Adapt a domain to its labels, if it exists; return whether that has ended. wait: until the server's deadline."""
    with index.changing() as domains:
        if not domains.exists(domain):
            return True
        future = service.worker.adapt(index.name, domain)
        if not wait:
            return False
        try:
            future.result(timeout=service.limits.deadline_s)
        except NotReady:
            return False
    return True


def domain_model(service: SearchService, index: ServedIndex, status: DomainStatus) -> DomainModel:
    """Return a domain as a response model."""
    domain = status.record.domain
    return DomainModel(
        index=index.name,
        domain=domain,
        parent=status.record.parent,
        adaptation=adaptation_model(index.engine.adapter.for_domain(domain)),
        labels=status.labels,
        clicks=status.clicks,
        pending=status.pending,
        adapting=service.worker.busy(index.name, domain),
        kept_queries=status.kept.count,
        kept_since=status.kept.oldest,
    )


def _domain(service: SearchService, index: ServedIndex, domain: str, code: int = 200) -> Response:
    status = index.domains.status(domain)
    history = tuple(
        VersionModel(
            **version.model_dump(exclude={"state", "last_entry"}),
            restorable=version.state is not None or version.learner == "none",
        )
        for version in reversed(status.record.versions)
    )
    return answer(DomainResponse(**domain_model(service, index, status).model_dump(), history=history), code)
