"""Builds an index from a recipe: read → cut → store and encode → index → publish.

Reading does not wait for encoding, so a bad line in the last file is found in minutes, not after hours. Stored passages
are encoded meanwhile; those that remain when everything has been read are encoded by length.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from semsearch.adapters.basis import SpectralBasis
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.runtime import RuntimeChoice
from semsearch.encoders.token_vectors import code_bytes
from semsearch.errors import EncoderError, InputError, first_line
from semsearch.ingest.chunking import Chunker
from semsearch.ingest.encoding import Encoding, PipelinedEncoder, Resuming, encode_resumable, open_checkpoint
from semsearch.ingest.index_selection import SelectedIndex, select_index
from semsearch.ingest.input_report import InputReport, file_of
from semsearch.ingest.inverted_file import LinkingGraph
from semsearch.ingest.readers.files import BadRecord, PassedOver, Record
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import MAX_AUTO_TOKEN_BYTES, ChunkingOptions, IndexOptions, Recipe
from semsearch.search.encoder_fit import measure_encoder_fit
from semsearch.search.weak_matches import measure_weak_similarity
from semsearch.storage.documents import DocumentWriter, encoder_text
from semsearch.storage.embedding_checkpoint import remove_checkpoint
from semsearch.storage.generations import Generation, SegmentFiles, begin_build, publish, write_errors
from semsearch.storage.index_checkpoint import IndexCheckpoint, remove_index_checkpoint
from semsearch.storage.left_out import LeftOut, count_bad, summarize
from semsearch.storage.manifest import (
    FIRST_SEGMENT,
    FULLTEXT_VERSION,
    EncoderFit,
    EncoderRecord,
    IndexRecord,
    Manifest,
    SegmentRecord,
    WeakSimilarity,
)
from semsearch.storage.projection import Projection
from semsearch.storage.token_store import TokenStoreWriter
from semsearch.storage.vectors import Ranges
from semsearch.system.files import drop_pages, temp_memmap
from semsearch.system.threads import available_cores, trim_arenas
from semsearch.types import Document, Passage, Vectors, unit_rows


@dataclass(frozen=True, slots=True)
class LoadingEncoder:
    """The encoder is being loaded, which takes seconds."""

    name: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Progress: documents read, cut and stored so far."""

    documents: int
    passages: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A bad record was left out."""

    record: BadRecord


@dataclass(frozen=True, slots=True)
class ProjectingMap:
    """The map is being computed from a number of passages."""

    passages: int


@dataclass(frozen=True, slots=True)
class Published:
    """The index is complete and in place."""

    folder: Path
    manifest: Manifest


BuildEvent: TypeAlias = (
    LoadingEncoder | Reading | Skipped | Resuming | Encoding | ProjectingMap | LinkingGraph | Published
)

RECALL_QUERIES = 200
"""Number of queries on which an index's recall is measured."""
QUERY_WORDS = 8
"""Each is made of this many words, the first of a passage."""


@dataclass(frozen=True, slots=True)
class _Content:
    """The documents and vectors of a new index."""

    vectors: Vectors
    """(passages, dim) float32, unit rows."""
    documents: int
    queries: Sequence[str]
    """Queries on which to measure recall."""
    encoder_fit: EncoderFit | None
    weak_similarity: WeakSimilarity | None


