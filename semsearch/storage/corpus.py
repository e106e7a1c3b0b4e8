"""The segments of a generation as one corpus, with rows numbered across segments and deleted documents left out.

A segment never changes. Added documents form a new segment, and deleted documents are only marked, so that the cost of
an update depends on the size of the update, not of the index.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from semsearch.encoders.token_vectors import TokenCodes
from semsearch.errors import IndexFolderError
from semsearch.filters.tree import Comparison, Filter
from semsearch.filters.values import OWN_FIELDS, Kind, TypedValue, normalize
from semsearch.storage.deletions import Deletions, load_deletions
from semsearch.storage.documents import DocumentStore, passage_rows_of
from semsearch.storage.fulltext import CompiledFilter, FullText, inverse_frequency
from semsearch.storage.generations import OpenGeneration
from semsearch.storage.manifest import FULLTEXT_VERSION, FileRecord, IndexRecord, Manifest, SegmentRecord
from semsearch.storage.projection import Points
from semsearch.storage.token_store import TokenStore
from semsearch.storage.vectors import VectorIndex
from semsearch.text.tokens import KeywordQuery, Term, WordPair, parse_phrases, parse_query, quoted_phrases
from semsearch.types import Document, Hit, Mask, Passage, Rows, ScoreBreakdown, Scores, Vectors

PROXIMITY = 0.3
"""What a passage gains in which all neighbouring words of the query are neighbours, as a share of the best score."""
PROXIMITY_DEPTH = 200
"""Passages whose score depends on neighbouring words: the best ones by BM25."""
CACHED_WEIGHTS = 65_536
"""Terms whose inverse document frequency is kept in memory."""
CACHED_FIELDS = 1_000
"""Names of fields that are known to exist."""
LISTED_FIELDS = 1_000
"""Names of fields that are read of each segment to list them."""
CACHED_FILTERS = 16
"""Filters whose allowed rows are kept in memory, one byte per passage."""


class PassageTokens(Protocol):
    """The token vectors of a segment's passages."""

    def codes(self, rows: Rows, /) -> list[TokenCodes]:
        """Return the codes of n passages, (tokens, bytes) uint8 each."""


class Segment:
    """One segment's open files. Generations that have it in common share it; the last of them closes it."""

    def __init__(
        self,
        name: str,
        vectors: VectorIndex,
        documents: DocumentStore,
        fulltext: FullText | None,
        index: IndexRecord,
        map_points: Points | None = None,
        tokens: PassageTokens | None = None,
    ) -> None:
        """Tie open parts together. fulltext, map_points, tokens: as the attributes."""
        self.name = name
        self.vectors = vectors
        self.documents = documents
        self.fulltext = fulltext
        """None in an index that is open to be upgraded."""
        self.index = index
        """The type of its vector index."""
        self.file_records: Mapping[str, FileRecord] = {}
        """Size and checksum of its files by name, which identify it; empty for a segment outside any generation."""
        self.map_points = map_points
        """(rows, 2) float16 in [0, 1], the map points of its passages; None for an index without a map."""
        self.tokens = tokens
        """The token vectors of its passages; None for an index without them."""
        self.close = weakref.finalize(self, documents.close)

    @classmethod
    def open(cls, generation: OpenGeneration, record: SegmentRecord, *, threads: int, to_upgrade: bool) -> Segment:
        """Open a segment of a generation. to_upgrade: as of `Corpus.open`.

        Raises IndexFolderError if a part is damaged, if the parts differ in size, or if it was written in another
        format.
        """
        files = generation.files.segment(record.name)
        if record.fulltext_version != FULLTEXT_VERSION and not (record.is_former and to_upgrade):
            index = generation.files.folder.parent
            raise IndexFolderError(
                f"{index} was written by an earlier semsearch: upgrade it with `semsearch compact {index}`, which"
                " encodes nothing again"
                if record.is_former
                else f"{index} was written by a later semsearch (full text of version {record.fulltext_version}, this"
                f" one reads {FULLTEXT_VERSION}): use that one, or build the index again"
            )
        segment = cls(
            record.name,
            VectorIndex.open(
                files.vectors,
                files.graph if record.index.type == "hnsw" else None,
                lists=files.lists if record.index.type == "ivf" else None,
                threads=threads,
            ),
            DocumentStore(files.documents),
            None if record.is_former else FullText(files.fulltext),
            record.index,
            _open_map_points(files.map_points),
            _open_tokens(files.tokens, record.passages, generation.manifest.encoder.dimension),
        )
        segment.file_records = _segment_files(generation.manifest, record.name)
        passage_counts = {segment.vectors.count, len(segment.documents.document_of), record.passages}
        if segment.map_points is not None:
            passage_counts.add(len(segment.map_points))
        if segment.fulltext is not None:
            passage_counts.add(segment.fulltext.count)
        if len(passage_counts) > 1 or segment.documents.count != record.documents:
            raise IndexFolderError(
                f"the parts of {files.folder} have different numbers of passages or documents: build the index again"
            )
        return segment


