"""Models made ready for ONNX Runtime, each once on a machine, and what was measured of them there."""

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
from semsearch.system.files import cache_folder, sha256
from semsearch.system.threads import available_cores

MADE_WITH = ("torch", "sentence-transformers", "onnxscript", "onnxruntime")
"""What a graph depends on beside the model: with other versions it is made, and checked, again."""
LONGEST_S = 900
"""After which preparing a model is given up."""
GAIN = 1.2
"""Times as fast as in float32, from which on 8-bit integers are worth that vectors are no longer quite the same."""
GRAPHS = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}
ABOUT, TOKENIZER = "about.json", "tokenizer.json"


class ExportRecord(BaseModel):
    """`about.json`: what is known of a prepared model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_sha256: str
    dimension: int
    window: int
    prompts: Mapping[str, str]
    pools_by_mean: bool
    pad: int
    """Token that fills up short texts."""
    refused: Mapping[str, str]
    """By runtime, why it does not run this model."""
    cosine: Mapping[str, tuple[float, float]]
    """By runtime, between probes' vectors by it and by torch: the lowest, and the mean."""
    sha256: Mapping[str, str]
    """By runtime, of its graph's file."""


class Speed(BaseModel):
    """How fast a runtime was on a machine, with queries of ten tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lone_ms: float
    """One query alone, median."""
    rate: float
    """Queries a second, every core busy."""
    batch_tokens: int
    """Of the smallest batches by which nearly that rate is reached."""
    overhead_tokens: int
    """That take as long as a batch does beside its tokens."""


class SpeedRecord(BaseModel):
    """`measured-….json`: what a machine gains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    speeds: Mapping[str, Speed]
    """By runtime, of those that give what torch gives, or nearly."""

    def best(self, *, exact: bool) -> str:
        """The fastest runtime; of those that are exact, or of all."""
        found = max(
            (name for name in ("torch", "onnx") if name in self.speeds),
            key=lambda name: self.speeds[name].rate / self.speeds[name].lone_ms,
        )
        small = self.speeds.get("onnx-int8")
        return "onnx-int8" if not exact and small and small.rate > GAIN * self.speeds[found].rate else found


def open_cached(place: ModelLocation, wanted: RuntimeChoice, *, threads: int) -> tuple[Runtime | None, str]:
    """The runtime meant, for a CPU, or None where that is torch; and why it is this one.

    A model that was not prepared before is prepared now, in a process of its own, which takes some seconds.
    """
    if wanted == "torch":
        return None, "it was asked for"
    missing = [name for name in ("onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        return None, f"{missing[0]} is not installed: pip install 'semsearch[onnx]'"
    folder = place.folder
    if folder is None or not _is_transformer(folder):
        return None, "the model is not on this machine, or no transformer"
    try:
        home = cache_root() / _key(folder)
        found = _known(home)
        if found is None:
            _prepare(folder, home)
            found = _known(home)
        if found is None:
            return None, f"{home} is damaged: remove it"
        return _opened(home, *found, wanted, threads=threads)
    except (OSError, RuntimeError) as error:
        return None, f"the model could not be prepared for ONNX Runtime: {error}"


def cache_root() -> Path:
    """Where prepared models are."""
    return cache_folder("encoders")


def machine() -> str:
    """What speed depends on: the processor, and how many cores of it."""
    told = {"model name": platform.processor()}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            told[key.strip()] = value.strip()
    except OSError:
        pass
    # of processors of one name some can compute with small integers, and others cannot
    flags = [flag for flag in told.get("flags", "").split() if "vnni" in flag or "amx" in flag or flag == "avx512f"]
    return ", ".join([told["model name"], *sorted(flags), f"{available_cores()} cores"])


def speed_file() -> str:
    """The name of what was measured on a machine like this."""
    return f"measured-{hashlib.sha256(machine().encode()).hexdigest()[:16]}.json"


def _is_transformer(folder: Path) -> bool:
    """Whether it is worth while to try; what cannot be read is said when the model is loaded."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        return str(modules[0]["type"]).endswith(".Transformer")
    except FileNotFoundError:
        return (folder / "config.json").is_file()
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _key(folder: Path) -> str:
    versions = ",".join(f"{name} {version(name)}" for name in MADE_WITH)
    return hashlib.sha256(f"{files_sha256(folder)}, {versions}".encode()).hexdigest()[:32]


def _known(home: Path) -> tuple[ExportRecord, SpeedRecord] | None:
    try:
        about = ExportRecord.model_validate_json((home / ABOUT).read_bytes())
        return about, SpeedRecord.model_validate_json((home / speed_file()).read_bytes())
    except (OSError, ValidationError):
        return None


def _prepare(folder: Path, home: Path) -> None:
    """Have a child do it: what it needs of memory and libraries is gone with it. Raises OSError, RuntimeError."""
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "semsearch.encoders.onnx_export", str(folder), str(home)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"it took longer than {LONGEST_S} s") from error
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])


def _opened(
    home: Path, about: ExportRecord, measured: SpeedRecord, wanted: RuntimeChoice, *, threads: int
) -> tuple[Runtime | None, str]:
    from semsearch.encoders.onnx_runtime import OnnxRuntime

    name = wanted if wanted in GRAPHS else measured.best(exact=wanted == "auto")
    if name in about.refused:
        return None, about.refused[name]
    rates = ", ".join(f"{other} {speed.rate:.0f} queries/s" for other, speed in measured.speeds.items())
    if name == "torch":
        return None, about.refused.get("onnx", f"it was the fastest on this machine: {rates}")
    graph = home / GRAPHS[name]
    if sha256(graph) != about.sha256[name]:
        return None, f"{graph} is damaged: remove {home}"
    facts = ModelInfo(
        about.weights_sha256,
        about.dimension,
        about.window,
        about.prompts,
        about.pools_by_mean,
        Tokenizer.from_file(str(home / TOKENIZER)),
    )
    runtime = OnnxRuntime(
        graph,
        facts,
        name=name,
        why=f"as measured on this machine: {rates}",
        threads=threads,
        query_tokens=measured.speeds[name].batch_tokens,
        overhead_tokens=measured.speeds[name].overhead_tokens,
        pad=about.pad,
    )
    return runtime, runtime.reason
