"""Changes a published index: adds, replaces and deletes documents, and merges its segments.

Every change is a new generation that shares the unchanged files with the one before. New documents form a new segment,
into which small segments are merged, so that their number stays small.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain, groupby
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from semsearch.adapters.basis import SpectralBasis
from semsearch.encoders.encoder import EncodedPassages, Encoder
from semsearch.errors import EncoderError, IndexFolderError, InputError
from semsearch.ingest.building import (
    LoadingEncoder,
    ProjectingMap,
    Reading,
    Skipped,
    duplicate_id,
    sample_queries,
    save_map_points,
    store_documents,
    write_vector_index,
)
from semsearch.ingest.encoding import Encoding, Resuming, encode_passages, encode_resumable, open_checkpoint
from semsearch.ingest.input_report import InputReport, file_of
from semsearch.ingest.inverted_file import LinkingGraph, store_rows
from semsearch.ingest.readers.files import BadRecord, PassedOver, Record
from semsearch.ingest.recipe import IndexOptions, Recipe
from semsearch.search.encoder_fit import measure_encoder_fit
from semsearch.search.weak_matches import measure_weak_similarity
from semsearch.storage.corpus import Corpus, Segment
from semsearch.storage.deletions import Deletions, save_deletions
from semsearch.storage.documents import DocumentWriter, StoredDocument
from semsearch.storage.embedding_checkpoint import remove_checkpoint
from semsearch.storage.generations import Generation, OpenGeneration, SegmentFiles, begin_update, publish
from semsearch.storage.index_checkpoint import remove_index_checkpoint
from semsearch.storage.left_out import LeftOut
from semsearch.storage.manifest import (
    FULLTEXT_VERSION,
    EncoderFit,
    IndexRecord,
    Manifest,
    SegmentRecord,
    WeakSimilarity,
)
from semsearch.storage.projection import Projection, landmark_count
from semsearch.storage.token_store import TokenStoreWriter
from semsearch.storage.vectors import Ranges
from semsearch.system.files import drop_pages, temp_memmap
from semsearch.system.threads import available_cores
from semsearch.types import Document, Vectors

MAX_SMALL_SEGMENT = 10_000
"""Passages of a segment that an update may merge, and that is searched exactly. A larger update selects an index for
its segment as a build does, except in a server or program with an open encoder, which leave that to a compaction."""
MAX_MERGE_RATIO = 4
"""A segment is merged into a new one only if it has at most this many times as many passages."""
INT8_STEPS = 255
"""Steps of the range of a component between its lowest and its highest int8 code."""
COPIED_ROWS = 5_000
"""Vectors that are read at a time to copy them, or to compare them with the ranges of int8 codes."""
MAP_GROWTH = 2
"""A compaction computes a new map if there are more than this many times as many passages, unless the map has as many
landmarks as it may have."""


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The outcome of a change; the index is in place."""

    folder: Path
    manifest: Manifest
    added: int = 0
    replaced: int = 0
    deleted: int = 0
    unchanged: int = 0
    """Documents that did not change; which row of their file they are is not compared."""
    unknown: tuple[str, ...] = ()
    """Ids to delete that no document has."""
    left_out: tuple[LeftOut, ...] = ()
    """What an update could not read."""
    protected: int = 0
    """Documents that pruning kept because they may be in a file or folder that could not be read whole."""
    compacted: bool = False
    """Whether all segments were merged into one."""
    dropped_ef_search: int | None = None
    """`search.ef_search`, if a compaction removed it because the index's type changed; the measured value applies."""


UpdateEvent: TypeAlias = (
    LoadingEncoder | Reading | Skipped | Resuming | Encoding | ProjectingMap | LinkingGraph | UpdateResult
)


class EncodePassages(Protocol):
    """Encodes passages, as `Encoder.encode_passages`."""

    def __call__(self, texts: Sequence[str], /, *, with_tokens: bool) -> EncodedPassages:
        """Return the vectors of n passages, and their token vectors if they are wanted."""


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """The parts of an index that a running server has open, for a change to reuse."""

    corpus: Corpus
    encoder: Encoder
    encode: EncodePassages