def _open_map_points(path: Path) -> Points | None:
    """Map the file into memory now: later generations share the segment, and this one's folder may be removed."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise IndexFolderError(f"{path} cannot be read ({error}): build the index again") from error


def _open_tokens(path: Path, passages: int, dimension: int) -> TokenStore | None:
    try:
        return TokenStore(path, passages, dimension)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise IndexFolderError(f"{path} cannot be read ({error}): build the index again") from error


def _fulltext(segment: Segment) -> FullText:
    assert segment.fulltext is not None, "an index that is open to be upgraded cannot be searched"
    return segment.fulltext


def _segment_files(manifest: Manifest, segment: str) -> dict[str, FileRecord]:
    return {name: file for name, file in manifest.files.items() if name.startswith(f"{segment}/")}


@dataclass(frozen=True, slots=True, eq=False)
class AllowedRows:
    """The rows that a search may return."""

    passages: Mask
    """(rows,) whether each passage is allowed."""
    passage_count: int
    document_count: int
    compiled_filters: Mapping[str, CompiledFilter] = field(default_factory=dict)
    """The filter as the full text of each segment evaluates it, by segment name; of those that can."""


class Corpus:
    """All documents and passages of an index, by row: those of the first segment first, then of the second and so on.

    Rows of deleted documents keep their numbers and are never returned by a search.
    """

    def __init__(self, segments: Sequence[Segment], deletions: Mapping[str, Deletions] | None = None) -> None:
        """Tie segments together.

        segments: at least one. deletions: what was deleted of each, by segment name.
        """
        self.segments = tuple(segments)
        self._deletions = [(deletions or {}).get(segment.name, Deletions()) for segment in segments]
        stores = [segment.documents for segment in segments]
        self._first_document = np.cumsum([0, *(store.count for store in stores)])
        self._first_passage = np.cumsum([0, *(len(store.document_of) for store in stores)])
        self.document_of: Rows = np.concatenate(
            [store.document_of + first for store, first in zip(stores, self._first_document[:-1], strict=True)]
        )
        """(rows,) the document row of each passage row."""
        is_live = np.ones(self._first_document[-1], bool)
        for first, deleted in zip(self._first_document[:-1], self._deletions, strict=True):
            is_live[first + deleted.rows] = False
        self._is_live = is_live
        self._live = self._allow_documents(is_live)
        self._filter_cache: dict[Filter, AllowedRows] = {}
        self._known_fields: set[str] = set()
        self._weights: dict[Term, float] = {}
        live = np.add.reduceat(self._live.passages, self._first_passage[:-1], dtype=np.int64)
        self._live_shares: list[float] = (live / np.diff(self._first_passage)).tolist()

    @classmethod
    def open(
        cls, generation: OpenGeneration, *, threads: int, earlier: Corpus | None = None, to_upgrade: bool = False
    ) -> Corpus:
        """Open all segments of a generation.

        threads: CPU threads of a vector search. earlier: a corpus whose open segments are reused if they are the same.
        to_upgrade: open segments of an earlier semsearch too, without their full text.

        Raises IndexFolderError if a part is damaged or the parts do not fit the manifest.
        """
        manifest = generation.manifest
        already_open = {segment.name: segment for segment in (earlier.segments if earlier is not None else ())}
        segments = [
            known
            if (known := already_open.get(record.name)) and known.file_records == _segment_files(manifest, record.name)
            else Segment.open(generation, record, threads=threads, to_upgrade=to_upgrade)
            for record in manifest.segments
        ]
        corpus = cls(segments, load_deletions(generation.files.deleted))
        if (corpus.documents, corpus.passages) != (manifest.documents, manifest.passages):
            raise IndexFolderError(f"{generation.files.folder} disagrees with its manifest: build the index again")
        return corpus

    @property
    def documents(self) -> int:
        """Number of documents that are not deleted."""
        return self._live.document_count

    @property
    def passages(self) -> int:
        """Number of passages that are not deleted."""
        return self._live.passage_count

    @property
    def rows(self) -> int:
        """Number of passage rows, including those of deleted documents."""
        return int(self._first_passage[-1])

    @property
    def live_rows(self) -> Rows:
        """The rows, (passages,), of passages that are not deleted, ascending."""
        return np.flatnonzero(self._live.passages)

    @property
    def is_approximate(self) -> bool:
        """Whether a vector search may miss some of the nearest passages."""
        return any(segment.index.ef_search is not None for segment in self.segments)

    @property
    def largest_segment(self) -> Segment:
        """The segment of the most passages, the first of several: `search.ef_search` is meant for its type."""
        return max(self.segments, key=lambda segment: segment.vectors.count)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.segments[0].vectors.dimension

    def allowed_rows(self, query_filter: Filter | None) -> AllowedRows:
        """Return the live rows that match a filter, or all live rows for None; the last few filters are cached."""
        if query_filter is None:
            return self._live
        allowed = self._filter_cache.get(query_filter)
        if allowed is None:
            allowed = self._matching(query_filter)
            if len(self._filter_cache) >= CACHED_FILTERS:
                self._filter_cache.clear()
            self._filter_cache[query_filter] = allowed
        return allowed

    def search_vectors(
        self,
        queries: Vectors,
        k: int,
        *,
        ef_search: int | None = None,
        allowed: AllowedRows | None = None,
    ) -> tuple[Scores, Rows]:
        """As `VectorIndex.search`, over all segments.

        ef_search: overrides the value measured when each segment of the largest segment's type was built. It is a
        number of candidates for a graph and of lists for an inverted file, so segments of another type keep theirs.
        """
        results = []
        overridden = self.largest_segment.index.type
        for segment, segment_mask in self._allowed_segments(allowed):
            measured = segment.index.ef_search
            scores, rows = segment.vectors.search(
                queries,
                k,
                ef_search=(ef_search or measured) if segment.index.type == overridden else measured,
                allowed=segment_mask,
            )
            rows[rows >= 0] += self._first_passage_of(segment)
            results.append((scores, rows))
        if not results:
            return np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
        if len(results) == 1:
            return results[0]
        all_scores, all_rows = (np.concatenate(arrays, axis=1) for arrays in zip(*results, strict=True))
        order = np.lexsort((all_rows, -all_scores), axis=1)[:, :k]
        return np.take_along_axis(all_scores, order, axis=1), np.take_along_axis(all_rows, order, axis=1)

    def map_points(self) -> Points | None:
        """Return the map point of each passage, (rows, 2) float32 in [0, 1], NaN for deleted ones.

        None if any segment has no map points.
        """
        by_segment = [segment.map_points for segment in self.segments]
        if any(points is None for points in by_segment):
            return None
        all_points = np.concatenate([np.asarray(points, np.float32) for points in by_segment])
        all_points[~self._live.passages] = np.nan
        return all_points

    def cosine(self, query: Vectors, rows: Rows) -> Scores:
        """As `VectorIndex.cosine`, over all segments."""
        cosines = np.empty(len(rows), np.float32)
        for segment, indices, segment_rows in self._by_segment(rows):
            cosines[indices] = segment.vectors.cosine(query, segment_rows)
        return cosines

    def vectors(self, rows: Rows) -> Vectors:
        """Return the vectors of n rows, (n, dim) float32."""
        vectors = np.empty((len(rows), self.dimension), np.float32)
        for segment, indices, segment_rows in self._by_segment(rows):
            vectors[indices] = segment.vectors.vectors(segment_rows)
        return vectors

    @property
    def has_token_vectors(self) -> bool:
        """Whether every passage has token vectors."""
        return all(segment.tokens is not None for segment in self.segments)

    def token_codes(self, rows: Rows) -> list[TokenCodes]:
        """Return the token vectors of n passages, if `has_token_vectors`."""
        codes: dict[int, TokenCodes] = {}
        for segment, indices, segment_rows in self._by_segment(rows):
            assert segment.tokens is not None
            codes.update(zip(indices.tolist(), segment.tokens.codes(segment_rows), strict=True))
        return [codes[index] for index in range(len(rows))]

    def search_keywords(
        self, query: str, k: int, *, allowed: AllowedRows | None = None, as_words: Collection[str] | None = None
    ) -> tuple[Rows, Scores]:
        """As `FullText.search`, over all segments, with term frequencies of all passages that are not deleted.

        The best PROXIMITY_DEPTH passages score higher if neighbouring words of the query are neighbours in them: by
        their share of such pairs, times PROXIMITY, times the best score.

        as_words: quoted phrases that are searched as words; by default those that `unmatched_phrases` returns.
        """
        if as_words is None:
            as_words = self.unmatched_phrases(query, allowed=allowed)
        parsed = parse_query(query, as_words=as_words)
        # the same passages for every k, so that later pages never change earlier ones
        depth = max(k, PROXIMITY_DEPTH) if parsed.pairs else k
        found = list(self._search_fulltexts(parsed, depth, allowed))
        rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in found)])
        scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in found)])
        order = np.lexsort((rows, -scores))[:depth]
        rows, scores = rows[order], scores[order]
        if parsed.pairs and len(rows):
            best = slice(PROXIMITY_DEPTH)
            scores[best] += np.float32(PROXIMITY * scores[0]) * self._pair_shares(rows[best], parsed.pairs)
            order = np.lexsort((rows, -scores))
            rows, scores = rows[order], scores[order]
        return rows[:k], scores[:k]

    def _pair_shares(self, rows: Rows, pairs: Sequence[WordPair]) -> Scores:
        """As `FullText.pair_shares`, over all segments."""
        shares = np.empty(len(rows), np.float32)
        for segment, indices, segment_rows in self._by_segment(rows):
            shares[indices] = _fulltext(segment).pair_shares(segment_rows, pairs)
        return shares

    def _weight(self, term: Term) -> float:
        """The inverse document frequency of a term that some passage contains, among those that are not deleted."""
        weight = self._weights.get(term)
        if weight is None:
            if len(self._weights) >= CACHED_WEIGHTS:
                self._weights.clear()
            weight = self._weights[term] = inverse_frequency(self.frequency(term), self.passages)
        return weight

    def frequency(self, term: Term) -> int:
        """The number of passages that contain a term and are not deleted; of several stems, an estimate.

        Of the passages with several stems next to each other, as many are taken to be deleted as of all passages.
        """
        if len(term) == 1:
            counts = (
                _fulltext(segment).frequency(term) - deleted.frequency(term[0])
                for segment, deleted in zip(self.segments, self._deletions, strict=True)
            )
            return sum(counts)
        frequency = sum(
            _fulltext(segment).frequency(term) * share
            for segment, share in zip(self.segments, self._live_shares, strict=True)
        )
        return min(round(frequency), *(self.frequency((stem,)) for stem in term))

    def has_all_terms(self, rows: Rows, terms: Sequence[Term]) -> bool:
        """Whether the passage in one of these rows, (n,), has all terms, of which there is at least one."""
        query = KeywordQuery(tuple(terms), ())
        for segment, _, segment_rows in self._by_segment(rows):
            mask = np.zeros(segment.vectors.count, bool)
            mask[segment_rows] = True
            found, _ = _fulltext(segment).search(query, 1, allowed=mask)
            if len(found):
                return True
        return False

    def similar_stems(self, stem: str, edits: int, k: int, *, allowed: AllowedRows) -> Rows:
        """As `FullText.similar_stems`, over all segments; of the up to k passages of each, the allowed ones."""
        return self._allowed_of_each(lambda fulltext: fulltext.similar_stems(stem, edits, k), allowed)

    def stems_beginning(self, beginning: str, k: int, *, allowed: AllowedRows) -> Rows:
        """As `FullText.stems_beginning`, over all segments; of the up to k passages of each, the allowed ones."""
        return self._allowed_of_each(lambda fulltext: fulltext.stems_beginning(beginning, k), allowed)

    def _allowed_of_each(self, find: Callable[[FullText], Rows], allowed: AllowedRows) -> Rows:
        """Return the allowed rows of those that `find` returns for the full text of each segment."""
        found = [find(_fulltext(segment)) + self._first_passage_of(segment) for segment in self.segments]
        rows: Rows = np.concatenate([np.empty(0, np.int64), *found])
        chosen: Rows = rows[allowed.passages[rows]]
        return chosen

    def unmatched_phrases(self, query: str, *, allowed: AllowedRows | None = None) -> tuple[str, ...]:
        """Return the quoted phrases of a query that no allowed passage contains; all, if no passage has all others."""
        phrases = quoted_phrases(query)
        unmatched = tuple(phrase for phrase in phrases if not self._is_in_a_passage([phrase], allowed))
        matched = {*phrases} - {*unmatched}
        return unmatched if len(matched) <= 1 or self._is_in_a_passage(matched, allowed) else phrases

    def _is_in_a_passage(self, phrases: Collection[str], allowed: AllowedRows | None) -> bool:
        """Whether an allowed passage contains all of these normalized phrases."""
        return any(len(rows) for rows, _ in self._search_fulltexts(parse_phrases(phrases), 1, allowed))

    def _search_fulltexts(
        self, query: KeywordQuery, k: int, allowed: AllowedRows | None
    ) -> Iterator[tuple[Rows, Scores]]:
        """Yield the k best passages of each segment: rows, (n,), and scores, (n,)."""
        filters = allowed.compiled_filters if allowed is not None else {}
        for segment, mask in self._allowed_segments(allowed):
            rows, scores = _fulltext(segment).search(
                query, k, weight=self._weight, allowed=mask, compiled_filter=filters.get(segment.name)
            )
            yield rows + self._first_passage_of(segment), scores

    def hits(
        self, ranked: Sequence[tuple[int, float]], breakdowns: Sequence[ScoreBreakdown | None] | None = None
    ) -> list[Hit]:
        """Return one hit for each (passage row, score), in their order. breakdowns: one for each, or None for none."""
        hits: dict[int, Hit] = {}
        for segment, indices, segment_rows in self._by_segment(np.array([row for row, _ in ranked], np.int64)):
            hits.update(zip(indices.tolist(), segment.documents.hits(segment_rows.tolist()), strict=True))
        return [
            replace(hits[index], score=score, score_breakdown=breakdown)
            for index, ((_, score), breakdown) in enumerate(
                zip(ranked, breakdowns or [None] * len(ranked), strict=True)
            )
        ]

    def passage_texts(self, rows: Rows) -> list[Passage]:
        """Return the passages in these rows, in their order."""
        return [hit.passage for hit in self.hits([(row, 0.0) for row in rows.tolist()])]

    def sibling_rows(self, row: int) -> Rows:
        """Return the rows, (n,), of the other passages of the document that the passage in this row belongs to."""
        rows = passage_rows_of(int(self.document_of[row]), self.document_of)
        siblings: Rows = rows[rows != row]
        return siblings

    def encoder_texts(self, rows: Rows) -> list[str]:
        """Return the encoder's input for the passages in these rows, in their order."""
        texts: dict[int, str] = {}
        for segment, indices, segment_rows in self._by_segment(rows):
            texts.update(zip(indices.tolist(), segment.documents.texts(segment_rows), strict=True))
        return [texts[index] for index in range(len(rows))]

    def document(self, doc_id: str) -> Document | None:
        """Return the whole document of this id, or None."""
        located = self._locate(doc_id)
        return None if located is None else located[0].documents.document(doc_id)

    def existing_ids(self, doc_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that belong to a live document."""
        unique = list(dict.fromkeys(doc_ids))
        return {doc_id for _, document_rows in self._live_rows(unique) for doc_id in document_rows}

    def rows_by_segment(self, doc_ids: Iterable[str]) -> list[tuple[Segment, Rows]]:
        """Return each segment that has documents of these ids, with their rows, ascending, within the segment."""
        return [
            (segment, np.array(sorted(document_rows.values()), np.int64))
            for segment, document_rows in self._live_rows(list(dict.fromkeys(doc_ids)))
        ]

    def doc_ids(self, rows: Rows) -> list[str]:
        """Return the document id of each passage row, n for (n,) rows."""
        doc_ids: dict[int, str] = {}
        for segment, indices, segment_rows in self._by_segment(rows):
            doc_ids.update(zip(indices.tolist(), segment.documents.doc_ids(segment_rows), strict=True))
        return [doc_ids[index] for index in range(len(rows))]

    def all_doc_ids(self) -> list[str]:
        """Return the ids of all live documents, by row."""
        return [
            doc_id
            for segment, first in zip(self.segments, self._first_document, strict=False)
            for row, doc_id in enumerate(segment.documents.all_doc_ids())
            if self._is_live[first + row]
        ]

    def passage_rows(self, doc_id: str) -> Rows:
        """Return the rows, (n,), of a document's passages; empty if there is no such document."""
        located = self._locate(doc_id)
        if located is None:
            return np.empty(0, np.int64)
        segment, document_row = located
        return segment.documents.passage_rows(document_row) + self._first_passage_of(segment)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield (document id, encoder's input) of every live passage, by row."""
        for segment, first in zip(self.segments, self._first_passage, strict=False):
            for row, passage in enumerate(segment.documents.passages()):
                if self._live.passages[first + row]:
                    yield passage

    def facet_counts(self, name: str, documents: Rows) -> dict[TypedValue, int]:
        """Count the documents in (n,) rows by their value of the metadata field `name`."""
        total: dict[TypedValue, int] = {}
        for index, segment in enumerate(self.segments):
            start, stop = self._first_document[index], self._first_document[index + 1]
            of_segment = documents[(documents >= start) & (documents < stop)] - start
            for value, count in segment.documents.facet_counts(normalize(name), of_segment).items():
                total[value] = total.get(value, 0) + count
        return total

    def has_field(self, name: str) -> bool:
        """Whether documents have a field of this name, or an object that begins with it."""
        if name not in self._known_fields and (
            name in OWN_FIELDS or any(segment.documents.has_field(normalize(name)) for segment in self.segments)
        ):
            if len(self._known_fields) >= CACHED_FIELDS:
                self._known_fields.clear()
            self._known_fields.add(name)
        return name in self._known_fields

    def field_names(self) -> list[str]:
        """Return the names of the documents' fields: `id`, `title` and `source`, and the first of the metadata's."""
        names = (name for segment in self.segments for name in segment.documents.field_names(LISTED_FIELDS))
        return list(OWN_FIELDS) + sorted({*names} - {*OWN_FIELDS})

    def unmet_kinds(self, comparison: Comparison) -> set[Kind]:
        """Return the kinds of a field's values if the comparison can match none of them, otherwise an empty set."""
        wanted = comparison.kinds
        kinds = {kind for segment in self.segments for kind in segment.documents.kinds(comparison.field)}
        return set() if not wanted or wanted & kinds else kinds

    @property
    def deletions(self) -> dict[str, Deletions]:
        """What was deleted of each segment from which something was, by segment name."""
        return {
            segment.name: deleted
            for segment, deleted in zip(self.segments, self._deletions, strict=True)
            if len(deleted.rows)
        }

    def _first_passage_of(self, segment: Segment) -> int:
        return int(self._first_passage[self.segments.index(segment)])

    def _allowed_segments(self, allowed: AllowedRows | None) -> Iterator[tuple[Segment, Mask | None]]:
        """Yield each segment that has allowed passages, with their mask; None in place of a mask that allows all."""
        mask = (allowed or self._live).passages
        for index, segment in enumerate(self.segments):
            segment_mask = mask[self._first_passage[index] : self._first_passage[index + 1]]
            if segment_mask.any():
                yield segment, None if segment_mask.all() else segment_mask

    def _by_segment(self, rows: Rows) -> Iterator[tuple[Segment, Rows, Rows]]:
        """Group passage rows: yield (segment, indices into `rows`, the rows at these indices within the segment)."""
        if len(self.segments) == 1:
            yield self.segments[0], np.arange(len(rows)), np.asarray(rows)
            return
        segment_of = np.searchsorted(self._first_passage, rows, side="right") - 1
        for segment_index in np.unique(segment_of).tolist():
            indices = np.flatnonzero(segment_of == segment_index)
            yield self.segments[segment_index], indices, np.asarray(rows)[indices] - self._first_passage[segment_index]

    def _live_rows(self, doc_ids: Sequence[str]) -> Iterator[tuple[Segment, dict[str, int]]]:
        """Yield each segment that has live documents of these ids, with their rows within the segment by id."""
        for segment, first in zip(self.segments, self._first_document, strict=False):
            rows = segment.documents.rows(doc_ids)
            if live := {doc_id: row for doc_id, row in rows.items() if self._is_live[first + row]}:
                yield segment, live

    def _locate(self, doc_id: str) -> tuple[Segment, int] | None:
        """The segment of a live document and its row within the segment; None if there is no such document."""
        return next(((segment, rows[doc_id]) for segment, rows in self._live_rows([doc_id])), None)

    def _matching(self, query_filter: Filter) -> AllowedRows:
        matches = np.zeros(len(self._is_live), bool)
        filters: dict[str, CompiledFilter] = {}
        for segment, first in zip(self.segments, self._first_document, strict=False):
            matches[first + segment.documents.matching(query_filter)] = True
            compiled = _fulltext(segment).compile_filter(query_filter, segment.documents.value_terms)
            if compiled is not None:
                filters[segment.name] = compiled
        return replace(self._allow_documents(matches & self._is_live), compiled_filters=filters)

    def _allow_documents(self, documents: Mask) -> AllowedRows:
        passages = documents[self.document_of]
        return AllowedRows(passages, int(np.count_nonzero(passages)), int(np.count_nonzero(documents)))
