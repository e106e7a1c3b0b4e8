"""The interface between an encoder and the library that runs its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, Self, TypeAlias

import numpy as np
from tokenizers import Encoding, Tokenizer

from semsearch.types import Rows, Vectors

Kind: TypeAlias = Literal["query", "document"]

RuntimeChoice: TypeAlias = Literal["auto", "fastest", "torch", "onnx", "onnx-int8"]
"""The library that runs a model. `auto`: the fastest whose vectors equal those of torch; `fastest`: also with 8-bit
integers, if they are faster on this processor."""


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """A model's properties and its tokenizer."""

    weights_sha256: str
    """Of names, types, shapes and bytes of all parameters as loaded, whatever file they came from."""
    configuration_sha256: str | None
    """Of the tokenizer and the modules, see `encoders.configuration`; None for an object of the caller."""
    dimension: int
    window: int
    """Number of tokens that the model reads of a text, special tokens included; the rest is cut."""
    prompts: Mapping[str, str]
    """Default prefixes of queries and of documents."""
    pools_by_mean: bool
    """Whether a text's vector is the mean of its tokens' vectors."""
    tokenizer: Tokenizer
    """The model's own, without truncation and padding."""

    @cached_property
    def truncating_tokenizer(self) -> Tokenizer:
        """The model's tokenizer with truncation to its window."""
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.enable_truncation(self.window)
        return tokenizer


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts that go through the model together."""

    kind: Kind
    prompt: str
    texts: Sequence[str]
    """Without the prompt."""
    encodings: Sequence[Encoding]
    """Of prompt + text, with special tokens, truncated to the model's window."""

    @classmethod
    def of(cls, kind: Kind, prompt: str, texts: Sequence[str], info: ModelInfo) -> Self:
        """Tokenize texts for a model."""
        return cls(kind, prompt, texts, info.truncating_tokenizer.encode_batch([prompt + text for text in texts]))

    @property
    def lengths(self) -> Rows:
        """(n,) int64, number of tokens of each text as the model reads it."""
        return np.array([len(encoding.ids) for encoding in self.encodings], np.int64)

    def part(self, rows: Sequence[int]) -> Self:
        """The batch of the texts at these indices."""
        texts, encodings = [self.texts[row] for row in rows], [self.encodings[row] for row in rows]
        return type(self)(self.kind, self.prompt, texts, encodings)


class Runtime(Protocol):
    """A model in memory. All methods may be called on several threads at once."""

    @property
    def name(self) -> str:
        """`torch`, `onnx` or `onnx-int8`."""

    @property
    def reason(self) -> str:
        """Why this runtime was selected, for users to read."""

    @property
    def info(self) -> ModelInfo:
        """The model's properties."""

    @property
    def workers(self) -> int:
        """Number of concurrent calls that use the machine fully."""

    @property
    def query_tokens(self) -> int:
        """Tokens of a batch of queries, padding included, beyond which throughput does not grow."""

    @property
    def document_tokens(self) -> int:
        """As `query_tokens`, of passages."""

    @property
    def overhead_tokens(self) -> int:
        """The fixed cost of a batch, in tokens."""

    def vectors(self, batch: Batch) -> Vectors:
        """(n, dim) float32, not of unit length. Raises RuntimeError if the library fails."""

    def tokens(self, batch: Batch) -> list[Vectors]:
        """Token vectors of each text, (tokens, dim) float32.

        Raises RuntimeError, KeyError or ValueError if the model has none."""

    def vectors_and_tokens(self, batch: Batch) -> tuple[Vectors, list[Vectors]]:
        """Return what `vectors` and `tokens` return, for the cost of one of them. Raises as they do."""

    def release_memory(self) -> None:
        """Return memory that the library keeps for later calls; the next call allocates it again.

        Raises RuntimeError if the library fails.
        """
