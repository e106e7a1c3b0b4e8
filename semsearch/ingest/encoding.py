"""Passages to vectors: many at once, the long ones first, and none twice. Does not depend on how they are read."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from semsearch.encoders.encoder import Encoder
from semsearch.storage.documents import DocumentWriter
from semsearch.storage.embedding_checkpoint import EmbeddingCheckpoint
from semsearch.types import Mask, Rows, Vectors


@dataclass(frozen=True, slots=True)
class Encoding:
    """Passages encoded so far; tokens measure the work better, since the long ones come first."""

    passages: int
    of_passages: int
    tokens: int
    of_tokens: int


@dataclass(frozen=True, slots=True)
class Resuming:
    """A build of this index was stopped when it had encoded so many of the passages; they are not encoded again."""

    passages: int
    of_passages: int


Encode: TypeAlias = Callable[[Iterable[Sequence[str]]], Iterator[Vectors]]
"""Batches of passages' texts → of each (n, dim) float32, unit rows."""

AHEAD = 2_048
"""Passages that are sorted by length together while others are still being read."""
KNOWN_AT_ONCE = 1_000
"""Passages that are looked for in the journal at once."""


class PipelinedEncoder:
    """Has passages encoded while others are still being read; `encoded` finds them in the journal."""

    def __init__(self, encoder: Encoder, writer: DocumentWriter, journal: EmbeddingCheckpoint) -> None:
        """Begin with nothing."""
        self._encoder = encoder
        self._writer = writer
        self._journal = journal
        self._taken = 0
        self._batches: deque[Rows] = deque()
        self._waiting: deque[tuple[list[str], Future[Vectors]]] = deque()
        self.passages = 0
        """Encoded so far."""

    def go_on(self) -> None:
        """Take up what is encoded, and give out what was stored since, without waiting for either."""
        if self._writer.passages - self._taken >= AHEAD:
            places = self._encoder.plan_batches("document", self._writer.tokens(self._taken))
            self._batches.extend(rows + self._taken for rows in places)
            self._taken = self._writer.passages
        while self._waiting and self._waiting[0][1].done():
            self._take()
        while self._batches and len(self._waiting) < 2 * self._encoder.workers:
            texts = self._journal.missing(self._writer.texts(self._batches.popleft()))
            if texts:
                self._waiting.append((texts, self._encoder.submit(texts)))

    def finish(self) -> None:
        """Wait for what was given out."""
        while self._waiting:
            self._take()

    def _take(self) -> None:
        texts, vectors = self._waiting.popleft()
        self._journal.add(texts, vectors.result())
        self.passages += len(texts)


def encode_passages(
    encode: Encode, encoder: Encoder, writer: DocumentWriter, vectors: np.ndarray, known: Mask
) -> Iterator[Encoding]:
    """Fill the rows of `vectors` that are not known; the longest batches first, so that one too large for the memory is
    met at once."""
    lengths = writer.tokens()
    of_tokens = int(lengths.sum())
    yield Encoding(0, len(vectors), 0, of_tokens)
    passages, tokens = int(known.sum()), int(lengths[known].sum())
    unknown = np.flatnonzero(~known)
    batches = [unknown[places] for places in encoder.plan_batches("document", lengths[unknown])]
    for rows, found in zip(batches, encode(map(writer.texts, batches)), strict=True):
        vectors[rows] = found
        passages += len(rows)
        tokens += int(lengths[rows].sum())
        yield Encoding(passages, len(vectors), tokens, of_tokens)


def encode_resumable(
    encoder: Encoder, writer: DocumentWriter, vectors: np.ndarray, journal: EmbeddingCheckpoint, *, ahead: int = 0
) -> Iterator[Resuming | Encoding]:
    """As `encoded`, but for what the journal knows; what is encoded is kept there for the next build, until one
    `forget`s it. ahead: passages that this build has encoded already."""
    known = np.zeros(len(vectors), bool)
    if journal.filled:
        for start in range(0, len(vectors), KNOWN_AT_ONCE):
            rows = np.arange(start, min(start + KNOWN_AT_ONCE, len(vectors)))
            found, known[rows] = journal.lookup(writer.texts(rows))
            vectors[rows[known[rows]]] = found[known[rows]]
    if (earlier := int(known.sum()) - ahead) > 0:
        yield Resuming(earlier, len(vectors))

    def encode(batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        for texts, its in encode_in_parallel(encoder, batches):
            journal.add(texts, its)
            yield its

    yield from encode_passages(encode, encoder, writer, vectors, known)


def encode_in_parallel(encoder: Encoder, batches: Iterable[Sequence[str]]) -> Iterator[tuple[Sequence[str], Vectors]]:
    """Batches with their vectors, in their order; as many are encoded at once as the encoder has workers, and no more
    are taken than that and one for each."""
    waiting: deque[tuple[Sequence[str], Future[Vectors]]] = deque()
    for texts in batches:
        waiting.append((texts, encoder.submit(texts)))
        if len(waiting) >= 2 * encoder.workers:
            first, vectors = waiting.popleft()
            yield first, vectors.result()
    for texts, vectors in waiting:
        yield texts, vectors.result()


def open_checkpoint(folder: Path, encoder: Encoder, *, fresh: bool = False) -> EmbeddingCheckpoint:
    """What was encoded for an index and is in none yet, by this encoder; nothing if it is to be `fresh`."""
    about = json.dumps([encoder.weights_sha256, encoder.prompts["document"], encoder.window])
    return EmbeddingCheckpoint(folder, about=about, dimension=encoder.dimension, fresh=fresh)
