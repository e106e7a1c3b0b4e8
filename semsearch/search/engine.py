"""The stages of a search: encode → adapt → search vectors → rank → fetch. Does not depend on HTTP.

`SearchEngine.search` is the one function that every search goes through: the Python API, the command line, the server
and its pages, comparisons, tuning and evaluation.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import Protocol, Self, TypeAlias

import numpy as np

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import DomainState
from semsearch.adapters.votes import Votes
from semsearch.encoders.encoder import EncodedQuery, Encoder, RunBatch, run_now
from semsearch.encoders.token_vectors import QueryTokens
from semsearch.errors import EncoderError, IndexFolderError
from semsearch.filters.tree import Filter
from semsearch.filters.values import Key, Kind, TypedValue, document_values, normalize
from semsearch.search.facets import Facet, count_facets
from semsearch.search.fields import check_facets, check_filter, check_sort, filter_notes
from semsearch.search.ranking import (
    FUSION_DEPTH,
    KEYWORD_DEPTH,
    BatchTimes,
    DenseResult,
    RankedCandidates,
    ResultPage,
    VotedDocuments,
    more_passages,
    rank_dense,
    rank_hybrid,
    rank_lexical,
    search_documents,
)
from semsearch.search.spelling import completed, corrected
from semsearch.search.weak_matches import is_weak
from semsearch.storage.corpus import Corpus
from semsearch.storage.domains import DomainStore
from semsearch.storage.generations import OpenGeneration, current, open_current, remove_stale
from semsearch.storage.manifest import Manifest
from semsearch.storage.projection import Projection
from semsearch.system.threads import available_cores
from semsearch.text.tokens import tokenize
from semsearch.types import Document, Hit, LexicalWeight, Mode, Query, Rows, Scores, Sort, Vectors

SORT_DEPTH = 100
"""Number of best documents that a requested order sorts: documents further down hardly answer the query."""
VOTED_DOCUMENTS = 50
"""Documents with the most votes that are ranked, whether a search finds them or not."""
VOTED_PASSAGES = 100
"""First passages of each of these that are ranked so; others are if a search finds them."""
MIN_VOTE = 0.01
"""Least vote that counts."""
UNADAPTED = DomainAdapter(None, reason="the query asks for the frozen encoder")
UNENCODED = DomainAdapter(None, reason="keyword search does not use the encoder, so nothing is adapted")
ENCODER_FAILED = DomainAdapter(None, reason="the encoder failed: keyword search answered instead")

Attributions: TypeAlias = Sequence[Sequence[tuple[str, float]]]
"""For each hit, the words of its best passage and their contributions to the cosine, largest first."""


class EncoderStages(Protocol):
    """The stages of a search that run the encoder. An engine has them, and so has a server that batches them."""

    def check_deadline(self) -> None:
        """Raise if the search must not go on, because its time has run out or its client has gone."""

    def retrieve(self, queries: Sequence[Query], /) -> Sequence[DenseResult]:
        """Encode and adapt queries and search their vectors. Returns one result for each, in their order."""

    def token_attributions(self, pages: Sequence[ResultPage], /) -> Sequence[Attributions | None]:
        """Return the attributions of each page's hits; None for a page that has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The result of one query."""

    query: Query
    hits: Sequence[Hit]
    """Best first, at most `query.k`."""
    page: ResultPage
    """The same documents as rows, with the scores they were ranked by."""
    dense: DenseResult | None
    """The result of vector search; None for keyword search."""
    frozen: Sequence[Hit] | None
    """The hits without the domain's adaptation, best first; None unless the query asks for the comparison."""
    attributions: Attributions | None
    """For each hit, which words made it similar; None if not requested or not available."""
    facets: Mapping[str, Facet]
    """By field, the values of the documents that the query matches, for the requested fields."""
    completed: str | None
    """The query with its unfinished last word completed, which was searched; None unless `Query.complete` asks for it
    and it is found better than what was typed so far."""
    did_you_mean: str | None
    """The query with similar or longer words of the corpus for those that no passage has; None if there are none, or
    if not requested."""
    is_weak: bool
    """Whether even the best match is so far from the query that it is likely to have nothing to do with it."""
    notes: Sequence[str]
    """Why a condition of the filter cannot match any document; usually empty."""
    seconds: Mapping[str, float]
    """Seconds of the stages `rank`, `fetch` and `explain` for this query; `dense.times` has those of its batch."""

    @property
    def text(self) -> str:
        """The text that was searched."""
        return self.query.text if self.completed is None else self.completed

    @property
    def mode(self) -> Mode:
        """The mode of the search that was done: `keyword` also if the encoder failed."""
        return self.page.mode

    @property
    def adaptation(self) -> DomainAdapter:
        """The adapter of the query; its reason tells why, if it was not adapted."""
        return self.page.adaptation

    @property
    def unmatched_phrases(self) -> tuple[str, ...]:
        """Quoted phrases that no passage contains, so that keyword search used their words."""
        return self.page.unmatched_phrases


