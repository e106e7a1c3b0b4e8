"""Votes: documents that answered labelled queries score higher for similar queries. Does not depend on an index.

A nearest-neighbour classifier over a domain's labelled queries (Nadaraya 1964; Watson 1964). With the cosines s of a
query to the n labelled ones, and k = exp((s − 1) / (TEMPERATURE · scale)), a document's vote is

    Σ k over the labelled queries that it answered / (Σ k + PRIOR)

in [0, 1). Where every labelled query has an answer of its own, votes mislead: `choose_vote_weight` measures that.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from semsearch.errors import StateError
from semsearch.types import Scores, Vectors

TEMPERATURE = np.float32(0.1)
"""Difference of cosine over which a labelled query's weight falls to 1/e, on the scale of all-MiniLM-L6-v2."""
PRIOR = np.float32(0.05)
"""Weight of having no similar labelled query."""
MAX_VOTERS = 128
"""Most labelled queries of a state that vote."""
MAX_ANSWER_BYTES = 6_000
"""Bytes of the documents' ids and of which labelled queries they answered in a file, compressed."""
MAX_UNPACKED_BYTES = 200_000
"""The same before compression, each."""
MIN_KEPT = 0.9
"""Share of the answers that must fit: documents without votes would fall behind others that are as good."""


def max_voters(dimension: int) -> int:
    """Return how many labelled queries vote with vectors of this dimension: more than 384 leave space for fewer."""
    return max(1, min(MAX_VOTERS, MAX_VOTERS * 384 // dimension))


@dataclass(frozen=True, eq=False)
class Votes:
    """The labelled queries of a domain with their answers, and what a vote counts."""

    codes: npt.NDArray[np.uint8]
    """(n, ⌈dim / 8⌉) the signs of each labelled query's vector, one bit each."""
    norms: Scores
    """(n,) float32 > 0, the sum of absolute numbers of each of these unit vectors."""
    doc_ids: tuple[str, ...]
    """The ids of m documents that answer labelled queries."""
    answers: npt.NDArray[np.uint8]
    """(m, ⌈n / 8⌉) whether each document answers each labelled query, one bit each."""
    weight: float
    """Cosine in (0, 10] that a vote of 1 adds to a document's score."""
    dimension: int
    scale: float = 1.0
    """Scale of the encoder's cosines in [0.001, 100]: the factor of `cosine_scale`."""

    def __post_init__(self) -> None:
        """Raise StateError for arrays that do not fit one another or numbers out of range."""
        count = len(self.norms)
        if count > MAX_VOTERS:
            raise StateError(f"{count} labelled queries have votes: at most {MAX_VOTERS} may")
        if self.codes.shape != (count, -(-self.dimension // 8)) or self.norms.shape != (count,):
            raise StateError(f"votes of {self.codes.shape} signs and {self.norms.shape} norms do not fit")
        if self.answers.shape != (len(self.doc_ids), -(-count // 8)):
            raise StateError(f"answers of shape {self.answers.shape} by {len(self.doc_ids)} documents do not fit")
        in_range = 0 < self.weight <= 10 and 1e-3 <= self.scale <= 100
        if not (np.isfinite(self.norms).all() and (self.norms > 0).all() and in_range):
            raise StateError("norms, weight and scale of votes must be finite, and the scale 0.001 or more")

    @classmethod
    def of(cls, queries: Vectors, answers: Sequence[Sequence[str]], weight: float, scale: float = 1.0) -> Self | None:
        """Make the votes of labelled queries. They do not depend on the order of the queries.

        queries: (n, dim) float32, unit rows, n ≥ 1. answers: the ids of the documents that answer each. weight, scale:
        as the attributes. Of more than max_voters queries an evenly spaced part votes. Documents that do not fit
        MAX_ANSWER_BYTES are left out, those with the fewest queries first; returns None if those make up more than
        1 − MIN_KEPT of the answers.
        """
        order = sorted(range(len(queries)), key=lambda index: (queries[index].tobytes(), sorted(answers[index])))
        queries, answers = queries[order], [answers[index] for index in order]
        voters = min(len(queries), max_voters(queries.shape[1]))
        chosen = np.unique(np.linspace(0, len(queries) - 1, voters).astype(int)).tolist()
        chosen_answers = [set(answers[index]) for index in chosen]
        queries_of = Counter(doc_id for doc_ids in chosen_answers for doc_id in sorted(doc_ids))
        by_frequency = [doc_id for doc_id, _ in queries_of.most_common()]
        has_answered = np.array([[doc_id in of_query for of_query in chosen_answers] for doc_id in by_frequency], bool)
        bits = np.packbits(has_answered.reshape(len(by_frequency), len(chosen)), axis=1)
        count = len(by_frequency)
        while not _fit(by_frequency[:count], bits[:count]):
            count = count * 9 // 10
        if has_answered[:count].sum() < MIN_KEPT * has_answered.sum():
            return None
        vectors = queries[chosen]
        return cls(
            codes=np.packbits(vectors > 0, axis=1),
            norms=np.abs(vectors).sum(axis=1, dtype=np.float32),
            doc_ids=tuple(by_frequency[:count]),
            answers=bits[:count],
            weight=weight,
            dimension=queries.shape[1],
            scale=scale,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and ids."""
        return self.codes.nbytes + self.norms.nbytes + self.answers.nbytes + sum(map(len, self.doc_ids))

    @cached_property
    def _voters(self) -> Vectors:
        """(n, dim) such that the product with a unit vector estimates its cosine to each labelled query."""
        return _estimators(np.unpackbits(self.codes, axis=1, count=self.dimension), self.norms)

    @cached_property
    def _has_answered(self) -> Scores:
        """(m, n) 1 where a document answers a labelled query, else 0."""
        return np.unpackbits(self.answers, axis=1, count=len(self.norms)).astype(np.float32)

    def shares(self, query: Vectors) -> Scores:
        """Return the vote for each of the documents, (len(doc_ids),) in [0, 1).

        query: (dim,) float32, the unit vector of a query before adaptation. Cosines are estimated from the signs, with
        a standard error of some 0.04 for distant and less for near queries at 384 dimensions (Gao & Long 2024,
        doi:10.1145/3654970).
        """
        weights = similarity_weights(self._voters @ query, self.scale)
        shares: Scores = self._has_answered @ weights / (weights.sum() + PRIOR)
        return shares

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the votes as arrays for a safetensors file."""
        return {
            "votes_codes": self.codes,
            "votes_norms": self.norms.astype(np.float16),
            "votes_answers": np.frombuffer(_pack_bits(self.answers), np.uint8),
            "votes_doc_ids": np.frombuffer(_pack_ids(self.doc_ids), np.uint8),
            "votes_weight": np.array([self.weight], np.float32),
            "votes_scale": np.array([self.scale], np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]], dimension: int) -> Votes | None:
        """Read `to_arrays`; None if there are no votes. Raises KeyError, ValueError or StateError if damaged."""
        if "votes_codes" not in arrays:
            return None
        norms = np.ascontiguousarray(arrays["votes_norms"], np.float32)
        doc_ids = json.loads(_unpack(arrays["votes_doc_ids"]))
        if not isinstance(doc_ids, list) or not all(isinstance(doc_id, str) for doc_id in doc_ids):
            raise StateError("the documents that votes are for are not a list of ids")
        for doc_id in doc_ids:
            doc_id.encode()
        bits = np.frombuffer(_unpack(arrays["votes_answers"]), np.uint8)
        return cls(
            codes=np.ascontiguousarray(arrays["votes_codes"], np.uint8),
            norms=norms,
            doc_ids=tuple(doc_ids),
            answers=bits.reshape(len(doc_ids), -(-len(norms) // 8)),
            weight=round(float(np.asarray(arrays["votes_weight"], np.float32)[0]), 4),
            dimension=dimension,
            scale=float(np.asarray(arrays["votes_scale"], np.float32)[0]) if "votes_scale" in arrays else 1.0,
        )


def similarity_weights(cosines: Scores, scale: float) -> Scores:
    """Return the weight of labelled queries with these cosines to a query, of any shape."""
    weights: Scores = np.exp((np.minimum(cosines, 1) - np.float32(1)) / (TEMPERATURE * np.float32(scale)))
    return weights


def held_out_votes(queries: Vectors, relevance: npt.NDArray[np.float32], scale: float) -> Scores:
    """Return the votes for each of m documents, (n, m), by all labelled queries but the query itself.

    Cosines are estimated as they are for served queries, which is coarse with few dimensions.

    queries: (n, dim) float32, unit rows. relevance: (n, m), above 0 for the answers of each. scale: of the cosines.
    """
    voters = _estimators(queries > 0, np.maximum(np.abs(queries).sum(axis=1), np.float32(1e-12)))
    weights = similarity_weights(queries @ voters.T, scale)
    np.fill_diagonal(weights, 0)
    votes: Scores = (weights @ (relevance > 0).astype(np.float32)) / (weights.sum(axis=1, keepdims=True) + PRIOR)
    return votes


def _estimators(is_positive: npt.NDArray[np.generic], norms: Scores) -> Vectors:
    """Return (n, dim) such that the product with a unit vector estimates its cosine to each of n unit vectors.

    is_positive: (n, dim) whether each of their numbers is. norms: (n,) the sums of their absolute numbers.
    """
    estimators: Vectors = (is_positive.astype(np.float32) * 2 - 1) / norms[:, None]
    return estimators


def _fit(doc_ids: Sequence[str], bits: npt.NDArray[np.uint8]) -> bool:
    # an id may take six bytes for a character in JSON
    bytes_of_ids = 6 * sum(map(len, doc_ids)) + 4 * len(doc_ids) + 2
    is_short = max(bytes_of_ids, bits.nbytes) <= MAX_UNPACKED_BYTES
    return is_short and len(_pack_ids(doc_ids)) + len(_pack_bits(bits)) <= MAX_ANSWER_BYTES


def _pack_ids(doc_ids: Sequence[str]) -> bytes:
    return zlib.compress(json.dumps(list(doc_ids), ensure_ascii=False).encode(), 9)


def _unpack(packed: npt.NDArray[np.generic]) -> bytes:
    """Decompress, at most MAX_UNPACKED_BYTES. Raises StateError if the bytes are damaged or more."""
    if packed.nbytes > MAX_ANSWER_BYTES:
        raise StateError(f"the votes' documents have {packed.nbytes} bytes: at most {MAX_ANSWER_BYTES} may")
    try:
        decompressor = zlib.decompressobj()
        content = decompressor.decompress(packed.tobytes(), MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise StateError(f"the documents that votes are for are damaged ({error})") from error
    if not decompressor.eof:
        raise StateError("the documents that votes are for are cut off, or too many")
    return content


def _pack_bits(bits: npt.NDArray[np.uint8]) -> bytes:
    # documents that answered the same queries have equal rows
    return zlib.compress(bits.tobytes(), 9)
