"""Measures, from a corpus alone, whether the encoder reads its language, and how much its cosines vary.

Does not depend on files.

An encoder that does not know a language places its texts by chance: the passage whose vector is nearest to that of
another one then shares no more terms with it than any passage does. Keyword search must carry such a corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from semsearch.storage.manifest import EncoderFit
from semsearch.text.tokens import content_terms
from semsearch.types import Rows, Vectors

SAMPLE = 1_500
"""Passages that are compared with one another, at most."""
PROBES = 300
"""Those of them whose nearest neighbours are looked at."""
MIN_PASSAGES = 100
"""Passages below which nothing is measured: too few of them share words."""
MAX_CHARACTERS = 4_000
"""Of each passage's beginning; more than an encoder reads."""
MIN_RANGE = 0.01
"""Least difference between the best and the mean term similarity of a probe; below it, no passage is like it."""


def measure_encoder_fit(vectors: Vectors, read_texts: Callable[[Rows], Sequence[str]]) -> EncoderFit | None:
    """Compare nearest vectors with nearest terms; None for a corpus of fewer than MIN_PASSAGES passages.

    vectors: (n, dim) float32, unit rows, of all passages. read_texts: returns the encoder's input for (m,) rows.

    For each probe, the term similarity (cosine of tf-idf) of the passage with the nearest vector counts as a share of
    the highest term similarity of any passage, both less the mean over all passages. The spread of the probes' cosines
    to the other passages tells how much a difference of cosine means. The same corpus gives the same result.
    """
    if len(vectors) < MIN_PASSAGES:
        return None
    # scikit-learn takes a second to import
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]
    probes = np.arange(min(PROBES, len(rows)))
    try:
        texts = [text[:MAX_CHARACTERS] for text in read_texts(rows)]
        weights = TfidfVectorizer(analyzer=content_terms, dtype=np.float32).fit_transform(texts)
    except ValueError:
        # no passage has a word
        return None
    term_similarity = (weights[probes] @ weights.T).toarray()
    sampled = np.asarray(vectors[rows])
    cosines = sampled[probes] @ sampled.T
    mean = (term_similarity.sum(axis=1) - term_similarity[probes, probes]) / (len(rows) - 1)
    cosines[probes, probes] = np.nan
    spread = float(np.nanstd(cosines, axis=1).mean())
    term_similarity[probes, probes] = cosines[probes, probes] = -1
    best, found = term_similarity.max(axis=1), term_similarity[probes, cosines.argmax(axis=1)]
    has_neighbour = best - mean > MIN_RANGE
    if not has_neighbour.any():
        return None
    agreement = ((found - mean) / np.where(has_neighbour, best - mean, 1))[has_neighbour].mean()
    return EncoderFit(agreement=round(float(agreement), 4), passages=len(rows), spread=round(spread, 4))
