"""Exports a model for ONNX Runtime: export, compare with torch, quantize, measure. Runs as a separate process:

python -m semsearch.encoders.onnx_export MODEL_FOLDER CACHE_ENTRY
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semsearch.encoders.locate import ModelLocation
from semsearch.encoders.onnx_cache import (
    ABOUT,
    GRAPHS,
    TOKENIZER,
    ExportRecord,
    speed_file,
)
from semsearch.encoders.onnx_runtime import OnnxRuntime
from semsearch.encoders.runtime import Batch, Kind, ModelInfo, Runtime
from semsearch.encoders.speed import measure
from semsearch.encoders.torch_runtime import TorchRuntime
from semsearch.errors import EncoderError, first_line
from semsearch.system.files import atomic_write, sha256
from semsearch.system.threads import available_cores
from semsearch.types import unit_rows

MIN_COSINE = {"onnx": (0.9999, 0.9999), "onnx-int8": (0.95, 0.985)}
"""By runtime, lowest and mean cosine of its vectors and torch's for the probe texts below which it is refused."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs that a graph may have."""
MAX_WEIGHT_BYTES = 1_500_000_000
"""A file of ONNX holds at most 2 GB."""

PROBES = (
    "how do I reset my PIN",
    "Refund",
    "  spaces   around,\tand\nlines between  ",
    "WHAT IS THE AIRSPEED OF AN UNLADEN SWALLOW?",
    "def f(x): return {k: v**2 for k, v in x.items()}",
    "Größenänderung naïve façade Škoda",
    "数据库索引如何工作",
    "كيف يعمل البحث",
    "😀 🚀 e=mc² 3.14 1,000,000",
    "",
    "A passage of a few sentences. The second one says more than the first. The third one only ends it.",
    "word " * 1_000,
    "The quick brown fox jumps over the lazy dog, and no one knows why it would want to. " * 8,
)
"""Texts on which tokenizers and models differ: short, long, beyond the window, of several scripts, empty."""


def export(folder: Path, entry: Path) -> None:
    """Write the cache entry that `onnx_cache.open_cached` reads; it appears once it is complete.

    Raises EncoderError if the model cannot be loaded, OSError.
    """
    model = TorchRuntime.open(ModelLocation(str(folder)), name=str(folder), device="cpu", threads=None, reason="")
    if not (entry / ABOUT).exists():
        with tempfile.TemporaryDirectory(prefix=".", dir=entry.parent) as name:
            record = _write_graphs(model, Path(name))
            (Path(name) / ABOUT).write_text(record.model_dump_json(indent=2), encoding="utf-8")
            shutil.rmtree(entry, ignore_errors=True)
            Path(name).rename(entry)
    record = ExportRecord.model_validate_json((entry / ABOUT).read_bytes())
    usable = [name for name in record.sha256 if name not in record.refused]
    runtimes = {name: _open_graph(entry, name, model.info, record.pad) for name in usable}
    measured = measure({"torch": model, **runtimes})
    with atomic_write(entry / speed_file()) as file:
        file.write_text(measured.model_dump_json(indent=2), encoding="utf-8")


def _write_graphs(model: TorchRuntime, folder: Path) -> ExportRecord:
    """Write the model's tokenizer and graphs, and compare the graphs with the model."""
    info = model.info
    info.tokenizer.save(str(folder / TOKENIZER))
    pad = int(getattr(model.model.tokenizer, "pad_token_id", 0) or 0)
    refused: dict[str, str] = {}
    cosines: dict[str, tuple[float, float]] = {}
    exporters: dict[str, Callable[[], None]] = {
        "onnx": lambda: _export(model, folder / GRAPHS["onnx"]),
        "onnx-int8": lambda: _quantize(folder / GRAPHS["onnx"], folder / GRAPHS["onnx-int8"]),
    }
    for name, write in exporters.items():
        if refused:
            refused[name] = refused["onnx"]
            continue
        try:
            write()
            cosines[name] = _compare(model, _open_graph(folder, name, info, pad))
        except Exception as error:  # noqa: BLE001 - an exporter may raise anything; torch still runs the model
            refused[name] = f"it cannot be exported to ONNX ({first_line(error)[:300]})"
            continue
        if not all(np.array(cosines[name]) >= MIN_COSINE[name]):
            refused[name] = f"exported to ONNX it gives other vectors (cosine {cosines[name][0]:.5f})"
    return ExportRecord(
        weights_sha256=info.weights_sha256,
        configuration_sha256=info.configuration_sha256,
        dimension=info.dimension,
        window=info.window,
        prompts=info.prompts,
        pools_by_mean=info.pools_by_mean,
        pad=pad,
        refused=refused,
        cosine=cosines,
        sha256={name: sha256(folder / GRAPHS[name]) for name in cosines},
        tokenizer_sha256=sha256(folder / TOKENIZER),
    )


