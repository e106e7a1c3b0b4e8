"""A labelled data set as an index of the served parts, so that evaluation measures the search that is served.

Query and document vectors are those of the data set: nothing is encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self, cast

import numpy as np

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.state import DomainState
from semsearch.adapters.weights import Weights
from semsearch.domains.adapting import Adaptation, adapt
from semsearch.domains.judgments import JudgedQuery
from semsearch.encoders.encoder import Encoder
from semsearch.metalearn.episodes import Dataset
from semsearch.search.encoder_fit import measure_encoder_fit
from semsearch.search.engine import SearchEngine
from semsearch.storage.corpus import Corpus, Segment
from semsearch.storage.documents import DocumentStore, DocumentWriter
from semsearch.storage.fulltext import FullText
from semsearch.storage.generations import SegmentFiles
from semsearch.storage.manifest import FIRST_SEGMENT, EncoderRecord, IndexRecord, Manifest, SearchOptions, SegmentRecord
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Document, Mode, Passage, Query, Rows, Vectors

DEPTH = 100
"""Documents that a search is asked for: those that recall@100 counts."""
BATCH = 256
"""Queries searched at once; their hits are in memory together."""
DOMAIN = "measured"
"""The name of the domain that is adapted."""


class KnownQueries:
    """Stands in for the encoder: returns the vectors of a data set's own queries, and of no others."""

    prompts: Mapping[str, str] = {"query": "", "document": ""}
    configuration_sha256 = None
    window = 1

    def __init__(self, dataset: Dataset) -> None:
        self.name = dataset.name
        self.dimension = dataset.queries.shape[1]
        self.weights_sha256 = hashlib.sha256(dataset.name.encode()).hexdigest()
        self._vectors = dict(zip(dataset.texts.queries, dataset.queries, strict=True))

    def encode_queries(self, texts: Sequence[str], **_: object) -> Vectors:
        """(n, dim) float32, unit rows."""
        return np.stack([self._vectors[text] for text in texts])


def dataset_engine(dataset: Dataset, folder: Path, search: SearchOptions | None = None) -> SearchEngine:
    """An engine over a data set's documents, searched exactly.

    Each document is one passage. Texts and full text are written to a new folder in `folder`, which must
    stay until the engine is no longer used. search: by default that of an index whose recipe says nothing.
    """
    files = SegmentFiles(folder / dataset.name)
    files.folder.mkdir()
    with DocumentWriter(files.documents, files.fulltext) as writer:
        for row, text in enumerate(dataset.texts.documents):
            writer.add(Document(_doc_id(row), "", text, ""), "", [(Passage(text, 0, len(text)), 1)])
        writer.close()
    vectors = VectorIndex.exact(dataset.documents.shape[1])
    vectors.add(dataset.documents)
    encoder = cast("Encoder", KnownQueries(dataset))
    count = len(dataset.texts.documents)
    manifest = Manifest(
        built_by="",
        title=dataset.name,
        encoder=EncoderRecord.of(encoder),
        segments=(SegmentRecord(name=FIRST_SEGMENT, documents=count, passages=count),),
        search=search or SearchOptions(),
        encoder_fit=measure_encoder_fit(dataset.documents, lambda rows: [dataset.texts.documents[row] for row in rows]),
    )
    documents, fulltext = DocumentStore(files.documents), FullText(files.fulltext)
    segment = Segment(FIRST_SEGMENT, vectors, documents, fulltext, IndexRecord())
    return SearchEngine(
        encoder=encoder,
        adapter=Adapter(dataset.basis, {}),
        corpus=Corpus([segment]),
        manifest=manifest,
    )


def judged_queries(dataset: Dataset, rows: Sequence[int]) -> list[JudgedQuery]:
    """The queries in these rows with all their judgments; of queries with the same text only the first."""
    relevance = {
        dataset.texts.queries[row]: {
            _doc_id(document): value for document, value in dataset.texts.judgments[row].items()
        }
        for row in reversed(rows)
    }
    return [JudgedQuery(text, by_document) for text, by_document in relevance.items()]


def _doc_id(row: int) -> str:
    """The id of the document in a row; no query is an id, which would rank its document first."""
    return f"row:{row}"


@dataclass(frozen=True, slots=True, eq=False)
class DatasetIndex:
    """A data set, the engine that serves it, and the same engine with reciprocal rank fusion."""

    dataset: Dataset
    engine: SearchEngine
    rank_fusion: SearchEngine

    @classmethod
    @contextmanager
    def build(cls, dataset: Dataset) -> Iterator[Self]:
        """Index a data set in a temporary folder, which is removed at the end of the context."""
        with TemporaryDirectory() as folder:
            engine = dataset_engine(dataset, Path(folder))
            by_ranks = engine.manifest.search.model_copy(update={"lexical_weight": "rrf"})
            rank_fusion = SearchEngine(
                encoder=engine.encoder,
                adapter=engine.adapter,
                corpus=engine.corpus,
                manifest=engine.manifest.model_copy(update={"search": by_ranks}),
            )
            try:
                yield cls(dataset, engine, rank_fusion)
            finally:
                for segment in engine.corpus.segments:
                    segment.close()

    def search_keywords(self, queries: Rows) -> list[Rows]:
        """The ranking of each of these queries by keyword search: document rows, best first, at most DEPTH."""
        return self._rankings(self.engine, queries, Mode.KEYWORD)

    def search_rank_fusion(self, queries: Rows) -> list[Rows]:
        """The same by hybrid search with reciprocal rank fusion."""
        return self._rankings(self.rank_fusion, queries, Mode.HYBRID)

    def search_hybrid(self, queries: Rows, state: DomainState | None = None) -> list[Rows]:
        """The same by hybrid search as an index serves it by default, for a domain of this state."""
        self.engine.adapter = self.engine.adapter.updated({DOMAIN: DomainAdapter(state)})
        return self._rankings(self.engine, queries, Mode.HYBRID)

    def adapt(self, weights: Weights, labelled: Rows) -> Adaptation:
        """What a domain with these labelled queries is served with."""
        judged = judged_queries(self.dataset, labelled.tolist())
        return adapt(self.engine, weights.adapt, judged, encode=self.engine.encode_label)

    def _rankings(self, engine: SearchEngine, queries: Rows, mode: Mode) -> list[Rows]:
        texts = [self.dataset.texts.queries[row] for row in queries]
        # the engine refuses a blank query: it finds nothing
        rankings: list[Rows] = [np.empty(0, np.int64)] * len(texts)
        searched = [index for index, text in enumerate(texts) if text.strip()]
        for start in range(0, len(searched), BATCH):
            batch = searched[start : start + BATCH]
            requests = [Query(texts[index], DEPTH, domain=DOMAIN, mode=mode) for index in batch]
            for index, outcome in zip(batch, engine.search(requests), strict=True):
                # every document is one passage, so that passage rows are document rows
                rankings[index] = outcome.page.passages
        return rankings
