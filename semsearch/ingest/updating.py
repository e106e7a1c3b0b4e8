"""Changes of a published index: documents added, replaced and deleted, and its segments made one again.

A change is a generation of its own, which has all but what changed in common with the one before. New documents are a
segment of their own; small segments are written together with them, so that there are never many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from semsearch.adapters.basis import SpectralBasis
from semsearch.encoders.encoder import Encoder
from semsearch.errors import IndexFolderError, InputError
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
from semsearch.ingest.index_selection import LinkingGraph
from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.recipe import IndexOptions, Recipe
from semsearch.storage.corpus import Corpus, Segment, save_deleted
from semsearch.storage.documents import DocumentWriter, StoredDocument
from semsearch.storage.embedding_checkpoint import remove_checkpoint
from semsearch.storage.generations import Generation, OpenGeneration, SegmentFiles, begin_update, publish
from semsearch.storage.manifest import IndexRecord, Manifest, SegmentRecord
from semsearch.storage.projection import Projection
from semsearch.storage.vectors import VectorIndex
from semsearch.system.files import drop_pages, temp_memmap
from semsearch.system.threads import available_cores
from semsearch.types import Document, Rows, Vectors

SMALL = 10_000
"""Passages up to which a segment may be written together with another one unasked, and is never linked."""
NEAR = 4
"""Times as many passages as are written anyway that a small segment may have to be written together with them."""

OUTGROWN = 2
"""Times as many passages as a map was drawn of, from which on a compaction draws it anew, as long as not all that it
can hold were drawn."""


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The index is as it was asked to be."""

    folder: Path
    manifest: Manifest
    added: int = 0
    replaced: int = 0
    deleted: int = 0
    unchanged: int = 0
    """Documents that were the same already; where they were read is not looked at."""
    unknown: tuple[str, ...] = ()
    """Ids that were to be deleted and are not there."""
    compacted: bool = False
    """Whether all segments were written as one."""


UpdateEvent: TypeAlias = (
    LoadingEncoder | Reading | Skipped | Resuming | Encoding | ProjectingMap | LinkingGraph | UpdateResult
)


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """What a running server has open already, so that a change need not open it again."""

    corpus: Corpus
    encoder: Encoder
    encode: Callable[[Sequence[str]], Vectors]
    """Texts of passages → (n, dim) float32, unit rows."""


