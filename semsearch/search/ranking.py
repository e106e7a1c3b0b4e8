"""Ranking of documents by dense and lexical scores, as rows. Reads texts only to collapse near-duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from semsearch.adapters.adapter import DomainAdapter
from semsearch.encoders.token_vectors import QueryTokens, late_interaction
from semsearch.search.fusion import fuse
from semsearch.storage.approximate import EXACT_FROM
from semsearch.storage.corpus import PROXIMITY_DEPTH, AllowedRows, Corpus
from semsearch.storage.vectors import SCORE_DECIMALS
from semsearch.text.duplicates import collapse_duplicates
from semsearch.text.normalization import remove_invisible
from semsearch.types import LexicalWeight, Mode, Rows, ScoreBreakdown, Scores, Vectors

FUSION_DEPTH = 100
"""Nearest documents that are fused with keyword results. Documents further down follow in the order of similarity, so
that later pages never change earlier ones."""
TOKEN_DEPTH = 20
"""Best fused passages that are compared token by token; more of them improve little."""
KEYWORD_DEPTH = PROXIMITY_DEPTH
"""Number of passages that keyword search contributes to the fusion."""
_NO_ROWS: Rows = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class BatchTimes:
    """Seconds that each stage took for a whole batch."""

    encode: float
    adapt: float
    search_vectors: float


@dataclass(frozen=True, slots=True, eq=False)
class VotedDocuments:
    """The documents that answered labelled queries similar to one query."""

    documents: Rows
    """(n,) document rows, ascending."""
    boosts: Scores
    """(n,) float32 > 0, cosines that are added to the scores of their passages."""
    passages: Rows
    """(p,) the passages of these documents that are ranked whether a search finds them or not."""

    def of(self, documents: Rows) -> Scores:
        """Return what the passages of each of m document rows gain, (m,) ≥ 0."""
        if not len(self.documents):
            return np.zeros(len(documents), np.float32)
        indices = np.minimum(np.searchsorted(self.documents, documents), len(self.documents) - 1)
        return np.where(self.documents[indices] == documents, self.boosts[indices], np.float32(0))


@dataclass(frozen=True, slots=True, eq=False)
class DenseResult:
    """The documents whose vectors are nearest to one query."""

    vector: Vectors
    """(dim,) float32, the query vector after adaptation."""
    encoded: Vectors
    """(dim,) float32, the query vector as the encoder returned it, before adaptation."""
    passages: Rows
    """(n,) the best passage of each document, best first."""
    scores: Scores
    """(n,) their cosine similarities."""
    times: BatchTimes
    """The times of the batch that this query was part of."""
    adaptation: DomainAdapter
    """The adapter of the query; its reason tells why, if it was not adapted."""
    tokens: QueryTokens | None = None
    """The query's token vectors; None in an index without them."""
    votes: VotedDocuments | None = None
    """What the answers of similar labelled queries gain; None if the domain's state has no votes."""
    frozen: DenseResult | None = None
    """The result of the same query without adaptation; None unless the query asks for the comparison."""


@dataclass(frozen=True, slots=True, eq=False)
class ResultPage:
    """One page of ranked documents for one query, as rows that are still to be fetched."""

    passages: Rows
    """(n,) the best passage of each document, n ≤ k, best first."""
    scores: Scores
    """(n,) the scores they are ranked by."""
    breakdowns: Sequence[ScoreBreakdown]
    """n, the components of the scores."""
    duplicates: Sequence[Rows]
    """n, for each document the rows of the best passages of the near-duplicates collapsed into it."""
    mode: Mode
    adaptation: DomainAdapter
    vector: Vectors | None
    """(dim,) the query vector after adaptation; None for keyword search."""
    lexical_scores: Mapping[int, float]
    """BM25 by passage row, of all passages that keyword search returned."""
    lexical_weight: LexicalWeight
    unmatched_phrases: tuple[str, ...] = ()
    """Quoted phrases that no passage contains, so that their words were searched."""

    def select(self, indices: Sequence[int]) -> ResultPage:
        """Return a page of the documents at these indices, in this order."""
        chosen = list(indices)
        return replace(
            self,
            passages=self.passages[chosen],
            scores=self.scores[chosen],
            breakdowns=[self.breakdowns[index] for index in chosen],
            duplicates=[self.duplicates[index] for index in chosen],
        )


