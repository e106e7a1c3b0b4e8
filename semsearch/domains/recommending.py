"""Recommends documents to a user from the documents they liked. Does not depend on how likes were collected."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semsearch.search.engine import SearchEngine
from semsearch.types import Hit, Rows, Scores, Vectors, unit_rows

SHARPNESS = 8.0
"""How much more a near liked document counts than a far one; chosen on MovieLens, see docs/feedback.md."""
MAX_LIKED = 200
"""Maximum number of liked documents that are used, the most recent ones."""
NEIGHBOURS = 100
"""Nearest passages of each liked document that are candidates; also the number of popular documents that are."""
RERANKED = 100
"""Documents that are reranked for diversity."""


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Recommended documents, best first."""

    hits: list[Hit]
    """Their score is the cosine similarity to the nearest liked document."""
    similar_to: list[tuple[str, ...]]
    """For each hit, the ids of the liked documents nearest to it, at most two."""
    liked: int
    """Number of liked documents that were used."""


def recommend(
    engine: SearchEngine,
    liked: Sequence[str],
    *,
    seen: Collection[str],
    like_counts: Mapping[str, int],
    k: int,
    diversity: float,
) -> Recommendations | None:
    """Recommend at most k documents that are not among the `seen`; None if no liked document is in the index.

    liked: ids, the most recent last. like_counts: id → number of other users who like it.

    A document scores log Σ exp(SHARPNESS · cos) over the liked documents, in vectors from which the corpus's mean is
    subtracted, plus log(1 + like count). diversity, in [0, 1]: the best are reranked by maximal marginal relevance
    (Carbonell and Goldstein 1998, doi:10.1145/290941.291025) with λ = 1 − diversity.
    """
    corpus, mean = engine.corpus, engine.adapter.basis.mean
    recent = list(dict.fromkeys(liked))[-MAX_LIKED:]
    liked_rows = {doc_id: rows for doc_id in recent if len(rows := corpus.passage_rows(doc_id))}
    if not liked_rows:
        return None
    liked_ids = list(liked_rows)
    liked_vectors = unit_rows(np.stack([corpus.vectors(rows).mean(axis=0) for rows in liked_rows.values()]))
    rows = _candidates(engine, liked_vectors, seen, like_counts)
    if not len(rows):
        return Recommendations([], [], len(liked_ids))
    vectors = corpus.vectors(rows)
    centred_cosine = unit_rows(vectors - mean) @ unit_rows(liked_vectors - mean).T
    popularity = np.array([like_counts.get(doc_id, 0) for doc_id in corpus.doc_ids(rows)], np.float32)
    scores = np.log(np.exp(SHARPNESS * centred_cosine).sum(axis=1)) + np.log1p(popularity)
    best = _best_passages(scores, corpus.document_of[rows])[:RERANKED]
    chosen = best[_rerank(vectors[best], scores[best], k, diversity)]
    cosine = vectors[chosen] @ liked_vectors.T
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :2]
    return Recommendations(
        corpus.hits(list(zip(rows[chosen].tolist(), cosine.max(axis=1).tolist(), strict=True))),
        [tuple(liked_ids[index] for index in row) for row in nearest.tolist()],
        len(liked_ids),
    )


def _candidates(
    engine: SearchEngine, liked_vectors: Vectors, seen: Collection[str], like_counts: Mapping[str, int]
) -> Rows:
    """Return (n,) passages near a liked document and passages of popular documents, without those of seen documents."""
    corpus = engine.corpus
    _, near_rows = corpus.search_vectors(
        liked_vectors, min(NEIGHBOURS, corpus.passages), ef_search=engine.manifest.search.ef_search
    )
    popular = sorted(like_counts, key=lambda doc_id: (-like_counts[doc_id], doc_id))[:NEIGHBOURS]
    rows = np.unique(np.concatenate([near_rows.ravel(), *(corpus.passage_rows(doc_id) for doc_id in popular)]))
    seen_rows = [corpus.passage_rows(doc_id) for doc_id in seen]
    return np.setdiff1d(rows[rows >= 0], np.concatenate(seen_rows) if seen_rows else np.empty(0, np.int64))


def _best_passages(scores: Scores, documents: Rows) -> Rows:
    """Return the index of each document's best passage, best first. scores, documents: (n,), by passage."""
    order = np.argsort(-scores, kind="stable")
    _, first = np.unique(documents[order], return_index=True)
    best: Rows = order[np.sort(first)]
    return best


def _rerank(vectors: Vectors, scores: Scores, k: int, diversity: float) -> list[int]:
    """Return the indices of k rows by maximal marginal relevance, best first. vectors: (n, dim); scores: (n,)."""
    spread = max(float(scores.max() - scores.min()), 1e-9)
    relevance = (1 - diversity) * (scores - scores.min()) / spread
    redundancy = np.zeros(len(scores), np.float32)
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        marginal_relevance = relevance - diversity * redundancy
        marginal_relevance[chosen] = -np.inf
        chosen.append(int(np.argmax(marginal_relevance)))
        redundancy = np.maximum(redundancy, vectors @ vectors[chosen[-1]])
    return chosen