def build(
    recipe: Recipe,
    folder: Path,
    *,
    records: Iterable[Record] | None = None,
    vectors: npt.ArrayLike | None = None,
    encoder: Encoder | None = None,
    name: str = "",
    resume: bool = True,
    device: str = "auto",
    threads: int | None = None,
    runtime: RuntimeChoice = "auto",
) -> Iterator[BuildEvent]:
    """Build the index of a recipe into `folder` and yield progress; the work is done as the events are taken.

    records: documents to index instead of the recipe's sources.
    vectors: (n, dim) numbers, one row per record in their order, of any norm above 0. Then every document is one
    passage and nothing is encoded. They must come from the encoder that will encode the queries.
    encoder: an open encoder to use instead of the recipe's.
    name: title if the recipe has none, by default the folder's name.
    resume: continue a build of this index that was stopped.
    device, threads, runtime: as for `Encoder.open`.

    Memory holds the encoder, a few batches of texts, and what `select_index` needs; vectors are in a temporary file.

    Bad records are left out; the manifest says which, and why.

    Raises InputError if more of a table or of a folder is bad than the recipe allows, if it is strict for the first bad
    record, naming file, line and reason, and if the vectors do not fit the records; RecipeError; EncoderError;
    IndexFolderError if the folder cannot be written. Whatever is raised, an index that was in `folder` before still
    serves.
    """
    threads = threads or available_cores()
    report = InputReport(skip_bad=recipe.skips_bad, max_bad_share=recipe.max_bad_share)
    with write_errors(folder), begin_build(folder) as files:
        segment = files.segment(FIRST_SEGMENT)
        segment.folder.mkdir()
        if not resume:
            remove_index_checkpoint(folder)
        if records is None:
            records = chain.from_iterable([read(source) for source in recipe.sources])
        if encoder is None:
            yield LoadingEncoder(recipe.encoder.model)
            encoder = Encoder.open(
                recipe.encoder.model,
                device=device,
                threads=threads,
                runtime=runtime,
                prompts=recipe.encoder.prompts,
                document_tokens=recipe.encoder.batch_tokens,
                dimension=recipe.encoder.dimension,
            )
        content = yield from _write_documents(recipe, files, records, encoder, vectors, report=report, resume=resume)
        basis = SpectralBasis.from_vectors(content.vectors)
        basis.save(files.basis)
        if recipe.map:
            yield ProjectingMap(len(content.vectors))
            projection = Projection.fit(content.vectors, basis, threads=threads)
            projection.save(files.map)
            save_map_points(segment, projection, content.vectors)
            trim_arenas()
        encode_queries = partial(encoder.encode_queries, content.queries)
        record = yield from write_vector_index(content.vectors, encode_queries, recipe.index, segment, threads=threads)
        manifest = publish(files, _manifest(recipe, name or folder.name, encoder, content, record, report))
        remove_checkpoint(folder)
        remove_index_checkpoint(folder)
    yield Published(folder, manifest)


def _write_documents(
    recipe: Recipe,
    files: Generation,
    records: Iterable[Record],
    encoder: Encoder,
    given: npt.ArrayLike | None,
    *,
    report: InputReport,
    resume: bool,
) -> Generator[BuildEvent, None, _Content]:
    """Store the records as the first segment and return its content. given: the vectors of `build`."""
    segment = files.segment(FIRST_SEGMENT)
    with DocumentWriter(segment.documents, segment.fulltext) as writer:
        if given is None:
            vectors = yield from _write_encoded(recipe, files, records, encoder, writer, report=report, resume=resume)
        else:
            if recipe.encoder.token_vectors is True:
                raise InputError(
                    "with vectors nothing is encoded, so there are no token vectors: leave out `encoder.token_vectors`"
                )
            vectors = yield from _write_given(records, encoder, writer, given)
        encoder_fit = measure_encoder_fit(vectors, writer.texts)
        weak_similarity = measure_weak_similarity(vectors, encoder.encode_queries, encoder_fit)
        content = _Content(vectors, writer.documents, sample_queries(writer), encoder_fit, weak_similarity)
        writer.close()
    drop_pages(vectors)
    return content


def _stores_tokens(wanted: bool | Literal["auto"], encoder: Encoder) -> bool:
    """Whether token vectors are stored. Raises EncoderError if they are wanted and the encoder has none."""
    if wanted is True and not encoder.has_token_vectors:
        raise EncoderError(
            f"encoder {encoder.name!r} has no token vectors, because its vectors are not means of token vectors: leave"
            " out `encoder.token_vectors`, or choose another encoder"
        )
    return bool(wanted) and encoder.has_token_vectors


