"""A domain's adaptation next to the frozen encoder, for one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from semsearch.search.engine import Outcome
from semsearch.types import Hit, Query

COMPARE_DEPTH = 100
"""Documents of each ranking in which a document of the other one is looked for."""


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
        """Ranks at which the two rankings show different documents."""
        return sum(one.hit.id != other.hit.id for one, other in zip(self.frozen, self.adapted, strict=False))

    @classmethod
    def of(cls, outcome: Outcome, k: int) -> Self:
        """The first k documents of both rankings of the outcome of a `compared` query."""
        frozen = outcome.frozen
        assert frozen is not None, "the query did not ask for the comparison"
        return cls(_compared(frozen, outcome.hits, k), _compared(outcome.hits, frozen, k))


def compared(query: Query) -> Query:
    """The same query, asking for what a `Comparison` needs."""
    return replace(query, k=max(query.k, COMPARE_DEPTH), offset=0, compare=True)


def _compared(hits: Sequence[Hit], others: Sequence[Hit], k: int) -> list[ComparedHit]:
    ranks = {hit.id: rank for rank, hit in enumerate(others, start=1)}
    return [ComparedHit(hit, ranks.get(hit.id)) for hit in hits[:k]]
