"""The path of a search: encode → adapt → search vectors → rank → fetch. Does not depend on HTTP.

`SearchEngine.search` is the one function that every search goes through: the Python API, the command line, the server
and its pages, comparisons, tuning and evaluation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Protocol, Self, TypeAlias

import numpy as np

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import DomainState
from semsearch.encoders.encoder import Encoder, RunBatch, run_now
from semsearch.errors import EncoderError, IndexFolderError
from semsearch.filters.tree import Filter
from semsearch.search.ranking import (
    FUSION_DEPTH,
    KEYWORD_DEPTH,
    BatchTimes,
    DenseResult,
    RankedCandidates,
    ResultPage,
    more_passages,
    rank_dense,
    rank_hybrid,
    rank_lexical,
    search_documents,
)
from semsearch.storage.corpus import Corpus
from semsearch.storage.domains import DomainStore
from semsearch.storage.generations import OpenGeneration, current, open_current, remove_stale
from semsearch.storage.manifest import Manifest
from semsearch.storage.projection import Projection
from semsearch.system.threads import available_cores
from semsearch.text.tokens import tokenize
from semsearch.types import Document, Hit, LexicalWeight, Mode, Query, Rows, Scores, Sort, Vectors

SORT_DEPTH = 100
"""The best documents, among which a requested order sorts: documents further down hardly answer the query."""
UNADAPTED = DomainAdapter(None, reason="the frozen encoder was asked for")
UNENCODED = DomainAdapter(None, reason="keyword search does not use the encoder, so nothing is adapted")
ENCODER_FAILED = DomainAdapter(None, reason="the encoder failed: keyword search answered instead")

Attributions: TypeAlias = Sequence[Sequence[tuple[str, float]]]
"""For each hit, the words of its best passage and what each adds to the cosine, largest first."""


class EncoderStages(Protocol):
    """The two stages of a search that run the encoder: of an engine itself, or of a server that batches them."""

    def check_deadline(self) -> None:
        """Raise if the search must not go on, because its time has run out or its client has gone."""

    def retrieve(self, queries: Sequence[Query], /) -> Sequence[DenseResult]:
        """Encode, adapt and search the vectors of queries, in their order."""

    def token_attributions(self, pages: Sequence[ResultPage], /) -> Sequence[Attributions | None]:
        """Which words of each hit's passage made it similar, by page; None where that is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one query found, and how."""

    query: Query
    hits: Sequence[Hit]
    """Best first, at most `query.k`."""
    page: ResultPage
    """The same documents as rows, with the scores they were ranked by."""
    dense: DenseResult | None
    """What vector search found; None for keyword search."""
    frozen: Sequence[Hit] | None
    """What is found without the domain's adaptation; None unless the query asks for the comparison."""
    attributions: Attributions | None
    """For each hit, which words made it similar; None where that was not asked for or is not known."""
    seconds: Mapping[str, float]
    """What rank, fetch and explain took for this query; what its batch took before is in `dense.times`."""

    @property
    def mode(self) -> Mode:
        """How the search was done: `keyword` also where the encoder failed."""
        return self.page.mode

    @property
    def adaptation(self) -> DomainAdapter:
        """What the query was adapted with, or why it was not."""
        return self.page.adaptation


