"""From a recipe to a published index: read → cut → store, encode → index → publish.

Reading waits for nothing: a bad line in the last file is found in minutes, not after hours. Meanwhile what is stored
is encoded; what is left once everything is read is encoded by length.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np

from semsearch.adapters.basis import SpectralBasis
from semsearch.encoders.encoder import Encoder
from semsearch.errors import IndexFolderError, InputError
from semsearch.ingest.chunking import Chunker
from semsearch.ingest.encoding import Encoding, PipelinedEncoder, Resuming, encode_resumable, open_checkpoint
from semsearch.ingest.index_selection import LinkingGraph, SelectedIndex, select_index
from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import ChunkingOptions, IndexOptions, Recipe
from semsearch.storage.documents import DocumentWriter, encoder_text
from semsearch.storage.embedding_checkpoint import remove_checkpoint
from semsearch.storage.generations import Generation, SegmentFiles, begin_build, publish
from semsearch.storage.manifest import FIRST_SEGMENT, EncoderRecord, IndexRecord, Manifest, SegmentRecord
from semsearch.storage.projection import Projection
from semsearch.system.files import drop_pages, temp_memmap
from semsearch.system.threads import available_cores
from semsearch.types import Document, Passage, Vectors, unit_rows


@dataclass(frozen=True, slots=True)
class LoadingEncoder:
    """The model is being loaded, which takes seconds."""

    name: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Documents read, cut and stored so far."""

    documents: int
    passages: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A bad record was left out."""

    record: BadRecord


@dataclass(frozen=True, slots=True)
class ProjectingMap:
    """A map of so many passages is drawn."""

    passages: int


@dataclass(frozen=True, slots=True)
class Published:
    """The index is in its place."""

    folder: Path
    manifest: Manifest


BuildEvent: TypeAlias = (
    LoadingEncoder | Reading | Skipped | Resuming | Encoding | ProjectingMap | LinkingGraph | Published
)

ASKED = 200
"""Queries that an index's recall is measured on."""
FIRST_WORDS = 8
"""Words of a passage that make one."""


def build(
    recipe: Recipe,
    folder: Path,
    *,
    records: Iterable[Document | BadRecord] | None = None,
    vectors: Vectors | None = None,
    encoder: Encoder | None = None,
    name: str = "",
    resume: bool = True,
    device: str = "auto",
    threads: int | None = None,
) -> Iterator[BuildEvent]:
    """Build the index of a recipe into `folder` and yield progress; the work is done as the events are taken.

    records: documents to index in place of the recipe's sources.
    vectors: (n, dim), one row for each of the records in their order, of any length above 0: then every document is one
    passage and nothing is encoded. They must come from the encoder that will encode the queries.
    encoder: an open encoder in place of the recipe's.
    name: stands for a title where the recipe has none, by default the folder's name.
    resume: go on where a build of this index was stopped.

    Memory holds the encoder and the vectors, (passages, dim) float32 once, and a few batches of texts.

    Raises InputError naming file, line and reason for the first bad record, unless the recipe skips those, and where
    the vectors do not fit the records; RecipeError, EncoderError, and IndexFolderError if the folder cannot be written.
    Whatever is raised, an index that was in `folder` before still serves.
    """
    threads = threads or available_cores()
    with begin_build(folder) as files:
        segment = files.segment(FIRST_SEGMENT)
        try:
            segment.folder.mkdir()
            if records is None:
                records = chain.from_iterable([read(source) for source in recipe.sources])
            if encoder is None:
                yield LoadingEncoder(recipe.encoder.model)
                encoder = Encoder.open(
                    recipe.encoder.model,
                    device=device,
                    threads=threads,
                    prompts=recipe.encoder.prompts,
                    document_tokens=recipe.encoder.batch_tokens,
                )
            with DocumentWriter(segment.documents) as writer:
                if vectors is None:
                    written = yield from _write_encoded(recipe, files, records, encoder, writer, resume=resume)
                else:
                    written = yield from _write_given(records, encoder, writer, vectors)
                counts = writer.documents, writer.passages
                vectors, skipped = written
                texts = sample_queries(writer)
                writer.close()
            drop_pages(vectors)
            basis = SpectralBasis.from_vectors(vectors)
            basis.save(files.basis)
            if recipe.map:
                yield ProjectingMap(len(vectors))
                drawn = Projection.fit(vectors, basis, threads=threads)
                drawn.save(files.map)
                save_map_points(segment, drawn, vectors)
            drop_pages(vectors)
            asked = partial(encoder.encode_queries, texts)
            record = yield from write_vector_index(vectors, asked, recipe.index, segment, threads=threads)
            manifest = Manifest(
                built_by=version("semsearch"),
                title=recipe.title or name or folder.name,
                description=recipe.description,
                facets=recipe.facets,
                encoder=EncoderRecord.of(encoder),
                segments=(SegmentRecord(name=FIRST_SEGMENT, documents=counts[0], passages=counts[1], index=record),),
                skipped=skipped,
                search=recipe.search,
                adaptation=recipe.adaptation,
                recipe=recipe.located().model_dump(mode="json", exclude_defaults=True),
            )
            manifest = publish(files, manifest)
            remove_checkpoint(folder)
        except OSError as error:
            reason = error.strerror or str(error)
            raise IndexFolderError(
                f"the index could not be written to {folder} ({reason}): make room or choose another folder with"
                " --out; an index that was there before is untouched"
            ) from error
    yield Published(folder, manifest)


