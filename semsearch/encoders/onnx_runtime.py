"""A prepared model run by ONNX Runtime on a CPU: one thread a call, as many calls at once as there are cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from semsearch.encoders.runtime import Batch, ModelInfo
from semsearch.types import Vectors

DOCUMENT_TOKENS = 1_024
"""A passage costs the least in batches of about so many tokens: in larger ones a core's cache no longer holds them."""


class OnnxRuntime:
    """A graph that gives texts' vectors and their tokens'."""

    def __init__(
        self,
        graph: Path,
        facts: ModelInfo,
        *,
        name: str,
        why: str,
        threads: int,
        pad: int,
        query_tokens: int = 1,
        overhead_tokens: int = 0,
    ) -> None:
        """Load a graph. Raises RuntimeError where ONNX Runtime cannot. pad: token that fills up short texts."""
        options = onnxruntime.SessionOptions()
        # each call computes on the thread that makes it: that beats calls that share their threads
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own exceptions have no base but this
            raise RuntimeError(str(error)) from error
        self._inputs = [one.name for one in self._session.get_inputs()]
        self._pad = pad
        self.name = name
        self.reason = why
        self.info = facts
        self.workers = threads
        self.query_tokens = query_tokens
        self.document_tokens = DOCUMENT_TOKENS
        self.overhead_tokens = overhead_tokens

    def vectors(self, batch: Batch) -> Vectors:
        """(n, dim) float32, not of unit length. Raises RuntimeError where ONNX Runtime fails."""
        [vectors] = self._run("sentence_embedding", batch)
        found: Vectors = vectors
        return found

    def tokens(self, batch: Batch) -> list[Vectors]:
        """Of each text (tokens, dim) float32. Raises RuntimeError where the graph does not give them."""
        [rows] = self._run("token_embeddings", batch)
        return [its[: len(encoding.ids)] for its, encoding in zip(rows, batch.encodings, strict=True)]

    def _run(self, output: str, batch: Batch) -> list[Any]:
        many = len(batch.encodings)
        lengths = [len(encoding.ids) for encoding in batch.encodings]
        ids = np.full((many, max(lengths)), self._pad, np.int64)
        mask = np.zeros_like(ids)
        types = np.zeros_like(ids)
        for row, (encoding, length) in enumerate(zip(batch.encodings, lengths, strict=True)):
            ids[row, :length] = encoding.ids
            mask[row, :length] = 1
            types[row, :length] = encoding.type_ids
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        try:
            return self._session.run([output], {name: values[name] for name in self._inputs})  # type: ignore[no-any-return]
        except Exception as error:  # its own exceptions have no base but this
            raise RuntimeError(str(error)) from error
