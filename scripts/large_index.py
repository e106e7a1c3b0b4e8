"""Build a large index from given vectors, without encoding, for the scripts of this folder."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from semsearch.adapters.basis import SpectralBasis
from semsearch.encoders.encoder import Encoder
from semsearch.ingest.building import save_map_points
from semsearch.ingest.index_selection import SelectedIndex, select_index
from semsearch.ingest.recipe import IndexOptions
from semsearch.storage.documents import DocumentWriter
from semsearch.storage.generations import begin_build, publish
from semsearch.storage.manifest import FIRST_SEGMENT, FULLTEXT_VERSION, EncoderRecord, Manifest, SegmentRecord
from semsearch.storage.projection import Projection
from semsearch.system.files import drop_pages, temp_memmap
from semsearch.types import Document, Passage, Vectors

NOISE = 0.02
"""Standard deviation of the noise in each dimension."""
VOCABULARY = 30_000
LENGTH = 30
"""Words per document, drawn by Zipf's law: the n-th most frequent word is 1/n as frequent as the first."""


def corpus(folder: Path, count: int, *, store: Path | None = None) -> tuple[Vectors, Vectors]:
    """Return shuffled vectors: (count, dim) documents and (m, dim) queries, float32, rows of unit length.

    folder: holds NAME.npz with `documents` and `queries` (float16 or float32, unit rows). If they have fewer than
    `count` documents, these are repeated with noise (0.02 per dimension, then normalised).
    store: a folder in which the documents' vectors are mapped from a temporary file instead of being held in memory.
    """
    archives = [np.load(path) for path in sorted(folder.glob("*.npz"))]
    rng = np.random.default_rng(0)
    documents = np.concatenate([archive["documents"] for archive in archives])
    queries = rng.permutation(np.concatenate([archive["queries"] for archive in archives]).astype(np.float32))
    documents = documents[rng.permutation(len(documents))]
    shape = (count, documents.shape[1])
    vectors = np.empty(shape, np.float32) if store is None else temp_memmap(store, shape)
    for start in range(0, count, len(documents)):
        block = documents[: count - start].astype(np.float32)
        if start:
            block += NOISE * rng.standard_normal(block.shape, np.float32)
        vectors[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
        drop_pages(vectors)
    return vectors, np.ascontiguousarray(queries / np.linalg.norm(queries, axis=1, keepdims=True))


def texts(count: int, *, seed: int = 0) -> list[str]:
    """Return the texts of `count` documents, with words drawn by Zipf's law."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, VOCABULARY + 1)
    drawn = rng.choice(VOCABULARY, size=(count, LENGTH), p=weights / weights.sum())
    return [" ".join(f"word{number}" for number in row) for row in drawn.tolist()]


def publish_index(
    folder: Path,
    vectors: Vectors,
    queries: Vectors,
    encoder: Encoder,
    options: IndexOptions,
    *,
    mapped: bool = False,
    passages: Iterable[str] | None = None,
) -> None:
    """Publish an index of (n, dim) vectors, one document each. mapped: whether to add a map.

    passages: n texts; by default those of `texts`.

    Metadata: `half`, `tenth`, `percent` and `rare` are 0 for one document in 2, 10, 100 and 10,000, at random. `near`
    is the number of the nearest of 100 random documents, so that a filter on it allows similar documents.
    """
    rng = np.random.default_rng(1)
    nearest = np.argmax(vectors @ vectors[rng.choice(len(vectors), 100, replace=False)].T, axis=1)
    with begin_build(folder) as files:
        segment = files.segment(FIRST_SEGMENT)
        segment.folder.mkdir()
        with DocumentWriter(segment.documents, segment.fulltext) as writer:
            numbers = rng.permutation(len(vectors)).tolist()
            for row, (number, text) in enumerate(zip(numbers, passages or texts(len(vectors)), strict=True)):
                metadata = {"half": number % 2, "tenth": number % 10, "percent": number % 100, "rare": number % 10_000}
                document = Document(f"d{row}", "", text, "made", {**metadata, "near": int(nearest[row])})
                writer.add(document, "", [(Passage(text, 0, len(text)), LENGTH)])
            writer.close()
        basis = SpectralBasis.from_vectors(vectors)
        basis.save(files.basis)
        if mapped:
            projection = Projection.fit(vectors, basis, threads=2)
            projection.save(files.map)
            save_map_points(segment, projection, vectors)
        *_, selected = select_index(vectors, lambda: queries, options, threads=2)
        assert isinstance(selected, SelectedIndex)
        selected.index.save(segment.vectors, segment.lists if selected.record.type == "ivf" else segment.graph)
        count = len(vectors)
        publish(
            files,
            Manifest(
                built_by=version("semsearch"),
                title="Large",
                encoder=EncoderRecord.of(encoder),
                segments=(
                    SegmentRecord(
                        name=FIRST_SEGMENT,
                        documents=count,
                        passages=count,
                        index=selected.record,
                        fulltext_version=FULLTEXT_VERSION,
                    ),
                ),
                recipe={"sources": [{"path": "."}], "index": options.model_dump(exclude_defaults=True)},
            ),
        )
