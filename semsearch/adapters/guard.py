"""Decides for one domain whether to adapt, and how strongly. Does not depend on files or serving."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.candidates import Candidate, candidate_state, cross_validate
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.prior import Numbers, Prior, posterior
from semsearch.adapters.state import DomainState
from semsearch.adapters.states import inheriting
from semsearch.adapters.support import Support

MIN_LABELS = 4
"""Labelled queries below which nothing can be judged."""
CAUTION = 0.3
"""Posterior standard deviations a candidate must clear."""
WEAK_BASELINE_CAUTION = 3.0
"""The same where the frozen encoder finds none of what is labelled: labels that are all wrong look like that."""
WEAK_BASELINE = 0.15
"""Frozen nDCG@10 below which caution rises."""
MARGIN = 0.001
"""nDCG@10 beyond that which a candidate must clear."""


class Reason(StrEnum):
    """Why a domain was adapted or not."""

    ADAPTED = "adapted"
    TOO_FEW = "too few labelled queries to judge"
    ONE_DOCUMENT = "one document is the answer to more than half of the labelled queries"
    NO_GAIN = "no learner would surely help"


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What the guard decided for a domain."""

    state: DomainState
    """What to serve with: learned, or the parent's, or the identity."""
    candidate: Candidate | None
    """What was chosen; None where nothing was."""
    reason: Reason
    labels: int
    """Labelled queries it was decided on."""
    before: float
    """nDCG@10 on them of the frozen encoder, or under the parent's state; over the support set's documents."""
    estimate: float
    """Expected change of nDCG@10 on queries to come, by the best candidate, whether it was taken or not."""
    low: float
    high: float
    """Bounds of its central 95% interval."""
    held_out: Tensor | None = None
    """(n, dim) where the chosen candidate moves each of the support set's queries if it is learned without it."""

    @property
    def adapted(self) -> bool:
        """Whether the labels changed anything."""
        return self.candidate is not None

    def as_json(self) -> dict[str, JsonValue]:
        """The verdict without its state, for files and programs."""
        return {
            "adapted": self.adapted,
            "reason": self.reason.value,
            "candidate": None if self.candidate is None else dict[str, JsonValue](asdict(self.candidate)),
            "labels": self.labels,
            "before": None if math.isnan(self.before) else round(self.before, 4),
            "estimate": round(self.estimate, 4),
            "interval": [round(bound, 4) if math.isfinite(bound) else None for bound in (self.low, self.high)],
        }

    def explanation(self) -> str:
        """The verdict as a sentence for people."""
        if self.reason is Reason.TOO_FEW:
            return f"Not adapted: {self.labels} labelled of the {MIN_LABELS} queries that it takes to judge."
        if self.reason is Reason.ONE_DOCUMENT:
            return f"Not adapted: {self.reason.value}."
        expected = (
            f"{self.estimate:+.3f} nDCG@10 ({self.low:+.3f} to {self.high:+.3f}) from {self.labels} labelled queries"
        )
        if self.adapted:
            return f"Adapted: expected {expected}."
        return f"Not adapted: {self.reason.value}; the best would give {expected}."


def decide(
    candidates: Sequence[Candidate],
    starts: Mapping[str, MetaParameters],
    prior: Prior,
    basis: SpectralBasis,
    support: Support,
    *,
    parent: DomainState | None = None,
) -> Verdict:
    """Adapt a domain to its labels, or not.

    parent: the state the inner loop starts from, and what to serve with where the labels do not decide; by default
    the identity.
    """
    fallback = parent if parent is not None else DomainState.identity(support.queries.shape[1])
    n = len(support)
    refused = _refusal(support)
    if refused is not None:
        return Verdict(fallback, None, refused, n, float("nan"), 0.0, float("-inf"), float("inf"))
    if parent is not None:
        starts = {name: inheriting(start, parent) for name, start in starts.items()}
    considered = [place for place, candidate in enumerate(candidates) if candidate.applies_to(n)]
    candidates = [candidates[place] for place in considered]
    with torch.no_grad():
        before, gains, moved = cross_validate(candidates, starts, basis, support)
        mean, deviation = posterior(prior.among(considered), before, gains)
        careful = caution(before.double().numpy())
        best = int(np.argmax(mean - careful * deviation))
        estimate, spread = float(mean[best]), 1.96 * float(deviation[best])
        taken = estimate - careful * float(deviation[best]) > MARGIN
        state = candidate_state(candidates[best], starts, basis, support).to_domain_state() if taken else fallback
    return Verdict(
        state,
        candidates[best] if taken else None,
        Reason.ADAPTED if taken else Reason.NO_GAIN,
        n,
        float(before.mean()),
        estimate,
        estimate - spread,
        estimate + spread,
        moved[best] if taken else None,
    )


def _refusal(support: Support) -> Reason | None:
    """Why these labels need not be tried at all."""
    if len(support) < MIN_LABELS:
        return Reason.TOO_FEW
    relevant = support.relevance > 0
    if int(relevant.sum(dim=0).max()) > len(support) / 2 and float(relevant.sum(dim=1).float().mean()) < 2:
        return Reason.ONE_DOCUMENT
    return None


def caution(before: Numbers) -> float:
    """How many posterior standard deviations a candidate must clear on these labels."""
    return CAUTION + (WEAK_BASELINE_CAUTION - CAUTION) * max(0.0, 1 - float(before.mean()) / WEAK_BASELINE)
