"""Labelled data sets as vectors, and the episodes that the outer loop samples from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

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
"""Sampling weight of a corpus that labels itself; labelled data sets of the same family have weight 1."""


@dataclass(frozen=True)
class Dataset:
    """A labelled data set with its vectors."""

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
        """Name of the family: see `LabelledTexts`."""
        return self.texts.family

    @cached_property
    def basis(self) -> SpectralBasis:
        """The spectral basis of the corpus."""
        return SpectralBasis.from_vectors(self.documents)

    def support(self, rows: npt.NDArray[np.intp], *, max_documents: int) -> Support:
        """Build the support set of some of the queries, given by their rows."""
        judgments = [self.texts.judgments[row] for row in rows]
        return build_support(self.documents, self.queries[rows], judgments, max_documents=max_documents)

    def halves(self, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Split the rows of the queries at random into two halves, one to adapt on and one to measure on."""
        order = np.random.default_rng([seed, 1]).permutation(len(self.queries))
        return order[: len(order) // 2], order[len(order) // 2 :]


def default_cache() -> Path:
    """The folder of cached vectors."""
    return cache_folder("vectors")


@dataclass(frozen=True)
class Vectorizer:
    """Encodes the texts of data sets, with a cache on disk by content."""

    encoder: Callable[[], Encoder]
    """Returns the encoder; called only if vectors are not cached."""
    fingerprint: str
    """What the vectors depend on besides the texts: the encoder's name."""
    cache: Path
    embeddings: Path | None = None
    """A folder of NAME.npz files with the arrays `documents` and `queries` in the order of the data set's files, by the
    same encoder."""

    def dataset(self, folder: Path) -> Dataset:
        """Read a data set and its vectors. Raises LabelError if it cannot be read, and as `vectorize`."""
        return self.vectorize(read_texts(folder), folder)

    def vectorize(self, texts: LabelledTexts, folder: Path) -> Dataset:
        """Return a data set that was read from `folder` with its vectors.

        Raises LabelError if its embeddings do not match, or if the cache cannot be written.
        """
        embeddings = self.embeddings / f"{texts.name}.npz" if self.embeddings and texts.labelled else None
        if embeddings is not None and embeddings.exists():
            return self._from_embeddings(texts, folder, embeddings)
        return Dataset(texts, self._vectors(texts.documents, "document"), self._vectors(texts.queries, "query"))

    def _from_embeddings(self, texts: LabelledTexts, folder: Path, path: Path) -> Dataset:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                documents, queries = arrays["documents"].astype(np.float32), arrays["queries"].astype(np.float32)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise LabelError(
                f"{path} does not hold the arrays `documents` and `queries`: leave --embeddings out"
            ) from error
        query_ids = list(read_records(folder / "queries.jsonl"))
        if len(documents) != len(texts.documents) or len(queries) != len(query_ids):
            raise LabelError(
                f"{path} holds {len(documents)} documents and {len(queries)} queries, {folder} has"
                f" {len(texts.documents)} and {len(query_ids)}: leave --embeddings out"
            )
        qrels = read_qrels(folder / "qrels.tsv", set(query_ids), None)
        judged = [row for row, query_id in enumerate(query_ids) if query_id in qrels]
        return Dataset(texts, unit_rows(documents), unit_rows(queries[judged]))

    def _vectors(self, texts: Sequence[str], kind: Kind) -> Vectors:
        digest = hashlib.sha256(json.dumps([self.fingerprint, kind, list(texts)]).encode()).hexdigest()
        path = self.cache / f"{digest[:32]}.safetensors"
        try:
            return unit_rows(load_file(path)["vectors"].astype(np.float32))
        except (OSError, SafetensorError, KeyError):
            pass
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabelError(f"{self.cache} cannot be made ({error.strerror}): choose another --cache") from error
        encoder = self.encoder()
        # an empty text is encoded as a blank, so that it has a vector
        vectors = encoder.encode_all(kind, [text or " " for text in texts])
        with atomic_write(path) as unfinished:
            save_file({"vectors": vectors.astype(np.float16)}, unfinished)
        return unit_rows(vectors.astype(np.float16).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """A training example of the outer loop: adapt on the support set, measure on the held-out queries."""

    dataset: Dataset
    support: Support
    held_out: Support


def draw_episode(
    datasets: Sequence[Dataset],
    rng: np.random.Generator,
    *,
    sizes: tuple[int, int] = (1, 128),
    held_out: int = 48,
    max_documents: int = 1024,
) -> Episode:
    """Draw a family, a data set of it, a number of labelled queries, and the queries.

    Support and held-out queries share their documents and no query.

    sizes: least and most labelled queries, drawn log-uniformly; at most half of the data set's.
    held_out: held-out queries, or as many as are left.
    """
    families = sorted({dataset.family for dataset in datasets})
    family = families[rng.integers(len(families))]
    members = [dataset for dataset in datasets if dataset.family == family]
    weights = np.array([1.0 if dataset.texts.labelled else SELF_LABELLED_WEIGHT for dataset in members])
    dataset = members[rng.choice(len(members), p=weights / weights.sum())]
    low, high = sizes
    size = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    total = len(dataset.queries)
    size = min(size, max(1, total // 2))
    drawn = rng.permutation(total)[: size + min(held_out, total - size)]
    support = dataset.support(drawn, max_documents=max_documents)
    # `build_support` sorts the queries: draw again which of them are the support set
    order = np.random.default_rng(rng.integers(2**32)).permutation(len(drawn))
    return Episode(
        dataset, support.select(torch.from_numpy(order[:size])), support.select(torch.from_numpy(order[size:]))
    )