@dataclass(frozen=True, slots=True, eq=False)
class RankedCandidates:
    """All ranked documents of one query, best first."""

    passages: Rows
    """(n,) the best passage of each document."""
    scores: Scores
    """(n,) the scores they are ranked by."""
    similarity: Scores | None
    """(n,) cosines; None for keyword search."""
    bm25: Scores | None
    """(n,) BM25; None for semantic search."""
    vote_boosts: Scores | None
    """(n,) what votes added to the scores; None without votes."""
    token_boosts: Scores | None
    """(n,) what late interaction added to the scores; None without it."""
    dense_order: Rows
    """Document rows in the order of similarity alone."""
    lexical_order: Rows
    """Document rows in the order of BM25 alone."""
    lexical_scores: Mapping[int, float]
    """BM25 by passage row, of all passages that keyword search returned."""
    unmatched_phrases: tuple[str, ...] = ()
    """Quoted phrases that no passage contains, so that their words were searched."""

    def collapse(self, corpus: Corpus, wanted: int) -> tuple[Rows, dict[int, Rows]]:
        """Collapse near-duplicates until `wanted` documents remain or all documents are considered.

        Returns the indices of the remaining documents, at most `wanted`, and, by index, the rows of the best passages
        of its near-duplicates.
        """
        considered = 2 * wanted + 20
        while True:
            rows = self.passages[:considered]
            texts = _PassageTexts(corpus, rows)
            representatives = np.array(collapse_duplicates(corpus.vectors(rows), texts), np.int64)
            indices = np.arange(len(rows))
            remaining = np.flatnonzero(representatives == indices)[:wanted]
            if len(remaining) == wanted or considered >= len(self.passages):
                return remaining, {
                    index: rows[(representatives == index) & (indices > index)] for index in remaining.tolist()
                }
            considered *= 2

    def page(
        self,
        indices: Rows,
        corpus: Corpus,
        *,
        mode: Mode,
        adaptation: DomainAdapter,
        vector: Vectors | None,
        lexical_weight: LexicalWeight,
        duplicates: Mapping[int, Rows] | None = None,
    ) -> ResultPage:
        """Return the documents at these indices, (n,), as a page. duplicates: rows of passages by index."""
        documents = corpus.document_of[self.passages[indices]].tolist()
        absent = [None] * len(documents)
        boosts = absent if self.vote_boosts is None else self.vote_boosts[indices].tolist()
        token_boosts = absent if self.token_boosts is None else self.token_boosts[indices].tolist()
        similarity = absent if self.similarity is None else self.similarity[indices].tolist()
        bm25 = absent if self.bm25 is None else self.bm25[indices].tolist()
        breakdowns = [
            ScoreBreakdown(
                similarity=cosine,
                dense_rank=_rank(document, self.dense_order),
                lexical_score=score,
                lexical_rank=_rank(document, self.lexical_order),
                vote_boost=boost,
                token_boost=token_boost,
            )
            for document, cosine, score, boost, token_boost in zip(
                documents, similarity, bm25, boosts, token_boosts, strict=True
            )
        ]
        collapsed = duplicates or {}
        return ResultPage(
            passages=self.passages[indices],
            scores=self.scores[indices],
            breakdowns=breakdowns,
            duplicates=[collapsed.get(index, _NO_ROWS) for index in indices.tolist()],
            mode=mode,
            adaptation=adaptation,
            vector=vector,
            lexical_scores=self.lexical_scores,
            lexical_weight=lexical_weight,
            unmatched_phrases=self.unmatched_phrases,
        )


def rank_dense(dense: DenseResult, corpus: Corpus, allowed: AllowedRows) -> RankedCandidates:
    """Rank by similarity and votes."""
    if dense.votes is not None:
        nothing = _NO_ROWS, np.empty(0, np.float32)
        return replace(_rank_fused(dense, *nothing, 0.0, corpus, allowed), bm25=None)
    documents = corpus.document_of[dense.passages]
    return RankedCandidates(
        passages=dense.passages,
        scores=dense.scores,
        similarity=dense.scores,
        bm25=None,
        vote_boosts=None,
        token_boosts=None,
        dense_order=documents,
        lexical_order=documents[:0],
        lexical_scores={},
    )


def rank_lexical(text: str, wanted: int, corpus: Corpus, allowed: AllowedRows) -> RankedCandidates:
    """Rank by BM25 alone. Returns at least `wanted` documents, or all allowed ones that share a term with the query."""
    pinned, considered = _pinned_row(text, corpus, allowed), 2 * wanted
    unmatched = corpus.unmatched_phrases(text, allowed=allowed)
    while True:
        results = corpus.search_keywords(text, considered, allowed=allowed, as_words=unmatched)
        rows, bm25 = _with_pinned(pinned, *results)
        first = _first_of_each(corpus.document_of[rows])
        if len(first) >= wanted or len(rows) < considered:
            documents = corpus.document_of[rows[first]]
            return RankedCandidates(
                passages=rows[first],
                scores=bm25[first],
                similarity=None,
                bm25=bm25[first],
                vote_boosts=None,
                token_boosts=None,
                dense_order=documents[:0],
                lexical_order=documents,
                lexical_scores=_by_row(rows, bm25),
                unmatched_phrases=unmatched,
            )
        considered *= 4