def update(
    folder: Path,
    records: Iterable[Document | BadRecord],
    *,
    prune: bool = False,
    skip_bad: bool = False,
    opened: OpenIndex | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Iterator[UpdateEvent]:
    """Add documents to the index in `folder`; one whose id is there takes that one's place, if it differs.

    prune: delete all documents that are not among the records, but for those of files in which something could not be
    read. The work is done as the events are taken.

    Raises InputError for the first bad record, unless those are skipped; EncoderError; IndexFolderError if there is no
    index, if another process is writing it, if its encoder has become another one, or where the disk refuses. Whatever
    is raised, the index is as it was.
    """
    threads = threads or available_cores()
    with _change(folder, opened) as change:
        made_by, recipe = change.manifest.encoder, Recipe.model_validate(change.manifest.recipe)
        if opened is None:
            yield LoadingEncoder(made_by.name)
            encoder = Encoder.open(
                made_by.name,
                device=device,
                threads=threads,
                prompts=made_by.prompts,
                document_tokens=recipe.encoder.batch_tokens,
            )
        else:
            encoder = opened.encoder
        if encoder.weights_sha256 != made_by.weights_sha256:
            raise IndexFolderError(
                f"{folder} was built with encoder {made_by.name!r} of weights {made_by.weights_sha256[:12]}…, which now"
                f" has {encoder.weights_sha256[:12]}…: its vectors cannot be mixed; build the index again with"
                " `semsearch build`"
            )
        files = change.new_segment()
        tally = ChangeSet(change.corpus)
        with DocumentWriter(files.documents) as writer:
            yield from store_documents(tally.changed(records), encoder, recipe.chunking, writer, skip_bad=skip_bad)
            gone = tally.replaced
            if prune:
                if not tally.seen:
                    raise InputError(f"nothing was read: {folder} would lose all that it holds; look at what is named")
                gone = gone + tally.missing()
            if not writer.documents and not gone:
                yield UpdateResult(folder, change.manifest, unchanged=tally.unchanged)
                return
            change.delete(gone)
            if writer.documents:
                vectors = [np.empty((writer.passages, encoder.dimension), np.float32)]
                if opened is None:
                    with open_checkpoint(folder, encoder) as journal:
                        yield from encode_resumable(encoder, writer, vectors[0], journal)
                else:
                    none = np.zeros(writer.passages, bool)
                    yield from encode_passages(partial(map, opened.encode), encoder, writer, vectors[0], none)
                for one, its in change.take(_neighbours(change.corpus.segments, writer.passages)):
                    writer.add(one.document, one.heading, one.passages)
                    vectors.append(its)
                counts, texts = (writer.documents, writer.passages), sample_queries(writer)
                writer.close()
                # a server's encoder belongs to another thread: it leaves linking to a compaction
                options = recipe.index if counts[1] > SMALL and opened is None else None
                asked = partial(encoder.encode_queries, texts)
                yield from change.add(counts, np.concatenate(vectors), options, asked, threads=threads)
        if not writer.documents:
            files.documents.unlink()
            files.folder.rmdir()
        manifest = change.publish()
        remove_checkpoint(folder)
        replaced = len(tally.replaced)
        yield UpdateResult(
            folder,
            manifest,
            added=tally.new - replaced,
            replaced=replaced,
            deleted=len(gone) - replaced,
            unchanged=tally.unchanged,
        )


def delete(folder: Path, identities: Sequence[str], *, opened: OpenIndex | None = None) -> UpdateResult:
    """Delete documents of the index in `folder` by their ids; those that are not there are told.

    Raises IndexFolderError as `update` does.
    """
    with _change(folder, opened) as change:
        known = change.corpus.existing_ids(identities)
        unknown = tuple(one for one in dict.fromkeys(identities) if one not in known)
        if not known:
            return UpdateResult(folder, change.manifest, unknown=unknown)
        change.delete(sorted(known))
        return UpdateResult(folder, change.publish(), deleted=len(known), unknown=unknown)


def compact(
    folder: Path, *, encoder: Encoder | None = None, device: str = "auto", threads: int | None = None
) -> Iterator[UpdateEvent]:
    """Write all segments as one, without what was deleted, and measure its axes and its index anew.

    encoder: an open encoder of the index, to encode some queries for measuring recall; by default it is opened.

    Takes the vectors' memory, and time with the index; nothing is encoded again. Raises IndexFolderError as `update`
    does, and InputError where no effort reaches the recall that the recipe asks for.
    """
    threads = threads or available_cores()
    with _change(folder, None) as change:
        segments = change.corpus.segments
        if not change.corpus.documents or (len(segments) == 1 and not change.corpus.deleted):
            yield UpdateResult(folder, change.manifest)
            return
        made_by, recipe = change.manifest.encoder, Recipe.model_validate(change.manifest.recipe)
        files = change.new_segment()
        vectors = temp_memmap(files.folder, (change.corpus.passages, made_by.dimension))
        with DocumentWriter(files.documents) as writer:
            for one, its in change.take(segments):
                vectors[writer.passages : writer.passages + len(its)] = its
                writer.add(one.document, one.heading, one.passages)
                yield Reading(writer.documents, writer.passages)
            counts, texts = (writer.documents, writer.passages), sample_queries(writer)
            writer.close()
        drop_pages(vectors)
        basis = SpectralBasis.from_vectors(vectors)
        basis.save(change.files.basis)
        if recipe.map and change.map_is_outgrown(len(vectors)):
            yield ProjectingMap(len(vectors))
            Projection.fit(vectors, basis, threads=threads).save(change.files.map)
        drop_pages(vectors)

        def asked() -> Vectors:
            opened = encoder or Encoder.open(made_by.name, device=device, threads=threads, prompts=made_by.prompts)
            return opened.encode_queries(texts)

        yield from change.add(counts, vectors, recipe.index, asked, threads=threads)
        yield UpdateResult(folder, change.publish(), compacted=True)


@dataclass
class ChangeSet:
    """What becomes of the records of a change."""

    corpus: Corpus
    seen: dict[str, str] = field(default_factory=dict)
    """Where each id was read."""
    replaced: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    """Files in which something could not be read."""
    new: int = 0
    unchanged: int = 0

    def missing(self) -> list[str]:
        """Ids of documents that were not among the records, and are not of a file that could not be read whole."""
        unseen = [one for one in self.corpus.all_doc_ids() if one not in self.seen]
        if not self.bad:
            return unseen
        kept = []
        for identity in unseen:
            document = self.corpus.document(identity)
            source = "" if document is None else _without_line(document.source)
            if not any(bad == source or bad.endswith(f"/{source}") for bad in self.bad):
                kept.append(identity)
        return kept

    def changed(self, records: Iterable[Document | BadRecord]) -> Iterator[Document | BadRecord]:
        """Those that are bad, new or differ."""
        for record in records:
            if isinstance(record, BadRecord):
                self.bad.append(_without_line(record.location))
                yield record
                continue
            if record.id in self.seen:
                yield duplicate_id(record, self.seen[record.id])
                continue
            self.seen[record.id] = record.source
            there = self.corpus.document(record.id)
            if there is not None and _same(there, record):
                self.unchanged += 1
                continue
            if there is not None:
                self.replaced.append(record.id)
            self.new += 1
            yield record


def _without_line(place: str) -> str:
    file, _, line = place.rpartition(":")
    return file if line.isdecimal() else place


def _same(there: Document, record: Document) -> bool:
    # a row that moved within its file is no other document
    return (there.title, there.text, dict(there.metadata)) == (record.title, record.text, dict(record.metadata))


class _Update:
    """A new generation on its way: which segments it has, what is deleted in them."""

    def __init__(self, before: OpenGeneration, files: Generation, corpus: Corpus) -> None:
        self.manifest = before.manifest
        self.files = files
        self.corpus = corpus
        self.deleted: dict[str, Rows] = dict(corpus.deleted)
        self._before = before
        self._kept = {one.name: one for one in before.manifest.segments}
        self._new: list[SegmentRecord] = []
        self._name = f"s-{max(int(name[2:]) for name in self._kept) + 1:06d}"

    def new_segment(self) -> SegmentFiles:
        """The files of the segment that this change writes."""
        files = self.files.segment(self._name)
        files.folder.mkdir()
        return files

    def delete(self, identities: Sequence[str]) -> None:
        """Mark documents of the kept segments as deleted."""
        for name, rows in self.corpus.rows_by_segment(identities).items():
            self.deleted[name] = np.union1d(self.deleted.get(name, np.empty(0, np.int64)), rows)

    def take(self, segments: Sequence[Segment]) -> Iterator[tuple[StoredDocument, Vectors]]:
        """What of these segments is not deleted, with the vectors of its passages; they are kept no longer."""
        for segment in segments:
            gone = self.deleted.pop(segment.name, np.empty(0, np.int64))
            del self._kept[segment.name]
            for one in segment.documents.documents(np.setdiff1d(np.arange(segment.documents.count), gone).tolist()):
                yield one, segment.vectors.vectors(one.rows)

    def add(
        self,
        counts: tuple[int, int],
        vectors: Vectors,
        options: IndexOptions | None,
        asked: Callable[[], Vectors],
        *,
        threads: int,
    ) -> Iterator[LinkingGraph]:
        """Index the vectors of a new segment, whose documents are written already: so many, in so many passages.

        options: None for few vectors, which are compared one by one.
        """
        files = self.files.segment(self._name)
        if options is None:
            index, record = VectorIndex.exact(vectors.shape[1]), IndexRecord(reason="few passages")
            index.add(vectors)
            index.save(files.vectors)
        else:
            record = yield from write_vector_index(vectors, asked, options, files, threads=threads)
        drawn = self._map()
        if drawn is not None:
            save_map_points(files, drawn, vectors)
        self._new.append(SegmentRecord(name=self._name, documents=counts[0], passages=counts[1], index=record))

    def map_is_outgrown(self, passages: int) -> bool:
        """Whether so many passages are worth a new map: there is none, or it was drawn of few."""
        drawn = self._map()
        return drawn is None or (not drawn.full and passages > OUTGROWN * len(drawn.landmarks))

    def _map(self) -> Projection | None:
        for files in (self.files, self._before.files):
            if files.map.exists():
                return Projection.open(files.map)
        return None

    def publish(self) -> Manifest:
        """Make it the generation that serves."""
        kept = [self._marked(segment) for segment in self.corpus.segments if segment.name in self._kept]
        left = [one for one in kept if one.deleted < one.documents]
        if not left and not self._new:
            left = kept[:1]  # an index is never without a segment
        names = {one.name for one in left}
        deleted = {name: rows for name, rows in self.deleted.items() if name in names}
        whole = [self.files.basis, self.files.map]
        older = [one.name for one in whole if not one.exists() and (self._before.files.folder / one.name).exists()]
        shared = [*names, *older]
        self.files.share(self._before.files, *shared)
        save_deleted(self.files.deleted, deleted)
        vouched = {name: file for name, file in self.manifest.files.items() if name.partition("/")[0] in shared}
        manifest = self.manifest.with_segments([*left, *self._new])
        return publish(self.files, manifest.model_copy(update={"files": vouched}))

    def _marked(self, segment: Segment) -> SegmentRecord:
        rows = self.deleted.get(segment.name, np.empty(0, np.int64))
        passages = int(np.isin(segment.documents.document_of, rows).sum()) if len(rows) else 0
        return self._kept[segment.name].model_copy(update={"deleted": len(rows), "deleted_passages": passages})


@contextmanager
def _change(folder: Path, opened: OpenIndex | None) -> Iterator[_Update]:
    with begin_update(folder) as (before, files):
        yield _Update(
            before, files, Corpus.open(before, threads=1, earlier=opened.corpus if opened is not None else None)
        )


def _neighbours(segments: Sequence[Segment], passages: int) -> list[Segment]:
    """The last segments, as far as they are small, to be written together with so many new passages."""
    chosen: list[Segment] = []
    for segment in reversed(segments):
        count = segment.vectors.count
        if segment.index.type != "exact" or count > NEAR * passages or count + passages > SMALL:
            break
        chosen.append(segment)
        passages += count
    return chosen