class SearchEngine:
    """An open index with its encoder."""

    def __init__(
        self,
        *,
        encoder: Encoder | Callable[[], Encoder],
        adapter: Adapter,
        corpus: Corpus,
        manifest: Manifest,
        projection: Projection | None = None,
        generation: OpenGeneration | None = None,
        folder: Path | None = None,
        threads: int = 1,
    ) -> None:
        """Tie finished parts together. Raises IndexFolderError if they do not fit one another.

        encoder: an open encoder, or a function that opens it when it is first used.
        """
        self.adapter = adapter
        """Immutable; another adapter may replace it as a whole at any time."""
        self.corpus = corpus
        self.manifest = manifest
        self.projection = projection
        """Maps vectors to points of the corpus's map; None for an index without a map."""
        self.folder = folder
        """The index's folder on disk; None for an index in memory."""
        self._generation = generation
        self._threads = threads
        self._voted_rows = weakref.WeakKeyDictionary[Votes, list[Rows]]()
        self._open_encoder = encoder if callable(encoder) else lambda: encoder
        self._encoder_lock = threading.Lock()
        if not callable(encoder):
            _ = self.encoder
        if generation is not None:
            weakref.finalize(self, generation.close)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        encoder: Encoder | None = None,
        load_encoder: bool = True,
        device: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Open the index in `folder`.

        encoder: an open encoder to share; by default the manifest's encoder is loaded.
        load_encoder: whether to load it now; otherwise it is loaded when a search first needs it, and keyword search
        does not.
        threads: CPU threads for encoding and for searching; by default all cores.

        Raises IndexFolderError if there is no index, or a damaged one; EncoderError if its encoder cannot be loaded. A
        domain whose state is damaged, or belongs to another encoder, is served without adaptation, and its adapter's
        reason says so.
        """
        remove_stale(Path(folder))
        engine = cls._from_generation(
            open_current(Path(folder)), Path(folder), encoder, device=device, threads=threads or available_cores()
        )
        if load_encoder:
            try:
                _ = engine.encoder
            except BaseException:
                engine.close()
                raise
        return engine

    @classmethod
    def _from_generation(
        cls,
        generation: OpenGeneration,
        folder: Path,
        encoder: Encoder | None,
        *,
        device: str = "auto",
        threads: int,
        adapter: Adapter | None = None,
        earlier: Corpus | None = None,
    ) -> Self:
        try:
            record = generation.manifest.encoder
            basis = SpectralBasis.open(generation.files.basis)
            if adapter is None:
                store = DomainStore(folder, encoder_sha256=record.weights_sha256, dimension=record.dimension)
                adapter = Adapter(basis, store.domain_adapters(store.names()))
            return cls(
                encoder=encoder or partial(record.open, folder, device=device, threads=threads),
                adapter=adapter.with_basis(basis),
                corpus=Corpus.open(generation, threads=threads, earlier=earlier),
                manifest=generation.manifest,
                projection=Projection.open(generation.files.map) if generation.files.map.exists() else None,
                generation=generation,
                folder=folder,
                threads=threads,
            )
        except BaseException:
            generation.close()
            raise

    @cached_property
    def encoder(self) -> Encoder:
        """The index's encoder; loaded at its first use unless it was given open.

        Raises EncoderError if it cannot be loaded, IndexFolderError if the index was built with another one.
        """
        with self._encoder_lock:
            if "encoder" in self.__dict__:
                return self.encoder
            encoder = self._open_encoder()
            self._check_encoder(encoder)
            return encoder

    def reopened(self) -> Self | None:
        """Open the current generation of the index with the same encoder; None if this engine has it open already.

        Segments that both generations have in common are shared and not read again. This engine stays usable, and
        releases its files once nothing refers to it. Raises IndexFolderError as `open` does, and if the index was
        built again with another encoder.
        """
        if self.folder is None or self._generation is None or self._generation.is_at(current(self.folder)):
            return None
        generation = open_current(self.folder, self.manifest.files)
        return self._from_generation(
            generation, self.folder, self.encoder, threads=self._threads, adapter=self.adapter, earlier=self.corpus
        )

    @property
    def generation(self) -> str:
        """The name of the index's generation; row numbers belong to it."""
        return "" if self._generation is None else self._generation.files.folder.name

    def search(
        self,
        queries: Sequence[Query],
        *,
        explain: bool = False,
        correct: bool = False,
        facets: Sequence[str] = (),
        stages: EncoderStages | None = None,
        on_encoder_error: Callable[[EncoderError], None] | None = None,
    ) -> list[Outcome]:
        """Answer queries. Returns one outcome for each, in their order.

        explain: also find which words of each hit made it similar.
        correct: also look for words that are similar to those that no passage has, which takes milliseconds for each.
        facets: fields whose values are counted for each query, see `count_facets`.
        stages: runs the stages that need the encoder; by default this engine.
        on_encoder_error: called if the encoder fails and no query has the mode `semantic`; keyword search then answers
        alone. By default the error is raised.

        Raises FilterError or QueryError for a field that no document has, EncoderError, and any error of `stages`.
        """
        stages = stages or self
        check_facets(self.corpus, facets)
        for sort in {query.sort for query in queries}:
            check_sort(self.corpus, sort)
        notes: dict[Filter | None, Sequence[str]] = {}
        for query_filter in {query.filter for query in queries}:
            check_filter(self.corpus, query_filter)
            notes[query_filter] = filter_notes(self.corpus, query_filter)
            # fills the cache here: with other `stages`, one thread runs them for all searches
            self.corpus.allowed_rows(query_filter)
        dense: dict[int, DenseResult] = {}
        failed = False
        modes = [self.mode(query) for query in queries]
        encoded = [index for index, mode in enumerate(modes) if mode is not Mode.KEYWORD]
        try:
            results = stages.retrieve([queries[index] for index in encoded]) if encoded else ()
            dense = dict(zip(encoded, results, strict=True))
        except EncoderError as error:
            if on_encoder_error is None or Mode.SEMANTIC in modes:
                raise
            on_encoder_error(error)
            failed = True
        outcomes = []
        for index, query in enumerate(queries):
            stages.check_deadline()
            outcome = self._outcome(query, dense.get(index), facets, notes[query.filter])
            if failed and index in encoded:
                outcome = replace(outcome, page=replace(outcome.page, adaptation=ENCODER_FAILED))
            similarity = _best_similarity(outcome.dense)
            # a good word that no document has, such as `folder`, is no misspelling if its meaning was found
            is_found = similarity is not None and self.manifest.weak_similarity is not None and not outcome.is_weak
            allowed = self.corpus.allowed_rows(query.filter)
            completion = completed(query.text, self.corpus, allowed) if query.complete else None
            if completion is not None:
                longer = replace(query, text=completion, complete=False)
                with suppress(EncoderError):  # what was typed is answered already
                    [found] = self.search([longer], facets=facets, stages=stages, on_encoder_error=on_encoder_error)
                    nearest = _best_similarity(found.dense)
                    # what was typed may be a word of its own, to which something is nearer
                    if not is_found or (similarity is not None and nearest is not None and nearest > similarity):
                        outcomes.append(replace(found, query=query, completed=completion))
                        continue
            if correct and not is_found:
                outcome = replace(outcome, did_you_mean=corrected(query.text, self.corpus, allowed))
            outcomes.append(outcome)
        if not explain:
            return outcomes
        started = perf_counter()
        attributions = stages.token_attributions([outcome.page for outcome in outcomes])
        explain_s = (perf_counter() - started) / max(1, len(outcomes))
        return [
            replace(outcome, attributions=of_page, seconds={**outcome.seconds, "explain": explain_s})
            for outcome, of_page in zip(outcomes, attributions, strict=True)
        ]

    def check_deadline(self) -> None:
        """Do nothing: the engine's own searches have no deadline."""

    def mode(self, query: Query) -> Mode:
        """Return the mode of the query, or the index's default mode."""
        return query.mode or self.manifest.search.mode

    def lexical_weight(self, state: DomainState | None) -> LexicalWeight:
        """Return the weight of BM25 for a domain with this state."""
        if state is None or state.lexical_weight is None:
            return self.manifest.lexical_weight
        return state.lexical_weight

    @property
    def uses_tokens(self) -> bool:
        """Whether hybrid search compares queries and passages token by token."""
        return self.corpus.has_token_vectors and self.encoder.has_token_vectors

    def token_weight(self, state: DomainState | None) -> float:
        """Return what late interaction counts for a domain with this state."""
        if state is None or state.token_weight is None:
            return self.manifest.search.token_weight
        return state.token_weight

    @property
    def ef_search(self) -> int | None:
        """Candidates kept of the graph, or lists scanned of the inverted file; None if every vector is compared."""
        measured = [segment.index.ef_search or 0 for segment in self.corpus.segments]
        return self.manifest.search.ef_search or self.corpus.largest_segment.index.ef_search or max(measured) or None

    def retrieve(self, queries: Sequence[Query]) -> list[DenseResult]:
        """Encode and adapt queries and search their vectors, as one batch."""
        if not queries:
            return []
        started, texts = perf_counter(), [query.text for query in queries]
        encoded = self.encoder.encode_for_search(texts, with_tokens=self.uses_tokens)
        return self.search_encoded(queries, encoded, encode_s=perf_counter() - started)

    def search_encoded(
        self, queries: Sequence[Query], encoded: Sequence[EncodedQuery], *, encode_s: float = 0.0
    ) -> list[DenseResult]:
        """As `search_vectors`, for n queries as the encoder returned them."""
        # an index without token vectors may be searched with queries that another one has encoded
        tokens = [query.tokens for query in encoded if query.tokens is not None and self.uses_tokens]
        return self.search_vectors(
            queries,
            np.stack([query.vector for query in encoded]),
            tokens=tokens if len(tokens) == len(encoded) else None,
            encode_s=encode_s,
        )

    def search_vectors(
        self,
        queries: Sequence[Query],
        frozen: Vectors,
        *,
        tokens: Sequence[QueryTokens] | None = None,
        encode_s: float = 0.0,
    ) -> list[DenseResult]:
        """Adapt query vectors and search the index with them.

        frozen: (n, dim) float32, unit rows, as the encoder returned them. tokens: n, the token vectors of each, if
        `uses_tokens`; without them there is no late interaction. encode_s: seconds that encoding took.
        """
        adapter = self.adapter  # one for the whole batch, even if it is replaced meanwhile
        started = perf_counter()
        vectors = adapter.transform(frozen, [query.domain for query in queries])
        adapted = perf_counter()
        compared = [index for index, query in enumerate(queries) if query.compare]
        if compared:
            vectors = np.concatenate((vectors, frozen[compared]))
        results = self._search_filtered(vectors, [*queries, *(queries[index] for index in compared)])
        times = BatchTimes(encode_s, adapted - started, perf_counter() - adapted)
        unadapted = {
            index: DenseResult(
                vectors[row], frozen[index], *results[row], times, UNADAPTED, None if tokens is None else tokens[index]
            )
            for row, index in enumerate(compared, start=len(queries))
        }
        domain_adapters = [adapter.for_domain(query.domain) for query in queries]
        return [
            DenseResult(
                vectors[index],
                frozen[index],
                *results[index],
                times,
                domain_adapter,
                None if tokens is None else tokens[index],
                self._votes(domain_adapter.state, frozen[index]),
                unadapted.get(index),
            )
            for index, domain_adapter in enumerate(domain_adapters)
        ]

    def _votes(self, state: DomainState | None, query: Vectors) -> VotedDocuments | None:
        """The documents that a state's votes raise for a query. query: (dim,) its vector before adaptation."""
        if state is None or state.votes is None:
            return None
        rows_of = self._voted_rows.get(state.votes)
        if rows_of is None:
            rows_of = [self.corpus.passage_rows(doc_id)[:VOTED_PASSAGES] for doc_id in state.votes.doc_ids]
            self._voted_rows[state.votes] = rows_of
        shares = state.votes.shares(query)
        best = np.argsort(-shares, kind="stable")[:VOTED_DOCUMENTS].tolist()
        voted = [index for index in best if shares[index] >= MIN_VOTE and len(rows_of[index])]
        documents = np.array([self.corpus.document_of[rows_of[index][0]] for index in voted], np.int64)
        order = np.argsort(documents)
        return VotedDocuments(
            documents[order],
            (state.votes.weight * shares[voted]).astype(np.float32)[order],
            np.concatenate([np.empty(0, np.int64), *(rows_of[index] for index in voted)]),
        )

    def rank(self, query: Query, dense: DenseResult | None) -> ResultPage:
        """Rank the results of vector search and keyword search and return the requested page. Thread-safe.

        dense: the result of `retrieve` for this query; None for keyword search.
        """
        if query.sort is not None:
            best = self.rank(replace(query, k=SORT_DEPTH, offset=0, sort=None), dense)
            return best.select(self._sorted(best, query.sort)[query.offset : query.offset + query.k])
        last = query.offset + query.k
        mode = Mode.KEYWORD if dense is None else self.mode(query)
        adaptation, vector = (UNENCODED, None) if dense is None else (dense.adaptation, dense.vector)
        weight = self.lexical_weight(adaptation.state)
        candidates = self._candidates(query, dense, weight)
        duplicates: Mapping[int, Rows] = {}
        if query.collapse:
            indices, duplicates = candidates.collapse(self.corpus, last)
        else:
            indices = np.arange(min(last, len(candidates.passages)))
        if query.min_score is not None:
            indices = indices[candidates.scores[indices] >= query.min_score]
        indices = indices[query.offset :]
        return candidates.page(
            indices,
            self.corpus,
            mode=mode,
            adaptation=adaptation,
            vector=vector,
            lexical_weight=weight,
            duplicates=duplicates,
        )

    def fetch(self, page: ResultPage, *, passages: int = 1) -> list[Hit]:
        """Fetch the texts and metadata of a page's documents, with `passages` passages of each. Thread-safe."""
        rows = list(zip(page.passages.tolist(), page.scores.tolist(), strict=True))
        hits = self.corpus.hits(rows, page.breakdowns)
        more_rows = more_passages(page, passages - 1, self.corpus)
        return [
            replace(
                hit,
                more_passages=tuple(self.corpus.passage_texts(rows_of_hit)),
                duplicates=tuple(self.corpus.doc_ids(duplicates)),
            )
            if len(rows_of_hit) or len(duplicates)
            else hit
            for hit, rows_of_hit, duplicates in zip(hits, more_rows, page.duplicates, strict=True)
        ]

    def token_attributions(self, pages: Sequence[ResultPage], *, run: RunBatch = run_now) -> list[Attributions | None]:
        """Return the attributions of each page's hits; None for keyword search or without mean pooling.

        run: runs the encoder's batches, by default at once.
        """
        return [self._page_attributions(page, run) for page in pages]

    def encode_label(self, text: str) -> EncodedQuery:
        """Encode a labelled query.

        The query is encoded alone: in a batch its last bits would depend on the other texts, but adaptation must depend
        on the labels only.
        """
        # the query may be kept longer than this engine, and be used with another one of the same encoder
        [encoded] = self.encoder.encode_for_search([text], with_tokens=self.encoder.has_token_vectors)
        return encoded

    def match_label(self, text: str) -> tuple[Rows, Scores]:
        """Search keywords for a labelled query. Returns passage rows (n,) and BM25 scores (n,) > 0, best first."""
        return self.corpus.search_keywords(text, KEYWORD_DEPTH)

    def document(self, doc_id: str) -> Document | None:
        """Return the whole document of this id, or None."""
        return self.corpus.document(doc_id)

    def close(self) -> None:
        """Release the index's files, except those that a reopened engine shares with this one."""
        if self._generation is not None:
            self._generation.close()

    def _check_encoder(self, encoder: Encoder) -> None:
        """Raise IndexFolderError unless the encoder is the one that made the index's vectors."""
        record = self.manifest.encoder
        record.check(encoder, "the index")
        if dict(encoder.prompts) != dict(record.prompts):
            raise IndexFolderError(
                f"the index was built with the prompts {dict(record.prompts)}, the encoder has"
                f" {dict(encoder.prompts)}: use the same ones, or build the index again"
            )
        if self.corpus.dimension != encoder.dimension:
            raise IndexFolderError(
                f"the index has vectors of {self.corpus.dimension} dimensions, the encoder of {encoder.dimension}:"
                " build the index again"
            )

    def _outcome(
        self, query: Query, result: DenseResult | None, facets: Sequence[str], notes: Sequence[str]
    ) -> Outcome:
        """Rank and fetch the results of one query, as it is."""
        started = perf_counter()
        page = self.rank(query, result)
        frozen_page = self.rank(query, result.frozen) if query.compare and result is not None else page
        counts = count_facets(query, facets, result, page.mode, self.corpus, ef_search=self.manifest.search.ef_search)
        ranked = perf_counter()
        hits = self.fetch(page, passages=query.passages)
        frozen = self.fetch(frozen_page) if query.compare else None
        return Outcome(
            query=query,
            hits=hits,
            page=page,
            dense=result,
            frozen=frozen,
            attributions=None,
            facets=counts,
            completed=None,
            did_you_mean=None,
            is_weak=is_weak(
                query.text,
                _best_similarity(result),
                lambda terms: self.corpus.has_all_terms(page.passages, terms),
                self.manifest.weak_similarity,
            ),
            notes=notes,
            seconds={"rank": ranked - started, "fetch": perf_counter() - ranked, "explain": 0.0},
        )

    def _page_attributions(self, page: ResultPage, run: RunBatch) -> Attributions | None:
        if page.vector is None or not len(page.passages):
            return None
        texts = self.corpus.encoder_texts(page.passages)
        attributions = self.encoder.token_attributions(texts, page.vector, run=run)
        if attributions is None:
            return None
        return [_sum_by_word(text, of_text) for text, of_text in zip(texts, attributions, strict=True)]

    def _candidates(self, query: Query, dense: DenseResult | None, weight: LexicalWeight) -> RankedCandidates:
        allowed = self.corpus.allowed_rows(query.filter)
        if dense is None:
            return rank_lexical(query.text, query.offset + query.k, self.corpus, allowed)
        if self.mode(query) is Mode.HYBRID:
            token_weight = self.token_weight(dense.adaptation.state)
            return rank_hybrid(query.text, dense, weight, self.corpus, allowed, token_weight=token_weight)
        return rank_dense(dense, self.corpus, allowed)

    def _search_filtered(self, vectors: Vectors, queries: Sequence[Query]) -> list[tuple[Rows, Scores]]:
        """The nearest allowed documents for each vector. Queries with the same filter are searched together."""
        groups: dict[tuple[Filter | None, int], list[int]] = {}
        for index, query in enumerate(queries):
            pool = FUSION_DEPTH if self.mode(query) is Mode.HYBRID else 0
            groups.setdefault((query.filter, pool), []).append(index)
        results: dict[int, tuple[Rows, Scores]] = {}
        for (query_filter, pool), indices in groups.items():
            nearest = search_documents(
                vectors[indices],
                [_depth(queries[index]) for index in indices],
                self.corpus,
                self.corpus.allowed_rows(query_filter),
                ef_search=self.manifest.search.ef_search,
                pool=pool,
            )
            results.update(zip(indices, nearest, strict=True))
        return [results[index] for index in range(len(queries))]

    def _sorted(self, page: ResultPage, sort: Sort) -> list[int]:
        """Indices of a page's documents in the order of a field; those without it come last.

        Of several values, the first in the order counts.
        """
        hits = self.corpus.hits([(row, 0.0) for row in page.passages.tolist()])
        field, best = normalize(sort.field), max if sort.descending else min
        keys: dict[int, tuple[int, Key]] = {}
        for index, hit in enumerate(hits):
            fields = document_values(doc_id=hit.id, title=hit.title, source=hit.source, metadata=hit.metadata)
            if values := [value for name, value in fields if name == field]:
                keys[index] = best(map(_sort_key, values))
        absent = [index for index in range(len(hits)) if index not in keys]
        return [*sorted(keys, key=lambda index: keys[index], reverse=sort.descending), *absent]


