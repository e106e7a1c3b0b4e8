"""Encodes passages in batches, the longest first, and no text twice. Does not depend on readers."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np

from semsearch.encoders.encoder import EncodedPassages, Encoder
from semsearch.storage.documents import DocumentWriter
from semsearch.storage.embedding_checkpoint import EmbeddingCheckpoint
from semsearch.storage.token_store import TokenStoreWriter
from semsearch.system.files import drop_pages
from semsearch.types import Mask, Rows


@dataclass(frozen=True, slots=True)
class Encoding:
    """Progress. Tokens measure the remaining work better than passages, because the longest come first."""

    passages: int
    of_passages: int
    tokens: int
    of_tokens: int


@dataclass(frozen=True, slots=True)
class Resuming:
    """An earlier build of this index was stopped; the passages that it encoded are not encoded again."""

    passages: int
    of_passages: int


Encode: TypeAlias = Callable[[Iterable[Sequence[str]]], Iterator[EncodedPassages]]
"""Takes batches of texts and yields each batch encoded."""

PIPELINE_PASSAGES = 2_048
"""Passages that are sorted by length together while others are still being read."""
LOOKUP_PASSAGES = 1_000
"""Passages looked up in the checkpoint at a time."""
RESIDENT_PASSAGES = 4_000
"""Passages after whose encoding the pages of their vectors are released. Each may be on two pages of 4 KiB."""


class PipelinedEncoder:
    """Encodes passages while others are still being read, into the checkpoint, where `encode_resumable` finds them.

    A context manager: at its end, batches that wait for a thread are dropped.
    """

    def __init__(self, encoder: Encoder, writer: DocumentWriter, checkpoint: EmbeddingCheckpoint) -> None:
        self._encoder = encoder
        self._writer = writer
        self._checkpoint = checkpoint
        self._planned = 0
        self._batches: deque[Rows] = deque()
        self._waiting: deque[tuple[list[str], Future[EncodedPassages]]] = deque()
        self.passages = 0
        """Number of passages encoded so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, encoded in self._waiting:
            encoded.cancel()

    def poll(self) -> None:
        """Collect vectors that are ready and submit passages that were stored since; does not wait."""
        if self._writer.passages - self._planned >= PIPELINE_PASSAGES:
            batches = self._encoder.plan_batches("document", self._writer.tokens(self._planned))
            self._batches.extend(rows + self._planned for rows in batches)
            self._planned = self._writer.passages
        while self._waiting and self._waiting[0][1].done():
            self._collect()
        while self._batches and len(self._waiting) < 2 * self._encoder.workers:
            texts = self._checkpoint.missing(self._writer.texts(self._batches.popleft()))
            if texts:
                encoded = self._encoder.submit_passages(texts, with_tokens=self._checkpoint.with_tokens)
                self._waiting.append((texts, encoded))

    def finish(self) -> None:
        """Wait for the batches that were submitted."""
        while self._waiting:
            self._collect()

    def _collect(self) -> None:
        texts, encoded = self._waiting.popleft()
        self._checkpoint.add(texts, encoded.result())
        self.passages += len(texts)


def encode_passages(
    encode: Encode,
    encoder: Encoder,
    writer: DocumentWriter,
    vectors: np.ndarray,
    known: Mask,
    *,
    tokens: TokenStoreWriter | None = None,
) -> Iterator[Encoding]:
    """Fill the rows of `vectors` that are not known and yield progress.

    The longest batches come first: if one does not fit the memory, the build fails at once.

    vectors: (n, dim) float32; pages of a memory map are released now and then. known: (n,), rows filled already.
    tokens: receives the token vectors, which `encode` then returns.
    """
    lengths = writer.tokens()
    of_tokens = int(lengths.sum())
    passages, done, resident = int(known.sum()), int(lengths[known].sum()), 0
    yield Encoding(passages, len(vectors), done, of_tokens)
    unknown = np.flatnonzero(~known)
    batches = [unknown[rows] for rows in encoder.plan_batches("document", lengths[unknown])]
    for rows, encoded in zip(batches, encode(map(writer.texts, batches)), strict=True):
        vectors[rows] = encoded.vectors
        if tokens is not None:
            assert encoded.tokens is not None
            tokens.put(rows, encoded.tokens)
        resident += len(rows)
        if resident >= RESIDENT_PASSAGES:
            drop_pages(vectors)
            resident = 0
        passages += len(rows)
        done += int(lengths[rows].sum())
        yield Encoding(passages, len(vectors), done, of_tokens)


