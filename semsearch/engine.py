"""The main path of a search: encode → rescale → nearest → fetch; knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Self

import numpy as np

from semsearch.adapter import Adapter, Serving
from semsearch.basis import SpectralBasis
from semsearch.encoder import Encoder, available_cores
from semsearch.records import BundleError, Document, Hit, Query, Rows, Scores, Vectors
from semsearch.storage.bundle import Manifest, OpenGeneration, open_current
from semsearch.storage.documents import DocumentStore
from semsearch.storage.domains import DomainStore
from semsearch.storage.vectors import VectorIndex

COMPARED = 100
"""Places of two rankings of a query in which a document is looked for."""
UNADAPTED = Serving(None, reason="the frozen encoder was asked for")


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best documents for one query, as rows: what is left to do is to fetch them."""

    passages: Rows
    """(n,) the best passage of each document, n ≤ k, best first."""
    scores: Scores
    """(n,) its similarity."""
    stages_s: Mapping[str, float]
    """Seconds that each stage took for the whole batch this query was in."""
    adapted: Serving
    """What the query was rescaled with, or why with nothing."""
    frozen: Ranking | None = None
    """The same query, encoded once, without its domain's adaptation; where the query asked for it."""


class SearchEngine:
    """One index with the encoder that made it."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        adapter: Adapter,
        vectors: VectorIndex,
        documents: DocumentStore,
        manifest: Manifest,
        generation: OpenGeneration | None = None,
        folder: Path | None = None,
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
        counts = {vectors.count, len(documents.document_of), manifest.passages}
        if len(counts) > 1 or vectors.dimension != encoder.dimension or documents.count != manifest.documents:
            raise BundleError("the parts of the index disagree in number or dimension: build the index again")
        self.encoder = encoder
        self.adapter = adapter
        """Never changes; another one may take its place at any time, whole."""
        self.vectors = vectors
        self.documents = documents
        self.manifest = manifest
        self.folder = folder
        """Where the index is on disk; None for one that is not."""
        self._generation = generation

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
        threads = threads or available_cores()
        generation = open_current(Path(folder))
        try:
            made_by = generation.manifest.encoder
            basis = SpectralBasis.open(generation.files.basis)
            store = DomainStore(Path(folder), encoder_sha256=made_by.weights_sha256)
            served = store.servings(store.names())
            return cls(
                encoder=encoder or Encoder.open(made_by.name, device=device, threads=threads, prompts=made_by.prompts),
                adapter=Adapter(basis, served),
                vectors=VectorIndex.open(generation.files.vectors, threads=threads),
                documents=DocumentStore(generation.files.documents),
                manifest=generation.manifest,
                generation=generation,
                folder=Path(folder),
            )
        except BaseException:
            generation.close()
            raise

    def search(self, queries: Sequence[Query]) -> list[list[Hit]]:
        """The best documents for each query, best first; a document is as good as its best passage."""
        return [self.fetch(ranking) for ranking in self.rank(queries)]

    def rank(self, queries: Sequence[Query]) -> list[Ranking]:
        """The part of a search that gains from batches; call it from one thread at a time."""
        if not queries:
            return []
        adapter = self.adapter  # one for the whole batch, whoever replaces it meanwhile
        times = [perf_counter()]
        frozen = self.encoder.encode_queries([query.text for query in queries])
        times.append(perf_counter())
        domains = [query.domain for query in queries]
        vectors = adapter.rescale(frozen, domains)
        times.append(perf_counter())
        compared = [place for place, query in enumerate(queries) if query.compare]
        if compared:
            vectors = np.concatenate((vectors, frozen[compared]))
        found = self._nearest_documents(vectors, max(query.offset + query.k for query in queries))
        times.append(perf_counter())
        stages_s = dict(zip(("encode", "rescale", "nearest"), np.diff(times).tolist(), strict=True))

        def page(query: Query, place: int, adapted: Serving, beside: Ranking | None = None) -> Ranking:
            passages, scores = found[place]
            part = slice(query.offset, query.offset + query.k)
            return Ranking(passages[part], scores[part], stages_s, adapted, beside)

        beside = {
            place: page(queries[place], len(queries) + number, UNADAPTED) for number, place in enumerate(compared)
        }
        return [
            page(query, place, adapter.serving(query.domain), beside.get(place)) for place, query in enumerate(queries)
        ]

    def fetch(self, ranking: Ranking) -> list[Hit]:
        """Texts and metadata of ranked documents; may run on many threads at once."""
        return self.documents.hits(list(zip(ranking.passages.tolist(), ranking.scores.tolist(), strict=True)))

    def encode_label(self, text: str) -> Vectors:
        """(1, dim) float32, the unit vector of a labelled query.

        Encoded alone: in a batch its last bits would depend on its neighbours, and what a domain learns shall depend
        on its labels only. Call it from the thread that calls `rank`.
        """
        return self.encoder.encode_queries([text])

    def document(self, identity: str) -> Document | None:
        """The whole document of this id, or None."""
        return self.documents.document(identity)

    def close(self) -> None:
        """Let go of the index's files."""
        self.documents.close()
        if self._generation is not None:
            self._generation.close()

    def _nearest_documents(self, vectors: Vectors, wanted: int) -> list[tuple[Rows, Scores]]:
        """For each vector the best passage of each of the `wanted` nearest documents, best first.

        Asks for more passages until so many different documents are among them, or all passages are.
        """
        wanted = min(wanted, self.documents.count)
        many = wanted if self.vectors.count == self.documents.count else 2 * wanted
        while True:
            scores, rows = self.vectors.nearest(vectors, min(many, self.vectors.count))
            firsts = [_first_of_each(self.documents.document_of[found]) for found in rows]
            if many >= self.vectors.count or all(len(first) >= wanted for first in firsts):
                return [
                    (found[first][:wanted], score[first][:wanted])
                    for found, score, first in zip(rows, scores, firsts, strict=True)
                ]
            many *= 2


def places_in(hits: Sequence[Hit], ranking: Sequence[Hit]) -> list[int | None]:
    """The place of each hit's document in another ranking, from 1; None where it is not there."""
    places = {hit.id: place for place, hit in enumerate(ranking, start=1)}
    return [places.get(hit.id) for hit in hits]


def _first_of_each(values: Rows) -> Rows:
    """Places at which a value stands for the first time, in order."""
    _, first = np.unique(values, return_index=True)
    return np.sort(first)
