"""What an encoder asks of the library that runs its model."""

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
"""What a model is run by. `auto`: the fastest that gives what torch gives; `fastest`: also in 8-bit integers, where
this processor gains from them."""


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """What is known of a model without running it."""

    weights_sha256: str
    """Over names, types, shapes and bytes of all parameters as loaded, whatever file they came from."""
    dimension: int
    window: int
    """Tokens that the model reads of a text, its special tokens included; the rest is cut."""
    prompts: Mapping[str, str]
    """What stands before queries and before documents, unless something else is asked for."""
    pools_by_mean: bool
    """Whether a text's vector is the mean of its tokens' vectors."""
    tokenizer: Tokenizer
    """The model's own, which neither cuts nor pads."""

    @cached_property
    def cutting(self) -> Tokenizer:
        """The model's tokenizer, cutting to its window."""
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
    """Of the texts with the prompt and the special tokens, cut to the model's window."""

    @classmethod
    def of(cls, kind: Kind, prompt: str, texts: Sequence[str], facts: ModelInfo) -> Self:
        """Texts as a model reads them."""
        return cls(kind, prompt, texts, facts.cutting.encode_batch([prompt + text for text in texts]))

    @property
    def lengths(self) -> Rows:
        """(n,) int64, number of tokens of each text as the model reads it."""
        return np.array([len(encoding.ids) for encoding in self.encodings], np.int64)

    def part(self, rows: Sequence[int]) -> Self:
        """The texts in these places."""
        texts, encodings = [self.texts[row] for row in rows], [self.encodings[row] for row in rows]
        return type(self)(self.kind, self.prompt, texts, encodings)


class Runtime(Protocol):
    """A model in memory. All methods may be called on several threads at once."""

    @property
    def name(self) -> str:
        """`torch`, `onnx` or `onnx-int8`."""

    @property
    def reason(self) -> str:
        """Why it is this one, for people to read."""

    @property
    def info(self) -> ModelInfo:
        """What is known of the model."""

    @property
    def workers(self) -> int:
        """Calls at a time by which the machine is used best: more of them gain nothing."""

    @property
    def query_tokens(self) -> int:
        """Tokens of a batch of queries, padding included, beyond which a larger one gains nothing."""

    @property
    def document_tokens(self) -> int:
        """As `query_tokens`, of passages."""

    @property
    def overhead_tokens(self) -> int:
        """Tokens that cost as much as a batch does beside its tokens."""

    def vectors(self, batch: Batch) -> Vectors:
        """(n, dim) float32, not of unit length. Raises RuntimeError where the library fails."""

    def tokens(self, batch: Batch) -> list[Vectors]:
        """Of each text (tokens, dim) float32. Raises RuntimeError, KeyError or ValueError where the model has none."""
