"""What is nearest by meaning and what fits by words, as one ranking of documents; knows rows, no documents' texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from semsearch.adapters.adapter import Serving
from semsearch.search.fusion import fuse
from semsearch.storage.corpus import Allowed, Corpus
from semsearch.storage.vectors import SCORE_DECIMALS
from semsearch.text.duplicates import leaders
from semsearch.types import LexicalWeight, Mode, Parts, Rows, Scores, Vectors

FUSED = 100
"""Documents nearest by meaning that are fused with what words find; what stands below follows by meaning alone, so
that later pages never change earlier ones."""
_NO_ROWS: Rows = np.empty(0, np.int64)
PASSAGES = 200
"""Passages that words bring to be fused."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The documents nearest to one query by meaning."""

    vector: Vectors
    """(dim,) the query as its domain sees it."""
    passages: Rows
    """(n,) the best passage of each document, best first."""
    scores: Scores
    """(n,) its cosine similarity."""
    stages_s: Mapping[str, float]
    """Seconds that each stage took for the whole batch this query was in."""
    adapted: Serving
    """What the query was rescaled with, or why with nothing."""
    frozen: Nearest | None = None
    """The same query, encoded once, as if its domain had learned nothing; where the query asked for it."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """One page of the best documents for one query, as rows: what is left to do is to fetch them."""

    passages: Rows
    """(n,) the best passage of each document, n ≤ k, best first."""
    scores: Scores
    """(n,) what they are ranked by."""
    parts: Sequence[Parts]
    """n, what the scores are made of."""
    mode: Mode
    """What the search went by."""
    adapted: Serving
    vector: Vectors | None
    """(dim,) the query as its domain sees it; None where meaning was not gone by."""
    found: Mapping[int, float]
    """BM25 by passage row, of all that words found."""
    weight: LexicalWeight
    """What words are worth beside meaning."""
    alike: Sequence[Rows]
    """n, of each document the best passages of those that are folded into it."""

    def at(self, places: Sequence[int]) -> Ranking:
        """The documents in these places only, in this order."""
        chosen = list(places)
        return replace(
            self,
            passages=self.passages[chosen],
            scores=self.scores[chosen],
            parts=[self.parts[place] for place in chosen],
            alike=[self.alike[place] for place in chosen],
        )


@dataclass(frozen=True, slots=True)
class Ranked:
    """All documents that are ranked for one query, best first."""

    passages: Rows
    scores: Scores
    similarity: Scores | None
    """(n,) cosines; None where meaning was not gone by."""
    words: Scores | None
    """(n,) BM25; None where words were not gone by."""
    by_meaning: Rows
    """Document rows as similarity alone ranks them."""
    by_words: Rows
    """Document rows as words alone rank them."""
    found: Mapping[int, float]
    """BM25 by passage row, of all that words found."""

    def folded(self, corpus: Corpus, wanted: int) -> tuple[Rows, dict[int, Rows]]:
        """Places of the first `wanted` documents that are not nearly the same as a better one, and, by place, the best
        passages of those that are."""
        many = 2 * wanted + 20
        while True:
            rows = self.passages[:many]
            first = np.array(leaders(corpus.vectors(rows), partial(_text_of, corpus, rows)), np.int64)
            places = np.arange(len(rows))
            kept = np.flatnonzero(first == places)[:wanted]
            if len(kept) == wanted or many >= len(self.passages):
                return kept, {place: rows[(first == place) & (places > place)] for place in kept.tolist()}
            many *= 2

    def page(
        self, places: Rows, corpus: Corpus, mode: Mode, serving: Serving, vector: Vectors | None, weight: LexicalWeight
    ) -> Ranking:
        """The documents in these places."""
        documents = corpus.document_of[self.passages[places]].tolist()
        absent = [None] * len(documents)
        similarity = absent if self.similarity is None else self.similarity[places].tolist()
        words = absent if self.words is None else self.words[places].tolist()
        parts = [
            Parts(cosine, _place(document, self.by_meaning), bm25, _place(document, self.by_words))
            for document, cosine, bm25 in zip(documents, similarity, words, strict=True)
        ]
        return Ranking(
            self.passages[places],
            self.scores[places],
            parts,
            mode,
            serving,
            vector,
            self.found,
            weight,
            [_NO_ROWS] * len(documents),
        )


def by_meaning(nearest: Nearest, document_of: Rows) -> Ranked:
    """As similarity ranks them."""
    documents = document_of[nearest.passages]
    return Ranked(nearest.passages, nearest.scores, nearest.scores, None, documents, documents[:0], {})


def by_words(text: str, wanted: int, corpus: Corpus, allowed: Allowed) -> Ranked:
    """As BM25 ranks them: at least `wanted` documents, if so many that are allowed share a word with the query."""
    named, many = _named(text, corpus, allowed), 2 * wanted
    while True:
        rows, scores = _with_named(named, *corpus.best(text, many, allowed=allowed))
        first = _first_of_each(corpus.document_of[rows])
        if len(first) >= wanted or len(rows) < many:
            found = corpus.document_of[rows[first]]
            return Ranked(rows[first], scores[first], None, scores[first], found[:0], found, _by_row(rows, scores))
        many *= 4


def by_both(text: str, nearest: Nearest, weight: LexicalWeight, corpus: Corpus, allowed: Allowed) -> Ranked:
    """As both together rank them; where the query quotes a phrase, words count only where it stands."""
    named = _named(text, corpus, allowed)
    rows, bm25 = _with_named(named, *corpus.best(text, PASSAGES, allowed=allowed))
    candidates = np.union1d(nearest.passages[:FUSED], rows)
    similarity = corpus.similarity(nearest.vector, candidates)
    words = np.zeros(len(candidates), np.float32)
    words[np.searchsorted(candidates, rows)] = bm25
    scores = np.round(fuse(similarity, words, weight), SCORE_DECIMALS)
    is_named = candidates == named
    scores[is_named] = scores.max(initial=0)
    order = np.lexsort((candidates, ~is_named, -scores))
    order = order[_first_of_each(corpus.document_of[candidates[order]])]
    rest, rest_scores = nearest.passages[FUSED:], nearest.scores[FUSED:]
    new = ~np.isin(corpus.document_of[rest], corpus.document_of[candidates])
    nothing = np.zeros(int(new.sum()), np.float32)
    return Ranked(
        np.concatenate((candidates[order], rest[new])),
        np.concatenate((scores[order], nothing if weight == "rrf" else rest_scores[new])),
        np.concatenate((similarity[order], rest_scores[new])),
        np.concatenate((words[order], nothing)),
        corpus.document_of[nearest.passages],
        _distinct(corpus.document_of[rows]),
        _by_row(rows, bm25),
    )


def best_passages(ranking: Ranking, many: int, corpus: Corpus) -> list[Rows]:
    """Of each document of a ranking so many passages more than its best one, the best first: as they would be ranked.

    Where words alone were gone by, only passages that have one of them.
    """
    if not many:
        return [_NO_ROWS] * len(ranking.passages)
    best = []
    highest = max(ranking.found.values(), default=0.0)
    for row in ranking.passages.tolist():
        rows = corpus.passages_beside(row)
        words = np.array([ranking.found.get(one, 0.0) for one in rows.tolist()], np.float32)
        if ranking.vector is None:
            scores, rows = words[words > 0], rows[words > 0]
        else:
            scores = corpus.similarity(ranking.vector, rows)
            if highest and ranking.weight != "rrf":
                scores = scores + ranking.weight * words / highest
        best.append(rows[np.argsort(-scores, kind="stable")][:many])
    return best


def _text_of(corpus: Corpus, rows: Rows, place: int) -> str:
    return corpus.passages_in(rows[place : place + 1])[0].text


def _by_row(rows: Rows, values: Scores) -> dict[int, float]:
    return dict(zip(rows.tolist(), values.tolist(), strict=True))


def nearest_documents(
    vectors: Vectors, wanted: int, corpus: Corpus, allowed: Allowed, *, effort: int | None = None
) -> list[tuple[Rows, Scores]]:
    """For each vector the best passage of each of the `wanted` nearest documents that are allowed, best first.

    Asks for more passages until so many different documents are among them, or all passages are. effort: as of
    `Corpus.nearest`.
    """
    wanted = min(wanted, allowed.document_count)
    many = wanted if allowed.passage_count == allowed.document_count else 2 * wanted
    while True:
        scores, rows = corpus.nearest(vectors, min(many, allowed.passage_count), effort=effort, allowed=allowed)
        # a graph may find fewer than it was asked for
        kept = [(found[found >= 0], score[found >= 0]) for found, score in zip(rows, scores, strict=True)]
        firsts = [_first_of_each(corpus.document_of[found]) for found, _ in kept]
        if many >= allowed.passage_count or all(len(first) >= wanted for first in firsts):
            return [
                (found[first][:wanted], score[first][:wanted])
                for (found, score), first in zip(kept, firsts, strict=True)
            ]
        many *= 2


def _named(text: str, corpus: Corpus, allowed: Allowed) -> int:
    """The first passage of the document whose very id was asked for, or -1."""
    rows = corpus.passage_rows(text.strip())
    return int(rows[0]) if len(rows) and allowed.passages[rows[0]] else -1


def _with_named(named: int, rows: Rows, bm25: Scores) -> tuple[Rows, Scores]:
    """What words found, the document before it whose id is the query, if there is one."""
    if named < 0:
        return rows, bm25
    others = rows != named
    top = np.array([bm25.max(initial=1.0)], np.float32)
    return np.concatenate(([named], rows[others])), np.concatenate((top, bm25[others]))


def _place(document: int, documents: Rows) -> int | None:
    found = np.flatnonzero(documents == document)
    return int(found[0]) + 1 if len(found) else None


def _distinct(values: Rows) -> Rows:
    return values[_first_of_each(values)]


def _first_of_each(values: Rows) -> Rows:
    """Places at which a value stands for the first time, in order."""
    _, first = np.unique(values, return_index=True)
    return np.sort(first)