class SearchEngine:
    """One index with the encoder that made it."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        adapter: Adapter,
        corpus: Corpus,
        manifest: Manifest,
        projection: Projection | None = None,
        generation: OpenGeneration | None = None,
        folder: Path | None = None,
        threads: int = 1,
    ) -> None:
        """Tie finished parts together. Raises IndexFolderError if they do not belong to one another."""
        if encoder.weights_sha256 != manifest.encoder.weights_sha256:
            raise IndexFolderError(
                f"the index was built with encoder {manifest.encoder.name!r} of weights"
                f" {manifest.encoder.weights_sha256[:12]}…, not {encoder.name!r} of {encoder.weights_sha256[:12]}…:"
                " use that encoder, or build the index again"
            )
        if dict(encoder.prompts) != dict(manifest.encoder.prompts):
            raise IndexFolderError(
                f"the index was built with the prompts {dict(manifest.encoder.prompts)}, the encoder has"
                f" {dict(encoder.prompts)}: use the same ones, or build the index again"
            )
        if corpus.dimension != encoder.dimension:
            raise IndexFolderError(
                f"the index has vectors of {corpus.dimension} dimensions, the encoder of {encoder.dimension}: build the"
                " index again"
            )
        self.encoder = encoder
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
        if generation is not None:
            weakref.finalize(self, generation.close)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        encoder: Encoder | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Open the index in `folder`.

        encoder: an open encoder to share; by default the manifest's encoder is loaded.
        threads: CPU threads for encoding and for searching; by default all cores.

        Raises IndexFolderError if there is no index, or a damaged one; EncoderError if its encoder cannot be loaded. A
        domain whose state is damaged, or belongs to another encoder, is served without adaptation and says so.
        """
        remove_stale(Path(folder))
        return cls._from_generation(
            open_current(Path(folder)), Path(folder), encoder, device=device, threads=threads or available_cores()
        )

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
                store = DomainStore(folder, encoder_sha256=record.weights_sha256)
                adapter = Adapter(basis, store.domain_adapters(store.names()))
            return cls(
                encoder=encoder or Encoder.open(record.name, device=device, threads=threads, prompts=record.prompts),
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

    def reopened(self) -> Self | None:
        """The index as it is on disk now, opened with the same encoder; None where that is this engine's state.

        What both have in common stays open and is not read again. This engine goes on as before, and releases its files
        once nothing refers to it. Raises IndexFolderError as `open` does, and where the encoder has been replaced.
        """
        if self.folder is None or self._generation is None or current(self.folder) == self._generation.files.folder:
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
        stages: EncoderStages | None = None,
        on_encoder_error: Callable[[EncoderError], None] | None = None,
    ) -> list[Outcome]:
        """Answer queries, in their order.

        explain: also find which words of each hit made it similar. stages: what runs the encoder's stages, by default
        this engine. on_encoder_error: called where the encoder fails and no query is purely semantic; then keyword
        search answers alone. By default the error is raised.

        Raises EncoderError, and whatever `stages` raise.
        """
        stages = stages or self
        for query_filter in {query.filter for query in queries}:
            self.corpus.allowed_rows(query_filter)  # here, not in the thread that all searches may wait for
        dense: dict[int, DenseResult] = {}
        failed = False
        modes = [self.mode(query) for query in queries]
        encoded = [index for index, mode in enumerate(modes) if mode is not Mode.KEYWORD]
        try:
            found = stages.retrieve([queries[index] for index in encoded]) if encoded else ()
            dense = dict(zip(encoded, found, strict=True))
        except EncoderError as error:
            if on_encoder_error is None or Mode.SEMANTIC in modes:
                raise
            on_encoder_error(error)
            failed = True
        outcomes = []
        for index, query in enumerate(queries):
            stages.check_deadline()
            result, started = dense.get(index), perf_counter()
            page = self.rank(query, result)
            if failed and index in encoded:
                page = replace(page, adaptation=ENCODER_FAILED)
            frozen_page = self.rank(query, result.frozen) if query.compare and result is not None else page
            ranked = perf_counter()
            hits = self.fetch(page, passages=query.passages)
            frozen = self.fetch(frozen_page) if query.compare else None
            seconds = {"rank": ranked - started, "fetch": perf_counter() - ranked, "explain": 0.0}
            outcomes.append(Outcome(query, hits, page, result, frozen, None, seconds))
        if not explain:
            return outcomes
        started = perf_counter()
        attributions = stages.token_attributions([outcome.page for outcome in outcomes])
        explain_s = (perf_counter() - started) / max(1, len(outcomes))
        return [
            replace(outcome, attributions=words, seconds={**outcome.seconds, "explain": explain_s})
            for outcome, words in zip(outcomes, attributions, strict=True)
        ]

    def check_deadline(self) -> None:
        """Do nothing: the engine's own searches have no deadline."""

    def mode(self, query: Query) -> Mode:
        """How this query is searched for: as it asks, or as the index is set."""
        return query.mode or self.manifest.search.mode

    def lexical_weight(self, state: DomainState | None) -> LexicalWeight:
        """The weight of BM25 for a domain of this state."""
        if state is None or state.lexical_weight is None:
            return self.manifest.search.lexical_weight
        return state.lexical_weight

    @property
    def ef_search(self) -> int | None:
        """Candidates kept while searching the HNSW graph; None where every vector is compared."""
        measured = [segment.index.ef_search or 0 for segment in self.corpus.segments]
        return self.manifest.search.ef_search or max(measured) or None

    def retrieve(self, queries: Sequence[Query]) -> list[DenseResult]:
        """Encode queries and search their vectors: the stages that gain from batches."""
        if not queries:
            return []
        started = perf_counter()
        frozen = self.encoder.encode_queries([query.text for query in queries])
        return self.search_vectors(queries, frozen, encode_s=perf_counter() - started)

    def search_vectors(self, queries: Sequence[Query], frozen: Vectors, *, encode_s: float = 0.0) -> list[DenseResult]:
        """Adapt and search query vectors that are known already.

        frozen: (n, dim) float32, unit rows, as the encoder gave them. encode_s: seconds that encoding took.
        """
        adapter = self.adapter  # one for the whole batch, even if it is replaced meanwhile
        started = perf_counter()
        vectors = adapter.transform(frozen, [query.domain for query in queries])
        adapted = perf_counter()
        compared = [index for index, query in enumerate(queries) if query.compare]
        if compared:
            vectors = np.concatenate((vectors, frozen[compared]))
        found = self._search_filtered(vectors, [*queries, *(queries[index] for index in compared)])
        times = BatchTimes(encode_s, adapted - started, perf_counter() - adapted)
        without = {
            index: DenseResult(vectors[row], *found[row], times, UNADAPTED)
            for row, index in enumerate(compared, start=len(queries))
        }
        return [
            DenseResult(vectors[index], *found[index], times, adapter.for_domain(query.domain), without.get(index))
            for index, query in enumerate(queries)
        ]

    def rank(self, query: Query, dense: DenseResult | None) -> ResultPage:
        """The page that a query asks for, from what vector search and keyword search find.

        dense: of this query; None for keyword search. Safe to call from several threads.
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
            kept, duplicates = candidates.collapse(self.corpus, last)
            indices = kept[query.offset :]
        else:
            indices = np.arange(query.offset, max(query.offset, min(last, len(candidates.passages))))
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
        """Texts and metadata of a page's documents, `passages` passages of each. Safe to call from several threads."""
        rows = list(zip(page.passages.tolist(), page.scores.tolist(), strict=True))
        hits = self.corpus.hits(rows, page.breakdowns)
        further = more_passages(page, passages - 1, self.corpus)
        return [
            replace(
                hit,
                more_passages=tuple(self.corpus.passage_texts(more)),
                duplicates=tuple(self.corpus.doc_ids(duplicates)),
            )
            if len(more) or len(duplicates)
            else hit
            for hit, more, duplicates in zip(hits, further, page.duplicates, strict=True)
        ]

    def token_attributions(self, pages: Sequence[ResultPage], *, run: RunBatch = run_now) -> list[Attributions | None]:
        """By page and document, the words of the best passage and what each adds to the cosine, largest first.

        run: runs the encoder's batches, by default at once. None for a page of keyword search, and for an encoder that
        does not pool by the mean.
        """
        return [self._page_attributions(page, run) for page in pages]

    def encode_label(self, text: str) -> Vectors:
        """(1, dim) float32, the unit vector of a labelled query.

        Encoded alone: in a batch its last bits would depend on its neighbours, and what a domain learns must depend on
        its labels only.
        """
        return self.encoder.encode_queries([text])

    def match_label(self, text: str) -> tuple[Rows, Scores]:
        """Passage rows (n,) that keyword search finds for a labelled query, and BM25 scores (n,) > 0, best first."""
        return self.corpus.search_keywords(text, KEYWORD_DEPTH)

    def document(self, doc_id: str) -> Document | None:
        """The whole document of this id, or None."""
        return self.corpus.document(doc_id)

    def close(self) -> None:
        """Release the index's files; what a reopened engine shares with this one stays open."""
        if self._generation is not None:
            self._generation.close()

    def _page_attributions(self, page: ResultPage, run: RunBatch) -> Attributions | None:
        if page.vector is None or not len(page.passages):
            return None
        texts = self.corpus.encoder_texts(page.passages)
        by_text = self.encoder.token_attributions(texts, page.vector, run=run)
        if by_text is None:
            return None
        return [_by_word(text, tokens) for text, tokens in zip(texts, by_text, strict=True)]

    def _candidates(self, query: Query, dense: DenseResult | None, weight: LexicalWeight) -> RankedCandidates:
        allowed = self.corpus.allowed_rows(query.filter)
        if dense is None:
            return rank_lexical(query.text, query.offset + query.k, self.corpus, allowed)
        if self.mode(query) is Mode.HYBRID:
            return rank_hybrid(query.text, dense, weight, self.corpus, allowed)
        return rank_dense(dense, self.corpus.document_of)

    def _search_filtered(self, vectors: Vectors, queries: Sequence[Query]) -> list[tuple[Rows, Scores]]:
        """For each vector the nearest documents that its query's filter allows; equal filters are searched together."""
        by_filter: dict[Filter | None, list[int]] = {}
        for index, query in enumerate(queries):
            by_filter.setdefault(query.filter, []).append(index)
        found: dict[int, tuple[Rows, Scores]] = {}
        for query_filter, indices in by_filter.items():
            wanted = max(self._wanted(queries[index]) for index in indices)
            results = search_documents(
                vectors[indices],
                wanted,
                self.corpus,
                self.corpus.allowed_rows(query_filter),
                ef_search=self.manifest.search.ef_search,
            )
            found.update(zip(indices, results, strict=True))
        return [found[index] for index in range(len(queries))]

    def _sorted(self, page: ResultPage, sort: Sort) -> list[int]:
        """Indices of a page's documents in the order of a field; those without it come last."""
        hits = self.corpus.hits([(row, 0.0) for row in page.passages.tolist()])
        values = [hit.title or None if sort.field == "title" else hit.metadata.get(sort.field) for hit in hits]
        present = [index for index, value in enumerate(values) if isinstance(value, str | int | float)]
        absent = sorted({*range(len(hits))} - {*present})
        return [*sorted(present, key=lambda index: _sort_key(values[index]), reverse=sort.descending), *absent]

    def _wanted(self, query: Query) -> int:
        """How many of the nearest documents it takes to answer a query."""
        wanted = query.offset + query.k if query.sort is None else SORT_DEPTH
        wanted = 2 * wanted + 20 if query.collapse else wanted
        # what a graph finds first depends a little on how much is asked for: ask for as much for every page
        return max(wanted, FUSION_DEPTH) if self.mode(query) is Mode.HYBRID or self.ef_search is not None else wanted


def _sort_key(value: object) -> tuple[bool, object]:
    """Numbers come before texts; texts are compared without case."""
    return (True, value.casefold()) if isinstance(value, str) else (False, value)


def _by_word(text: str, attributions: Sequence[tuple[int, int, float]]) -> list[tuple[str, float]]:
    """What each word of a text adds, wherever it stands, written as it stands there first."""
    words: dict[str, tuple[str, float]] = {}
    tokens = iter(sorted(attributions))
    token = next(tokens, None)
    for word in tokenize(text):
        value = 0.0
        while token is not None and token[0] < word.stop:
            value += token[2] if token[1] > word.start else 0.0
            token = next(tokens, None)
        shown, before = words.get(word.stem, (text[word.start : word.stop], 0.0))
        words[word.stem] = shown, before + value
    return sorted((word for word in words.values() if word[1] > 0), key=lambda word: (-word[1], word[0]))
