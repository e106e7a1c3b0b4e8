"""What was said about each query, by labels and by clicks, taken together. Does not depend on vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from semsearch.adapters.ndcg import ndcg
from semsearch.domains.position_bias import PositionBias, click_relevance
from semsearch.types import Click, Label


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """What somebody asked, and which documents answer it."""

    text: str
    relevance: Mapping[str, float]
    """Document id → gain > 0."""
    negatives: frozenset[str] = field(default=frozenset())
    """Documents that were judged not to answer it."""
    partially_judged: bool = False
    """Whether only some documents were judged, so that of the others nobody knows."""


MAX_QUERIES = 512
"""Judged queries that a domain is adapted to at most: time and memory grow with them."""


def judged_queries(labels: Sequence[Label], clicks: Sequence[Click], bias: PositionBias) -> list[JudgedQuery]:
    """One for each query that anything was said about, in the order of their texts.

    Of more than MAX_QUERIES queries those that were spoken of last are taken. Of labels of one document under one
    query each user's last counts, and users' are averaged; where there is a label, clicks do not count. Labels without
    a query are left out.
    """
    said: defaultdict[str, defaultdict[str, dict[tuple[str, str], float]]] = defaultdict(lambda: defaultdict(dict))
    for label in labels:
        if label.query.strip():
            said[label.query.strip()][label.document][label.source, label.user] = label.relevance
    found: dict[str, dict[str, float]] = {
        query.strip(): dict(rates) for query, rates in click_relevance(clicks, bias).items() if query.strip()
    }
    clicked = set(found)
    for query, documents in said.items():
        found.setdefault(query, {}).update({document: fmean(users.values()) for document, users in documents.items()})
    entries: list[Label | Click] = [*labels, *clicks]
    answered = [entry for entry in entries if entry.document is not None and entry.query.strip()]
    kept = _last_spoken_of(sorted(answered, key=lambda entry: entry.at))
    return [
        JudgedQuery(
            query,
            {document: gain for document, gain in sorted(documents.items()) if gain > 0},
            frozenset(document for document, gain in documents.items() if gain <= 0),
            # whoever names wrong answers, or clicks, saw a list and no more
            partially_judged=query in clicked or any(gain <= 0 for gain in documents.values()),
        )
        for query, documents in sorted(found.items())
        if documents and query in kept
    ]


def _last_spoken_of(entries: Sequence[Label | Click]) -> set[str]:
    """The MAX_QUERIES queries that stand last."""
    kept: dict[str, None] = {}
    for entry in reversed(entries):
        if len(kept) == MAX_QUERIES:
            break
        kept.setdefault(entry.query.strip())
    return set(kept)


def ranking_ndcg(doc_ids: Sequence[str], query: JudgedQuery) -> float:
    """nDCG@10 of document ids, best first, by a query's judgments."""
    return float(ndcg([query.relevance.get(doc_id, 0.0) for doc_id in doc_ids], list(query.relevance.values())))