def _best_similarity(result: DenseResult | None) -> float | None:
    """The highest cosine of a result of vector search; None without one."""
    return None if result is None or not len(result.scores) else float(result.scores.max())


def _depth(query: Query) -> int:
    """Number of nearest documents that answering the query needs."""
    depth = query.offset + query.k if query.sort is None else SORT_DEPTH
    return 2 * depth + 20 if query.collapse else depth


def _sort_key(value: TypedValue) -> tuple[int, Key]:
    """A key that orders values as filters compare them, but texts without regard to case."""
    return value.kind, value.key.casefold() if value.kind is Kind.TEXT and isinstance(value.key, str) else value.key


def _sum_by_word(text: str, attributions: Sequence[tuple[int, int, float]]) -> list[tuple[str, float]]:
    """Sum the attributions of the encoder's tokens, (start, stop, value), by the stem of the word that contains them.

    Returns (word, sum) for sums above 0, largest first; a word is spelled as at its first occurrence. Function words
    are left out: they say nothing about why a passage was found.
    """
    by_stem: dict[str, tuple[str, float]] = {}
    pieces = iter(sorted(attributions))
    piece = next(pieces, None)
    for token in tokenize(text):
        value = 0.0
        while piece is not None and piece[0] < token.stop:
            value += piece[2] if piece[1] > token.start else 0.0
            piece = next(pieces, None)
        if token.is_function_word:
            continue
        word, earlier = by_stem.get(token.stem, (text[token.start : token.stop], 0.0))
        by_stem[token.stem] = word, earlier + value
    positive = [(word, total) for word, total in by_stem.values() if total > 0]
    return sorted(positive, key=lambda attribution: (-attribution[1], attribution[0]))
