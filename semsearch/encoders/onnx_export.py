"""Makes a model ready for ONNX Runtime: export, check against torch, quantise, measure. Run as a process of its own:

python -m semsearch.encoders.onnx_export MODEL_FOLDER PREPARED_FOLDER
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from semsearch.encoders.locate import ModelLocation
from semsearch.encoders.onnx_cache import (
    ABOUT,
    GRAPHS,
    TOKENIZER,
    ExportRecord,
    Speed,
    SpeedRecord,
    machine,
    speed_file,
)
from semsearch.encoders.onnx_runtime import OnnxRuntime
from semsearch.encoders.runtime import Batch, Kind, ModelInfo, Runtime
from semsearch.encoders.torch_runtime import TorchRuntime
from semsearch.errors import EncoderError, first_line
from semsearch.system.files import atomic_write, sha256
from semsearch.system.threads import available_cores
from semsearch.types import unit_rows

TRUSTED = {"onnx": (0.9999, 0.9999), "onnx-int8": (0.95, 0.985)}
"""Cosines between a probe's vectors by torch and by another runtime, the lowest and the mean, below which that one is
not trusted."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What a graph may read of a batch."""
LARGEST_BYTES = 1_500_000_000
"""Of a model in one file: ONNX keeps no more than twice a gigabyte in one."""

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
    "The quick brown fox jumps over the lazy dog, and nobody knows why it would want to. " * 8,
)
"""Of every kind that makes tokenizers and models differ: short, long, beyond the window, of several scripts, empty."""

QUERY = "how do I reset my lost card pin"
BATCHES = (1, 4, 16, 32)
"""Queries in the batches that are measured."""
ROUNDS = 3
SECONDS = 0.2
"""Of each measurement in each round."""
LONE = 10
"""Lone queries in each round."""
NEARLY = 0.97


def export(folder: Path, home: Path) -> None:
    """Write all that `prepared.open_prepared` reads; nothing appears before it is whole.

    Raises EncoderError if the model cannot be loaded, OSError.
    """
    model = TorchRuntime.open(ModelLocation(str(folder)), name=str(folder), device="cpu", threads=None, why="")
    if not (home / ABOUT).exists():
        with tempfile.TemporaryDirectory(prefix=".", dir=home.parent) as name:
            about = _made(model, Path(name))
            (Path(name) / ABOUT).write_text(about.model_dump_json(indent=2), encoding="utf-8")
            shutil.rmtree(home, ignore_errors=True)
            Path(name).rename(home)
    about = ExportRecord.model_validate_json((home / ABOUT).read_bytes())
    runtimes = {name: _graph(home, name, model.info, about.pad) for name in about.sha256 if name not in about.refused}
    measured = SpeedRecord(machine=machine(), speeds=measure_speeds({"torch": model, **runtimes}))
    with atomic_write(home / speed_file()) as file:
        file.write_text(measured.model_dump_json(indent=2), encoding="utf-8")


def _made(model: TorchRuntime, into: Path) -> ExportRecord:
    """Write the model's tokenizer and graphs."""
    facts = model.info
    facts.tokenizer.save(str(into / TOKENIZER))
    pad = int(getattr(model.model.tokenizer, "pad_token_id", 0) or 0)
    refused: dict[str, str] = {}
    cosines: dict[str, tuple[float, float]] = {}
    makers: dict[str, Callable[[], None]] = {
        "onnx": lambda: _export(model, into / GRAPHS["onnx"]),
        "onnx-int8": lambda: _quantise(into / GRAPHS["onnx"], into / GRAPHS["onnx-int8"]),
    }
    for name, make in makers.items():
        if refused:
            refused[name] = refused["onnx"]
            continue
        try:
            make()
            cosines[name] = _agreement(model, _graph(into, name, facts, pad))
        except Exception as error:  # noqa: BLE001 - whatever an exporter says of a model, torch still runs it
            refused[name] = f"it cannot be a graph of ONNX ({first_line(error)[:300]})"
            continue
        if not all(np.array(cosines[name]) >= TRUSTED[name]):
            refused[name] = f"as a graph of ONNX it gives other vectors (cosine {cosines[name][0]:.5f})"
    return ExportRecord(
        weights_sha256=facts.weights_sha256,
        dimension=facts.dimension,
        window=facts.window,
        prompts=facts.prompts,
        pools_by_mean=facts.pools_by_mean,
        pad=pad,
        refused=refused,
        cosine=cosines,
        sha256={name: sha256(into / GRAPHS[name]) for name in cosines},
    )


def _graph(folder: Path, name: str, facts: ModelInfo, pad: int) -> OnnxRuntime:
    return OnnxRuntime(folder / GRAPHS[name], facts, name=name, why="", threads=available_cores(), pad=pad)


