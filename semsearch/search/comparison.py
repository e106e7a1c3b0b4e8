"""Comparison of the rankings of a query without and with its domain's adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from semsearch.search.engine import Outcome
from semsearch.types import Hit, Query

COMPARE_DEPTH = 100
"""Number of documents of each ranking among which the documents of the other one are looked up."""


@dataclass(frozen=True, slots=True)
class ComparedHit:
    """A document of one ranking."""

    hit: Hit
    other_rank: int | None
    """Its rank in the other ranking, from 1; None beyond the first COMPARE_DEPTH."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first documents of a query, without and with the domain's adaptation."""

    frozen: Sequence[ComparedHit]
    adapted: Sequence[ComparedHit]

    @property
    def moved(self) -> int:
        """Number of ranks at which the two rankings have different documents."""
        return sum(before.hit.id != after.hit.id for before, after in zip(self.frozen, self.adapted, strict=False))

    @classmethod
    def of(cls, outcome: Outcome, k: int) -> Self:
        """Return the first k documents of both rankings. outcome: of a query that `compared` returned."""
        frozen = outcome.frozen
        assert frozen is not None, "the query did not ask for the comparison"
        return cls(_compared(frozen, outcome.hits, k), _compared(outcome.hits, frozen, k))


def compared(query: Query) -> Query:
    """Return the query with the settings that `Comparison.of` needs: both rankings, COMPARE_DEPTH deep."""
    return replace(query, k=max(query.k, COMPARE_DEPTH), offset=0, compare=True)


def _compared(hits: Sequence[Hit], others: Sequence[Hit], k: int) -> list[ComparedHit]:
    ranks = {hit.id: rank for rank, hit in enumerate(others, start=1)}
    return [ComparedHit(hit, ranks.get(hit.id)) for hit in hits[:k]]