def _write_encoded(
    recipe: Recipe,
    files: Generation,
    records: Iterable[Record],
    encoder: Encoder,
    writer: DocumentWriter,
    *,
    report: InputReport,
    resume: bool,
) -> Generator[BuildEvent, None, Vectors]:
    """Cut, store and encode the records; return the passages' vectors."""
    wanted = recipe.encoder.token_vectors
    with_tokens = _stores_tokens(wanted, encoder)
    with open_checkpoint(files.folder.parent, encoder, with_tokens=with_tokens, fresh=not resume) as checkpoint:
        with PipelinedEncoder(encoder, writer, checkpoint) as pipeline:
            for event in store_documents(report.watch(records), encoder, recipe.chunking, writer, report=report):
                if wanted == "auto" and writer.total_tokens * code_bytes(encoder.dimension) > MAX_AUTO_TOKEN_BYTES:
                    checkpoint.with_tokens = False
                pipeline.poll()
                yield event
            if not writer.documents:
                raise InputError(f"no documents in {_source_names(recipe)}: {_why_empty(report.left_out)}")
            report.check()
            pipeline.finish()
        vectors = temp_memmap(files.folder, (writer.passages, encoder.dimension))
        token_path = files.segment(FIRST_SEGMENT).tokens
        with TokenStoreWriter(token_path) if checkpoint.with_tokens else nullcontext() as tokens:
            yield from encode_resumable(
                encoder, writer, vectors, checkpoint, pipelined=pipeline.passages, tokens=tokens
            )
    return vectors


def _write_given(
    records: Iterable[Record], encoder: Encoder, writer: DocumentWriter, given: npt.ArrayLike
) -> Generator[BuildEvent, None, Vectors]:
    """Store each record as one passage and return the caller's vectors as unit rows."""
    vectors = _row_by_row(given)
    if vectors.ndim != 2 or vectors.shape[1] != encoder.dimension:
        raise InputError(
            f"the vectors have shape {vectors.shape}, the encoder {encoder.name!r} makes {encoder.dimension}"
            " dimensions: give (documents, dimensions), from the encoder that encodes the queries"
        )
    norms = np.linalg.norm(vectors, axis=1)
    invalid = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(invalid):
        raise InputError(
            f"the vector of document {invalid[0]} is zero or not finite: leave the document out, or encode it"
        )
    for record in records:
        if isinstance(record, PassedOver):
            continue
        document = _without_duplicate(record, writer)
        if isinstance(document, BadRecord):
            raise InputError(f"{document} (with vectors, every record must be a document)")
        tokens = max(1, encoder.count_tokens([encoder_text(document.title, document.text)])[0])
        writer.add(document, document.title, [(Passage(document.text, 0, len(document.text)), tokens)])
        yield Reading(writer.documents, writer.passages)
    if writer.documents != len(vectors) or not writer.documents:
        raise InputError(f"{writer.documents} documents and {len(vectors)} vectors: give one vector for each document")
    return unit_rows(vectors)


def _row_by_row(given: npt.ArrayLike) -> Vectors:
    """The caller's numbers as a C-contiguous float32 array, which FAISS and checksums need."""
    try:
        # what float32 cannot hold becomes infinite, and is refused by its document's number
        with np.errstate(over="ignore"):
            numbers = np.asarray(given)
            casting: Literal["unsafe", "same_kind"] = "unsafe" if numbers.dtype == object else "same_kind"
            return numbers.astype(np.float32, order="C", casting=casting, copy=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the vectors are not a table of numbers ({first_line(error)}): give (documents, dimensions)"
        ) from error


def _manifest(
    recipe: Recipe, name: str, encoder: Encoder, content: _Content, index: IndexRecord, report: InputReport
) -> Manifest:
    segment = SegmentRecord(
        name=FIRST_SEGMENT,
        documents=content.documents,
        passages=len(content.vectors),
        index=index,
        fulltext_version=FULLTEXT_VERSION,
    )
    return Manifest(
        built_by=version("semsearch"),
        title=recipe.title or name,
        description=recipe.description,
        facets=recipe.facets,
        examples=recipe.examples,
        encoder=EncoderRecord.of(encoder),
        segments=(segment,),
        skipped=count_bad(report.left_out),
        left_out=report.left_out,
        search=recipe.search,
        encoder_fit=content.encoder_fit,
        weak_similarity=content.weak_similarity,
        adaptation=recipe.adaptation,
        recipe=recipe.located().model_dump(mode="json", exclude_defaults=True),
    )


