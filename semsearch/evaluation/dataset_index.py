"""A labelled data set as an index of the served parts, so that evaluation measures the search that is served.

Query and document vectors are those of the data set: nothing is encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self, cast

import numpy as np

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.state import DomainState
from semsearch.adapters.weights import Weights
from semsearch.domains.adapting import Adaptation, adapt
from semsearch.domains.judgments import JudgedQuery
from semsearch.encoders.encoder import EncodedQuery, Encoder
from semsearch.encoders.token_vectors import QueryTokens
from semsearch.evaluation.token_cache import TokensOnDemand, TokenSource
from semsearch.metalearn.episodes import Dataset
from semsearch.search.encoder_fit import measure_encoder_fit
from semsearch.search.engine import SearchEngine
from semsearch.storage.corpus import Corpus, Segment
from semsearch.storage.documents import DocumentStore, DocumentWriter
from semsearch.storage.fulltext import FullText
from semsearch.storage.generations import SegmentFiles
from semsearch.storage.manifest import FIRST_SEGMENT, EncoderRecord, IndexRecord, Manifest, SearchOptions, SegmentRecord
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Document, Mode, Passage, Query, Rows

DEPTH = 100
"""Documents that a search is asked for: those that recall@100 counts."""
BATCH = 256
"""Queries searched at once; their hits are in memory together."""
DOMAIN = "measured"
"""The name of the domain that is adapted."""


SEARCHES: Mapping[str, SearchOptions] = {
    "semantic": SearchOptions(mode=Mode.SEMANTIC),
    "hybrid": SearchOptions(),
    "bm25": SearchOptions(mode=Mode.KEYWORD),
    "fused": SearchOptions(lexical_weight="rrf"),
}
"""Served searches by the names of the methods: all other options are those of an index whose recipe says nothing."""


class KnownQueries:
    """Stands in for the encoder: returns the vectors of a data set's own queries, and of no others."""

    prompts: Mapping[str, str] = {"query": "", "document": ""}
    configuration_sha256 = None
    window = 1

    def __init__(self, dataset: Dataset, tokens: TokensOnDemand | None) -> None:
        self._tokens = tokens
        self.has_token_vectors = tokens is not None
        self.name = dataset.name
        self.dimension = dataset.queries.shape[1]
        self.weights_sha256 = hashlib.sha256(dataset.name.encode()).hexdigest()
        by_text = dict(zip(dataset.texts.queries, dataset.queries, strict=True))
        # labels and clicks have no blanks around the query
        self._vectors = {text.strip(): vector for text, vector in by_text.items()} | by_text

    def encode_for_search(self, texts: Sequence[str], *, with_tokens: bool) -> list[EncodedQuery]:
        """As `Encoder.encode_for_search`."""
        tokens: Sequence[QueryTokens | None] = [None] * len(texts)
        if with_tokens and self._tokens is not None:
            tokens = self._tokens.of_queries(texts)
        return [EncodedQuery(self._vectors[text], of_query) for text, of_query in zip(texts, tokens, strict=True)]


def dataset_engine(
    dataset: Dataset, folder: Path, search: SearchOptions | None = None, tokens: TokensOnDemand | None = None
) -> SearchEngine:
    """An engine over a data set's documents, searched exactly.

    Each document is one passage. Texts and full text are written to a new folder in `folder`, which must
    stay until the engine is no longer used. search: by default that of an index whose recipe says nothing. tokens: by
    default hybrid search is without late interaction.
    """
    files = SegmentFiles(folder / dataset.name)
    files.folder.mkdir()
    with DocumentWriter(files.documents, files.fulltext) as writer:
        for row, text in enumerate(dataset.texts.documents):
            writer.add(Document(document_id(row), "", text, ""), "", [(Passage(text, 0, len(text)), 1)])
        writer.close()
    vectors = VectorIndex.exact(dataset.documents.shape[1])
    vectors.add(dataset.documents)
    encoder = cast("Encoder", KnownQueries(dataset, tokens))
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
    segment = Segment(FIRST_SEGMENT, vectors, documents, fulltext, IndexRecord(), tokens=tokens)
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
            document_id(document): value for document, value in dataset.texts.judgments[row].items()
        }
        for row in reversed(rows)
    }
    return [JudgedQuery(text, by_document) for text, by_document in relevance.items()]


def document_id(row: int) -> str:
    """The id of the document in a row; no query is such an id, which would rank its document first."""
    return f"row:{row}"


@dataclass(frozen=True, slots=True, eq=False)
class DatasetIndex:
    """A data set and the engines that serve it, which share all parts but their search options."""

    dataset: Dataset
    engines: Mapping[str, SearchEngine]
    """By the name in SEARCHES."""
    folder: Path
    """Temporary: where states are saved."""

    @classmethod
    @contextmanager
    def build(cls, dataset: Dataset, tokens: TokenSource | None = None) -> Iterator[Self]:
        """Index a data set in a temporary folder, which is removed at the end of the context.

        tokens: by default hybrid search is without late interaction.
        """
        with TemporaryDirectory() as folder, tokens.of(dataset) if tokens else nullcontext() as on_demand:
            engine = dataset_engine(dataset, Path(folder), tokens=on_demand)
            engines = {
                name: SearchEngine(
                    encoder=engine.encoder,
                    adapter=engine.adapter,
                    corpus=engine.corpus,
                    manifest=engine.manifest.model_copy(update={"search": options}),
                )
                for name, options in SEARCHES.items()
            }
            try:
                yield cls(dataset, engines, Path(folder))
            finally:
                for segment in engine.corpus.segments:
                    segment.close()

    def search(self, name: str, queries: Rows, state: DomainState | None = None, *, k: int = DEPTH) -> list[Rows]:
        """The ranking of each of these queries: document rows, best first, at most k.

        name: one of SEARCHES. queries: rows. state: that of the domain that they belong to.
        """
        engine = self.engines[name]
        engine.adapter = engine.adapter.updated({DOMAIN: DomainAdapter(state)})
        texts = [self.dataset.texts.queries[row] for row in queries]
        # the engine refuses a blank query: it finds nothing
        rankings: list[Rows] = [np.empty(0, np.int64)] * len(texts)
        searched = [index for index, text in enumerate(texts) if text.strip()]
        for start in range(0, len(searched), BATCH):
            batch = searched[start : start + BATCH]
            requests = [Query(texts[index], k, domain=DOMAIN) for index in batch]
            for index, outcome in zip(batch, engine.search(requests), strict=True):
                # every document is one passage, so that passage rows are document rows
                rankings[index] = outcome.page.passages
        return rankings

    def adapt(self, name: str, weights: Weights, judged: Sequence[JudgedQuery]) -> Adaptation:
        """What a domain with these judged queries is served with, in a search of SEARCHES; its state is read from disk.

        judged: with the ids of `document_id`.
        """
        engine = self.engines[name]
        adaptation = adapt(engine, weights.adapt, judged, encode=engine.encode_label)
        if adaptation.state is None:
            return adaptation
        path = self.folder / "state"
        adaptation.state.save(path, {})
        state, _ = DomainState.open(path)
        return replace(adaptation, state=state)
