"""Encoders from objects of the caller."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers

from semsearch.encoders.encoder import Encoder
from semsearch.encoders.locate import CUSTOM_PREFIX
from semsearch.encoders.runtime import Batch, ModelInfo
from semsearch.errors import EncoderError
from semsearch.types import Vectors

WINDOW = 256
"""Default window in words, if the object has no `window`."""
BATCH_WORDS = 8_192
"""Words per call of the object."""


@runtime_checkable
class TextEncoder(Protocol):
    """An object that can serve as encoder. It may also have a `name: str` and a `window: int`, in words."""

    dimension: int

    def encode_queries(self, texts: Sequence[str], /) -> npt.ArrayLike:
        """Return vectors of n queries, (n, dimension). They need not have unit length."""

    def encode_documents(self, texts: Sequence[str], /) -> npt.ArrayLike:
        """Return vectors of n passages, (n, dimension)."""


def from_object(encoder: TextEncoder) -> Encoder:
    """Return an encoder that calls the object, on one thread at a time.

    An index records the object's `name`, by default the name of its class, and its dimension. They must be the same
    when the index is opened again, because the object's weights cannot be checked. Raises EncoderError if the object
    does not have the methods of `TextEncoder`.
    """
    if not isinstance(encoder, TextEncoder):
        raise EncoderError(
            f"{encoder!r} cannot serve as encoder: it needs encode_queries(texts), encode_documents(texts) and"
            " dimension"
        )
    name = f"{CUSTOM_PREFIX}{getattr(encoder, 'name', type(encoder).__qualname__)}"
    return Encoder(_ObjectRuntime(encoder, name), name=name)


class _ObjectRuntime:
    """Runs an object that encodes texts. Its tokens are words."""

    name = "object"
    reason = "the encoder is an object of the caller"
    workers = 1
    query_tokens = BATCH_WORDS
    document_tokens = BATCH_WORDS
    overhead_tokens = BATCH_WORDS
    """Large, so that texts of different lengths are encoded in one call."""

    def __init__(self, encoder: TextEncoder, name: str) -> None:
        self._encoder = encoder
        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 (not a password)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.info = ModelInfo(
            weights_sha256=hashlib.sha256(f"{name} {encoder.dimension}".encode()).hexdigest(),
            configuration_sha256=None,
            dimension=encoder.dimension,
            window=int(getattr(encoder, "window", WINDOW)),
            prompts={"query": "", "document": ""},
            pools_by_mean=False,
            tokenizer=tokenizer,
        )

    def vectors(self, batch: Batch) -> Vectors:
        """Return (n, dim) float32, not of unit length. Raises EncoderError if the object returns another shape."""
        encode = self._encoder.encode_queries if batch.kind == "query" else self._encoder.encode_documents
        vectors = np.asarray(encode([batch.prompt + text for text in batch.texts]), np.float32)
        if vectors.shape != (len(batch.texts), self.info.dimension):
            raise EncoderError(
                f"the encoder returned vectors of shape {vectors.shape} for {len(batch.texts)} texts, not"
                f" ({len(batch.texts)}, {self.info.dimension}): return one row for each text"
            )
        return vectors

    def tokens(self, _batch: Batch) -> list[Vectors]:
        """Never called, because `pools_by_mean` is False."""
        raise KeyError("an encoder object has no token vectors")

    def vectors_and_tokens(self, batch: Batch) -> tuple[Vectors, list[Vectors]]:
        """Never called, because `pools_by_mean` is False."""
        return self.vectors(batch), self.tokens(batch)

    def release_memory(self) -> None:
        """Do nothing: the memory is the object's own."""
