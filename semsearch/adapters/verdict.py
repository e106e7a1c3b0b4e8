"""The guard's decision for a domain, and its reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import JsonValue

from semsearch.adapters.candidates import Candidate
from semsearch.adapters.state import DomainState

# the server's pages explain decisions without torch
if TYPE_CHECKING:
    from torch import Tensor

MIN_LABELS = 4
"""Fewest labelled queries to decide on."""


class Reason(StrEnum):
    """The reason why a domain was adapted or not."""

    ADAPTED = "adapted"
    TOO_FEW = "too few labelled queries to judge"
    ONE_DOCUMENT = "one document is the answer to more than half of the labelled queries"
    NO_IMPROVEMENT = "no learner would surely help"


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The guard's decision for a domain."""

    state: DomainState
    """The state to serve: the learned one, else the parent's, else the identity."""
    candidate: Candidate | None
    """The candidate that was chosen, if any."""
    reason: Reason
    labels: int
    """Labelled queries."""
    before: float
    """Their mean nDCG@10 over the support set's documents, with the frozen encoder or the parent's state. NaN if the
    labels were refused."""
    estimate: float
    """Expected improvement of nDCG@10 on new queries by the best candidate, whether it was chosen or not."""
    low: float
    high: float
    """Bounds of the central 95% interval of the improvement."""
    held_out: Tensor | None = None
    """(n, dim) the queries of the support set as the chosen candidate transforms them in cross-validation."""

    @property
    def adapted(self) -> bool:
        """Whether a candidate was chosen."""
        return self.candidate is not None

    def as_json(self) -> dict[str, JsonValue]:
        """Return the verdict without its state."""
        return {
            "adapted": self.adapted,
            "reason": self.reason.value,
            "candidate": None if self.candidate is None else self.candidate.as_json(),
            "labels": self.labels,
            "before": None if math.isnan(self.before) else round(self.before, 4),
            "estimate": round(self.estimate, 4),
            "interval": [round(bound, 4) if math.isfinite(bound) else None for bound in (self.low, self.high)],
        }

    def explanation(self) -> str:
        """Return the verdict as a sentence for users."""
        if self.reason is Reason.TOO_FEW:
            return f"Not adapted: {self.labels} labelled queries, and at least {MIN_LABELS} are needed."
        if self.reason is Reason.ONE_DOCUMENT:
            return f"Not adapted: {self.reason.value}."
        expected = (
            f"{self.estimate:+.3f} nDCG@10 ({self.low:+.3f} to {self.high:+.3f}) from {self.labels} labelled queries"
        )
        if self.adapted:
            return f"Adapted: expected {expected}."
        return f"Not adapted: {self.reason.value}; the best one is expected to bring {expected}."
