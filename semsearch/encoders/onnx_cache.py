"""The cache of models exported for ONNX Runtime, and of their speeds measured on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from semsearch.encoders.locate import ModelLocation, files_sha256
from semsearch.encoders.runtime import ModelInfo, Runtime, RuntimeChoice
from semsearch.system.extras import install_command
from semsearch.system.files import cache_folder, sha256
from semsearch.system.threads import available_cores

EXPORT_LIBRARIES = ("torch", "sentence-transformers", "onnxscript", "onnxruntime")
"""Libraries that a graph depends on: with other versions the model is exported and checked again."""
EXPORT_TIMEOUT_S = 900
MIN_INT8_SPEEDUP = 1.2
"""8-bit integers change the vectors slightly: they are used only if this many times as fast as float32."""
GRAPHS = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}
ABOUT, TOKENIZER = "about.json", "tokenizer.json"


class ExportRecord(BaseModel):
    """`about.json`: the properties of an exported model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_sha256: str
    dimension: int
    window: int
    prompts: Mapping[str, str]
    pools_by_mean: bool
    pad: int
    """Id of the padding token."""
    refused: Mapping[str, str]
    """By runtime, why it cannot run this model."""
    cosine: Mapping[str, tuple[float, float]]
    """By runtime, cosine of its vectors and torch's for the probe texts: lowest and mean."""
    sha256: Mapping[str, str]
    """By runtime, of the graph's file."""


class Speed(BaseModel):
    """Speed of a runtime on a machine, for queries of ten tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lone_ms: float
    """Median milliseconds of a single query."""
    rate: float
    """Queries per second with all cores busy."""
    batch_tokens: int
    """Tokens of the smallest batches that nearly reach this rate."""
    overhead_tokens: int
    """The fixed cost of a batch, in tokens."""


class SpeedRecord(BaseModel):
    """`measured-….json`: the speeds of a model's runtimes on a machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    speeds: Mapping[str, Speed]
    """By runtime; only those whose vectors are close enough to torch's."""

    def best(self, *, exact: bool) -> str:
        """The fastest runtime. exact: leave out 8-bit integers."""
        fastest = max(
            (name for name in ("torch", "onnx") if name in self.speeds),
            key=lambda name: self.speeds[name].rate / self.speeds[name].lone_ms,
        )
        int8 = self.speeds.get("onnx-int8")
        return (
            "onnx-int8" if not exact and int8 and int8.rate > MIN_INT8_SPEEDUP * self.speeds[fastest].rate else fastest
        )


def open_cached(location: ModelLocation, choice: RuntimeChoice, *, threads: int) -> tuple[Runtime | None, str]:
    """Open a model with ONNX Runtime on a CPU; return (None, reason) if torch is to run it.

    A model that has not been exported on this machine is exported now, in a separate process, which takes some seconds.
    """
    if choice == "torch":
        return None, "it was asked for"
    missing = [name for name in ("onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        return None, f"{missing[0]} is not installed: {install_command(missing[0], 'onnx')}"
    folder = location.folder
    if folder is None or not _is_transformer(folder):
        return None, "the model is not on this machine, or is not a transformer"
    try:
        entry = cache_root() / _key(folder)
        records = _read_records(entry)
        if records is None:
            _export(folder, entry)
            records = _read_records(entry)
        if records is None:
            return None, f"{entry} is damaged: remove it"
        return _open(entry, *records, choice, threads=threads)
    except (OSError, RuntimeError) as error:
        return None, f"the model could not be prepared for ONNX Runtime: {error}"


def cache_root() -> Path:
    """The folder of exported models."""
    return cache_folder("encoders")


def machine() -> str:
    """What speed depends on: the processor and its number of cores."""
    cpu = {"model name": platform.processor()}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            cpu[key.strip()] = value.strip()
    except OSError:
        pass
    # processors of the same name differ in their instructions for small integers
    flags = [flag for flag in cpu.get("flags", "").split() if "vnni" in flag or "amx" in flag or flag == "avx512f"]
    return ", ".join([cpu["model name"], *sorted(flags), f"{available_cores()} cores"])


def speed_file() -> str:
    """Name of the file of speeds measured on a machine like this one."""
    return f"measured-{hashlib.sha256(machine().encode()).hexdigest()[:16]}.json"


def _is_transformer(folder: Path) -> bool:
    """Whether to try an export. Errors in the files are reported when the model is loaded."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        return str(modules[0]["type"]).endswith(".Transformer")
    except FileNotFoundError:
        return (folder / "config.json").is_file()
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _key(folder: Path) -> str:
    versions = ",".join(f"{name} {version(name)}" for name in EXPORT_LIBRARIES)
    return hashlib.sha256(f"{files_sha256(folder)}, {versions}".encode()).hexdigest()[:32]


def _read_records(entry: Path) -> tuple[ExportRecord, SpeedRecord] | None:
    try:
        record = ExportRecord.model_validate_json((entry / ABOUT).read_bytes())
        return record, SpeedRecord.model_validate_json((entry / speed_file()).read_bytes())
    except (OSError, ValidationError):
        return None


def _export(folder: Path, entry: Path) -> None:
    """Export in a child process, whose memory and libraries are released with it. Raises OSError, RuntimeError."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "semsearch.encoders.onnx_export", str(folder), str(entry)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=EXPORT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"it took longer than {EXPORT_TIMEOUT_S} s") from error
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])


def _open(
    entry: Path, record: ExportRecord, measured: SpeedRecord, choice: RuntimeChoice, *, threads: int
) -> tuple[Runtime | None, str]:
    from semsearch.encoders.onnx_runtime import OnnxRuntime

    name = choice if choice in GRAPHS else measured.best(exact=choice == "auto")
    if name in record.refused:
        return None, record.refused[name]
    rates = ", ".join(f"{other} {speed.rate:.0f} queries/s" for other, speed in measured.speeds.items())
    if name == "torch":
        return None, record.refused.get("onnx", f"it was the fastest on this machine: {rates}")
    graph = entry / GRAPHS[name]
    if sha256(graph) != record.sha256[name]:
        return None, f"{graph} is damaged: remove {entry}"
    info = ModelInfo(
        record.weights_sha256,
        record.dimension,
        record.window,
        record.prompts,
        record.pools_by_mean,
        Tokenizer.from_file(str(entry / TOKENIZER)),
    )
    runtime = OnnxRuntime(
        graph,
        info,
        name=name,
        reason=f"as measured on this machine: {rates}",
        threads=threads,
        query_tokens=measured.speeds[name].batch_tokens,
        overhead_tokens=measured.speeds[name].overhead_tokens,
        pad=record.pad,
    )
    return runtime, runtime.reason
