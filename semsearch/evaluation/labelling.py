"""Users of a served search, who label or click its first results, instead of all judgments of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np

from semsearch.adapters.weights import Weights
from semsearch.domains.judgments import JudgedQuery, judged_queries
from semsearch.domains.position_bias import PRIOR_EXPONENT, PositionBias, estimate_bias
from semsearch.evaluation.dataset_index import DOMAIN, DatasetIndex, document_id
from semsearch.metalearn.episodes import Dataset
from semsearch.types import Click, Label, Mask, Rows

RESULTS = 10
"""Results that a user is shown."""
FIRST_AT = datetime(2000, 1, 1, tzinfo=UTC)
"""When the first query is judged; the others follow, one a second."""


class LabelSource(StrEnum):
    """What is known of a labelled query."""

    ALL = "all"
    """All judgments of the data set."""
    FIRST_RESULTS = "first-results"
    """Whether each of the first ten results is relevant; a query without a relevant one among them has negatives
    only."""
    CLICKS = "clicks"
    """At most one click: a user examines the result at rank r with probability 1/r, as the prior of the position bias
    has it, and clicks the first examined one that is relevant."""


Entries = list[Label | Click]


def collect_entries(
    index: DatasetIndex, name: str, weights: Weights, queries: Rows, source: LabelSource, seed: int
) -> list[Entries]:
    """Serve a search to users who judge its first results, one query after another.

    The domain is adapted again after 1, 2, 4, 8, … queries, and later users see the results of the adapted search.

    name: one of SEARCHES. queries: (n,) rows, in the order of the searches. source: not `all`. seed: of what users
    examine.

    Returns the labels or clicks of each query, n lists. Those of the first m queries do not depend on later ones.
    """
    probabilities = np.arange(1, RESULTS + 1) ** -PRIOR_EXPONENT
    examined = np.random.default_rng([seed, 3]).random((len(queries), RESULTS)) < probabilities
    entries: list[Entries] = []
    state = None
    while len(entries) < len(queries):
        if entries:
            state = index.adapt(name, weights, merge_entries(entries)).state
        # as many as were judged before, so that their number doubles
        served = queries[len(entries) : max(1, 2 * len(entries))]
        for row, shown in zip(served.tolist(), index.search(name, served, state, k=RESULTS), strict=True):
            at = FIRST_AT + timedelta(seconds=len(entries))
            if source is LabelSource.CLICKS:
                entries.append([_click(index.dataset, row, shown.tolist(), examined[len(entries)], at)])
            else:
                entries.append(_labels(index.dataset, row, shown.tolist(), at))
    return entries


def merge_entries(entries: Sequence[Entries]) -> list[JudgedQuery]:
    """Merge labels and clicks as a served domain does."""
    labels = [entry for each in entries for entry in each if isinstance(entry, Label)]
    clicks = [entry for each in entries for entry in each if isinstance(entry, Click)]
    return judged_queries(labels, clicks, estimate_bias(clicks) if clicks else PositionBias())


def _labels(dataset: Dataset, row: int, shown: Sequence[int], at: datetime) -> Entries:
    """Label all documents that a query shows. row: the query's. shown: rows of the documents, best first."""
    query, judged = dataset.texts.queries[row], dataset.texts.judgments[row]
    return [
        Label("", DOMAIN, query, document_id(document), judged.get(document, 0.0), user="", source="", at=at)
        for document in shown
    ]


def _click(dataset: Dataset, row: int, shown: Sequence[int], examined: Mask, at: datetime) -> Click:
    """Click the first relevant document that is examined, or none. examined: (RESULTS,) bool, by rank."""
    query, judged = dataset.texts.queries[row], dataset.texts.judgments[row]
    doc_ids = tuple(document_id(document) for document in shown)
    for position, document in enumerate(shown, start=1):
        if document in judged and examined[position - 1]:
            return Click("", DOMAIN, query, document_id(document), position, doc_ids, user="", source="", at=at)
    return Click("", DOMAIN, query, None, None, doc_ids, user="", source="", at=at)