def store_documents(
    records: Iterable[Record],
    encoder: Encoder,
    chunking: ChunkingOptions,
    writer: DocumentWriter,
    *,
    report: InputReport,
) -> Iterator[Reading | Skipped]:
    """Cut documents into passages and store them.

    records: as `report` yields them; it receives those whose id occurs twice.

    Raises RecipeError if the encoder's window is too short for the chunking, and what the report raises.
    """
    chunker = Chunker(encoder, max_tokens=chunking.max_tokens, overlap_tokens=chunking.overlap_tokens)
    for record in records:
        if isinstance(record, PassedOver):
            continue
        document = _without_duplicate(record, writer)
        if isinstance(document, BadRecord):
            if document is not record:
                report.reject(document)
            yield Skipped(document)
            continue
        heading, passages = chunker.heading(document.title), list[tuple[Passage, int]]()
        for some in chunker.passages(heading, document.text):
            if passages:
                # a document of many MiB: show that it is being read
                yield Reading(writer.documents, writer.passages + len(passages))
            passages += some
        writer.add(document, heading, passages)
        yield Reading(writer.documents, writer.passages)


def _without_duplicate(record: Document | BadRecord, writer: DocumentWriter) -> Document | BadRecord:
    """The record; a BadRecord if a document of its id has been stored already."""
    if isinstance(record, BadRecord) or (first := writer.source_of(record.id)) is None:
        return record
    return duplicate_id(record, first)


def duplicate_id(record: Document, first: str) -> BadRecord:
    """The bad record for a document whose id occurs twice. first: location of the first document of that id."""
    return BadRecord(
        record.source,
        f"a second document of id {record.id!r}; the first one is {first}: ids are unique. To put"
        " each file's name before its ids: --id-prefix '{file}:', in a recipe sources.id_prefix",
        file=file_of(record.source),
    )


def write_vector_index(
    vectors: Vectors,
    encode_queries: Callable[[], Vectors],
    options: IndexOptions,
    files: SegmentFiles,
    *,
    threads: int,
    ranges: Ranges | None = None,
) -> Generator[LinkingGraph, None, IndexRecord]:
    """Index the vectors of a segment as `select_index` does, write the index, and return its record."""
    checkpoint = partial(IndexCheckpoint, files.folder.parent.parent, vectors)
    for event in select_index(
        vectors, encode_queries, options, threads=threads, open_checkpoint=checkpoint, ranges=ranges
    ):
        if isinstance(event, LinkingGraph):
            yield event
    assert isinstance(event, SelectedIndex)
    event.index.save(files.vectors, files.lists if event.record.type == "ivf" else files.graph)
    return event.record


def save_map_points(files: SegmentFiles, projection: Projection, vectors: Vectors) -> None:
    """Write the map coordinates of a segment's passages. vectors: (n, dim) float32, unit rows.

    Raises OSError if writing fails.
    """
    # into memory first: NumPy ignores an error of the last flush of a file
    content = BytesIO()
    np.save(content, projection.project(vectors).astype(np.float16), allow_pickle=False)
    files.map_points.write_bytes(content.getbuffer())


def sample_queries(writer: DocumentWriter) -> list[str]:
    """Realistic queries for measuring recall: the first words of some of the stored passages."""
    rows = np.random.default_rng(0).permutation(writer.passages)[:RECALL_QUERIES]
    return [" ".join(text.split()[:QUERY_WORDS]) or text for text in writer.texts(np.sort(rows))]


def _why_empty(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return "nothing to index"
    bad = count_bad(left_out)
    return f"all {bad} records were bad: {left_out[0]}" if bad else f"{summarize(left_out)}: {left_out[0]}"


def _source_names(recipe: Recipe) -> str:
    return (
        ", ".join(str(source.path or f"python {source.python}") for source in recipe.sources) or "the documents given"
    )
