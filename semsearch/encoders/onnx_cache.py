"""The cache of models exported for ONNX Runtime, and of their speeds measured on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from semsearch.encoders.locate import ModelLocation, files_sha256
from semsearch.encoders.runtime import ModelInfo, Runtime, RuntimeChoice
from semsearch.encoders.speed import SpeedRecord, library_versions, machine
from semsearch.system.extras import install_command
from semsearch.system.files import cache_folder, sha256

EXPORT_TIMEOUT_S = 900
GRAPHS = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}
ENTRY_VERSION = 2
"""Part of the names of entries; a change of `ExportRecord` needs a new one."""
ABOUT, TOKENIZER = "about.json", "tokenizer.json"


class ExportRecord(BaseModel):
    """`about.json`: the properties of an exported model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_sha256: str
    configuration_sha256: str | None
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
    tokenizer_sha256: str
    """Of the tokenizer's file."""


def open_cached(location: ModelLocation, choice: RuntimeChoice, *, threads: int) -> tuple[Runtime | None, str]:
    """Open a model with ONNX Runtime on a CPU; return (None, reason) if torch is to run it.

    A model that has not been exported on this machine is exported now, in a separate process, which takes a minute.
    If the choice depends on the speed, it is measured again in such a process where the record of it is not current.
    """
    if choice == "torch":
        return None, "it was asked for"
    if missing := _missing_libraries():
        return None, f"{missing[0]} is not installed: {install_command(missing[0], 'onnx')}"
    folder = location.folder
    if folder is None or not _is_transformer(folder):
        return None, "the model is not on this machine, or is not a transformer"
    try:
        entry = cache_root() / _key(folder)
        records = _read_records(entry)
        if records is None or _should_measure(entry, records[1], choice):
            try:
                _export(folder, entry)
            except (OSError, RuntimeError):
                if records is None:
                    raise
                # an old measurement is better than none
            records = _read_records(entry) or records
        if records is None:
            return None, f"{entry} is damaged: remove it"
        return _open(entry, *records, choice, threads=threads)
    except (OSError, RuntimeError) as error:
        return None, f"the model could not be prepared for ONNX Runtime: {error}"


def is_cached(location: ModelLocation) -> bool:
    """Whether `open_cached` opens a model without exporting it first; its speed may still be measured again."""
    folder = location.folder
    if _missing_libraries() or folder is None or not _is_transformer(folder):
        return True  # torch runs it, so there is nothing to wait for
    try:
        return _read_records(cache_root() / _key(folder)) is not None
    except OSError:
        return True  # the error is reported when the model is opened


def cache_root() -> Path:
    """The folder of exported models."""
    return cache_folder("encoders")


def speed_file() -> str:
    """Name of the file of speeds measured on a machine like this one."""
    return f"measured-{hashlib.sha256(machine().encode()).hexdigest()[:16]}.json"


def _missing_libraries() -> list[str]:
    return [name for name in ("onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]


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
    versions = ",".join(f"{name} {installed}" for name, installed in library_versions().items())
    return hashlib.sha256(f"{ENTRY_VERSION}, {files_sha256(folder)}, {versions}".encode()).hexdigest()[:32]


def _read_records(entry: Path) -> tuple[ExportRecord, SpeedRecord] | None:
    """The records of an export; None if one is missing, damaged or lacks a runtime."""
    try:
        record = ExportRecord.model_validate_json((entry / ABOUT).read_bytes())
        measured = SpeedRecord.model_validate_json((entry / speed_file()).read_bytes())
    except (OSError, ValidationError):
        return None
    usable = {"torch", *record.sha256} - {*record.refused}
    is_complete = {*GRAPHS} <= {*record.sha256, *record.refused} and usable <= {*measured.speeds}
    return (record, measured) if is_complete else None


def _should_measure(entry: Path, measured: SpeedRecord, choice: RuntimeChoice) -> bool:
    """Whether to measure again: the speed decides, the record is not current, and a new one can be stored."""
    return choice not in GRAPHS and not measured.is_current(datetime.now(UTC)) and os.access(entry, os.W_OK)


def _export(folder: Path, entry: Path) -> None:
    """Export and measure, or measure what is exported, in a child process, which takes its memory with it.

    Raises OSError, RuntimeError.
    """
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

    exact = choice == "auto"
    name, reason = (
        (choice, "it was asked for") if choice in GRAPHS else (measured.best(exact=exact), measured.reason(exact=exact))
    )
    if name in record.refused:
        return None, record.refused[name]
    if name == "torch":
        return None, record.refused.get("onnx", reason)
    graph = entry / GRAPHS[name]
    for path, checksum in ((graph, record.sha256[name]), (entry / TOKENIZER, record.tokenizer_sha256)):
        if sha256(path) != checksum:
            return None, f"{path} is damaged: remove {entry}"
    info = ModelInfo(
        weights_sha256=record.weights_sha256,
        configuration_sha256=record.configuration_sha256,
        dimension=record.dimension,
        window=record.window,
        prompts=record.prompts,
        pools_by_mean=record.pools_by_mean,
        tokenizer=Tokenizer.from_file(str(entry / TOKENIZER)),
    )
    runtime = OnnxRuntime(
        graph,
        info,
        name=name,
        reason=reason,
        threads=threads,
        query_tokens=measured.speeds[name].batch_tokens,
        overhead_tokens=measured.speeds[name].overhead_tokens,
        pad=record.pad,
    )
    return runtime, reason