def rank_hybrid(
    text: str,
    dense: DenseResult,
    weight: LexicalWeight,
    corpus: Corpus,
    allowed: AllowedRows,
    *,
    token_weight: float = 0.0,
) -> RankedCandidates:
    """Rank by fused scores, votes and late interaction.

    If passages contain the query's quoted phrases, only these have a BM25 score.
    """
    pinned, unmatched = _pinned_row(text, corpus, allowed), corpus.unmatched_phrases(text, allowed=allowed)
    results = corpus.search_keywords(text, KEYWORD_DEPTH, allowed=allowed, as_words=unmatched)
    lexical = _with_pinned(pinned, *results)
    ranked = _rank_fused(dense, *lexical, weight, corpus, allowed, pinned=pinned, token_weight=token_weight)
    return replace(ranked, unmatched_phrases=unmatched)


def _rank_fused(
    dense: DenseResult,
    lexical_rows: Rows,
    lexical_scores: Scores,
    weight: LexicalWeight,
    corpus: Corpus,
    allowed: AllowedRows,
    *,
    pinned: int = -1,
    token_weight: float = 0.0,
) -> RankedCandidates:
    """Rank the nearest documents, the keyword results and the voted documents together; others follow by similarity."""
    # ranks, of which `rrf` is made, are no cosines that votes could be added to
    votes = dense.votes if dense.votes is not None and weight != "rrf" else None
    voted = _NO_ROWS if votes is None else votes.passages[allowed.passages[votes.passages]]
    candidates = np.union1d(np.concatenate((dense.passages[:FUSION_DEPTH], voted)), lexical_rows)
    similarity = corpus.cosine(dense.vector, candidates)
    bm25 = np.zeros(len(candidates), np.float32)
    bm25[np.searchsorted(candidates, lexical_rows)] = lexical_scores
    scores = fuse(similarity, bm25, weight)
    boosts = np.zeros(len(candidates), np.float32) if votes is None else votes.of(corpus.document_of[candidates])
    scores = scores + boosts
    token_boosts = None
    if token_weight and dense.tokens is not None and weight != "rrf":
        token_boosts = token_boosts_of(dense.tokens, candidates, scores, token_weight, corpus)
        scores = scores + token_boosts
    scores = np.round(scores, SCORE_DECIMALS)
    best_first = _pin(scores, candidates, pinned)
    best_first = best_first[_first_of_each(corpus.document_of[candidates[best_first]])]
    # documents below the fused ones follow by similarity alone
    tail, tail_scores = dense.passages[FUSION_DEPTH:], dense.scores[FUSION_DEPTH:]
    new = ~np.isin(corpus.document_of[tail], corpus.document_of[candidates])
    zeros = np.zeros(int(new.sum()), np.float32)
    return RankedCandidates(
        passages=np.concatenate((candidates[best_first], tail[new])),
        scores=np.concatenate((scores[best_first], zeros if weight == "rrf" else tail_scores[new])),
        similarity=np.concatenate((similarity[best_first], tail_scores[new])),
        bm25=np.concatenate((bm25[best_first], zeros)),
        vote_boosts=None if votes is None else np.concatenate((boosts[best_first], zeros)),
        token_boosts=None if token_boosts is None else np.concatenate((token_boosts[best_first], zeros)),
        dense_order=corpus.document_of[dense.passages],
        lexical_order=_distinct(corpus.document_of[lexical_rows]),
        lexical_scores=_by_row(lexical_rows, lexical_scores),
    )


def token_boosts_of(tokens: QueryTokens, candidates: Rows, scores: Scores, weight: float, corpus: Corpus) -> Scores:
    """Return what late interaction adds to the scores of n passages, (n,) ≥ 0: only the best TOKEN_DEPTH gain.

    tokens: those of the query. candidates: (n,) passage rows, ascending. scores: (n,) those so far.
    """
    boosts = np.zeros(len(candidates), np.float32)
    # rounded as ranked: which of two equal passages is compared must not depend on last bits
    best = np.argsort(-np.round(scores, SCORE_DECIMALS), kind="stable")[:TOKEN_DEPTH]
    if len(best):
        cosines = late_interaction(tokens, corpus.token_codes(candidates[best]))
        # relative to the least one, so that what was not compared keeps its place behind
        boosts[best] = np.float32(weight) * (cosines - cosines.min())
    return boosts


