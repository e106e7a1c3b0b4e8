"""Verification of an index on disk. Does not depend on encoders or search."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semsearch.adapters.basis import SpectralBasis
from semsearch.errors import IndexFolderError, SemsearchError
from semsearch.storage.corpus import Corpus, Segment
from semsearch.storage.documents import CONSISTENCY_CHECKS, open_read_only
from semsearch.storage.domains import DomainStore
from semsearch.storage.generations import OpenGeneration, open_current, stale_paths
from semsearch.storage.kept_queries import KeptQueries
from semsearch.storage.labels import FILE as LABELS
from semsearch.storage.manifest import EncoderRecord

BATCH_VECTORS = 65_536
"""Vectors that are checked together."""
LENGTH_TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "int8": 1e-1}
"""Largest difference of a vector's length from 1, by precision."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of checking an index."""

    problems: tuple[str, ...]
    """What is wrong, each with the file concerned; empty for a sound index."""
    notes: tuple[str, ...]
    """Harmless findings: unfinished work of dead processes, older generations."""
    files: int
    """Number of files whose checksums are right."""
    documents: int
    passages: int


def check(folder: Path) -> CheckReport:
    """Check everything in the index in `folder`: checksums, counts, and whether its parts fit one another.

    Raises IndexFolderError if there is no index; every other problem is part of the report.
    """
    notes = tuple(f"{path} is no longer needed: the next change removes it" for path in stale_paths(folder))
    try:
        generation = open_current(folder)
    except SemsearchError as error:
        if not (folder / "current").exists():
            raise
        return CheckReport((str(error),), notes, 0, 0, 0)
    with closing(generation):
        manifest = generation.manifest
        problems = [
            *_generation_problems(generation),
            *_domain_problems(folder, manifest.encoder),
            *_kept_query_problems(folder, manifest.encoder),
            *_label_problems(folder),
        ]
        return CheckReport(tuple(problems), notes, len(manifest.files), manifest.documents, manifest.passages)


def _generation_problems(generation: OpenGeneration) -> Iterator[str]:
    try:
        corpus = Corpus.open(generation, threads=1)
        basis = SpectralBasis.open(generation.files.basis)
    except SemsearchError as error:
        yield str(error)
        return
    if {basis.dimension, corpus.dimension} != {generation.manifest.encoder.dimension}:
        yield f"{generation.files.folder}: axes, vectors and encoder have different dimensions"
    doc_ids = corpus.all_doc_ids()
    if len(set(doc_ids)) < len(doc_ids):
        yield f"{generation.files.folder}: {len(doc_ids) - len(set(doc_ids))} documents have another one's id"
    for segment in corpus.segments:
        files = generation.files.segment(segment.name)
        deleted = corpus.deletions.get(segment.name)
        if deleted is not None and (deleted.rows.min() < 0 or deleted.rows.max() >= segment.documents.count):
            yield f"{generation.files.deleted}: names rows that {segment.name} does not have"
        yield from (f"{files.documents}: {problem}" for problem in _document_problems(files.documents))
        if stray := segment.documents.stray_values() if segment.fulltext is not None else 0:
            yield f"{files.documents}: {stray} metadata values belong to no document"
        if miscounted := segment.documents.miscounted_documents():
            yield f"{files.documents}: the passages of {miscounted} documents are miscounted"
        yield from (f"{files.vectors}: {problem}" for problem in _vector_problems(segment))
        yield from (f"{files.fulltext}: {problem}" for problem in _fulltext_problems(segment))


def _document_problems(path: Path) -> Iterator[str]:
    try:
        with closing(open_read_only(path)) as connection:
            yield from _integrity_problems(connection)
            for problem, select in CONSISTENCY_CHECKS.items():
                [(count,)] = connection.execute(select)
                if count:
                    yield f"{count} {problem}"
    except sqlite3.Error as error:
        yield str(error)


def _integrity_problems(connection: sqlite3.Connection) -> Iterator[str]:
    for (message,) in connection.execute("PRAGMA integrity_check"):
        if message != "ok":
            yield message


def _vector_problems(segment: Segment) -> Iterator[str]:
    wrong, tolerance = 0, LENGTH_TOLERANCE[segment.index.vectors]
    for start in range(0, segment.vectors.count, BATCH_VECTORS):
        batch = segment.vectors.vectors(np.arange(start, min(start + BATCH_VECTORS, segment.vectors.count)))
        # negated, so that a length that is not a number counts as wrong
        wrong += int(np.count_nonzero(~(np.abs(np.linalg.norm(batch, axis=1) - 1) < tolerance)))
    if wrong:
        yield f"{wrong} vectors are not of unit length"


def _fulltext_problems(segment: Segment) -> Iterator[str]:
    if segment.fulltext is None:
        return
    try:
        rows = segment.fulltext.rows()
    except IndexFolderError as error:
        yield str(error)
    else:
        if not np.array_equal(rows, np.arange(segment.vectors.count)):
            yield "passages have no full text, or full text no passage"


def _domain_problems(folder: Path, encoder: EncoderRecord) -> Iterator[str]:
    store = DomainStore(folder, encoder_sha256=encoder.weights_sha256, dimension=encoder.dimension)
    for name in store.names():
        try:
            record = store.record(name)
            for version in record.versions:
                store.state(name, version)
        except SemsearchError as error:
            yield str(error)


def _kept_query_problems(folder: Path, encoder: EncoderRecord) -> Iterator[str]:
    kept = KeptQueries(folder, dimension=encoder.dimension, encoder_sha256=encoder.weights_sha256)
    for name in kept.names():
        try:
            kept.read(name)
        except SemsearchError as error:
            yield str(error)


def _label_problems(folder: Path) -> Iterator[str]:
    path = folder / LABELS
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield from (f"{path}: {problem}" for problem in _integrity_problems(connection))
    except sqlite3.Error as error:
        yield f"{path}: {error}"
