"""Late interaction: compares each token of a query with the tokens of a passage, in place of one vector with another.

A query's score is the mean over its tokens of the highest cosine to any token of the passage (MaxSim of ColBERT,
Khattab & Zaharia 2020, doi:10.1145/3397271.3401075). The tokens are those of the encoder that made the vectors, before
they are pooled; nothing is trained. A passage's tokens are stored with two bits for each number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from semsearch.types import Scores, Vectors, unit_rows

TokenCodes = npt.NDArray[np.uint8]
"""(tokens, ⌈dim / 4⌉) token vectors, two bits for each number."""

QueryTokens = npt.NDArray[np.float16]
"""(t, dim), unit rows, t ≤ MAX_QUERY_TOKENS."""

MAX_QUERY_TOKENS = 32
"""Most tokens of a query that are compared, its first ones: time and memory grow with them."""
STEP = np.float32(1.25)
"""Distance between the four levels, as a multiple of a vector's mean absolute number. It is near the best for normally
distributed numbers (Max 1960, doi:10.1109/TIT.1960.1057548)."""
MAX_DECODED = 4096
"""Tokens that are decoded at a time, unless a passage has more."""
_LEVELS = np.array([-1.5, -0.5, 0.5, 1.5], np.float32)
_DECODED = _LEVELS[np.stack([np.arange(256) >> shift & 3 for shift in (6, 4, 2, 0)], axis=1)]
"""(256, 4) the four numbers of each byte."""


def code_bytes(dimension: int) -> int:
    """Return the bytes of one token."""
    return -(-dimension // 4)


def quantize(tokens: Vectors) -> TokenCodes:
    """Round (tokens, dim) token vectors of any length to codes."""
    steps = STEP * np.maximum(np.abs(tokens).mean(axis=1, keepdims=True), np.float32(1e-12))
    levels = np.clip(np.floor(tokens / steps) + 2, 0, 3).astype(np.uint8)
    if missing := -levels.shape[1] % 4:
        levels = np.pad(levels, ((0, 0), (0, missing)))
    quarters = levels.reshape(len(levels), levels.shape[1] // 4, 4)
    codes: TokenCodes = quarters[..., 0] << 6 | quarters[..., 1] << 4 | quarters[..., 2] << 2 | quarters[..., 3]
    return codes


def query_tokens(tokens: Vectors) -> QueryTokens:
    """Return the first of a query's (tokens, dim) token vectors of any length, as they are compared."""
    return unit_rows(tokens[:MAX_QUERY_TOKENS]).astype(np.float16)


def late_interaction(query: QueryTokens, passages: Sequence[TokenCodes]) -> Scores:
    """Return the mean over a query's tokens of the highest cosine to a token of each passage, (len(passages),) float32.

    It is 0 for a passage without tokens, and for a query without.
    """
    scores = np.zeros(len(passages), np.float32)
    if not len(query):
        return scores
    tokens = query.astype(np.float32).T
    for some in _batches([len(codes) for codes in passages]):
        codes = np.concatenate([passages[index] for index in some])
        starts = np.cumsum([0, *(len(passages[index]) for index in some[:-1])])
        # `take` is ten times as fast as indexing
        decoded = np.take(_DECODED, codes, axis=0).reshape(len(codes), -1)[:, : len(tokens)]
        lengths = np.sqrt(np.einsum("td,td->t", decoded, decoded))
        cosines = decoded @ tokens / lengths[:, None]
        scores[some] = np.maximum.reduceat(cosines, starts, axis=0).mean(axis=1)
    return scores


def _batches(counts: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indices of passages with tokens, some MAX_DECODED tokens at a time. counts: tokens of each passage."""
    batch: list[int] = []
    tokens = 0
    for index, count in enumerate(counts):
        if batch and tokens + count > MAX_DECODED:
            yield batch
            batch, tokens = [], 0
        if count:
            batch.append(index)
            tokens += count
    if batch:
        yield batch
