"""The JSON endpoint's domains: what they learned, having them learn, undoing it."""

from __future__ import annotations

from concurrent.futures import TimeoutError as NotReady

from flask import Blueprint, Response, request

from semsearch.domains.registry import Standing
from semsearch.server.api.search import adapted
from semsearch.server.http import answer, from_address, from_body
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


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The routes of one service; each wants a key where there are keys: names of domains are nobody else's business."""
    routes = Blueprint("domains", __name__)

    @routes.get("/api/domains")
    def list_domains() -> Response:
        keys.source(request)
        name, domains = service.domains_of(from_address(DomainRequest).index)
        listed = tuple(described(service, name, standing) for standing in domains.all_standing())
        return answer(DomainsResponse(index=name, domains=listed))

    @routes.get("/api/domains/<path:domain>")
    def one_domain(domain: str) -> Response:
        keys.source(request)
        return _domain(service, from_address(DomainRequest).index, domain)

    @routes.post("/api/domains/<path:domain>/adapt")
    def adapt(domain: str) -> Response:
        keys.source(request)
        asked = from_body(AdaptRequest, optional=True)
        name, domains = service.domains_of(asked.index)
        domains.store.check_name(domain)
        future = service.worker.adapt(name, domain)
        if asked.wait:
            try:
                future.result(timeout=service.limits.deadline_s)
            except NotReady:
                return _domain(service, name, domain, 202)
        return _domain(service, name, domain, 200 if asked.wait else 202)

    @routes.post("/api/domains/<path:domain>/rollback")
    def rollback(domain: str) -> Response:
        keys.source(request)
        asked = from_body(RollbackRequest, optional=True)
        service.domains_of(asked.index)[1].rollback(domain, asked.to)
        return _domain(service, asked.index, domain)

    @routes.post("/api/domains/<path:domain>/reset")
    def reset(domain: str) -> Response:
        keys.source(request)
        asked = from_body(DomainRequest, optional=True)
        service.domains_of(asked.index)[1].reset(domain)
        return _domain(service, asked.index, domain)

    @routes.post("/api/domains/<path:domain>/parent")
    def parent(domain: str) -> Response:
        keys.source(request)
        asked = from_body(ParentRequest)
        name, domains = service.domains_of(asked.index)
        domains.set_parent(domain, asked.parent)
        current = domains.store.record(domain).current
        if current is not None and current.state is not None:
            service.worker.adapt(name, domain)
        return _domain(service, name, domain)

    @routes.get("/api/domains/<path:domain>/state")
    def export_state(domain: str) -> Response:
        keys.source(request)
        _, domains = service.domains_of(from_address(DomainRequest).index)
        content = domains.history.export_state(domain)
        headers = {"Content-Disposition": 'attachment; filename="domain.safetensors"'}
        return Response(content, mimetype="application/octet-stream", headers=headers)

    @routes.put("/api/domains/<path:domain>/state")
    def import_state(domain: str) -> Response:
        keys.source(request)
        asked = from_address(DomainRequest)
        service.domains_of(asked.index)[1].import_state(domain, request.get_data())
        return _domain(service, asked.index, domain)

    return routes


def described(service: SearchService, index: str, standing: Standing) -> DomainModel:
    """A domain as a caller sees it."""
    domain = standing.record.domain
    return DomainModel(
        index=index,
        domain=domain,
        parent=standing.record.parent,
        adapted=adapted(service.engines[index].adapter.serving(domain)),
        labels=standing.labels,
        clicks=standing.clicks,
        waiting=standing.waiting,
        adapting=service.worker.busy(index, domain),
    )


def _domain(service: SearchService, index: str | None, domain: str, status: int = 200) -> Response:
    name, domains = service.domains_of(index)
    standing = domains.standing(domain)
    history = tuple(
        VersionModel(
            **one.model_dump(exclude={"state", "through"}), kept=one.state is not None or one.learner == "none"
        )
        for one in reversed(standing.record.versions)
    )
    return answer(DomainResponse(**described(service, name, standing).model_dump(), history=history), status)
