"""Counts the values of metadata fields over the documents that a query ranks. Does not depend on HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from semsearch.filters.tree import without_field
from semsearch.filters.values import TypedValue
from semsearch.search.ranking import FUSION_DEPTH, KEYWORD_DEPTH, DenseResult, rank_lexical, search_documents
from semsearch.storage.corpus import Corpus
from semsearch.types import Mode, Query, Rows

FACET_DEPTH = 10_000
"""Documents that facets of keyword search are counted over at most: of frequent words, ranking all would take seconds
among millions."""


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of one field."""

    counts: Mapping[TypedValue, int]
    """Number of documents by value."""
    documents: int
    """Number of documents that were counted."""


def count_facets(
    query: Query,
    fields: Sequence[str],
    dense: DenseResult | None,
    mode: Mode,
    corpus: Corpus,
    *,
    ef_search: int | None = None,
) -> dict[str, Facet]:
    """Count each field's values over the documents that match the query.

    Keyword search counts the FACET_DEPTH best documents that it matches; semantic search the FUSION_DEPTH nearest ones;
    hybrid search those, and the documents of the KEYWORD_DEPTH best passages of keyword search. A field's own
    conditions in the filter are left out, so that its other values can be chosen.

    dense: the result of vector search; None for keyword search. mode: the mode of the search that was done. ef_search:
    as in `Corpus.search_vectors`.
    """
    facets: dict[str, Facet] = {}
    by_filter: dict[object, Rows] = {}
    for field in fields:
        query_filter = without_field(query.filter, field)
        if query_filter not in by_filter:
            by_filter[query_filter] = _matching(replace(query, filter=query_filter), dense, mode, corpus, ef_search)
        documents = by_filter[query_filter]
        facets[field] = Facet(corpus.facet_counts(field, documents), len(documents))
    return facets


def _matching(query: Query, dense: DenseResult | None, mode: Mode, corpus: Corpus, ef_search: int | None) -> Rows:
    """The (n,) rows, ascending, of the documents to count."""
    allowed = corpus.allowed_rows(query.filter)
    if dense is None or mode is Mode.KEYWORD:
        best = rank_lexical(query.text, FACET_DEPTH, corpus, allowed).passages[:FACET_DEPTH]
        return np.sort(corpus.document_of[best])
    [(nearest, _)] = search_documents(dense.vector[np.newaxis], [FUSION_DEPTH], corpus, allowed, ef_search=ef_search)
    if mode is Mode.SEMANTIC:
        return np.unique(corpus.document_of[nearest])
    keyword_rows, _ = corpus.search_keywords(query.text, KEYWORD_DEPTH, allowed=allowed)
    return np.unique(corpus.document_of[np.concatenate((nearest, keyword_rows))])
