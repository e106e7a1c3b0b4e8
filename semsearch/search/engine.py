"""The main path of a search: encode → rescale → nearest → fuse → fetch; knows nothing of HTTP."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Self

import numpy as np

from semsearch.adapters.adapter import Adapter, Serving
from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import DomainState
from semsearch.encoders.encoder import Encoder
from semsearch.errors import BundleError
from semsearch.filters.tree import Condition
from semsearch.search.ranking import (
    FUSED,
    PASSAGES,
    Nearest,
    Ranking,
    best_passages,
    by_both,
    by_meaning,
    by_words,
    nearest_documents,
)
from semsearch.storage.corpus import Corpus
from semsearch.storage.domains import DomainStore
from semsearch.storage.generations import OpenGeneration, current, open_current, tidy
from semsearch.storage.manifest import Manifest
from semsearch.storage.projection import Projection
from semsearch.system.threads import available_cores
from semsearch.text.tokens import words
from semsearch.types import Document, Hit, LexicalWeight, Mode, Query, Rows, Scores, Sort, Vectors

COMPARED = 100
"""Places of two rankings of a query in which a document is looked for."""
SORTED = 100
"""The best documents, which an order that is asked for puts in order: further down, they hardly answer the query."""
UNADAPTED = Serving(None, reason="the frozen encoder was asked for")
UNENCODED = Serving(None, reason="a search by words alone is not adapted")


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
        """Tie finished parts together. Raises BundleError if they do not belong to one another."""
        if encoder.weights_sha256 != manifest.encoder.weights_sha256:
            raise BundleError(
                f"the index was built with encoder {manifest.encoder.name!r} of weights"
                f" {manifest.encoder.weights_sha256[:12]}…, not {encoder.name!r} of {encoder.weights_sha256[:12]}…:"
                " use that encoder, or build the index again"
            )
        if dict(encoder.prompts) != dict(manifest.encoder.prompts):
            raise BundleError(
                f"the index was built with the prompts {dict(manifest.encoder.prompts)}, the encoder has"
                f" {dict(encoder.prompts)}: use the same ones, or build the index again"
            )
        if corpus.dimension != encoder.dimension:
            raise BundleError(
                f"the index has vectors of {corpus.dimension} dimensions, the encoder of {encoder.dimension}: build the"
                " index again"
            )
        self.encoder = encoder
        self.adapter = adapter
        """Never changes; another one may take its place at any time, whole."""
        self.corpus = corpus
        self.manifest = manifest
        self.projection = projection
        """Where vectors stand on the corpus's map; None for an index without one."""
        self.folder = folder
        """Where the index is on disk; None for one that is not."""
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
        """Open the index that `semsearch build` left in `folder`.

        encoder: one that is open already, to be shared; by default the manifest's is loaded.
        threads: for encoding and for searching, by default all cores.

        Raises BundleError if there is no index, or a damaged one; EncoderError if its encoder cannot be loaded. A
        domain whose state is damaged, or belongs to another encoder, is served frozen and says so.
        """
        tidy(Path(folder))
        return cls._of(
            open_current(Path(folder)), Path(folder), encoder, device=device, threads=threads or available_cores()
        )

    @classmethod
    def _of(
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
            made_by = generation.manifest.encoder
            basis = SpectralBasis.open(generation.files.basis)
            if adapter is None:
                store = DomainStore(folder, encoder_sha256=made_by.weights_sha256)
                adapter = Adapter(basis, store.servings(store.names()))
            return cls(
                encoder=encoder or Encoder.open(made_by.name, device=device, threads=threads, prompts=made_by.prompts),
                adapter=adapter.over(basis),
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

    def newer(self) -> Self | None:
        """The index as it is on disk now, opened with the same encoder; None where this is it.

        What both have in common stays open and is not read again. This engine goes on as before, and lets go of its
        files once nobody has it any more. Raises BundleError as `open` does, and where the encoder has become another.
        """
        if self.folder is None or self._generation is None or current(self.folder) == self._generation.files.folder:
            return None
        generation = open_current(self.folder, self.manifest.files)
        return self._of(
            generation, self.folder, self.encoder, threads=self._threads, adapter=self.adapter, earlier=self.corpus
        )

    @property
    def generation(self) -> str:
        """Which state of the index this is: rows belong to it."""
        return "" if self._generation is None else self._generation.files.folder.name

    def search(self, queries: Sequence[Query]) -> list[list[Hit]]:
        """The best documents for each query, best first; a document is as good as its best passage."""
        encoded = [query for query in queries if self.mode(query) is not Mode.LEXICAL]
        nearest = dict(zip(map(id, encoded), self.rank(encoded), strict=True))
        return [self.fetch(self.order(query, nearest.get(id(query))), passages=query.passages) for query in queries]

    def mode(self, query: Query) -> Mode:
        """What a search for this query goes by."""
        return query.mode or self.manifest.search.mode

    def lexical_weight(self, state: DomainState | None) -> LexicalWeight:
        """What words are worth to a domain of this state."""
        return self.manifest.search.lexical_weight if state is None or state.words is None else state.words

    @property
    def effort(self) -> int | None:
        """Candidates kept along the index's graph while searching; None where every vector is compared."""
        efforts = [segment.index.effort or 0 for segment in self.corpus.segments]
        return self.manifest.search.effort or max(efforts) or None

    def rank(self, queries: Sequence[Query]) -> list[Nearest]:
        """The part of a search that gains from batches, for queries whose mode wants the encoder."""
        if not queries:
            return []
        started = perf_counter()
        frozen = self.encoder.encode_queries([query.text for query in queries])
        return self.nearest(queries, frozen, encoded_in_s=perf_counter() - started)

    def nearest(self, queries: Sequence[Query], frozen: Vectors, *, encoded_in_s: float = 0.0) -> list[Nearest]:
        """The rest of `rank`, for n queries whose vectors are known: (n, dim) float32, unit rows."""
        adapter = self.adapter  # one for the whole batch, whoever replaces it meanwhile
        times = [perf_counter()]
        vectors = adapter.rescale(frozen, [query.domain for query in queries])
        times.append(perf_counter())
        compared = [place for place, query in enumerate(queries) if query.compare]
        if compared:
            vectors = np.concatenate((vectors, frozen[compared]))
        found = self._found(vectors, [*queries, *(queries[place] for place in compared)])
        times.append(perf_counter())
        rescale_s, nearest_s = np.diff(times).tolist()
        stages_s = {"encode": encoded_in_s, "rescale": rescale_s, "nearest": nearest_s}
        beside = {
            place: Nearest(vectors[number], *found[number], stages_s, UNADAPTED)
            for number, place in enumerate(compared, start=len(queries))
        }
        return [
            Nearest(vectors[place], *found[place], stages_s, adapter.serving(query.domain), beside.get(place))
            for place, query in enumerate(queries)
        ]

    def order(self, query: Query, nearest: Nearest | None) -> Ranking:
        """The page that a query asked for, from what is nearest by meaning and what its words find.

        nearest: of this query, or None to go by words alone. May run on many threads at once.
        """
        if query.sort is not None:
            best = self.order(replace(query, k=SORTED, offset=0, sort=None), nearest)
            return best.at(self._sorted(best, query.sort)[query.offset : query.offset + query.k])
        last, allowed = query.offset + query.k, self.corpus.allowed(query.condition)
        mode = Mode.LEXICAL if nearest is None else self.mode(query)
        adapted, vector = (UNENCODED, None) if nearest is None else (nearest.adapted, nearest.vector)
        weight = self.lexical_weight(adapted.state)
        if nearest is None:
            found = by_words(query.text, last, self.corpus, allowed)
        elif mode is Mode.HYBRID:
            found = by_both(query.text, nearest, weight, self.corpus, allowed)
        else:
            found = by_meaning(nearest, self.corpus.document_of)
        if not query.fold:
            places = np.arange(query.offset, max(query.offset, min(last, len(found.passages))))
            return found.page(places, self.corpus, mode, adapted, vector, weight)
        kept, alike = found.folded(self.corpus, last)
        page = found.page(kept[query.offset :], self.corpus, mode, adapted, vector, weight)
        return replace(page, alike=[alike[place] for place in kept[query.offset :].tolist()])

    def fetch(self, ranking: Ranking, *, passages: int = 1) -> list[Hit]:
        """Texts and metadata of ranked documents, with so many passages of each; may run on many threads at once."""
        rows = list(zip(ranking.passages.tolist(), ranking.scores.tolist(), strict=True))
        hits = self.corpus.hits(rows, ranking.parts)
        others = best_passages(ranking, passages - 1, self.corpus)
        return [
            replace(
                hit,
                others=tuple(self.corpus.passages_in(more)),
                alike=tuple(self.corpus.identities(alike)),
            )
            if len(more) or len(alike)
            else hit
            for hit, more, alike in zip(hits, others, ranking.alike, strict=True)
        ]

    def carried(self, ranking: Ranking) -> list[list[tuple[str, float]]] | None:
        """Of each ranked document the words of its best passage that made it similar to the query, and what each added
        to the cosine, the most first.

        None where the search did not go by meaning, or the encoder does not tell.
        """
        if ranking.vector is None or not len(ranking.passages):
            return None
        texts = self.corpus.at_encoder(ranking.passages)
        shares = self.encoder.shares(texts, ranking.vector)
        return None if shares is None else [_by_word(text, its) for text, its in zip(texts, shares, strict=True)]

    def encode_label(self, text: str) -> Vectors:
        """(1, dim) float32, the unit vector of a labelled query.

        Encoded alone: in a batch its last bits would depend on its neighbours, and what a domain learns shall depend
        on its labels only.
        """
        return self.encoder.encode_queries([text])

    def match_label(self, text: str) -> tuple[Rows, Scores]:
        """Passage rows (n,) that a labelled query's words find, and BM25 scores (n,) > 0, best first."""
        return self.corpus.best(text, PASSAGES)

    def document(self, identity: str) -> Document | None:
        """The whole document of this id, or None."""
        return self.corpus.document(identity)

    def close(self) -> None:
        """Let go of the index's files; what a newer engine has in common with this one stays open with it."""
        if self._generation is not None:
            self._generation.close()

    def _found(self, vectors: Vectors, queries: Sequence[Query]) -> list[tuple[Rows, Scores]]:
        """For each vector what is nearest to it of what its query allows; queries under one condition go together."""
        together: dict[Condition | None, list[int]] = {}
        for place, query in enumerate(queries):
            together.setdefault(query.condition, []).append(place)
        found: dict[int, tuple[Rows, Scores]] = {}
        for condition, places in together.items():
            wanted = max(self._wanted(queries[place]) for place in places)
            part = nearest_documents(
                vectors[places], wanted, self.corpus, self.corpus.allowed(condition), effort=self.manifest.search.effort
            )
            found.update(zip(places, part, strict=True))
        return [found[place] for place in range(len(queries))]

    def _sorted(self, ranking: Ranking, by: Sort) -> list[int]:
        """The places of ranked documents in the order of a field; those without it stand last."""
        hits = self.corpus.hits([(row, 0.0) for row in ranking.passages.tolist()])
        values = [hit.title or None if by.field == "title" else hit.metadata.get(by.field) for hit in hits]
        there = [place for place, value in enumerate(values) if isinstance(value, str | int | float)]
        absent = sorted({*range(len(hits))} - {*there})
        return [*sorted(there, key=lambda place: _comparable(values[place]), reverse=by.falling), *absent]

    def _wanted(self, query: Query) -> int:
        """How many of the nearest documents it takes to answer a query."""
        asked = query.offset + query.k if query.sort is None else SORTED
        asked = 2 * asked + 20 if query.fold else asked
        # along a graph, what is found first depends a little on how much is asked for: ask for as much for every page
        return max(asked, FUSED) if self.mode(query) is Mode.HYBRID or self.effort is not None else asked


def _comparable(value: object) -> tuple[bool, object]:
    """Numbers stand before words; in words, capitals count as small letters."""
    return (True, value.casefold()) if isinstance(value, str) else (False, value)


def _by_word(text: str, shares: Sequence[tuple[int, int, float]]) -> list[tuple[str, float]]:
    """What each word of a text adds, however often it stands there: as it stands there first."""
    found: dict[str, tuple[str, float]] = {}
    places = iter(sorted(shares))
    share = next(places, None)
    for word in words(text):
        value = 0.0
        while share is not None and share[0] < word.stop:
            value += share[2] if share[1] > word.start else 0.0
            share = next(places, None)
        shown, before = found.get(word.stem, (text[word.start : word.stop], 0.0))
        found[word.stem] = shown, before + value
    return sorted((one for one in found.values() if one[1] > 0), key=lambda one: (-one[1], one[0]))


def places_in(hits: Sequence[Hit], ranking: Sequence[Hit]) -> list[int | None]:
    """The place of each hit's document in another ranking, from 1; None where it is not there."""
    places = {hit.id: place for place, hit in enumerate(ranking, start=1)}
    return [places.get(hit.id) for hit in hits]