def encode_resumable(
    encoder: Encoder,
    writer: DocumentWriter,
    vectors: np.ndarray,
    checkpoint: EmbeddingCheckpoint,
    *,
    known: Mask | None = None,
    pipelined: int = 0,
    tokens: TokenStoreWriter | None = None,
) -> Iterator[Resuming | Encoding]:
    """As `encode_passages`, with the passages that the checkpoint holds; new ones are added to it.

    known: as for `encode_passages`; by default none. pipelined: number of passages that this build has put into the
    checkpoint itself. At the end, the encoder releases the memory of its batches.
    """
    known = np.zeros(len(vectors), bool) if known is None else known.copy()
    earlier = -pipelined
    if checkpoint.filled:
        unknown = np.flatnonzero(~known)
        for start in range(0, len(unknown), LOOKUP_PASSAGES):
            rows = unknown[start : start + LOOKUP_PASSAGES]
            stored, is_stored = checkpoint.lookup(writer.texts(rows))
            known[rows] = is_stored
            vectors[rows[is_stored]] = stored.vectors[is_stored]
            if tokens is not None and stored.tokens is not None:
                tokens.put(rows[is_stored], [stored.tokens[index] for index in np.flatnonzero(is_stored).tolist()])
            earlier += int(known[rows].sum())
            drop_pages(vectors)
    if earlier > 0:
        yield Resuming(earlier, len(vectors))

    def encode(batches: Iterable[Sequence[str]]) -> Iterator[EncodedPassages]:
        for texts, encoded in encode_in_parallel(encoder, batches, with_tokens=tokens is not None):
            checkpoint.add(texts, encoded)
            yield encoded

    yield from encode_passages(encode, encoder, writer, vectors, known, tokens=tokens)
    encoder.release_memory()


def encode_in_parallel(
    encoder: Encoder, batches: Iterable[Sequence[str]], *, with_tokens: bool
) -> Iterator[tuple[Sequence[str], EncodedPassages]]:
    """Yield each batch, and it encoded, in order. At most two batches per worker of the encoder are taken ahead."""
    waiting: deque[tuple[Sequence[str], Future[EncodedPassages]]] = deque()
    try:
        for texts in batches:
            waiting.append((texts, encoder.submit_passages(texts, with_tokens=with_tokens)))
            if len(waiting) >= 2 * encoder.workers:
                first, encoded = waiting.popleft()
                yield first, encoded.result()
        while waiting:
            first, encoded = waiting.popleft()
            yield first, encoded.result()
    finally:
        # the process ends only when its threads do
        for _, encoded in waiting:
            encoded.cancel()


def open_checkpoint(folder: Path, encoder: Encoder, *, with_tokens: bool, fresh: bool = False) -> EmbeddingCheckpoint:
    """Open the checkpoint of an unfinished build in an index's folder; if `fresh`, start an empty one."""
    depends_on = [
        encoder.weights_sha256,
        encoder.configuration_sha256,
        encoder.prompts["document"],
        encoder.window,
        encoder.dimension,
        "tokens",  # the columns: earlier versions had none of tokens
    ]
    about = json.dumps(depends_on)
    return EmbeddingCheckpoint(folder, about=about, dimension=encoder.dimension, with_tokens=with_tokens, fresh=fresh)
