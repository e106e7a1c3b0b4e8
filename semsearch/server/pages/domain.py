"""The page about a domain's adaptation: what to mark next, versions, annotators, labels, gains, estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from flask import Blueprint, Response, request
from pydantic import JsonValue

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import DomainState
from semsearch.domains.registry import DomainRegistry
from semsearch.domains.suggesting import SuggestedQuery
from semsearch.errors import SemsearchError
from semsearch.search.engine import SearchEngine
from semsearch.server.i18n import texts
from semsearch.server.pages.explain_adaptation import explain_adaptation, explain_verdict
from semsearch.server.pages.rendering import TargetParameters, html
from semsearch.server.pages.teaching import taught
from semsearch.server.runtime.batching import AbandonedError
from semsearch.server.runtime.service import SearchService
from semsearch.server.security import WriteKeys
from semsearch.storage.domains import Version
from semsearch.storage.labels import EntryFilter
from semsearch.types import Label, Vectors, unit_rows

log = structlog.get_logger("semsearch.server")

MAX_LABELS = 30
"""Labels listed on the page."""
MAX_SUGGESTED = 5
"""Queries to mark next."""
MAX_ESTIMATES = 40
"""Versions in the chart of the guard's estimates."""
MAX_AXIS_RANGES = 32
"""Ranges of axes in the chart of spectral gains."""


@dataclass(frozen=True, slots=True)
class GuardEstimate:
    """What the guard measured for one version, as nDCG@10 in [0, 1] on held-out labels."""

    version: int
    labels: int
    """Labelled queries."""
    before: float
    """Without adaptation."""
    after: float
    """Expected with the candidate that the guard chose, adopted or not."""
    low: float
    """Lower end of the central 95% interval of `after`."""
    high: float
    """Upper end of that interval."""
    adopted: bool


@dataclass(frozen=True, slots=True)
class SpectralGain:
    """The gain of a range of the corpus's axes."""

    first: int
    """Number of the first axis, from 1; axis 1 has the largest variance."""
    last: int
    """Number of the last axis, inclusive."""
    variance_share: float
    """Share of the corpus's variance, in [0, 1]."""
    value: float
    """How much the range counts in a query vector, relative to the frozen one; 1 is unchanged."""


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The route `/learned`. It requires a write key if there are any, because labels contain other users' queries."""
    routes = Blueprint("domain_page", __name__)

    @routes.get("/learned")
    def domain() -> Response:
        keys.source(request)
        params = TargetParameters.of_request()
        index = service.index(params.index)
        log, engine = index.domains.log, index.engine
        status = index.domains.status(params.domain)
        versions = status.record.versions
        domain_adapter = engine.adapter.for_domain(params.domain)
        labels = log.labels(EntryFilter(domain=params.domain), limit=MAX_LABELS, newest=True)
        return html(
            "domain.html",
            params=params,
            name=index.name,
            status=status,
            domain_adapter=domain_adapter,
            explanation=explain_adaptation(texts(), domain_adapter, params.domain),
            taught=taught(),
            versions=[(version, explain_verdict(texts(), version.verdict)) for version in reversed(versions)],
            restorable={
                version.number for version in versions if version.state is not None or version.learner == "none"
            },
            annotators=log.annotators(params.domain),
            suggested=_suggested(index.domains, params.domain),
            labels=_with_titles(engine, [label for _, label in labels]),
            estimates=_guard_estimates(versions),
            spectral_gains=_spectral_gains(engine.adapter, domain_adapter, params.domain),
        )

    return routes


def _suggested(domains: DomainRegistry, domain: str) -> Sequence[SuggestedQuery]:
    """Queries to mark next; none if they cannot be computed now, because the page has other content."""
    try:
        return domains.suggest(domain, MAX_SUGGESTED, results=1).queries
    except (SemsearchError, AbandonedError) as error:
        log.warning("nothing is suggested", error=str(error))
        return ()


def _with_titles(engine: SearchEngine, labels: Sequence[Label]) -> list[tuple[Label, str]]:
    """Pair each label with its document's title, or with the document's id if it has no title or was deleted."""
    titles: dict[str, str] = {}
    for label in labels:
        if label.document not in titles:
            document = engine.document(label.document)
            titles[label.document] = (document.title if document is not None else "") or label.document
    return [(label, titles[label.document]) for label in labels]


def _guard_estimates(versions: Sequence[Version]) -> list[GuardEstimate]:
    """The guard's estimates, oldest first, for the last versions that have one."""
    estimates = []
    for version in versions:
        verdict = version.verdict
        before, change, interval = (verdict.get(name) for name in ("before", "estimate", "interval"))
        bounds = interval if isinstance(interval, list) else [None]
        if isinstance(before, float) and isinstance(change, float) and all(isinstance(b, float) for b in bounds):
            low, high = (_clipped_sum(before, bound) for bound in bounds)
            after, adopted = _clipped_sum(before, change), bool(verdict.get("adapted"))
            estimates.append(GuardEstimate(version.number, version.labels, before, after, low, high, adopted))
    return estimates[-MAX_ESTIMATES:]


def _clipped_sum(ndcg: float, change: JsonValue) -> float:
    """nDCG after a change, clipped to [0, 1]."""
    assert isinstance(change, float)
    return min(max(ndcg + change, 0.0), 1.0)


def _spectral_gains(adapter: Adapter, domain_adapter: DomainAdapter, domain: str) -> list[SpectralGain] | None:
    """Gains of consecutive ranges of axes, largest variance first.

    A state without gains of its own is measured by what it does to its keys. None if it has no keys either.
    """
    basis, state = adapter.basis, domain_adapter.state
    if state is None or not (state.has_gains or len(state.keys)):
        return None
    before, after = _gain_magnitudes(state) if state.has_gains else _key_magnitudes(adapter, state.keys, domain)
    return _by_range(basis, before, after)


def _gain_magnitudes(state: DomainState) -> tuple[Vectors, Vectors]:
    """Magnitude of each axis without and with the state's spectral gains, relative to their geometric mean."""
    gains = state.spectral_gains
    return np.ones_like(gains), gains / np.exp(np.log(gains).mean())


def _key_magnitudes(adapter: Adapter, keys: Vectors, domain: str) -> tuple[Vectors, Vectors]:
    """Root mean square coordinate on each axis of the state's (n, dim) key vectors, frozen and adapted."""
    frozen = unit_rows(keys)
    adapted = adapter.transform(frozen, [domain] * len(frozen))
    before, after = (np.sqrt(np.square(rows @ adapter.basis.axes).mean(axis=0)) for rows in (frozen, adapted))
    return before, after


def _by_range(basis: SpectralBasis, before: Vectors, after: Vectors) -> list[SpectralGain]:
    """Compare the (dim,) magnitudes by range of axes, as a ratio of norms."""
    shares = basis.eigenvalues / max(float(basis.eigenvalues.sum()), 1e-12)
    gains = []
    for axes in np.array_split(np.arange(len(after)), min(MAX_AXIS_RANGES, len(after))):
        ratio = np.linalg.norm(after[axes]) / max(float(np.linalg.norm(before[axes])), 1e-6)
        gains.append(SpectralGain(int(axes[0]) + 1, int(axes[-1]) + 1, float(shares[axes].sum()), float(ratio)))
    return gains
