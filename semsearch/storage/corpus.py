"""The segments of a generation as one whole: rows numbered through, what was deleted left out.

A segment never changes. What is added later is a segment of its own, what is deleted is marked; so the cost of a change
follows the change.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semsearch.errors import IndexFolderError
from semsearch.filters.tree import FieldValue, Filter
from semsearch.storage.documents import DocumentStore, rows_of
from semsearch.storage.fulltext import FullText
from semsearch.storage.generations import OpenGeneration
from semsearch.storage.manifest import FileRecord, IndexRecord, Manifest, SegmentRecord
from semsearch.storage.projection import Points
from semsearch.storage.vectors import VectorIndex
from semsearch.system.threads import available_cores
from semsearch.text.tokens import parse_query
from semsearch.types import Document, Hit, Mask, Passage, Rows, ScoreBreakdown, Scores, Vectors

OWN_FREQUENCIES = 5_000
"""Passages from which on a segment knows by itself how rare its words are."""
REMEMBERED = 16
"""Conditions whose rows are kept in memory, a byte a passage."""


class Segment:
    """One segment's files, opened; shared by the generations that it is part of, closed with the last of them."""

    def __init__(
        self,
        name: str,
        vectors: VectorIndex,
        documents: DocumentStore,
        fulltext: FullText,
        index: IndexRecord,
        places: Path | None = None,
    ) -> None:
        """Tie opened parts together; places: the file that says where its passages stand on the map."""
        self.name = name
        self.vectors = vectors
        self.documents = documents
        self.fulltext = fulltext
        self.index = index
        """How its nearest vectors are found."""
        self.content: Mapping[str, FileRecord] = {}
        """Its files, by which it is known again; none for one that is not of a generation."""
        self._places = places
        self.close = weakref.finalize(self, _close, documents, fulltext)

    @cached_property
    def map_points(self) -> Points | None:
        """(rows, 2) float16 in [0, 1], where its passages stand on the map; None where that is not known."""
        if self._places is None or not self._places.exists():
            return None
        try:
            found = np.load(self._places, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise IndexFolderError(f"{self._places} cannot be read ({error}): build the index again") from error
        return found if found.shape == (self.vectors.count, 2) else None

    @classmethod
    def open(cls, generation: OpenGeneration, record: SegmentRecord, *, threads: int) -> Segment:
        """Open a segment of a generation. Raises IndexFolderError as its parts do."""
        files = generation.files.segment(record.name)
        opened = cls(
            record.name,
            VectorIndex.open(files.vectors, files.graph if record.index.type == "hnsw" else None, threads=threads),
            DocumentStore(files.documents),
            FullText(files.documents, connections=available_cores()),
            record.index,
            files.map_points,
        )
        opened.content = _content(generation.manifest, record.name)
        counts = {opened.vectors.count, len(opened.documents.document_of), record.passages}
        if len(counts) > 1 or opened.documents.count != record.documents:
            raise IndexFolderError(f"the parts of {files.folder} disagree in number: build the index again")
        return opened


def _content(manifest: Manifest, segment: str) -> dict[str, FileRecord]:
    return {name: file for name, file in manifest.files.items() if name.startswith(f"{segment}/")}


def _deleted(path: Path) -> dict[str, Rows]:
    try:
        return load_file(path) if path.exists() else {}
    except (OSError, SafetensorError) as error:
        raise IndexFolderError(f"{path} cannot be read ({error}): build the index again") from error


def save_deleted(path: Path, deleted: Mapping[str, Rows]) -> None:
    """Write the rows of deleted documents, by segment; nothing where there is none."""
    if deleted:
        save_file(dict(deleted), path)


def _close(documents: DocumentStore, fulltext: FullText) -> None:
    documents.close()
    fulltext.close()


@dataclass(frozen=True, slots=True, eq=False)
class AllowedRows:
    """What may be found."""

    passages: Mask
    """(rows,) whether each passage may."""
    passage_count: int
    document_count: int


class Corpus:
    """All that an index holds, by row: first the first segment's rows, then the second's and so on.

    Rows of what was deleted keep their numbers and are never found.
    """

    def __init__(self, segments: Sequence[Segment], deleted: Mapping[str, Rows] | None = None) -> None:
        """segments: at least one. deleted: document rows of a segment by its name."""
        self.segments = tuple(segments)
        self._deleted = [np.asarray((deleted or {}).get(one.name, ()), np.int64) for one in segments]
        stores = [one.documents for one in segments]
        self._first_document = np.cumsum([0, *(store.count for store in stores)])
        self._first_passage = np.cumsum([0, *(len(store.document_of) for store in stores)])
        self.document_of: Rows = np.concatenate(
            [store.document_of + first for store, first in zip(stores, self._first_document[:-1], strict=True)]
        )
        """(rows,) the document row of each passage row."""
        alive = np.ones(self._first_document[-1], bool)
        for first, gone in zip(self._first_document[:-1], self._deleted, strict=True):
            alive[first + gone] = False
        self._alive = alive
        self._everything = self._allowed(alive)
        self._meeting: dict[Filter, AllowedRows] = {}
        # what a word is worth is asked of the largest
        self._largest = max(self.segments, key=lambda one: len(one.documents.document_of))

    @classmethod
    def open(cls, generation: OpenGeneration, *, threads: int, earlier: Corpus | None = None) -> Corpus:
        """Open all segments of a generation; those that it has in common with an earlier one are open already.

        Raises IndexFolderError where a part is damaged or they disagree.
        """
        manifest = generation.manifest
        there = {one.name: one for one in (earlier.segments if earlier is not None else ())}
        segments = [
            known
            if (known := there.get(record.name)) and known.content == _content(manifest, record.name)
            else Segment.open(generation, record, threads=threads)
            for record in manifest.segments
        ]
        corpus = cls(segments, _deleted(generation.files.deleted))
        if (corpus.documents, corpus.passages) != (manifest.documents, manifest.passages):
            raise IndexFolderError(f"{generation.files.folder} disagrees with its manifest: build the index again")
        return corpus

    @property
    def documents(self) -> int:
        """Documents that were not deleted."""
        return self._everything.document_count

    @property
    def passages(self) -> int:
        """Passages that were not deleted."""
        return self._everything.passage_count

    @property
    def rows(self) -> int:
        """Passage rows, those of deleted documents too."""
        return int(self._first_passage[-1])

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.segments[0].vectors.dimension

    def allowed_rows(self, condition: Filter | None) -> AllowedRows:
        """What may be found under a condition; kept in memory for the next search under the same one."""
        if condition is None:
            return self._everything
        found = self._meeting.get(condition)
        if found is None:
            found = self._matching(condition)
            if len(self._meeting) >= REMEMBERED:
                self._meeting.clear()
            self._meeting[condition] = found
        return found

    def search_vectors(
        self,
        queries: Vectors,
        k: int,
        *,
        ef_search: int | None = None,
        exact: bool = False,
        allowed: AllowedRows | None = None,
    ) -> tuple[Scores, Rows]:
        """As `VectorIndex.search`, over all segments.

        effort: in place of what each segment's build found; exact: every row is compared.
        """
        parts = []
        for segment, within in self._parts(allowed):
            tried = None if exact else ef_search or segment.index.ef_search
            found, rows = segment.vectors.search(queries, k, ef_search=tried, allowed=within)
            rows[rows >= 0] += self._first(segment)
            parts.append((found, rows))
        if not parts:
            return np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
        if len(parts) == 1:
            return parts[0]
        scores, rows = (np.concatenate(both, axis=1) for both in zip(*parts, strict=True))
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def map_points(self) -> Points | None:
        """(rows, 2) float32 in [0, 1], where each passage stands on the map, NaN for what was deleted; None where a
        segment does not say."""
        parts = [segment.map_points for segment in self.segments]
        if any(part is None for part in parts):
            return None
        found = np.concatenate([np.asarray(part, np.float32) for part in parts])
        found[~self._everything.passages] = np.nan
        return found

    def cosine(self, query: Vectors, rows: Rows) -> Scores:
        """As `VectorIndex.cosine`, over all segments."""
        found = np.empty(len(rows), np.float32)
        for segment, places, local in self._by_segment(rows):
            found[places] = segment.vectors.cosine(query, local)
        return found

    def vectors(self, rows: Rows) -> Vectors:
        """(n, dim) float32, those of n rows."""
        found = np.empty((len(rows), self.dimension), np.float32)
        for segment, places, local in self._by_segment(rows):
            found[places] = segment.vectors.vectors(local)
        return found

    def live_passages(self) -> tuple[Rows, Vectors]:
        """(n,) rows, rising, and (n, dim) vectors of everything that was not deleted.

        The index's own memory where it is one segment of which nothing was deleted; else a copy.
        """
        rows = np.flatnonzero(self._everything.passages)
        if len(self.segments) == 1 and len(rows) == self.rows:
            return rows, self.segments[0].vectors.all_vectors()
        return rows, self.vectors(rows)

    def search_keywords(self, query: str, k: int, *, allowed: AllowedRows | None = None) -> tuple[Rows, Scores]:
        """As `FullText.best`, over all segments; a small one's words are worth what they are in the largest."""
        what = parse_query(query)
        rows: list[int] = []
        scores: list[float] = []
        for segment, within in self._parts(allowed):
            text = segment.fulltext
            if segment is self._largest or text.count >= OWN_FREQUENCIES:
                found, values = text.best(what, k, allowed=within)
            else:
                other = self._largest.fulltext
                found, values = text.best_by(what, k, other.frequency, other.count, allowed=within)
            rows += (found + self._first(segment)).tolist()
            scores += values.tolist()
        all_rows, all_scores = np.array(rows, np.int64), np.array(scores, np.float32)
        order = np.lexsort((all_rows, -all_scores))[:k]
        return all_rows[order], all_scores[order]

    def hits(
        self, wanted: Sequence[tuple[int, float]], parts: Sequence[ScoreBreakdown | None] | None = None
    ) -> list[Hit]:
        """One hit for each (passage row, score), in their order; parts: what the scores are made of."""
        hits: dict[int, Hit] = {}
        for segment, places, local in self._by_segment(np.array([row for row, _ in wanted], np.int64)):
            hits.update(zip(places.tolist(), segment.documents.hits(local.tolist()), strict=True))
        return [
            replace(hits[place], score=score, score_breakdown=made_of)
            for place, ((_, score), made_of) in enumerate(zip(wanted, parts or [None] * len(wanted), strict=True))
        ]

    def passage_texts(self, rows: Rows) -> list[Passage]:
        """The passages in these rows, in their order."""
        return [hit.passage for hit in self.hits([(row, 0.0) for row in rows.tolist()])]

    def sibling_rows(self, row: int) -> Rows:
        """(n,) the other passages of the document whose passage is in this row."""
        rows = rows_of(int(self.document_of[row]), self.document_of)
        beside: Rows = rows[rows != row]
        return beside

    def encoder_texts(self, rows: Rows) -> list[str]:
        """What the encoder reads of passages."""
        found: dict[int, str] = {}
        for segment, places, local in self._by_segment(rows):
            found.update(zip(places.tolist(), segment.documents.texts(local), strict=True))
        return [found[place] for place in range(len(rows))]

    def document(self, identity: str) -> Document | None:
        """The whole document of this id, or None."""
        segment = self._home(identity)
        return None if segment is None else segment[0].documents.document(identity)

    def existing_ids(self, identities: Iterable[str]) -> set[str]:
        """Those of the ids that a document has."""
        asked_for = list(dict.fromkeys(identities))
        return {identity for _, found in self._found(asked_for) for identity in found}

    def rows_by_segment(self, identities: Iterable[str]) -> dict[str, Rows]:
        """By segment, the rows of the documents that have one of these ids."""
        return {
            segment.name: np.array(sorted(found.values()), np.int64)
            for segment, found in self._found(list(dict.fromkeys(identities)))
        }

    def doc_ids(self, rows: Rows) -> list[str]:
        """The document ids of (n,) passage rows."""
        found: dict[int, str] = {}
        for segment, places, local in self._by_segment(rows):
            found.update(zip(places.tolist(), segment.documents.doc_ids(local), strict=True))
        return [found[place] for place in range(len(rows))]

    def all_doc_ids(self) -> list[str]:
        """The ids of all documents."""
        return [
            identity
            for segment, first in zip(self.segments, self._first_document, strict=False)
            for row, identity in enumerate(segment.documents.all_doc_ids())
            if self._alive[first + row]
        ]

    def passage_rows(self, identity: str) -> Rows:
        """(n,) rows of a document's passages; none where there is no such document."""
        home = self._home(identity)
        if home is None:
            return np.empty(0, np.int64)
        segment, row = home
        return segment.documents.passage_rows(row) + self._first(segment)

    def texts(self) -> Iterator[tuple[str, str]]:
        """(document id, text at the encoder) of every passage, in the order of their rows."""
        for segment, first in zip(self.segments, self._first_passage, strict=False):
            for row, one in enumerate(segment.documents.passages()):
                if self._everything.passages[first + row]:
                    yield one

    def facet_counts(self, name: str, condition: Filter | None = None) -> dict[FieldValue, int]:
        """How many documents have each value under a name, of those that meet the condition."""
        total: dict[FieldValue, int] = {}
        for place, (segment, gone) in enumerate(zip(self.segments, self._deleted, strict=True)):
            if condition is None and not len(gone):
                chosen = None
            else:
                begin, end = self._first_document[place], self._first_document[place + 1]
                chosen = np.flatnonzero(self._alive[begin:end])
                if condition is not None:
                    chosen = np.intersect1d(chosen, segment.documents.matching(condition))
            for value, count in segment.documents.facet_counts(name, chosen).items():
                total[value] = total.get(value, 0) + count
        return total

    @property
    def deleted(self) -> dict[str, Rows]:
        """Document rows that were deleted, by segment."""
        return {one.name: gone for one, gone in zip(self.segments, self._deleted, strict=True) if len(gone)}

    def _first(self, segment: Segment) -> int:
        return int(self._first_passage[self.segments.index(segment)])

    def _parts(self, allowed: AllowedRows | None) -> Iterator[tuple[Segment, Mask | None]]:
        """The segments in which something may be found, and what; None: everything."""
        mask = (allowed or self._everything).passages
        for place, segment in enumerate(self.segments):
            part = mask[self._first_passage[place] : self._first_passage[place + 1]]
            if part.any():
                yield segment, None if part.all() else part

    def _by_segment(self, rows: Rows) -> Iterator[tuple[Segment, Rows, Rows]]:
        """Each segment with the places among `rows` of those that are its own, and their rows there."""
        if len(self.segments) == 1:
            yield self.segments[0], np.arange(len(rows)), np.asarray(rows)
            return
        home = np.searchsorted(self._first_passage, rows, side="right") - 1
        for place in np.unique(home).tolist():
            places = np.flatnonzero(home == place)
            yield self.segments[place], places, np.asarray(rows)[places] - self._first_passage[place]

    def _found(self, identities: Sequence[str]) -> Iterator[tuple[Segment, dict[str, int]]]:
        """By segment, the rows of documents that have one of these ids and were not deleted."""
        for segment, first in zip(self.segments, self._first_document, strict=False):
            found = segment.documents.rows(identities)
            if here := {identity: row for identity, row in found.items() if self._alive[first + row]}:
                yield segment, here

    def _home(self, identity: str) -> tuple[Segment, int] | None:
        return next(((segment, found[identity]) for segment, found in self._found([identity])), None)

    def _matching(self, condition: Filter) -> AllowedRows:
        meets = np.zeros(len(self._alive), bool)
        for segment, first in zip(self.segments, self._first_document, strict=False):
            meets[first + segment.documents.matching(condition)] = True
        return self._allowed(meets & self._alive)

    def _allowed(self, documents: Mask) -> AllowedRows:
        passages = documents[self.document_of]
        return AllowedRows(passages, int(np.count_nonzero(passages)), int(np.count_nonzero(documents)))
