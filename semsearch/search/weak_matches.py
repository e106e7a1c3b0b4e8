"""Tells weak matches: a search always finds nearest passages, also for a query that has nothing to do with the corpus.

How near they are depends on encoder and corpus. So it is measured, when an index is built, how near the passages come
to queries of everyday life and to random letters; a match must be nearer. Does not depend on files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from semsearch.search.unrelated_queries import EVERYDAY, gibberish
from semsearch.storage.manifest import EncoderFit, WeakSimilarity
from semsearch.text.tokens import Term, content_terms
from semsearch.types import Scores, Vectors

RANDOM_QUERIES = 40
FLAGGED = 0.9
"""Share of the unrelated queries whose best match is weak, of each kind. A tenth may suit the corpus."""
BLOCK = 65_536
"""Passages whose cosines are in memory at once."""


def measure_weak_similarity(
    vectors: Vectors, encode_queries: Callable[[Sequence[str]], Vectors], encoder_fit: EncoderFit | None
) -> WeakSimilarity | None:
    """Measure below which cosine a best match is weak; None for a small corpus or one that the encoder does not read.

    vectors: (n, dim) float32, unit rows, of all passages. encode_queries: returns unit rows. Raises EncoderError.
    """
    if encoder_fit is None or not encoder_fit.reads_language:
        return None
    queries = [*EVERYDAY, *gibberish(RANDOM_QUERIES)]
    best = _best_cosines(encode_queries(queries), vectors)
    everyday, random = best[: len(EVERYDAY)], best[len(EVERYDAY) :]
    threshold = max(np.quantile(everyday, FLAGGED), np.quantile(random, FLAGGED))
    return WeakSimilarity(threshold=round(float(threshold), 4), queries=len(queries))


def _best_cosines(queries: Vectors, vectors: Vectors) -> Scores:
    best = np.full(len(queries), -1, np.float32)
    for start in range(0, len(vectors), BLOCK):
        np.maximum(best, (queries @ np.asarray(vectors[start : start + BLOCK]).T).max(axis=1), out=best)
    return best


def is_weak(
    query: str,
    best_similarity: float | None,
    has_all: Callable[[Sequence[Term]], bool],
    threshold: WeakSimilarity | None,
) -> bool:
    """Whether a query's best match is so far from it that it is likely to have nothing to do with it.

    best_similarity: the highest cosine of a passage; None for keyword search, whose matches share words.
    has_all: whether one of the results has all of these terms. A match is then never weak: codes and names may be far
    from everything by vectors.
    """
    if threshold is None or best_similarity is None or best_similarity >= threshold.threshold:
        return False
    terms = list(dict.fromkeys(content_terms(query)))
    return not terms or not has_all(terms)
