"""A large index for the scripts of this folder, from vectors that are known: nothing is encoded."""

from __future__ import annotations

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
from semsearch.storage.manifest import FIRST_SEGMENT, EncoderRecord, Manifest, SegmentRecord
from semsearch.storage.projection import Projection
from semsearch.types import Document, Passage, Vectors

NOISE = 0.02
VOCABULARY = 30_000
LENGTH = 30
"""Words of a document, drawn so that the n-th most frequent is had 1/n as often as the first (Zipf)."""


def corpus(folder: Path, count: int) -> tuple[Vectors, Vectors]:
    """(count, dim) documents and (m, dim) queries, shuffled.

    folder: of NAME.npz with `documents` and `queries` (float16 or float32, unit rows). Where there are fewer documents
    than asked for, they are repeated with noise (0.02 a number, then brought to unit length).
    """
    parts = [np.load(path) for path in sorted(folder.glob("*.npz"))]
    rng = np.random.default_rng(0)
    documents = np.concatenate([part["documents"] for part in parts])
    queries = rng.permutation(np.concatenate([part["queries"] for part in parts]).astype(np.float32))
    documents = documents[rng.permutation(len(documents))]
    made = np.empty((count, documents.shape[1]), np.float32)
    for start in range(0, count, len(documents)):
        part = documents[: count - start].astype(np.float32)
        if start:
            part += NOISE * rng.standard_normal(part.shape, np.float32)
        made[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return made, np.ascontiguousarray(queries / np.linalg.norm(queries, axis=1, keepdims=True))


def texts(count: int, *, seed: int = 0) -> list[str]:
    """So many documents' texts, of words that are as frequent as words are."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, VOCABULARY + 1)
    drawn = rng.choice(VOCABULARY, size=(count, LENGTH), p=weights / weights.sum())
    return [" ".join(f"word{number}" for number in row) for row in drawn.tolist()]


def publish_index(
    folder: Path, vectors: Vectors, queries: Vectors, encoder: Encoder, options: IndexOptions, *, mapped: bool = False
) -> None:
    """An index of (n, dim) vectors of the encoder's, a document each; mapped: with a map.

    Metadata: `half`, `tenth`, `percent` and `rare` are 0 for one document in 2, 10, 100 and 10,000, whatever it says;
    `near` is the number of the nearest of 100 documents, so that what it chooses lies together.
    """
    rng = np.random.default_rng(1)
    near = np.argmax(vectors @ vectors[rng.choice(len(vectors), 100, replace=False)].T, axis=1)
    with begin_build(folder) as files:
        segment = files.segment(FIRST_SEGMENT)
        segment.folder.mkdir()
        with DocumentWriter(segment.documents) as writer:
            numbers = rng.permutation(len(vectors)).tolist()
            for row, (number, text) in enumerate(zip(numbers, texts(len(vectors)), strict=True)):
                metadata = {"half": number % 2, "tenth": number % 10, "percent": number % 100, "rare": number % 10_000}
                document = Document(f"d{row}", "", text, "made", {**metadata, "near": int(near[row])})
                writer.add(document, "", [(Passage(text, 0, len(text)), LENGTH)])
            writer.close()
        basis = SpectralBasis.from_vectors(vectors)
        basis.save(files.basis)
        if mapped:
            drawn = Projection.fit(vectors, basis, threads=2)
            drawn.save(files.map)
            save_map_points(segment, drawn, vectors)
        *_, sized = select_index(vectors, lambda: queries, options, threads=2)
        assert isinstance(sized, SelectedIndex)
        sized.index.save(segment.vectors, segment.graph)
        count = len(vectors)
        publish(
            files,
            Manifest(
                built_by=version("semsearch"),
                title="Large",
                encoder=EncoderRecord.of(encoder),
                segments=(SegmentRecord(name=FIRST_SEGMENT, documents=count, passages=count, index=sized.record),),
                recipe={"sources": [{"path": "."}], "index": options.model_dump(exclude_defaults=True)},
            ),
        )
