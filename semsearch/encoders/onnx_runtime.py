"""Runs an exported model with ONNX Runtime on a CPU: one thread per call, and as many calls at once as cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from semsearch.encoders.runtime import Batch, ModelInfo
from semsearch.types import Rows, Vectors

DOCUMENT_TOKENS = 1_024
"""Batches of about this many tokens cost the least per passage: larger ones do not fit a core's cache."""


class OnnxRuntime:
    """A graph whose outputs are text vectors and token vectors."""

    def __init__(
        self,
        graph: Path,
        info: ModelInfo,
        *,
        name: str,
        reason: str,
        threads: int,
        pad: int,
        query_tokens: int = 1,
        overhead_tokens: int = 0,
    ) -> None:
        """Load a graph. pad: id of the padding token. Raises RuntimeError if ONNX Runtime cannot load it."""
        options = onnxruntime.SessionOptions()
        # a call computes on its own thread: faster than calls that share a thread pool
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # plans of memory are kept for each shape of a batch, and passages have thousands of shapes
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no narrower base class
            raise RuntimeError(str(error)) from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._pad = pad
        self.name = name
        self.reason = reason
        self.info = info
        self.workers = threads
        self.query_tokens = query_tokens
        self.document_tokens = DOCUMENT_TOKENS
        self.overhead_tokens = overhead_tokens

    def vectors(self, batch: Batch) -> Vectors:
        """(n, dim) float32, not of unit length. Raises RuntimeError if ONNX Runtime fails."""
        vectors: Vectors
        [vectors] = self._run(batch, "sentence_embedding")
        return vectors

    def tokens(self, batch: Batch) -> list[Vectors]:
        """Token vectors of each text, (tokens, dim) float32. Raises RuntimeError if ONNX Runtime fails."""
        [padded] = self._run(batch, "token_embeddings")
        return _without_padding(padded, batch)

    def vectors_and_tokens(self, batch: Batch) -> tuple[Vectors, list[Vectors]]:
        """Return what `vectors` and `tokens` return. Raises RuntimeError if ONNX Runtime fails."""
        vectors, padded = self._run(batch, "sentence_embedding", "token_embeddings")
        return vectors, _without_padding(padded, batch)

    def release_memory(self) -> None:
        """Return the buffers of past batches to the system. Raises RuntimeError if ONNX Runtime fails."""
        # its arena can be shrunk only at the end of a run: that of one token costs a millisecond
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        token = np.full((1, 1), self._pad, np.int64)
        values = {"input_ids": token, "attention_mask": np.ones_like(token), "token_type_ids": np.zeros_like(token)}
        self._call(["sentence_embedding"], values, options)

    def _run(self, batch: Batch, *outputs: str) -> list[Any]:
        lengths = batch.lengths
        ids = np.full((len(lengths), lengths.max()), self._pad, np.int64)
        mask = np.zeros_like(ids)
        types = np.zeros_like(ids)
        for row, (encoding, length) in enumerate(zip(batch.encodings, lengths, strict=True)):
            ids[row, :length] = encoding.ids
            mask[row, :length] = 1
            types[row, :length] = encoding.type_ids
        return self._call(outputs, {"input_ids": ids, "attention_mask": mask, "token_type_ids": types})

    def _call(
        self, outputs: Sequence[str], values: Mapping[str, Rows], options: onnxruntime.RunOptions | None = None
    ) -> list[Any]:
        try:
            results: list[Any] = self._session.run(outputs, {name: values[name] for name in self._inputs}, options)
        except Exception as error:  # its exceptions have no narrower base class
            raise RuntimeError(str(error)) from error
        return results


def _without_padding(padded: Vectors, batch: Batch) -> list[Vectors]:
    return [rows[:length] for rows, length in zip(padded, batch.lengths, strict=True)]
