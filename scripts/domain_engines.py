"""What the scripts that measure on labelled domains share: engines over known vectors, and means over families."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.weights import Weights
from semsearch.domains.judgments import JudgedQuery
from semsearch.encoders.encoder import Encoder
from semsearch.evaluation.protocol import without
from semsearch.metalearn.episodes import Dataset, Vectorizer, default_cache
from semsearch.search.engine import SearchEngine
from semsearch.storage.corpus import Corpus, Segment
from semsearch.storage.documents import DocumentStore, DocumentWriter
from semsearch.storage.fulltext import FullText
from semsearch.storage.manifest import FIRST_SEGMENT, EncoderRecord, IndexRecord, Manifest, SearchOptions, SegmentRecord
from semsearch.storage.vectors import VectorIndex
from semsearch.types import Document, Passage, Vectors


class KnownQueries:
    """Stands for the encoder: knows the vectors of a domain's queries, and no others."""

    prompts: Mapping[str, str] = {"query": "", "document": ""}
    window = 1

    def __init__(self, domain: Dataset) -> None:
        self.name = domain.name
        self.dimension = domain.queries.shape[1]
        self.weights_sha256 = hashlib.sha256(domain.name.encode()).hexdigest()
        self._vectors = dict(zip(domain.texts.queries, domain.queries, strict=True))

    def encode_queries(self, texts: Sequence[str], **_: object) -> Vectors:
        """(n, dim) float32, unit rows."""
        return np.stack([self._vectors[text] for text in texts])


def vectorizer(data: Path) -> Vectorizer:
    """Reads the domains of a data folder, with the vectors of its `embeddings` where there are any."""
    return Vectorizer(Encoder.open, "all-MiniLM-L6-v2", default_cache(), data / "embeddings")


def domain_engine(domain: Dataset, folder: Path, search: SearchOptions | None = None) -> SearchEngine:
    """An index of the domain's documents, each one passage, with its row for an id; its file goes into `folder`."""
    path = folder / f"{domain.name}.sqlite"
    with DocumentWriter(path) as writer:
        for row, text in enumerate(domain.texts.documents):
            writer.add(Document(str(row), "", text, ""), "", [(Passage(text, 0, len(text)), 1)])
        writer.close()
    vectors = VectorIndex.exact(domain.documents.shape[1])
    vectors.add(domain.documents)
    encoder = cast("Encoder", KnownQueries(domain))
    count = len(domain.texts.documents)
    manifest = Manifest(
        built_by="",
        title=domain.name,
        encoder=EncoderRecord.of(encoder),
        segments=(SegmentRecord(name=FIRST_SEGMENT, documents=count, passages=count),),
        search=search or SearchOptions(),
    )
    return SearchEngine(
        encoder=encoder,
        adapter=Adapter(domain.basis, {}),
        corpus=Corpus([Segment(FIRST_SEGMENT, vectors, DocumentStore(path), FullText(path), IndexRecord())]),
        manifest=manifest,
    )


def judged(domain: Dataset, rows: Sequence[int]) -> list[JudgedQuery]:
    """The domain's queries in these rows with all their judgments; of queries of one text the first."""
    found = {
        domain.texts.queries[row]: {str(one): gain for one, gain in domain.texts.judgments[row].items()}
        for row in reversed(rows)
    }
    return [JudgedQuery(text, gains) for text, gains in found.items()]


def unseen(domain: Dataset, weights: Sequence[Weights]) -> Weights | None:
    """Weights that were not learned on the domain's family; None where there are none."""
    families = weights[0].metadata.get("families")
    if len(weights) == 1 and isinstance(families, list) and domain.family not in families:
        return weights[0]
    return without(domain.family, weights)


def over_families(values: Mapping[tuple[str, str], Sequence[float]]) -> tuple[float, dict[str, float]]:
    """The mean over families of the means over their domains, and each domain's own; by (family, domain)."""
    means = {name: float(np.mean(numbers)) for (_, name), numbers in values.items()}
    families: dict[str, list[float]] = {}
    for family, name in values:
        families.setdefault(family, []).append(means[name])
    return float(np.mean([np.mean(numbers) for numbers in families.values()])), means
