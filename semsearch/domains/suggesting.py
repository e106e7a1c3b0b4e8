"""Suggests which queries of a domain to label next, and which of their results. Does not depend on a log or on files.

A heuristic, not a learned policy: of queries that are asked as often as each other, it prefers those that are unlike
the labelled ones and those for which the index's own rankings disagree. Popularity leads, because labels help the
queries that are asked, and because coverage or disagreement alone chose no better than chance in experiments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from semsearch.search.engine import SearchEngine
from semsearch.types import Hit, Mode, Query, Scores, Vectors

MAX_SUGGESTED = 50
"""Most queries that are suggested, and results for each."""
DEPTH = 10
"""Ranks of each ranking that are compared, and whose documents may be suggested."""
MIN_UNCERTAINTY = 0.1
"""Uncertainty of a query whose rankings agree."""
MIN_NOVELTY = 0.01
"""A query that is nearer than this to a labelled or suggested one, as 1 − cosine, is the same query."""
SHORTLIST_FACTOR = 4
"""Queries that are searched for each one suggested."""


@dataclass(frozen=True, slots=True)
class SuggestedQuery:
    """A query to label, and results to mark for it."""

    text: str
    times_asked: int
    """Searches that were kept, and clicks."""
    hits: tuple[Hit, ...]
    """Those that the rankings disagree on most come first; the first of each ranking is among them."""


@dataclass(frozen=True, slots=True)
class Suggestions:
    """What to label next."""

    queries: tuple[SuggestedQuery, ...]
    """The most useful one first."""
    reason: str = ""
    """Why there are none, and what to do about it; empty if there are some."""


@dataclass(frozen=True, slots=True)
class _Ranking:
    """The first documents of one ranking."""

    documents: tuple[int, ...]
    """Document rows, best first."""
    passages: Mapping[int, tuple[int, float]]
    """By document row, the row of its best passage and its score."""


def suggest(
    engine: SearchEngine,
    domain: str,
    times_asked: Mapping[str, int],
    vectors: Vectors,
    labelled: Vectors,
    *,
    k: int,
    results: int,
) -> list[SuggestedQuery]:
    """Suggest at most k queries to label, the most useful one first, with at most `results` results each.

    times_asked: by the text of each query without a label, at least 1. vectors: (n, dim) float32, unit rows before
    adaptation, of these queries in the same order. labelled: (m, dim), those of the labelled queries.

    Greedily chooses the query with the largest times asked × (1 − similarity) × uncertainty. The similarity is the
    largest cosine, at least 0, to a labelled or suggested query. The uncertainty is that of `disagreement`, at least
    MIN_UNCERTAINTY; it is computed for the SHORTLIST_FACTOR · k queries with the largest product without it.
    """
    texts, times = list(times_asked), np.array(list(times_asked.values()), np.float32)
    novelty = np.ones(len(texts), np.float32)
    for start in range(0, len(labelled), 512):
        novelty = np.minimum(novelty, _novelty(vectors, labelled[start : start + 512]))
    shortlist = np.argsort(-times * novelty, kind="stable")[: SHORTLIST_FACTOR * k]
    rankings = _rankings(engine, domain, [texts[index] for index in shortlist], vectors[shortlist])
    uncertainty = np.array([disagreement([ranking.documents for ranking in of_query]) for of_query in rankings])
    uncertainty = np.maximum(uncertainty, MIN_UNCERTAINTY)
    times, novelty, vectors = times[shortlist], novelty[shortlist], vectors[shortlist]
    chosen: list[int] = []
    while len(chosen) < k and (novelty >= MIN_NOVELTY).any():
        best = int(np.argmax(np.where(novelty >= MIN_NOVELTY, times * novelty * uncertainty, -1)))
        chosen.append(best)
        novelty = np.minimum(novelty, _novelty(vectors, vectors[[best]]))
        novelty[best] = 0
    return [
        SuggestedQuery(
            texts[shortlist[index]], int(times[index]), tuple(_hits_to_mark(engine, rankings[index], results))
        )
        for index in chosen
    ]


def suggest_results(
    engine: SearchEngine, domain: str, text: str, vector: Vectors, marked: Collection[str], *, results: int
) -> tuple[Hit, ...]:
    """Suggest at most `results` results of one query to mark, in the order of `documents_to_mark`.

    vector: (dim,) of the query, as in `suggest`. marked: ids of the documents that are labelled for it already.
    """
    [rankings] = _rankings(engine, domain, [text], vector[None])
    return tuple(hit for hit in _hits_to_mark(engine, rankings, MAX_SUGGESTED) if hit.id not in marked)[:results]


def disagreement(rankings: Sequence[Sequence[int]]) -> float:
    """Return how much rankings disagree, from 0 to 1: 1 − overlap@DEPTH, the mean over pairs of rankings."""
    pairs = list(combinations([set(ranking[:DEPTH]) for ranking in rankings], 2))
    overlaps = [len(first & second) / max(len(first), len(second), 1) for first, second in pairs]
    return 1 - sum(overlaps) / len(pairs) if any(map(len, rankings)) and pairs else 0.0


def documents_to_mark(rankings: Sequence[Sequence[int]], results: int) -> list[int]:
    """Return at most `results` documents of rankings, those first that the rankings disagree on most.

    The disagreement on a document is the difference of its largest and least reciprocal rank, which is 0 in a ranking
    that does not have it. The first document of each ranking is among those returned, as far as `results` allows.
    """
    reciprocal: dict[int, list[float]] = {}
    for number, ranking in enumerate(rankings):
        for rank, document in enumerate(ranking[:DEPTH], start=1):
            reciprocal.setdefault(document, [0.0] * len(rankings))[number] = 1 / rank
    spread = {document: max(ranks) - min(ranks) for document, ranks in reciprocal.items()}

    def order(document: int) -> tuple[float, float]:
        return -spread[document], -max(reciprocal[document])

    firsts = list(dict.fromkeys(ranking[0] for ranking in rankings if ranking))
    others = sorted((document for document in reciprocal if document not in firsts), key=order)
    return sorted([*firsts, *others][:results], key=order)


def _novelty(vectors: Vectors, others: Vectors) -> Scores:
    """1 − the largest cosine of each of n vectors to others, in [0, 1]; 1 without others."""
    nearest: Scores = (vectors @ others.T).max(axis=1, initial=0.0)
    return np.clip(1 - nearest, 0, 1)


def _rankings(engine: SearchEngine, domain: str, texts: Sequence[str], vectors: Vectors) -> list[list[_Ranking]]:
    """The semantic and the keyword ranking of each query, and the adapted semantic one if the domain is adapted."""
    queries = [Query(text, k=DEPTH, domain=domain, mode=Mode.SEMANTIC, compare=True) for text in texts]
    rankings = []
    for query, dense in zip(queries, engine.search_vectors(queries, vectors), strict=True):
        pages = [engine.rank(query, dense.frozen), engine.rank(replace(query, mode=Mode.KEYWORD), None)]
        if dense.adaptation.state is not None:
            pages.append(engine.rank(query, dense))
        of_query = []
        for page in pages:
            documents = engine.corpus.document_of[page.passages].tolist()
            rows = zip(page.passages.tolist(), page.scores.tolist(), strict=True)
            of_query.append(_Ranking(tuple(documents), dict(zip(documents, rows, strict=True))))
        rankings.append(of_query)
    return rankings


def _hits_to_mark(engine: SearchEngine, rankings: Sequence[_Ranking], results: int) -> list[Hit]:
    passages: dict[int, tuple[int, float]] = {}
    for ranking in reversed(rankings):
        passages.update(ranking.passages)
    documents = documents_to_mark([ranking.documents for ranking in rankings], results)
    return engine.corpus.hits([passages[document] for document in documents])