def _write_encoded(
    recipe: Recipe,
    files: Generation,
    records: Iterable[Document | BadRecord],
    encoder: Encoder,
    writer: DocumentWriter,
    *,
    resume: bool,
) -> Generator[BuildEvent, None, tuple[Vectors, int]]:
    """Cut, store and encode the records; returns the vectors of all passages and how many bad records were skipped."""
    skipped = 0
    with open_checkpoint(files.folder.parent, encoder, fresh=not resume) as checkpoint:
        pipeline = PipelinedEncoder(encoder, writer, checkpoint)
        for event in store_documents(records, encoder, recipe.chunking, writer, skip_bad=recipe.skip_bad):
            skipped += isinstance(event, Skipped)
            pipeline.go_on()
            yield event
        pipeline.finish()
        if not writer.documents:
            raise InputError(
                f"no documents in {_source_names(recipe)}"
                + (f": all {skipped} records were bad" if skipped else ": nothing to index")
            )
        vectors = temp_memmap(files.folder, (writer.passages, encoder.dimension))
        yield from encode_resumable(encoder, writer, vectors, checkpoint, ahead=pipeline.passages)
    return vectors, skipped


def _write_given(
    records: Iterable[Document | BadRecord], encoder: Encoder, writer: DocumentWriter, given: Vectors
) -> Generator[BuildEvent, None, tuple[Vectors, int]]:
    """Store each record as one passage, with the vectors that the caller gave; returns them as unit rows."""
    vectors = np.asarray(given, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != encoder.dimension:
        raise InputError(
            f"the vectors have shape {vectors.shape}, the encoder {encoder.name!r} makes {encoder.dimension}"
            " dimensions: give (documents, dimensions), from the encoder that encodes the queries"
        )
    lengths = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        row = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
        raise InputError(f"the vector of document {row} is zero or not finite: leave the document out, or encode it")
    for record in records:
        document = _without_duplicate(record, writer)
        if isinstance(document, BadRecord):
            raise InputError(f"{document} (with vectors, every record must be a document)")
        tokens = max(1, encoder.count_tokens([encoder_text(document.title, document.text)])[0])
        writer.add(document, document.title, [(Passage(document.text, 0, len(document.text)), tokens)])
        yield Reading(writer.documents, writer.passages)
    if writer.documents != len(vectors) or not writer.documents:
        raise InputError(f"{writer.documents} documents and {len(vectors)} vectors: give one vector for each document")
    return unit_rows(vectors), 0


def store_documents(
    records: Iterable[Document | BadRecord],
    encoder: Encoder,
    chunking: ChunkingOptions,
    writer: DocumentWriter,
    *,
    skip_bad: bool,
) -> Iterator[Reading | Skipped]:
    """Cut documents and write them. Raises InputError for a bad record, unless those are skipped, or it stands for a
    whole file of a folder, of which the rest goes on; RecipeError where the encoder's window is too short."""
    chunker = Chunker(encoder, max_tokens=chunking.max_tokens, overlap_tokens=chunking.overlap_tokens)
    for record in records:
        found = _without_duplicate(record, writer)
        if isinstance(found, BadRecord):
            if not skip_bad and not found.whole_file:
                raise InputError(f"{found} (--skip-bad leaves such records out and goes on)")
            yield Skipped(found)
            continue
        heading, passages = chunker.cut(found.title, found.text)
        writer.add(found, heading, passages)
        yield Reading(writer.documents, writer.passages)


def _without_duplicate(record: Document | BadRecord, writer: DocumentWriter) -> Document | BadRecord:
    """The record, unless a document of its id is stored already."""
    if isinstance(record, BadRecord) or (first := writer.source_of(record.id)) is None:
        return record
    return duplicate_id(record, first)


def duplicate_id(record: Document, first: str) -> BadRecord:
    """What is said of a document whose id another one has, which was read at `first`."""
    return BadRecord(record.source, f"a second document of id {record.id!r}; the first one is {first}: ids are unique")


def write_vector_index(
    vectors: Vectors, asked: Callable[[], Vectors], options: IndexOptions, files: SegmentFiles, *, threads: int
) -> Generator[LinkingGraph, None, IndexRecord]:
    """Index the vectors of a segment as `size` does, and write them; returns what was chosen."""
    for step in select_index(vectors, asked, options, threads=threads):
        if isinstance(step, LinkingGraph):
            yield step
    assert isinstance(step, SelectedIndex)
    step.index.save(files.vectors, files.graph)
    return step.record


def save_map_points(files: SegmentFiles, drawn: Projection, vectors: Vectors) -> None:
    """Write where the passages of a segment stand on the map."""
    np.save(files.map_points, drawn.project(vectors).astype(np.float16), allow_pickle=False)


def sample_queries(writer: DocumentWriter) -> list[str]:
    """What people might ask: the first words of some passages."""
    rows = np.random.default_rng(0).permutation(writer.passages)[:ASKED]
    return [" ".join(text.split()[:FIRST_WORDS]) or text for text in writer.texts(np.sort(rows))]


def _source_names(recipe: Recipe) -> str:
    return ", ".join(str(source.path or f"python {source.python}") for source in recipe.sources) or "what was given"
