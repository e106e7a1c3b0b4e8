"""Labelled domains in vectors, and the episodes that the outer loop draws from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.support import Support, build_support
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.runtime import Kind
from semsearch.errors import LabelError
from semsearch.metalearn.datasets import LabelledTexts, read_qrels, read_records, read_texts
from semsearch.system.files import atomic_write, cache_folder
from semsearch.types import Vectors, unit_rows

SELF_LABELLED_WEIGHT = 0.25
"""How often an unlabelled corpus is drawn, against a labelled domain of the same family."""


@dataclass(frozen=True)
class Dataset:
    """A labelled domain in vectors."""

    texts: LabelledTexts
    documents: Vectors = field(repr=False)
    """(N, dim) float32, unit rows."""
    queries: Vectors = field(repr=False)
    """(n, dim) float32, unit rows."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.texts.name

    @property
    def family(self) -> str:
        """What it must not be split from."""
        return self.texts.family

    @cached_property
    def basis(self) -> SpectralBasis:
        """The axes of its corpus."""
        return SpectralBasis.from_vectors(self.documents)

    def support(self, rows: npt.NDArray[np.intp], *, most: int) -> Support:
        """The support set of some of its queries."""
        return build_support(self.documents, self.queries[rows], [self.texts.judgments[row] for row in rows], most=most)

    def halves(self, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows of its queries in two halves, drawn anew for each seed: to adapt on, and to measure on."""
        turn = np.random.default_rng([seed, 1]).permutation(len(self.queries))
        return turn[: len(turn) // 2], turn[len(turn) // 2 :]


def default_cache() -> Path:
    """Where vectors are kept between runs."""
    return cache_folder("vectors")


@dataclass(frozen=True)
class Vectorizer:
    """Texts to vectors, by way of a folder that remembers them by content."""

    encoder: Callable[[], Encoder]
    """Opens the encoder, or gives the one that is open; called only where a vector is missing."""
    fingerprint: str
    """What else the vectors depend on: the encoder's name."""
    cache: Path
    known: Path | None = None
    """A folder of NAME.npz with `documents` and `queries` in the order of the files, computed by the same encoder."""

    def dataset(self, folder: Path) -> Dataset:
        """A domain with its vectors. Raises LabelError for a folder that is no domain."""
        texts = read_texts(folder)
        given = self.known / f"{texts.name}.npz" if self.known and texts.labelled else None
        if given is not None and given.exists():
            return self._given(texts, folder, given)
        return Dataset(texts, self._vectors(texts.documents, "document"), self._vectors(texts.queries, "query"))

    def _given(self, texts: LabelledTexts, folder: Path, path: Path) -> Dataset:
        with np.load(path, allow_pickle=False) as parts:
            documents, queries = parts["documents"].astype(np.float32), parts["queries"].astype(np.float32)
        asked = list(read_records(folder / "queries.jsonl"))
        if len(documents) != len(texts.documents) or len(queries) != len(asked):
            raise LabelError(
                f"{path} holds {len(documents)} documents and {len(queries)} queries, {folder} has"
                f" {len(texts.documents)} and {len(asked)}: leave --embeddings out"
            )
        judged = read_qrels(folder / "qrels.tsv", set(asked), None)
        chosen = [row for row, identity in enumerate(asked) if identity in judged]
        return Dataset(texts, unit_rows(documents), unit_rows(queries[chosen]))

    def _vectors(self, texts: Sequence[str], kind: Kind) -> Vectors:
        digest = hashlib.sha256(json.dumps([self.fingerprint, kind, list(texts)]).encode()).hexdigest()
        path = self.cache / f"{digest[:32]}.safetensors"
        try:
            return unit_rows(load_file(path)["vectors"].astype(np.float32))
        except (OSError, SafetensorError, KeyError):
            pass
        encoder = self.encoder()
        # a text without a word still has a vector: the model's own for nothing
        vectors = encoder.encode_all(kind, [text or " " for text in texts])
        self.cache.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            save_file({"vectors": vectors.astype(np.float16)}, unfinished)
        return unit_rows(vectors.astype(np.float16).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """One rehearsal: adapt on the support set, be judged on the held-out queries."""

    dataset: Dataset
    support: Support
    held_out: Support


def draw_episodes(
    domains: Sequence[Dataset],
    rng: np.random.Generator,
    *,
    sizes: tuple[int, int] = (1, 128),
    held_out: int = 48,
    most: int = 1024,
) -> Episode:
    """An episode: first a family, then a domain of it, then how many labelled queries, log-uniform in `sizes`.

    Support and held-out queries share their documents and no query.
    """
    families = sorted({domain.family for domain in domains})
    family = families[rng.integers(len(families))]
    among = [domain for domain in domains if domain.family == family]
    weights = np.array([1.0 if domain.texts.labelled else SELF_LABELLED_WEIGHT for domain in among])
    domain = among[rng.choice(len(among), p=weights / weights.sum())]
    low, high = sizes
    size = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    total = len(domain.queries)
    size = min(size, max(1, total // 2))
    chosen = rng.permutation(total)[: size + min(held_out, total - size)]
    whole = domain.support(chosen, most=most)
    # `gather` sorted the queries: draw again which of them are adapted on
    turn = np.random.default_rng(rng.integers(2**32)).permutation(len(chosen))
    return Episode(domain, whole.of(torch.from_numpy(turn[:size])), whole.of(torch.from_numpy(turn[size:])))