def update(
    folder: Path,
    records: Iterable[Record],
    *,
    prune: bool = False,
    skip_bad: bool | None = None,
    max_bad_share: float | None = None,
    opened: OpenIndex | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Iterator[UpdateEvent]:
    """Add documents to the index in `folder`; a document replaces the one of the same id if it differs.

    prune: delete all documents that are not among the records, except those that may be in a file or folder that could
    not be read whole (`InputReport.may_be_unread`). skip_bad, max_bad_share: as of `InputReport`.

    A passage whose text and title did not change keeps its vector. The work is done as the events are taken.

    Raises InputError if more of a table or of a folder is bad than may be, or, if `skip_bad` is False, for the first
    bad record; EncoderError; IndexFolderError if there is no index, if another process is writing it, if its encoder
    has changed, or if the disk cannot be written. Whatever is raised, the index is as it was.
    """
    threads = threads or available_cores()
    report = InputReport(skip_bad=skip_bad, max_bad_share=max_bad_share)
    with _begin(folder, opened) as change:
        recipe = Recipe.model_validate(change.manifest.recipe)
        encoder = yield from _load_encoder(folder, change.manifest, recipe, opened, device=device, threads=threads)
        files = change.new_segment()
        changes = ChangeSet(change.corpus, report)
        with DocumentWriter(files.documents, files.fulltext) as writer:
            selected = changes.select(report.watch(records))
            yield from store_documents(selected, encoder, recipe.chunking, writer, report=report)
            report.check()
            deleted = changes.to_delete(folder, prune=prune)
            change.delete(deleted)
            if writer.documents:
                unchanged = _unchanged_passages(change.corpus, writer, set(changes.replaced))
                yield from _write_segment(folder, change, writer, unchanged, encoder, recipe, opened, threads=threads)
        if not writer.documents:
            shutil.rmtree(files.folder)
        manifest = change.manifest.with_left_out(report.left_out, report.files, complete=prune)
        if writer.documents or deleted or manifest != change.manifest:
            change.manifest = manifest
            manifest = change.publish()
            remove_checkpoint(folder)
            remove_index_checkpoint(folder)
        replaced = len(changes.replaced)
        yield UpdateResult(
            folder,
            manifest,
            added=changes.new - replaced,
            replaced=replaced,
            deleted=len(deleted) - replaced,
            unchanged=changes.unchanged,
            left_out=report.left_out,
            protected=changes.protected,
        )


def _load_encoder(
    folder: Path, manifest: Manifest, recipe: Recipe, opened: OpenIndex | None, *, device: str, threads: int
) -> Generator[LoadingEncoder, None, Encoder]:
    """The encoder that built the index. Raises EncoderError; IndexFolderError if it has changed."""
    record = manifest.encoder
    if opened is None:
        yield LoadingEncoder(record.name)
        encoder = record.open(folder, device=device, threads=threads, document_tokens=recipe.encoder.batch_tokens)
    else:
        encoder = opened.encoder
    record.check(encoder, str(folder))
    return encoder


def _unchanged_passages(corpus: Corpus, writer: DocumentWriter, replaced: Collection[str]) -> dict[int, int]:
    """Row in `writer` → row in `corpus` of the passages that are encoded as one of the document was before.

    replaced: ids of the documents of both.
    """
    rows: dict[int, int] = {}
    if not replaced:
        return rows
    for doc_id, passages in groupby(enumerate(writer.passages_by_row()), key=lambda passage: passage[1][0]):
        if doc_id in replaced:
            before = corpus.passage_rows(doc_id)
            row_of = dict(zip(corpus.encoder_texts(before), before.tolist(), strict=True))
            rows |= {row: row_of[text] for row, (_, text) in passages if text in row_of}
    return rows


def _write_segment(
    folder: Path,
    change: _Change,
    writer: DocumentWriter,
    unchanged: Mapping[int, int],
    encoder: Encoder,
    recipe: Recipe,
    opened: OpenIndex | None,
    *,
    threads: int,
) -> Iterator[UpdateEvent]:
    """Encode the stored documents and index them as a new segment, into which small segments are merged.

    unchanged: as `_unchanged_passages` returns it; their vectors are copied.
    """
    new, merged = writer.passages, _mergeable(change.corpus.segments, writer.passages)
    # in a file: a large update need not fit memory
    vectors = temp_memmap(
        change.files.folder, (new + sum(segment.vectors.count for segment in merged), encoder.dimension)
    )
    known = np.zeros(new, bool)
    rows, old_rows = np.array(list(unchanged), np.int64), np.array(list(unchanged.values()), np.int64)
    known[rows] = True
    with change.token_writer() as tokens:
        for start in range(0, len(rows), COPIED_ROWS):
            part = slice(start, start + COPIED_ROWS)
            vectors[rows[part]] = change.corpus.vectors(old_rows[part])
            drop_pages(vectors)
            if tokens is not None:
                tokens.put(rows[part], change.corpus.token_codes(old_rows[part]))
        if opened is None:
            with open_checkpoint(folder, encoder, with_tokens=tokens is not None) as checkpoint:
                yield from encode_resumable(encoder, writer, vectors[:new], checkpoint, known=known, tokens=tokens)
        else:
            encode = partial(map, partial(opened.encode, with_tokens=tokens is not None))
            yield from encode_passages(encode, encoder, writer, vectors[:new], known, tokens=tokens)
        for stored, stored_vectors in change.take(merged, tokens, first_row=new):
            vectors[writer.passages : writer.passages + len(stored_vectors)] = stored_vectors
            writer.add(stored.document, stored.heading, stored.passages)
    counts, queries = (writer.documents, writer.passages), sample_queries(writer)
    if change.manifest.encoder_fit is None:
        # the index was too small when it was built
        encoder_fit = measure_encoder_fit(vectors[: counts[1]], writer.texts)
        change.record_encoder_fit(encoder_fit)
        if opened is None:
            # a server's encoder belongs to its own threads
            change.record_weak_similarity(
                measure_weak_similarity(vectors[: counts[1]], encoder.encode_queries, encoder_fit)
            )
    writer.close()
    # a server leaves linking a graph to a compaction
    options = recipe.index if counts[1] > MAX_SMALL_SEGMENT and opened is None else None
    encode_queries = partial(encoder.encode_queries, queries)
    drop_pages(vectors)
    yield from change.add(counts, vectors[: counts[1]], options, encode_queries, threads=threads)


def delete(folder: Path, doc_ids: Sequence[str], *, opened: OpenIndex | None = None) -> UpdateResult:
    """Delete documents of the index in `folder`; the result names the ids that no document has.

    Raises IndexFolderError as `update` does.
    """
    with _begin(folder, opened) as change:
        known = change.corpus.existing_ids(doc_ids)
        unknown = tuple(doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id not in known)
        if not known:
            return UpdateResult(folder, change.manifest, unknown=unknown)
        change.delete(sorted(known))
        return UpdateResult(folder, change.publish(), deleted=len(known), unknown=unknown)


def compact(
    folder: Path, *, encoder: Encoder | None = None, device: str = "auto", threads: int | None = None
) -> Iterator[UpdateEvent]:
    """Merge all segments into one without the deleted documents, and select its index and compute its basis again.

    It upgrades an index of an earlier semsearch, also if it has only one segment.

    encoder: an open encoder of the index, for the queries on which recall and weak matches are measured; by default it
    is loaded.

    Needs the memory that `select_index` does, and time in proportion to the index; nothing is encoded again. Raises
    IndexFolderError as `update` does, and InputError if no vector index reaches the recall that the recipe asks for. If
    the type of the index changes, `search.ef_search` is removed, which means something else for every type.
    """
    threads = threads or available_cores()
    with _begin(folder, None, to_upgrade=True) as change:
        segments = change.corpus.segments
        is_single = len(segments) == 1 and not change.corpus.deletions
        is_compact = is_single and not change.manifest.needs_measuring and not change.manifest.is_former
        if not change.corpus.documents and change.manifest.is_former:
            raise IndexFolderError(
                f"{folder} was written by an earlier semsearch and holds no documents any more: build the index again"
            )
        if not change.corpus.documents or is_compact:
            yield UpdateResult(folder, change.manifest)
            return
        built_with, recipe = change.manifest.encoder, Recipe.model_validate(change.manifest.recipe)
        files = change.new_segment()
        vectors = temp_memmap(files.folder, (change.corpus.passages, built_with.dimension))
        with DocumentWriter(files.documents, files.fulltext) as writer, change.token_writer() as tokens:
            for stored, stored_vectors in change.take(segments, tokens):
                vectors[writer.passages : writer.passages + len(stored_vectors)] = stored_vectors
                writer.add(stored.document, stored.heading, stored.passages)
                yield Reading(writer.documents, writer.passages)
            counts, queries = (writer.documents, writer.passages), sample_queries(writer)
            encoder_fit = measure_encoder_fit(vectors, writer.texts)
            writer.close()
        change.record_encoder_fit(encoder_fit)

        @cache
        def opened() -> Encoder:
            loaded = encoder or built_with.open(folder, device=device, threads=threads)
            built_with.check(loaded, str(folder))
            return loaded

        # without its encoder, an index keeps what was measured before
        with suppress(EncoderError, IndexFolderError):
            change.record_weak_similarity(
                measure_weak_similarity(vectors, lambda texts: opened().encode_queries(texts), encoder_fit)
            )
        change.upgrade_lexical_weight(recipe)
        drop_pages(vectors)
        basis = SpectralBasis.from_vectors(vectors)
        basis.save(change.files.basis)
        if recipe.map and change.needs_new_map(len(vectors)):
            yield ProjectingMap(len(vectors))
            Projection.fit(vectors, basis, threads=threads).save(change.files.map)
        drop_pages(vectors)

        def encode_queries() -> Vectors:
            return opened().encode_queries(queries)

        yield from change.add(counts, vectors, recipe.index, encode_queries, threads=threads)
        dropped = change.drop_ef_search()
        manifest = change.publish(is_measured=True)
        remove_index_checkpoint(folder)
        yield UpdateResult(folder, manifest, compacted=True, dropped_ef_search=dropped)


@dataclass
class ChangeSet:
    """Compares the records of an update with the documents of the index."""

    corpus: Corpus
    report: InputReport
    seen: dict[str, str] = field(default_factory=dict)
    """Id → location of each record."""
    replaced: list[str] = field(default_factory=list)
    """Ids of documents that differ from their record."""
    protected: int = 0
    """Documents without a record that are kept, because they may be in what could not be read."""
    new: int = 0
    """Records to be written: added and replaced documents."""
    unchanged: int = 0

    def select(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records that are bad, new or changed, and the counts of files passed over."""
        for record in records:
            if isinstance(record, PassedOver | BadRecord):
                yield record
                continue
            if record.id in self.seen:
                duplicate = duplicate_id(record, self.seen[record.id])
                self.report.reject(duplicate)
                yield duplicate
                continue
            self.seen[record.id] = record.source
            indexed = self.corpus.document(record.id)
            if indexed is not None and _is_same(indexed, record):
                self.unchanged += 1
                continue
            if indexed is not None:
                self.replaced.append(record.id)
            self.new += 1
            yield record

    def to_delete(self, folder: Path, *, prune: bool) -> list[str]:
        """Ids to delete from the present segments: replaced documents and, if pruning, documents without a record.

        Raises InputError if pruning would empty the index although no file was read whole.
        """
        if not prune:
            return self.replaced
        if not self.seen and not self.report.was_read_whole:
            raise InputError(
                f"nothing was read: {folder} would lose all that it holds; check that the inputs are complete, or"
                " delete documents by their ids with `semsearch delete`"
            )
        return self.replaced + self._without_record()

    def _without_record(self) -> list[str]:
        """Ids of documents that had no record, except those that may be in what could not be read."""
        unseen = [doc_id for doc_id in self.corpus.all_doc_ids() if doc_id not in self.seen]
        without = []
        for doc_id in unseen:
            document = self.corpus.document(doc_id)
            if document is None or not self.report.may_be_unread(document):
                without.append(doc_id)
        self.protected = len(unseen) - len(without)
        return without


def _is_same(indexed: Document, record: Document) -> bool:
    return _comparable(indexed) == _comparable(record)


def _comparable(document: Document) -> tuple[str, str, str, str]:
    # a row of a file has not changed if it moved within the file; as JSON, because 1, 1.0 and true differ there
    return document.title, document.text, file_of(document.source), json.dumps(dict(document.metadata), sort_keys=True)


class _Change:
    """A new generation in preparation: its segments, and the documents deleted in them."""

    def __init__(self, before: OpenGeneration, files: Generation, corpus: Corpus) -> None:
        self.manifest = before.manifest
        self.files = files
        self.corpus = corpus
        self._deletions: dict[str, Deletions] = dict(corpus.deletions)
        self._before = before
        self._kept = {segment.name: segment for segment in before.manifest.segments}
        self._new: list[SegmentRecord] = []
        self._rounded: set[str] = set()
        self._needs_measuring = before.manifest.needs_measuring
        self._name = f"s-{max(int(name[2:]) for name in self._kept) + 1:06d}"

    def new_segment(self) -> SegmentFiles:
        """The files of the segment that this change writes."""
        files = self.files.segment(self._name)
        files.folder.mkdir()
        return files

    def delete(self, doc_ids: Sequence[str]) -> None:
        """Mark documents of the present segments as deleted."""
        for segment, rows in self.corpus.rows_by_segment(doc_ids):
            passages = chain.from_iterable(
                segment.documents.texts(segment.documents.passage_rows(row)) for row in rows.tolist()
            )
            before = self._deletions.get(segment.name, Deletions())
            self._deletions[segment.name] = before.with_documents(rows, passages)
            self._needs_measuring = True

    def token_writer(self) -> AbstractContextManager[TokenStoreWriter | None]:
        """Return the writer of the new segment's token vectors; None if the index has none."""
        if not self.corpus.has_token_vectors:
            return nullcontext()
        return TokenStoreWriter(self.files.segment(self._name).tokens)

    def take(
        self, segments: Sequence[Segment], tokens: TokenStoreWriter | None, *, first_row: int = 0
    ) -> Iterator[tuple[StoredDocument, Vectors]]:
        """Remove segments from the new generation and yield their documents that are not deleted, with vectors.

        tokens: receives their token vectors, the first of them in `first_row`.
        """
        for segment in segments:
            deleted = self._deletions.pop(segment.name, Deletions())
            del self._kept[segment.name]
            self._rounded |= {segment.index.vectors} - {"float32"}
            rows = np.setdiff1d(np.arange(segment.documents.count), deleted.rows).tolist()
            for stored in segment.documents.documents(rows):
                if tokens is not None and segment.tokens is not None:
                    new_rows = first_row + np.arange(len(stored.rows))
                    tokens.put(new_rows, segment.tokens.codes(stored.rows))
                    first_row += len(stored.rows)
                yield stored, segment.vectors.vectors(stored.rows)

    def add(
        self,
        counts: tuple[int, int],
        vectors: Vectors,
        options: IndexOptions | None,
        encode_queries: Callable[[], Vectors],
        *,
        threads: int,
    ) -> Iterator[LinkingGraph]:
        """Index the vectors of the new segment, whose documents have been written.

        counts: its documents and passages. options: None for few vectors, which are searched exactly.
        """
        self._needs_measuring = True
        files = self.files.segment(self._name)
        if options is None:
            record = IndexRecord(reason="few passages")
            store_rows(vectors, "float32", threads=1).save(files.vectors)
        else:
            ranges = _int8_ranges(self.corpus.segments, vectors)
            try:
                record = yield from write_vector_index(
                    vectors, encode_queries, options, files, threads=threads, ranges=ranges
                )
            except InputError as error:
                raise InputError(
                    f"{error}; an index keeps the options that it was built with, so change them in its recipe and"
                    " build it again; until then it stays as it was"
                ) from error
            if self._rounded and record.recall is not None:
                stored = " and ".join(sorted(self._rounded))
                reason = f"{record.reason}; recall is against the stored {stored} vectors, not the encoder's"
                record = record.model_copy(update={"reason": reason})
        projection = self._projection()
        if projection is not None:
            save_map_points(files, projection, vectors)
        self._new.append(
            SegmentRecord(
                name=self._name,
                documents=counts[0],
                passages=counts[1],
                index=record,
                fulltext_version=FULLTEXT_VERSION,
            )
        )

    def record_encoder_fit(self, encoder_fit: EncoderFit | None) -> None:
        """Record whether the encoder reads the corpus."""
        self.manifest = self.manifest.model_copy(update={"encoder_fit": encoder_fit})

    def record_weak_similarity(self, weak_similarity: WeakSimilarity | None) -> None:
        """Record below which cosine a best match is weak."""
        self.manifest = self.manifest.model_copy(update={"weak_similarity": weak_similarity})

    def upgrade_lexical_weight(self, recipe: Recipe) -> None:
        """Give an index of an earlier version, unless it was tuned, the weight of its recipe, which is now `auto`."""
        if self.manifest.is_former and self.manifest.tuned is None:
            weight = recipe.search.lexical_weight
            search = self.manifest.search.model_copy(update={"lexical_weight": weight})
            self.manifest = self.manifest.model_copy(update={"search": search})

    def drop_ef_search(self) -> int | None:
        """Remove `search.ef_search` if the new segment is of another type than the one it was meant for; return it."""
        search, index_type = self.manifest.search, self.corpus.largest_segment.index.type
        if search.ef_search is None or self._new[-1].index.type == index_type:
            return None
        self.manifest = self.manifest.model_copy(update={"search": search.model_copy(update={"ef_search": None})})
        return search.ef_search

    def needs_new_map(self, passages: int) -> bool:
        """Whether an index of this many passages needs a new map: it has none, or one computed from far fewer."""
        projection = self._projection()
        return projection is None or landmark_count(math.ceil(passages / MAP_GROWTH)) > len(projection.landmarks)

    def _projection(self) -> Projection | None:
        for files in (self.files, self._before.files):
            if files.map.exists():
                return Projection.open(files.map)
        return None

    def publish(self, *, is_measured: bool = False) -> Manifest:
        """Make this the generation that serves. is_measured: whether what describes the corpus was computed anew."""
        kept = [self._with_deletions(segment) for segment in self.corpus.segments if segment.name in self._kept]
        remaining = [record for record in kept if record.deleted < record.documents]
        if not remaining and not self._new:
            remaining = kept[:1]  # an index always has a segment
        names = {record.name for record in remaining}
        replaceable = [self.files.basis, self.files.map]
        unreplaced = [
            path.name for path in replaceable if not path.exists() and (self._before.files.folder / path.name).exists()
        ]
        shared = [*names, *unreplaced]
        self.files.share(self._before.files, *shared)
        save_deletions(self.files.deleted, {name: one for name, one in self._deletions.items() if name in names})
        # checksums of shared files are known already
        files = {name: file for name, file in self.manifest.files.items() if name.partition("/")[0] in shared}
        manifest = self.manifest.with_segments([*remaining, *self._new])
        measuring = {"needs_measuring": self._needs_measuring and not is_measured}
        return publish(self.files, manifest.model_copy(update={"files": files, **measuring}))

    def _with_deletions(self, segment: Segment) -> SegmentRecord:
        rows = self._deletions.get(segment.name, Deletions()).rows
        passages = int(np.isin(segment.documents.document_of, rows).sum()) if len(rows) else 0
        return self._kept[segment.name].model_copy(update={"deleted": len(rows), "deleted_passages": passages})


@contextmanager
def _begin(folder: Path, opened: OpenIndex | None, *, to_upgrade: bool = False) -> Iterator[_Change]:
    earlier = opened.corpus if opened is not None else None
    with begin_update(folder) as (before, files):
        yield _Change(before, files, Corpus.open(before, threads=1, earlier=earlier, to_upgrade=to_upgrade))


def _int8_ranges(segments: Sequence[Segment], vectors: Vectors) -> Ranges | None:
    """The ranges of the largest int8 segment, widened for components outside them; None if no segment is int8.

    vectors: (n, dim) float32; pages of a memory map are released.
    """
    quantized = [segment.vectors for segment in segments if segment.vectors.ranges is not None]
    if not quantized:
        return None
    before = max(quantized, key=lambda index: index.count).ranges
    assert before is not None
    lowest, highest = before[0], before[0] + before[1]
    # a component of the highest code is decoded to half a step above the range, and within a step it gets this code
    low, high = lowest.copy(), highest + before[1] / INT8_STEPS
    for start in range(0, len(vectors), COPIED_ROWS):
        block = vectors[start : start + COPIED_ROWS]
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        drop_pages(vectors)
    is_above = high > highest + before[1] / INT8_STEPS
    widths = np.where((low < lowest) | is_above, np.where(is_above, high, highest) - low, before[1])
    return np.stack([low, widths])


def _mergeable(segments: Sequence[Segment], passages: int) -> list[Segment]:
    """The last segments that are small enough to be merged with a number of new passages."""
    chosen: list[Segment] = []
    for segment in reversed(segments):
        count = segment.vectors.count
        too_large = count > MAX_MERGE_RATIO * passages or count + passages > MAX_SMALL_SEGMENT
        # quantized segments wait for a compaction, which takes over their ranges
        is_plain = (segment.index.type, segment.index.vectors) == ("exact", "float32")
        if not is_plain or too_large:
            break
        chosen.append(segment)
        passages += count
    return chosen
