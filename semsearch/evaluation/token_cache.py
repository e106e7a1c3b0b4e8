"""Token vectors of a data set's texts, encoded when they are first needed and kept on disk.

A search compares tokens of its best results only, so most documents of a large data set are never encoded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from semsearch.encoders.encoder import Encoder
from semsearch.encoders.token_vectors import QueryTokens, TokenCodes
from semsearch.errors import LabelError
from semsearch.ingest.encoding import open_checkpoint
from semsearch.metalearn.episodes import Dataset
from semsearch.storage.embedding_checkpoint import EmbeddingCheckpoint
from semsearch.types import Rows

SAME_COSINE = 0.98
"""Least cosine of the vectors of one text by the same encoder: those of a data set may be rounded to 16 bits."""


def made_by(encoder: Encoder, dataset: Dataset) -> bool:
    """Whether this encoder made a data set's vectors, tested on one document."""
    [vector] = encoder.encode_documents(dataset.texts.documents[:1])
    given = dataset.documents[0]
    return len(vector) == len(given) and float(vector @ given) >= SAME_COSINE


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where token vectors come from. It can be sent to other processes."""

    encoder: Callable[[], Encoder]
    """Opens the encoder that made the data sets' vectors."""
    cache: Path
    """Folder of the cache."""

    @contextmanager
    def of(self, dataset: Dataset) -> Iterator[TokensOnDemand]:
        """Open the cache of a data set; it is written until the end of the context.

        Raises LabelError if another encoder made the data set's vectors, OSError if the cache cannot be written.
        """
        encoder = self.encoder()
        if not made_by(encoder, dataset):
            raise LabelError(
                f"the vectors of {dataset.name} are not by encoder {encoder.name!r}, so its token vectors do not belong"
                " to them: give their encoder with --encoder, or --no-late-interaction"
            )
        key = hashlib.sha256(f"{encoder.weights_sha256} {dataset.name}".encode()).hexdigest()[:16]
        folder = self.cache / f"tokens-{re.sub(r'[^A-Za-z0-9_-]+', '-', dataset.name)}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        with open_checkpoint(folder, encoder, with_tokens=True) as cached:
            yield TokensOnDemand(encoder, dataset, cached)


class TokensOnDemand:
    """The token vectors of a data set's documents and queries."""

    def __init__(self, encoder: Encoder, dataset: Dataset, cached: EmbeddingCheckpoint) -> None:
        self._encoder = encoder
        self._texts = dataset.texts
        self._cached = cached
        self._codes: dict[int, TokenCodes] = {}
        self._queries: dict[str, QueryTokens] = {}

    def codes(self, rows: Rows) -> list[TokenCodes]:
        """Return the codes of n documents, (tokens, bytes) uint8 each."""
        missing = [row for row in dict.fromkeys(rows.tolist()) if row not in self._codes]
        texts = [self._texts.documents[row] for row in missing]
        found, known = self._cached.lookup(texts)
        assert found.tokens is not None
        self._codes.update((row, found.tokens[index]) for index, row in enumerate(missing) if known[index])
        unknown = [index for index in range(len(missing)) if not known[index]]
        if unknown:
            encoded = self._encoder.encode_all_passages([texts[index] for index in unknown], with_tokens=True)
            assert encoded.tokens is not None
            self._cached.add([texts[index] for index in unknown], encoded)
            self._cached.commit()
            self._codes.update((missing[index], codes) for index, codes in zip(unknown, encoded.tokens, strict=True))
        return [self._codes[row] for row in rows.tolist()]

    def of_queries(self, texts: Sequence[str]) -> list[QueryTokens]:
        """Return the token vectors of n queries."""
        unknown = [text for text in dict.fromkeys(texts) if text not in self._queries]
        for text in unknown:
            # alone, as a label is encoded
            [encoded] = self._encoder.encode_for_search([text], with_tokens=True)
            assert encoded.tokens is not None
            self._queries[text] = encoded.tokens
        return [self._queries[text] for text in texts]
