"""Merges the labels and clicks of a domain into judged queries. Does not depend on vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TypeVar

from semsearch.adapters.ndcg import ndcg
from semsearch.domains.position_bias import PositionBias, click_relevance
from semsearch.storage.entries import as_utc
from semsearch.types import Click, Label

Entry = TypeVar("Entry", Label, Click, Label | Click)


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query, and the documents that were judged for it."""

    text: str
    relevance: Mapping[str, float]
    """Document id → relevance > 0."""
    negatives: frozenset[str] = field(default=frozenset())
    """Ids of the documents that were judged not relevant."""
    partially_judged: bool = False
    """Whether the relevance of all other documents is unknown; otherwise they are not relevant."""


MAX_QUERIES = 512
"""Maximum number of judged queries that a domain is adapted to: time and memory grow with it."""


def judged_queries(labels: Sequence[Label], clicks: Sequence[Click], bias: PositionBias) -> list[JudgedQuery]:
    """Merge labels and clicks into one judged query per query text, sorted by text.

    Labels are merged as in `label_relevance`. Clicks count for documents that have no label for the query. If there are
    more than MAX_QUERIES queries, those with the most recent labels and clicks are returned.
    """
    clicks = [replace(click, query=click.query.strip()) for click in clicks if click.query.strip()]
    relevance: dict[str, dict[str, float]] = {
        query: dict(rates) for query, rates in click_relevance(clicks, bias).items()
    }
    clicked = set(relevance)
    for query, documents in label_relevance(labels).items():
        relevance.setdefault(query, {}).update(documents)
    recent = _recent_queries([*labels, *clicks])
    return [
        JudgedQuery(
            query,
            {document: value for document, value in sorted(documents.items()) if value > 0},
            frozenset(document for document, value in documents.items() if value <= 0),
            # a user who marks irrelevant results, or clicks, saw the first results only
            partially_judged=query in clicked or any(value <= 0 for value in documents.values()),
        )
        for query, documents in sorted(relevance.items())
        if documents and query in recent
    ]


def label_relevance(labels: Sequence[Label]) -> dict[str, dict[str, float]]:
    """Return query → document → relevance, merged over time and over annotators.

    An annotator is a user of a source. Of the labels that an annotator gave a document for a query, the latest counts;
    of those with the same time, the last one in `labels`. The relevance is the median over annotators: what the
    majority says, for grades as well. For an even number it is the mean of the two in the middle, so that one vote
    against one is half relevant. Labels without a query are ignored.
    """
    latest: defaultdict[str, defaultdict[str, dict[tuple[str, str], float]]] = defaultdict(lambda: defaultdict(dict))
    for label in by_time(labels):
        if label.query.strip():
            latest[label.query.strip()][label.document][label.source, label.user] = label.relevance
    return {
        query: {document: median(by_annotator.values()) for document, by_annotator in documents.items()}
        for query, documents in latest.items()
    }


def by_time(entries: Iterable[Entry]) -> list[Entry]:
    """Return labels or clicks in the order of their times; those of the same time keep their order."""
    return sorted(entries, key=lambda entry: as_utc(entry.at))


def _recent_queries(entries: Sequence[Label | Click]) -> set[str]:
    """Return the at most MAX_QUERIES queries that were labelled or clicked last."""
    judging = by_time(entry for entry in entries if entry.document is not None and entry.query.strip())
    recent: dict[str, None] = {}
    for entry in reversed(judging):
        if len(recent) == MAX_QUERIES:
            break
        recent.setdefault(entry.query.strip())
    return set(recent)


def ranking_ndcg(doc_ids: Sequence[str], query: JudgedQuery) -> float:
    """Return nDCG@10 of document ids, best first, by a query's judgments."""
    return float(ndcg([query.relevance.get(doc_id, 0.0) for doc_id in doc_ids], list(query.relevance.values())))
