"""Runs a model with sentence-transformers: on a CPU, or on a GPU in half precision."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer

from semsearch.encoders.configuration import check_vocabulary, configuration_sha256
from semsearch.encoders.locate import DEFAULT_MODEL, ModelLocation
from semsearch.encoders.runtime import Batch, ModelInfo
from semsearch.errors import EncoderError, first_line
from semsearch.system.threads import available_cores, limit_threads
from semsearch.types import Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_WINDOW = 256
"""Tokens that are read of a text if the model sets no limit."""
TOKENS_ON_CPU = 1_024
TOKENS_ON_GPU = 16_384
OVERHEAD_ON_CPU = 30
OVERHEAD_ON_GPU = 4_096
"""The fixed cost of a batch, in tokens: some milliseconds, in which a GPU encodes thousands."""
PROBE = "Whether the mean of these tokens is the vector of the text."


class TorchRuntime:
    """Any model that sentence-transformers can load, on any torch device."""

    name = "torch"

    def __init__(self, model: SentenceTransformer, *, name: str, reason: str) -> None:
        """Wrap a loaded model. Raises EncoderError if it has no tokenizer, or that of another model."""
        self.model = model.eval()
        self.reason = reason
        self._on_gpu = model.device.type == "cuda"
        # on a GPU one worker tokenizes and copies a batch while the other's batch runs
        self.workers = 2 if self._on_gpu else 1
        self.query_tokens = self.document_tokens = TOKENS_ON_GPU if self._on_gpu else TOKENS_ON_CPU
        self.overhead_tokens = OVERHEAD_ON_GPU if self._on_gpu else OVERHEAD_ON_CPU
        self._streams = threading.local()
        limit = model.max_seq_length
        window = int(limit) if limit and limit < 1_000_000 else DEFAULT_WINDOW
        tokenizer = _plain_tokenizer(model, name)
        check_vocabulary(model, tokenizer, name=name)
        probe = Batch("document", "", [PROBE], [tokenizer.encode(PROBE)])
        vector = self.vectors(probe)
        self.info = ModelInfo(
            weights_sha256=_weights_sha256(model),
            configuration_sha256=configuration_sha256(model, tokenizer, window=window),
            dimension=vector.shape[1],
            window=window,
            prompts={kind: model.prompts.get(kind) or "" for kind in ("query", "document")},
            pools_by_mean=self._pools_by_mean(probe, vector[0]),
            tokenizer=tokenizer,
        )

    @classmethod
    def open(cls, location: ModelLocation, *, name: str, device: str, threads: int | None, reason: str) -> TorchRuntime:
        """Load a model. Raises EncoderError if it cannot be found or is damaged."""
        from sentence_transformers import SentenceTransformer

        limit_threads(threads or available_cores())
        folder = location.folder
        try:
            with _without_progress_bars():
                model = SentenceTransformer(
                    location.path,
                    device=device,
                    revision=location.revision,
                    local_files_only=location.is_folder,
                )
            return cls(model, name=name, reason=reason)
        except EncoderError:
            raise
        except Exception as error:  # for damaged files the libraries raise errors without a common base class
            origin = "" if folder is None or str(folder) == name else f" from {folder}"
            raise EncoderError(
                f"encoder {name!r} could not be loaded{origin} ({first_line(error)}): check that its files are"
                " complete, or give the folder of a sentence-transformers model, the name of one that the model hub"
                f" has, or {DEFAULT_MODEL!r}, which needs no download"
            ) from error

    def vectors(self, batch: Batch) -> Vectors:
        """(n, dim) float32, not of unit length. Raises RuntimeError if torch fails."""
        [embeddings] = self._run(batch, "sentence_embedding")
        return self._vectors(embeddings)

    def tokens(self, batch: Batch) -> list[Vectors]:
        """Token vectors of each text, (tokens, dim) float32.

        Raises RuntimeError, KeyError or ValueError if the model has none."""
        tokens, masks = self._run(batch, "token_embeddings", "attention_mask")
        return _without_padding(tokens, masks)

    def vectors_and_tokens(self, batch: Batch) -> tuple[Vectors, list[Vectors]]:
        """Return what `vectors` and `tokens` return. Raises as they do."""
        embeddings, tokens, masks = self._run(batch, "sentence_embedding", "token_embeddings", "attention_mask")
        return self._vectors(embeddings), _without_padding(tokens, masks)

    def release_memory(self) -> None:
        """Return the memory that torch keeps on a GPU; on a CPU it keeps none."""
        if self._on_gpu:
            torch.cuda.empty_cache()

    def features(self, batch: Batch) -> dict[str, Any]:
        """The model's input for a batch, in the CPU's memory."""
        features: dict[str, Any] = self.model.preprocess(list(batch.texts), prompt=batch.prompt, task=batch.kind)
        return features

    def _vectors(self, embeddings: torch.Tensor) -> Vectors:
        vectors: Vectors = embeddings[:, : self.model.truncate_dim].float().numpy()
        return vectors

    def _run(self, batch: Batch, *outputs: str) -> list[torch.Tensor]:
        """The model's outputs of these names for a batch, in the CPU's memory."""
        features = self.features(batch)
        with torch.inference_mode():
            if not self._on_gpu:
                results = self.model(features, task=batch.kind)
                return [results[name] for name in outputs]
            # each calling thread has its own stream, so that one copies while another's batch runs
            if not hasattr(self._streams, "own"):
                self._streams.own = torch.cuda.Stream(self.model.device)  # type: ignore[no-untyped-call]
            # half precision doubles the throughput on CUDA and halves the memory; a CPU gains nothing
            with torch.cuda.stream(self._streams.own), torch.autocast("cuda", torch.float16):
                inputs = {name: self._to_device(value) for name, value in features.items()}
                results = self.model(inputs, task=batch.kind)
                copies = [_to_host(results[name]) for name in outputs]
            self._streams.own.synchronize()
            return copies

    def _to_device(self, value: Any) -> Any:
        """Start copying a tensor to the GPU, from pinned memory, so that the CPU need not wait."""
        if not isinstance(value, torch.Tensor):
            return value
        return value.pin_memory().to(self.model.device, non_blocking=True)

    def _pools_by_mean(self, batch: Batch, vector: Vectors) -> bool:
        """Whether a text's vector is the mean of its token vectors, tested on one text."""
        try:
            [rows] = self.tokens(batch)
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError):
            return False
        if rows.ndim != 2 or not len(rows):
            return False
        mean = rows.mean(axis=0)
        return bool(np.allclose(mean / np.linalg.norm(mean), vector / np.linalg.norm(vector), atol=1e-3))


def _without_padding(tokens: torch.Tensor, masks: torch.Tensor) -> list[Vectors]:
    return [rows[: int(mask.sum())].float().numpy() for rows, mask in zip(tokens, masks, strict=True)]


def _to_host(values: torch.Tensor) -> torch.Tensor:
    """Start copying a tensor from the GPU to pinned memory; it is complete when the stream is synchronized."""
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return pinned.copy_(values, non_blocking=True)


def _plain_tokenizer(model: SentenceTransformer, name: str) -> Tokenizer:
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", model.tokenizer)
    if not isinstance(tokenizer, Tokenizer):
        raise EncoderError(f"encoder {name!r} has no tokenizer.json, so its tokens cannot be counted: choose another")
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    return plain


def _weights_sha256(model: SentenceTransformer) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(model.state_dict().items()):
        values = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Suppress the progress bar that transformers shows while a model loads."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