def more_passages(page: ResultPage, count: int, corpus: Corpus) -> list[Rows]:
    """Return, for each document of a page, the rows of up to `count` further passages, best first.

    For keyword search, only passages that share a term with the query.
    """
    if not count:
        return [_NO_ROWS] * len(page.passages)
    chosen = []
    highest = max(page.lexical_scores.values(), default=0.0)
    for row in page.passages.tolist():
        rows = corpus.sibling_rows(row)
        bm25 = np.array([page.lexical_scores.get(sibling, 0.0) for sibling in rows.tolist()], np.float32)
        if page.vector is None:
            scores, rows = bm25[bm25 > 0], rows[bm25 > 0]
        else:
            scores = corpus.cosine(page.vector, rows)
            if highest and page.lexical_weight != "rrf":
                scores = scores + page.lexical_weight * bm25 / highest
        chosen.append(rows[np.argsort(-scores, kind="stable")][:count])
    return chosen


def search_documents(
    vectors: Vectors,
    wanted: Sequence[int],
    corpus: Corpus,
    allowed: AllowedRows,
    *,
    ef_search: int | None = None,
    pool: int = 0,
) -> list[tuple[Rows, Scores]]:
    """Return, for each of n vectors, the best passages of its nearest allowed documents, best first.

    Searches again for four times as many passages until they belong to enough documents, and adds the documents that
    the searches before did not find. An approximate search that is asked for more finds slightly other passages: this
    way, later pages never change earlier ones, and queries never change one another.

    wanted: for each vector, the number of documents to find if there are as many. ef_search: as in
    `Corpus.search_vectors`. pool: documents to find beyond that, if no vector needs to be compared with all for them.

    Returns (rows, scores), each (m,), m ≤ max(wanted, pool), for each vector.
    """
    step = FUSION_DEPTH if corpus.is_approximate else max(pool, *wanted)
    considered = step if allowed.passage_count == allowed.document_count else 2 * step
    found = [(_NO_ROWS, np.empty(0, np.float32))] * len(vectors)
    unfinished = list(range(len(vectors)))
    while unfinished:
        considered = min(considered, allowed.passage_count)
        scores, rows = corpus.search_vectors(vectors[unfinished], considered, ef_search=ef_search, allowed=allowed)
        for index, cosines, nearest in zip(unfinished, scores, rows, strict=True):
            # an approximate search may return fewer rows than requested
            all_rows = np.concatenate((found[index][0], nearest[nearest >= 0]))
            all_scores = np.concatenate((found[index][1], cosines[nearest >= 0]))
            first = _first_of_each(corpus.document_of[all_rows])
            found[index] = all_rows[first], all_scores[first]
        if considered == allowed.passage_count:
            break
        considered *= 4
        least = 0 if corpus.is_approximate and considered >= EXACT_FROM else pool
        unfinished = [
            index
            for index in unfinished
            if len(found[index][0]) < min(max(wanted[index], least), allowed.document_count)
        ]
    lengths = [max(pool, number) for number in wanted]
    return [(rows[:length], scores[:length]) for (rows, scores), length in zip(found, lengths, strict=True)]


@dataclass(frozen=True, slots=True)
class _PassageTexts:
    """Reads the text of the passage at an index when called."""

    corpus: Corpus
    rows: Rows

    def __call__(self, index: int) -> str:
        return self.corpus.passage_texts(self.rows[index : index + 1])[0].text


def _pinned_row(text: str, corpus: Corpus, allowed: AllowedRows) -> int:
    """The row of the first passage of the document whose id is the query; -1 if there is none or it is not allowed."""
    # an id that was copied from a page may hold invisible characters
    for doc_id in dict.fromkeys((text.strip(), remove_invisible(text).strip())):
        rows = corpus.passage_rows(doc_id)
        if len(rows):
            break
    return int(rows[0]) if len(rows) and allowed.passages[rows[0]] else -1


def _with_pinned(pinned: int, rows: Rows, bm25: Scores) -> tuple[Rows, Scores]:
    """The keyword results, preceded by the pinned row, if there is one, with the best score."""
    if pinned < 0:
        return rows, bm25
    rest = rows != pinned
    top = np.array([bm25.max(initial=1.0)], np.float32)
    return np.concatenate(([pinned], rows[rest])), np.concatenate((top, bm25[rest]))


def _pin(scores: Scores, candidates: Rows, pinned: int) -> Rows:
    """Indices of the candidates, best first, ties by row. The pinned one, if any, is first: it gets the best score."""
    is_pinned = candidates == pinned
    scores[is_pinned] = scores.max(initial=0)
    order: Rows = np.lexsort((candidates, ~is_pinned, -scores))
    return order


def _by_row(rows: Rows, values: Scores) -> dict[int, float]:
    return dict(zip(rows.tolist(), values.tolist(), strict=True))


def _rank(document: int, order: Rows) -> int | None:
    indices = np.flatnonzero(order == document)
    return int(indices[0]) + 1 if len(indices) else None


def _distinct(values: Rows) -> Rows:
    return values[_first_of_each(values)]


def _first_of_each(values: Rows) -> Rows:
    """Indices of the first occurrences of each value, ascending."""
    _, first = np.unique(values, return_index=True)
    return np.sort(first)
