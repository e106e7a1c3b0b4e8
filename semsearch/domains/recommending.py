"""Documents for somebody who asked nothing, from what they liked before. Does not depend on how that was told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semsearch.search.engine import SearchEngine
from semsearch.types import Hit, Rows, Scores, Vectors, unit_rows

SHARPNESS = 8.0
"""How much more a near liked document counts than a far one; chosen on MovieLens, see docs/feedback.md."""
MAX_LIKED = 200
"""The last liked documents that count."""
NEIGHBOURS = 100
"""Passages near each liked document that are considered."""
CONSIDERED = 100
"""Documents among which diversity chooses."""


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Recommended documents, best first."""

    hits: list[Hit]
    """Their score is the similarity to the nearest liked document."""
    similar_to: list[tuple[str, ...]]
    """For each, the liked documents nearest to it, at most two."""
    liked: int
    """Liked documents that were judged by."""


def recommend(
    engine: SearchEngine,
    liked: Sequence[str],
    *,
    seen: Collection[str],
    others: Mapping[str, int],
    k: int,
    diversity: float,
) -> Recommendations | None:
    """At most k documents that are not among the `seen`; None where no liked document is in the index.

    liked: ids, the last one liked last. others: id → how many other people liked it.

    A document scores log Σ exp(β cos) over the liked documents, vectors taken from the corpus's mean, plus
    log(1 + others): the density of what one likes, times how often it is liked at all. diversity in [0, 1]: maximal
    marginal relevance (Carbonell and Goldstein 1998, doi:10.1145/290941.291025) with λ = 1 − diversity.
    """
    corpus, mean = engine.corpus, engine.adapter.basis.mean
    centres = {one: corpus.passage_rows(one) for one in list(dict.fromkeys(liked))[-MAX_LIKED:]}
    centres = {one: rows for one, rows in centres.items() if len(rows)}
    if not centres:
        return None
    names = list(centres)
    plain = unit_rows(np.stack([corpus.vectors(rows).mean(axis=0) for rows in centres.values()]))
    rows = _candidates(engine, plain, seen, others)
    if not len(rows):
        return Recommendations([], [], len(centres))
    vectors = corpus.vectors(rows)
    near = unit_rows(vectors - mean) @ unit_rows(plain - mean).T
    liking = np.array([others.get(one, 0) for one in corpus.doc_ids(rows)], np.float32)
    scores = np.log(np.exp(SHARPNESS * near).sum(axis=1)) + np.log1p(liking)
    best = _one_of_each(scores, corpus.document_of[rows])[:CONSIDERED]
    chosen = best[_diverse(vectors[best], scores[best], k, diversity)]
    similar = vectors[chosen] @ plain.T
    because = [tuple(names[place] for place in np.argsort(-one, kind="stable")[:2]) for one in similar]
    best_rows = list(zip(rows[chosen].tolist(), similar.max(axis=1).tolist(), strict=True))
    return Recommendations(corpus.hits(best_rows), because, len(centres))


def _candidates(engine: SearchEngine, plain: Vectors, seen: Collection[str], others: Mapping[str, int]) -> Rows:
    """(n,) passages near a liked document, or of what many others like, without those of what was seen."""
    _, near = engine.corpus.search_vectors(plain, min(NEIGHBOURS, engine.corpus.passages), exact=True)
    popular = sorted(others, key=lambda one: (-others[one], one))[:NEIGHBOURS]
    wanted = [near.ravel(), *(engine.corpus.passage_rows(one) for one in popular)]
    rows = np.unique(np.concatenate(wanted))
    known = [engine.corpus.passage_rows(one) for one in seen]
    return np.setdiff1d(rows[rows >= 0], np.concatenate(known) if known else np.empty(0, np.int64))


def _one_of_each(scores: Scores, documents: Rows) -> Rows:
    """Places of each document's best passage, best first."""
    order = np.argsort(-scores, kind="stable")
    _, first = np.unique(documents[order], return_index=True)
    places: Rows = order[np.sort(first)]
    return places


def _diverse(vectors: Vectors, scores: Scores, k: int, diversity: float) -> list[int]:
    """Places of k rows, best first: each the best of λ · score − (1 − λ) · similarity to what stands before it."""
    spread = max(float(scores.max() - scores.min()), 1e-9)
    relevance = (1 - diversity) * (scores - scores.min()) / spread
    similar = np.zeros(len(scores), np.float32)
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        value = relevance - diversity * similar
        value[chosen] = -np.inf
        chosen.append(int(np.argmax(value)))
        similar = np.maximum(similar, vectors @ vectors[chosen[-1]])
    return chosen
