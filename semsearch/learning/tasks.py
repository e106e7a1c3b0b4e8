"""Labelled domains on disk, their vectors, and the episodes the outer loop draws from them.

A domain is a folder in BEIR's layout (Thakur et al. 2021, arXiv:2104.08663): corpus.jsonl, queries.jsonl, qrels.tsv.
Without qrels.tsv the corpus labels itself: titles, or first sentences, are queries for the rest of their documents.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from semsearch.adapter import SpectralBasis
from semsearch.encoder import Encoder
from semsearch.learning.support import Judgments, Support, gather
from semsearch.records import LabelError, Vectors

SELF_LABELLED_WEIGHT = 0.25
"""How often an unlabelled corpus is drawn, against a labelled domain of the same family."""


@dataclass(frozen=True)
class Texts:
    """A domain as it stands on disk."""

    name: str
    family: str
    """Domains of one family resemble each other: what is measured on one must not be learned on another."""
    open_licence: bool
    """Whether weights that are given away may be trained on it; False where nothing says so."""
    documents: Sequence[str]
    queries: Sequence[str]
    """Judged queries only."""
    judgments: Sequence[Judgments]
    """One a query."""
    labelled: bool
    """False where the corpus labelled itself."""


@dataclass(frozen=True)
class Domain:
    """A labelled domain in vectors."""

    texts: Texts
    documents: Vectors = field(repr=False)
    """(N, dim) float32, unit rows."""
    queries: Vectors = field(repr=False)
    """(n, dim) float32, unit rows."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.texts.name

    @property
    def family(self) -> str:
        """What it must not be split from."""
        return self.texts.family

    @cached_property
    def basis(self) -> SpectralBasis:
        """The axes of its corpus."""
        return SpectralBasis.of(self.documents)

    def support(self, rows: npt.NDArray[np.intp], *, most: int) -> Support:
        """The support set of some of its queries."""
        return gather(self.documents, self.queries[rows], [self.texts.judgments[row] for row in rows], most=most)

    def halves(self, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows of its queries in two halves, drawn anew for each seed: to adapt on, and to measure on."""
        turn = np.random.default_rng([seed, 1]).permutation(len(self.queries))
        return turn[: len(turn) // 2], turn[len(turn) // 2 :]


def find_domains(paths: Sequence[Path]) -> list[Path]:
    """Folders that hold a corpus.jsonl: those named, and those inside them. Raises LabelError where there is none, or
    where two have one name."""
    found: list[Path] = []
    for path in paths:
        if (path / "corpus.jsonl").is_file():
            found.append(path)
            continue
        inside = sorted(child.parent for child in path.glob("*/corpus.jsonl"))
        if not inside:
            raise LabelError(f"{path} is no domain and holds none: a domain is a folder with corpus.jsonl")
        found += inside
    found = list(dict.fromkeys(path.resolve() for path in found))
    names = [path.name for path in found]
    for name in names:
        if names.count(name) > 1:
            raise LabelError(f"two domains are called {name!r}: rename one's folder")
    return found


def read_texts(folder: Path) -> Texts:
    """A domain's folder. Raises LabelError, naming file and line, for one that cannot be read or has no judgments."""
    documents = _records(folder / "corpus.jsonl")
    rows = {identity: row for row, identity in enumerate(documents)}
    about = _about(folder)
    family, open_licence = str(about.get("family", folder.name)), about.get("open_licence") is True
    if not (folder / "qrels.tsv").exists():
        queries, bodies = _self_labels(documents.values())
        if len(queries) < 2:
            raise LabelError(f"{folder} has no qrels.tsv, and fewer than 2 documents have a title or two sentences")
        judgments = [{row: 1.0} for row in range(len(queries))]
        return Texts(folder.name, family, open_licence, bodies, queries, judgments, labelled=False)
    asked = _records(folder / "queries.jsonl")
    judged = _qrels(folder / "qrels.tsv", set(asked), rows)
    if len(judged) < 2:
        raise LabelError(f"{folder / 'qrels.tsv'} judges {len(judged)} queries: at least 2 are needed")
    chosen = [identity for identity in asked if identity in judged]
    return Texts(
        folder.name,
        family,
        open_licence,
        [_whole(record) for record in documents.values()],
        [asked[identity]["text"] for identity in chosen],
        [{rows[document]: gain for document, gain in judged[identity].items()} for identity in chosen],
        labelled=True,
    )


def read_labels(folder: Path) -> list[tuple[str, dict[str, float]]]:
    """Judged queries by text, with their documents' ids and gains, from queries.jsonl and qrels.tsv. Raises LabelError
    as `read_texts` does; whether the documents exist is not known here."""
    asked = _records(folder / "queries.jsonl")
    judged = _qrels(folder / "qrels.tsv", set(asked), None)
    return [(asked[identity]["text"], gains) for identity, gains in judged.items()]


def _records(path: Path) -> dict[str, dict[str, str]]:
    records: dict[str, dict[str, str]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = json.loads(line)
                    identity, text, title = str(record["_id"]), record["text"], record.get("title") or ""
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise LabelError(f"{path}:{number}: not a record with _id and text ({error})") from error
                if not isinstance(text, str) or not isinstance(title, str):
                    raise LabelError(f"{path}:{number}: title and text must be strings")
                if identity in records:
                    raise LabelError(f"{path}:{number}: the id {identity!r} stands there twice")
                records[identity] = {"title": title, "text": text}
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            f"{path} cannot be read ({error}): give a folder with corpus.jsonl and queries.jsonl"
        ) from error
    return records


def _qrels(path: Path, queries: set[str], documents: Mapping[str, int] | None) -> dict[str, dict[str, float]]:
    """Query id → document id → gain, gains above 0 only; documents: those that exist, where that is known."""
    judged: dict[str, dict[str, float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for number, columns in enumerate(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
                if number == 1 and columns[:1] == ["query-id"]:
                    continue
                try:
                    query, document, score = columns
                    gain = float(score)
                except ValueError as error:
                    raise LabelError(f"{path}:{number}: not query-id, corpus-id and score ({error})") from error
                if not math.isfinite(gain):
                    raise LabelError(f"{path}:{number}: the score is {score}, not a finite number")
                if query not in queries or (documents is not None and document not in documents):
                    missing = query if query not in queries else document
                    raise LabelError(f"{path}:{number}: nothing has the id {missing!r}")
                if gain > 0:
                    judged.setdefault(query, {})[document] = gain
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path} cannot be read ({error}): give query-id, corpus-id and score, by tab") from error
    return judged


def _about(folder: Path) -> dict[str, object]:
    """Family and licence: from domains.json beside or above the folder, else from its own meta.json."""
    for path in (folder.parent / "domains.json", folder.parent.parent / "domains.json"):
        if path.exists():
            for row in json.loads(path.read_text(encoding="utf-8")):
                if row.get("name") == folder.name:
                    return dict(row)
    own = folder / "meta.json"
    return dict(json.loads(own.read_text(encoding="utf-8"))) if own.exists() else {}


def _whole(record: Mapping[str, str]) -> str:
    return f"{record['title']} {record['text']}".strip()


_SENTENCE = re.compile(r"(?<=[.!?。!?؟])\s+|\n+")


def _self_labels(records: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """(queries, documents): each title asks for its text, or each first sentence for what follows it."""
    queries, documents = [], []
    for record in records:
        title, text = record["title"].strip(), record["text"].strip()
        if not title:
            title, _, text = (part or "" for part in _split(text))
        if title and text:
            queries.append(title)
            documents.append(text)
    return queries, documents


def _split(text: str) -> tuple[str, str, str]:
    parts = _SENTENCE.split(text, maxsplit=1)
    return (parts[0], " ", parts[1]) if len(parts) == 2 else ("", "", text)


# --- vectors ----------------------------------------------------------------------------------------------------


def default_cache() -> Path:
    """Where vectors are kept between runs: $XDG_CACHE_HOME/semsearch, or ~/.cache/semsearch."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semsearch" / "vectors"


@dataclass(frozen=True)
class Vectorizer:
    """Texts to vectors, by way of a folder that remembers them by content."""

    encoder: Callable[[], Encoder]
    """Opens the encoder, or gives the one that is open; called only where a vector is missing."""
    fingerprint: str
    """What else the vectors depend on: the encoder's name."""
    cache: Path
    known: Path | None = None
    """A folder of NAME.npz with `documents` and `queries` in the order of the files, computed by the same encoder."""

    def domain(self, folder: Path) -> Domain:
        """A domain with its vectors. Raises LabelError for a folder that is no domain."""
        texts = read_texts(folder)
        given = self.known / f"{texts.name}.npz" if self.known and texts.labelled else None
        if given is not None and given.exists():
            return self._given(texts, folder, given)
        return Domain(texts, self._vectors(texts.documents, "document"), self._vectors(texts.queries, "query"))

    def _given(self, texts: Texts, folder: Path, path: Path) -> Domain:
        with np.load(path, allow_pickle=False) as parts:
            documents, queries = parts["documents"].astype(np.float32), parts["queries"].astype(np.float32)
        asked = list(_records(folder / "queries.jsonl"))
        if len(documents) != len(texts.documents) or len(queries) != len(asked):
            raise LabelError(
                f"{path} holds {len(documents)} documents and {len(queries)} queries, {folder} has"
                f" {len(texts.documents)} and {len(asked)}: leave --embeddings out"
            )
        judged = _qrels(folder / "qrels.tsv", set(asked), None)
        chosen = [row for row, identity in enumerate(asked) if identity in judged]
        return Domain(texts, _unit(documents), _unit(queries[chosen]))

    def _vectors(self, texts: Sequence[str], kind: str) -> Vectors:
        digest = hashlib.sha256(json.dumps([self.fingerprint, kind, list(texts)]).encode()).hexdigest()
        path = self.cache / f"{digest[:32]}.safetensors"
        try:
            return _unit(load_file(path)["vectors"].astype(np.float32))
        except (OSError, SafetensorError, KeyError):
            pass
        encoder = self.encoder()
        encode = encoder.encode_queries if kind == "query" else encoder.encode_documents
        # a text without a word still has a vector: the model's own for nothing
        vectors = encode([text or " " for text in texts])
        self.cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        save_file({"vectors": vectors.astype(np.float16)}, unfinished)
        unfinished.replace(path)
        return _unit(vectors.astype(np.float16).astype(np.float32))


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


# --- episodes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """One rehearsal: adapt on the support set, be judged on the held-out queries."""

    domain: Domain
    support: Support
    held_out: Support


def draw(
    domains: Sequence[Domain],
    rng: np.random.Generator,
    *,
    sizes: tuple[int, int] = (1, 128),
    held_out: int = 48,
    most: int = 1024,
) -> Episode:
    """An episode: first a family, then a domain of it, then how many labelled queries, log-uniform in `sizes`.

    Support and held-out queries share their documents and no query.
    """
    families = sorted({domain.family for domain in domains})
    family = families[rng.integers(len(families))]
    among = [domain for domain in domains if domain.family == family]
    weights = np.array([1.0 if domain.texts.labelled else SELF_LABELLED_WEIGHT for domain in among])
    domain = among[rng.choice(len(among), p=weights / weights.sum())]
    low, high = sizes
    size = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    total = len(domain.queries)
    size = min(size, max(1, total // 2))
    chosen = rng.permutation(total)[: size + min(held_out, total - size)]
    whole = domain.support(chosen, most=most)
    # `gather` sorted the queries: draw again which of them are adapted on
    turn = np.random.default_rng(rng.integers(2**32)).permutation(len(chosen))
    return Episode(domain, whole.of(torch.from_numpy(turn[:size])), whole.of(torch.from_numpy(turn[size:])))