class _AsGraph(torch.nn.Module):
    """A sentence-transformers model as a function of tensors."""

    def __init__(self, model: torch.nn.Module, names: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.outputs = outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(dict(zip(self.names, tensors, strict=True)))
        return tuple(found[name] for name in self.outputs)


def _export(model: TorchRuntime, path: Path) -> None:
    """Write the model as a graph of ONNX, of which texts and tokens may be as many as they like.

    Raises ValueError where it reads anything but tokens, and whatever torch raises.
    """
    pair = _batch(model.info, "query", ["two texts", "so that neither size is fixed to one"])
    features = model.features(pair)
    names = [name for name in INPUTS if name in features]
    others = {name for name, value in features.items() if isinstance(value, torch.Tensor)} - set(names)
    if others or "attention_mask" not in names:
        raise ValueError(f"it reads {', '.join(sorted(others)) or 'no attention mask'}")
    if model.model.truncate_dim is not None:
        raise ValueError("its vectors are cut")
    size = sum(value.numel() * value.element_size() for value in model.model.state_dict().values())
    if size > LARGEST_BYTES:
        raise ValueError(f"its weights take {size / 1e9:.1f} GB, more than one file of ONNX holds")
    outputs = ["sentence_embedding", "token_embeddings"]
    texts, tokens = torch.export.Dim("texts"), torch.export.Dim("tokens")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _AsGraph(model.model, names, outputs).eval(),
            tuple(features[name] for name in names),
            dynamo=True,
            input_names=names,
            output_names=outputs,
            # one for each of the tensors, which are one argument
            dynamic_shapes=(tuple({0: texts, 1: tokens} for _ in names),),
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


def _quantise(graph: Path, path: Path) -> None:
    """Write the graph with its matrix products in 8-bit integers, a scale for each column; embeddings stay as they
    are. Raises whatever ONNX Runtime raises."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        graph, path, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
    )


def _batch(facts: ModelInfo, kind: Kind, texts: Sequence[str]) -> Batch:
    return Batch.of(kind, facts.prompts[kind], texts, facts)


def _agreement(model: TorchRuntime, graph: Runtime) -> tuple[float, float]:
    """The lowest and the mean cosine between probes' vectors by sentence-transformers itself and by a graph, both as
    queries and as documents, together and alone; -1 where the graph's are no vectors, or its tokens are not the
    model's."""
    facts, probes = model.info, list(PROBES)
    found: list[float] = []
    for kind, encode in (("query", model.model.encode_query), ("document", model.model.encode_document)):
        expected = unit_rows(encode(probes, convert_to_numpy=True, show_progress_bar=False))
        asked: Kind = "query" if kind == "query" else "document"
        batch = _batch(facts, asked, probes)
        parts = [batch, *(batch.part([place]) for place in range(len(probes)))]
        vectors = [unit_rows(graph.vectors(part)) for part in parts]
        for its in (vectors[0], np.concatenate(vectors[1:])):
            found += (its * expected).sum(axis=1).tolist()
    if facts.pools_by_mean:
        batch = _batch(facts, "document", probes)
        means = unit_rows(np.stack([rows.mean(axis=0) for rows in graph.tokens(batch)]))
        found += (means * unit_rows(graph.vectors(batch))).sum(axis=1).tolist()
    return (min(found), float(np.mean(found))) if np.isfinite(found).all() else (-1.0, -1.0)


def measure_speeds(runtimes: Mapping[str, Runtime]) -> dict[str, Speed]:
    """How fast each is with queries of ten tokens; all in turns, so that what else the machine does hits all alike."""
    lone: dict[str, list[float]] = {name: [] for name in runtimes}
    rates: dict[tuple[str, int], list[float]] = {(name, size): [] for name in runtimes for size in BATCHES}
    batches = {size: _batch(next(iter(runtimes.values())).info, "query", [QUERY] * size) for size in BATCHES}
    for _ in range(ROUNDS):
        for name, runtime in runtimes.items():
            lone[name] += [_seconds(lambda its=runtime: its.vectors(batches[1])) for _ in range(LONE)]  # type: ignore[misc]
            for size in BATCHES:
                rates[name, size].append(_rate(runtime, batches[size]))
    tokens = len(batches[1].encodings[0].ids)
    found = {}
    for name in runtimes:
        by_size = {size: float(np.median(rates[name, size])) for size in BATCHES}
        best = max(by_size.values())
        enough = next(size for size in BATCHES if by_size[size] >= NEARLY * best)
        # a batch takes some time whatever is in it, and some for every token: two sizes tell both
        lone_s, full_s = float(np.median(lone[name])), BATCHES[-1] * runtimes[name].workers / by_size[BATCHES[-1]]
        token_s = max(1e-9, (full_s - lone_s) / ((BATCHES[-1] - 1) * tokens))
        found[name] = Speed(
            lone_ms=round(1000 * lone_s, 3),
            rate=round(best, 1),
            batch_tokens=enough * tokens,
            overhead_tokens=max(0, round(lone_s / token_s - tokens)),
        )
    return found


def _seconds(call: Callable[[], Any]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def _rate(runtime: Runtime, batch: Batch) -> float:
    """Texts a second, by as many threads as the runtime wants."""
    done: list[int] = []
    started = perf_counter()

    def go() -> None:
        many = 0
        while perf_counter() < started + SECONDS:
            runtime.vectors(batch)
            many += len(batch.texts)
        done.append(many)

    threads = [threading.Thread(target=go) for _ in range(runtime.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (perf_counter() - started)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    try:
        export(Path(sys.argv[1]), Path(sys.argv[2]))
    except (EncoderError, OSError) as error:
        sys.exit(first_line(error))
