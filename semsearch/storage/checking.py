"""Whether an index on disk is what it says it is. Does not depend on encoders or searching."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semsearch.adapters.basis import SpectralBasis
from semsearch.errors import SemsearchError
from semsearch.storage.corpus import Corpus, Segment
from semsearch.storage.documents import DISAGREEMENTS
from semsearch.storage.domains import DomainStore
from semsearch.storage.fulltext import connected
from semsearch.storage.generations import OpenGeneration, open_current, stale_paths
from semsearch.storage.labels import FILE as LABELS

AT_ONCE = 65_536
"""Vectors looked at together."""
LENGTH_TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "int8": 1e-1}
"""By how much a vector's length may differ from 1, by how it is kept."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found."""

    problems: tuple[str, ...]
    """What is wrong, each with its place; none in an index that is sound."""
    notes: tuple[str, ...]
    """What is no harm: work that a dead process left, older generations."""
    files: int
    """Whose checksums were right."""
    documents: int
    passages: int


def check(folder: Path) -> CheckReport:
    """Look at everything in the index in `folder`: checksums, counts, and whether its parts fit one another.

    Raises IndexFolderError if there is no index at all; everything else that is wrong is told.
    """
    notes = tuple(f"{path} is not needed any more: the next change removes it" for path in stale_paths(folder))
    try:
        generation = open_current(folder)
    except SemsearchError as error:
        if not (folder / "current").exists():
            raise
        return CheckReport((str(error),), notes, 0, 0, 0)
    with closing(generation):
        manifest = generation.manifest
        problems = [*_problems(generation), *_beside(folder, manifest.encoder.weights_sha256)]
        return CheckReport(tuple(problems), notes, len(manifest.files), manifest.documents, manifest.passages)


def _problems(generation: OpenGeneration) -> Iterator[str]:
    try:
        corpus = Corpus.open(generation, threads=1)
        basis = SpectralBasis.open(generation.files.basis)
    except SemsearchError as error:
        yield str(error)
        return
    if {basis.dimension, corpus.dimension} != {generation.manifest.encoder.dimension}:
        yield f"{generation.files.folder}: axes, vectors and encoder are of different dimensions"
    identities = corpus.all_doc_ids()
    if len(set(identities)) < len(identities):
        yield f"{generation.files.folder}: {len(identities) - len(set(identities))} documents have another one's id"
    for segment in corpus.segments:
        files = generation.files.segment(segment.name)
        rows = corpus.deleted.get(segment.name)
        if rows is not None and (rows.min() < 0 or rows.max() >= segment.documents.count):
            yield f"{generation.files.deleted}: rows of {segment.name} that it does not have"
        yield from (f"{files.documents}: {problem}" for problem in _disagreements(files.documents))
        yield from (f"{files.vectors}: {problem}" for problem in _of_vectors(segment))


def _disagreements(path: Path) -> Iterator[str]:
    try:
        with closing(connected(path)) as connection:
            for (said,) in connection.execute("PRAGMA integrity_check"):
                if said != "ok":
                    yield said
            for what, select in DISAGREEMENTS.items():
                [(count,)] = connection.execute(select)
                if count:
                    yield f"{count} {what}"
    except sqlite3.Error as error:
        yield str(error)


def _of_vectors(segment: Segment) -> Iterator[str]:
    wrong, tolerance = 0, LENGTH_TOLERANCE[segment.index.vectors]
    for start in range(0, segment.vectors.count, AT_ONCE):
        part = segment.vectors.vectors(np.arange(start, min(start + AT_ONCE, segment.vectors.count)))
        wrong += int(np.count_nonzero(~(np.abs(np.linalg.norm(part, axis=1) - 1) < tolerance)))
    if wrong:
        yield f"{wrong} vectors are not of unit length"


def _beside(folder: Path, encoder_sha256: str) -> Iterator[str]:
    """What is kept beside the index: domains and their states, labels."""
    store = DomainStore(folder, encoder_sha256=encoder_sha256)
    for name in store.names():
        try:
            record = store.record(name)
            for version in record.versions:
                store.state(name, version)
        except SemsearchError as error:
            yield str(error)
    labels = folder / LABELS
    if labels.exists():
        try:
            with closing(sqlite3.connect(f"{labels.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                yield from (
                    f"{labels}: {said}" for (said,) in connection.execute("PRAGMA integrity_check") if said != "ok"
                )
        except sqlite3.Error as error:
            yield f"{labels}: {error}"
