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
from semsearch.storage.documents import DocumentWriter
from semsearch.storage.embedding_checkpoint import remove_checkpoint
from semsearch.storage.generations import SegmentFiles, begin_build, publish
from semsearch.storage.manifest import FIRST_SEGMENT, EncoderRecord, IndexRecord, Manifest, SegmentRecord
from semsearch.storage.projection import Projection
from semsearch.system.files import drop_pages, temp_memmap
from semsearch.system.threads import available_cores
from semsearch.types import Document, Vectors


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
    name: str = "",
    resume: bool = True,
    device: str = "auto",
    threads: int | None = None,
) -> Iterator[BuildEvent]:
    """Build the index of a recipe into `folder`, telling what happens; the work is done as the events are taken.

    name: stands for a title where the recipe has none, by default the folder's name. resume: take up what a build that
    was stopped has encoded.
    Memory holds the encoder and the vectors, (passages, dim) float32 once, and of texts and other vectors some batches.

    Raises InputError naming file, line and reason for the first bad record, unless the recipe skips those;
    RecipeError, EncoderError, and BundleError if the folder cannot be written. Whatever is raised, an index that was
    in `folder` before still serves.
    """
    threads = threads or available_cores()
    with begin_build(folder) as files:
        segment = files.segment(FIRST_SEGMENT)
        try:
            segment.folder.mkdir()
            readings = [read(source) for source in recipe.sources]
            yield LoadingEncoder(recipe.encoder.model)
            encoder = Encoder.open(
                recipe.encoder.model,
                device=device,
                threads=threads,
                prompts=recipe.encoder.prompts,
                document_tokens=recipe.encoder.batch_tokens,
            )
            skipped = 0
            with (
                DocumentWriter(segment.documents) as writer,
                open_checkpoint(folder, encoder, fresh=not resume) as journal,
            ):
                ahead = PipelinedEncoder(encoder, writer, journal)
                records = chain.from_iterable(readings)
                for event in store_documents(records, encoder, recipe.chunking, writer, skip_bad=recipe.skip_bad):
                    skipped += isinstance(event, Skipped)
                    ahead.go_on()
                    yield event
                ahead.finish()
                if not writer.documents:
                    raise InputError(
                        f"no documents in {_places(recipe)}"
                        + (f": all {skipped} records were bad" if skipped else ": nothing to index")
                    )
                counts = writer.documents, writer.passages
                vectors = temp_memmap(segment.folder, (writer.passages, encoder.dimension))
                yield from encode_resumable(encoder, writer, vectors, journal, ahead=ahead.passages)
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
        found = _without_twin(record, writer)
        if isinstance(found, BadRecord):
            if not skip_bad and not found.whole_file:
                raise InputError(f"{found} (--skip-bad leaves such records out and goes on)")
            yield Skipped(found)
            continue
        heading, passages = chunker.cut(found.title, found.text)
        writer.add(found, heading, passages)
        yield Reading(writer.documents, writer.passages)


def _without_twin(record: Document | BadRecord, writer: DocumentWriter) -> Document | BadRecord:
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


def _places(recipe: Recipe) -> str:
    return ", ".join(str(source.path or f"python {source.python}") for source in recipe.sources)
