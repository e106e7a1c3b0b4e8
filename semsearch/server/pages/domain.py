"""What a domain learned, as a page: its marks, its versions, who taught it, its gains and what the guard measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flask import Blueprint, Response, request
from pydantic import JsonValue

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.search.engine import SearchEngine
from semsearch.server.i18n import texts
from semsearch.server.pages.explain_adaptation import of, sentence
from semsearch.server.pages.rendering import TargetParameters, html
from semsearch.server.runtime.service import SearchService
from semsearch.server.security import WriteKeys
from semsearch.storage.domains import Version
from semsearch.storage.labels import EntryFilter
from semsearch.types import Label, unit_rows

MOST_MARKS = 30
MOST_VERSIONS = 40
"""In the chart."""
AXES_TOGETHER = 32
"""Stretches of axes whose gains are told in numbers."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a version's guard measured."""

    number: int
    labels: int
    before: float
    """nDCG@10 on labels that were held out, without adaptation."""
    after: float
    """The same, expected with what the guard chose, or would have chosen."""
    low: float
    high: float
    """Of the central 95% interval of `after`."""
    taken: bool


def blueprint(service: SearchService, keys: WriteKeys) -> Blueprint:
    """The route of one service; it wants a key where there are keys: queries are nobody else's business."""
    routes = Blueprint("learned", __name__)

    @routes.get("/learned")
    def learned() -> Response:
        keys.source(request)
        asked = TargetParameters.of_request()
        index = service.index(asked.index)
        name, domains, engine = index.name, index.domains, index.engine
        standing = domains.status(asked.domain)
        serving = engine.adapter.for_domain(asked.domain)
        marks = domains.log.labels(EntryFilter(domain=asked.domain), limit=MOST_MARKS, newest=True)
        return html(
            "learned.html",
            asked=asked,
            name=name,
            standing=standing,
            serving=serving,
            verdict=sentence(texts(), serving, asked.domain),
            versions=[(one, of(texts(), one.verdict)) for one in reversed(standing.record.versions)],
            kept={one.number for one in standing.record.versions if one.state is not None or one.learner == "none"},
            teachers=domains.log.annotators(asked.domain),
            marks=_titled(engine, [label for _, label in marks]),
            expected=_expected(standing.record.versions),
            gains=_gains(engine.adapter, serving, asked.domain),
        )

    return routes


def _titled(engine: SearchEngine, labels: Sequence[Label]) -> list[tuple[Label, str]]:
    """Each label with its document's title, or its id where that has left the index."""
    titles: dict[str, str] = {}
    for label in labels:
        if label.document not in titles:
            found = engine.document(label.document)
            titles[label.document] = (found.title if found is not None else "") or label.document
    return [(label, titles[label.document]) for label in labels]


def _expected(versions: Sequence[Version]) -> list[Expected]:
    """What was measured, by version, of the last versions that were."""
    found = []
    for one in versions:
        verdict = one.verdict
        before, estimate, interval = (verdict.get(name) for name in ("before", "estimate", "interval"))
        bounds = interval if isinstance(interval, list) else [None]
        if isinstance(before, float) and isinstance(estimate, float) and all(isinstance(b, float) for b in bounds):
            low, high = (_within(before, bound) for bound in bounds)
            after, taken = _within(before, estimate), bool(verdict.get("adapted"))
            found.append(Expected(one.number, one.labels, before, after, low, high, taken))
    return found[-MOST_VERSIONS:]


def _within(before: float, change: JsonValue) -> float:
    """The measure after a change; it is never below 0 or above 1."""
    assert isinstance(change, float)
    return min(max(before + change, 0.0), 1.0)


def _gains(adapter: Adapter, serving: DomainAdapter, domain: str) -> list[tuple[int, int, float, float]] | None:
    """By stretch of axes, from those that vary most: the first and the last one, from 1, their share of the corpus's
    variance, and how much they count in a query: the state's gains, relative to their geometric mean, or, where those
    change nothing, what adaptation does to the queries that the state remembers. None where it remembers none."""
    basis, state = adapter.basis, serving.state
    if state is None or not (state.has_gains or len(state.keys)):
        return None
    if state.has_gains:
        before = np.ones_like(state.spectral_gains)
        after = state.spectral_gains / np.exp(np.log(state.spectral_gains).mean())
    else:
        frozen = unit_rows(state.keys)
        adapted = adapter.transform(frozen, [domain] * len(frozen))
        before, after = (np.sqrt(np.square(rows @ basis.axes).mean(axis=0)) for rows in (frozen, adapted))
    shares = basis.eigenvalues / max(float(basis.eigenvalues.sum()), 1e-12)
    stretches = []
    for part in np.array_split(np.arange(len(after)), min(AXES_TOGETHER, len(after))):
        gain = np.linalg.norm(after[part]) / max(float(np.linalg.norm(before[part])), 1e-6)
        stretches.append((int(part[0]) + 1, int(part[-1]) + 1, float(shares[part].sum()), float(gain)))
    return stretches