def _open_graph(folder: Path, name: str, info: ModelInfo, pad: int) -> OnnxRuntime:
    return OnnxRuntime(folder / GRAPHS[name], info, name=name, reason="", threads=available_cores(), pad=pad)


class _TensorModel(torch.nn.Module):
    """A sentence-transformers model as a function of tensors."""

    def __init__(self, model: torch.nn.Module, names: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.outputs = outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = self.model(dict(zip(self.names, tensors, strict=True)))
        return tuple(results[name] for name in self.outputs)


def _export(model: TorchRuntime, path: Path) -> None:
    """Write the model as an ONNX graph with a variable number of texts and tokens.

    Raises ValueError if the model has other inputs than tokens, and whatever torch raises.
    """
    pair = _batch(model.info, "query", ["two texts", "so that no dimension is fixed to one"])
    features = model.features(pair)
    names = [name for name in INPUTS if name in features]
    others = {name for name, value in features.items() if isinstance(value, torch.Tensor)} - set(names)
    if others or "attention_mask" not in names:
        raise ValueError(f"it reads {', '.join(sorted(others)) or 'no attention mask'}")
    if model.model.truncate_dim is not None:
        raise ValueError("its vectors are truncated")
    size = sum(value.numel() * value.element_size() for value in model.model.state_dict().values())
    if size > MAX_WEIGHT_BYTES:
        raise ValueError(f"its weights take {size / 1e9:.1f} GB, more than one file of ONNX holds")
    outputs = ["sentence_embedding", "token_embeddings"]
    texts, tokens = torch.export.Dim("texts"), torch.export.Dim("tokens")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _TensorModel(model.model, names, outputs).eval(),
            tuple(features[name] for name in names),
            dynamo=True,
            input_names=names,
            output_names=outputs,
            # one for each tensor of `*tensors`, which is one argument
            dynamic_shapes=(tuple({0: texts, 1: tokens} for _ in names),),
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


def _quantize(graph: Path, path: Path) -> None:
    """Write the graph with matrix products in 8-bit integers, one scale per column; embeddings keep their precision.

    Raises whatever ONNX Runtime raises.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        graph, path, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
    )


def _batch(info: ModelInfo, kind: Kind, texts: Sequence[str]) -> Batch:
    return Batch.of(kind, info.prompts[kind], texts, info)


def _compare(model: TorchRuntime, graph: Runtime) -> tuple[float, float]:
    """Lowest and mean cosine of the probes' vectors by sentence-transformers and by a graph.

    The probes are encoded as queries and as documents, in one batch and alone; the means of the graph's token vectors
    are compared too. (-1, -1) if the graph's vectors are not finite.
    """
    info, probes = model.info, list(PROBES)
    encoders: dict[Kind, Any] = {"query": model.model.encode_query, "document": model.model.encode_document}
    cosines: list[float] = []
    for kind, encode in encoders.items():
        expected = unit_rows(encode(probes, convert_to_numpy=True, show_progress_bar=False))
        batch = _batch(info, kind, probes)
        together = unit_rows(graph.vectors(batch))
        alone = np.concatenate([unit_rows(graph.vectors(batch.part([row]))) for row in range(len(probes))])
        for vectors in (together, alone):
            cosines += (vectors * expected).sum(axis=1).tolist()
    if info.pools_by_mean:
        batch = _batch(info, "document", probes)
        means = unit_rows(np.stack([rows.mean(axis=0) for rows in graph.tokens(batch)]))
        cosines += (means * unit_rows(graph.vectors(batch))).sum(axis=1).tolist()
    return (min(cosines), float(np.mean(cosines))) if np.isfinite(cosines).all() else (-1.0, -1.0)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    try:
        export(Path(sys.argv[1]), Path(sys.argv[2]))
    except (EncoderError, OSError) as error:
        sys.exit(first_line(error))
