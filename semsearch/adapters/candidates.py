"""What the guard chooses from: a learner turned up or down, and what each adds where its labels were left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.learners import LEARNERS
from semsearch.adapters.losses import support_ndcg
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.states import State, axes_of, inherited, transform
from semsearch.adapters.support import Support

FOLDS = 5
FIT_ON = 768
"""Documents that candidates are cross-validated with; they are judged on all of the support set's."""


UNBOUNDED = 1_000_000
"""More labelled queries than any domain has."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A learner with its contraction and its rate turned up or down."""

    member: str
    shrinkage: float = 1.0
    """Factor on the learned strength of the contraction."""
    rate: float = 1.0
    """Factor on the learned rate."""
    min_labels: int = 1
    """Labelled queries below which it is not considered: bold candidates need evidence that few labels cannot give."""
    max_labels: int = UNBOUNDED
    """Labelled queries above which it is not considered: timid candidates are for few."""

    @property
    def name(self) -> str:
        """What a recipe calls it, as `listwise-c3-r1`."""
        return f"{self.member}-c{self.shrinkage:g}-r{self.rate:g}"

    def applies_to(self, labels: int) -> bool:
        """Whether it is a candidate for so many labelled queries."""
        return self.min_labels <= labels <= self.max_labels


CANDIDATES: Sequence[Candidate] = (
    Candidate("listwise", shrinkage=0.0, rate=0.4, max_labels=47),
    Candidate("listwise", shrinkage=0.0, rate=1.0, min_labels=9),
    Candidate("listwise", shrinkage=1.0, rate=1.0, min_labels=9),
    Candidate("listwise", shrinkage=3.0, rate=1.0, min_labels=24),
    Candidate("listwise", shrinkage=10.0, rate=1.0, min_labels=24),
    Candidate("listwise", shrinkage=30.0, rate=1.0, min_labels=48),
    Candidate("listwise", shrinkage=1.0, rate=3.0, min_labels=48),
)


def candidate_state(
    candidate: Candidate, starts: Mapping[str, MetaParameters], basis: SpectralBasis, support: Support
) -> State:
    """What a candidate makes of the support set."""
    start = dict(starts[candidate.member])
    for name, factor in (("log_contraction", candidate.shrinkage), ("log_rate", candidate.rate)):
        if name in start:
            start[name] = start[name] + torch.tensor(max(factor, 1e-9)).log()
    return LEARNERS[candidate.member].learn(start, basis, support)


def cross_validate(
    candidates: Sequence[Candidate], starts: Mapping[str, MetaParameters], basis: SpectralBasis, support: Support
) -> tuple[Tensor, Tensor, Tensor]:
    """(n,) the nDCG@10 of each support query before, (n, K) what each candidate, learned without it, adds, and
    (K, n, dim) where it moves the query.

    Before: with the frozen encoder, or under the parent's state where the starts carry one.
    """
    n = len(support)
    axes = axes_of(basis, support.queries)
    parent = inherited(next(iter(starts.values())), support.queries)
    before = support_ndcg(support.queries if parent is None else transform(parent, axes, support.queries), support)
    gains = before.new_zeros((n, len(candidates)))
    moved = support.queries.new_zeros((len(candidates), *support.queries.shape))
    folds = min(FOLDS, n)
    # the support set is sorted by its vectors: neighbours there are alike, and shall not be folds
    turn = torch.randperm(n, generator=torch.Generator().manual_seed(n)) % folds
    for fold in range(folds):
        held, kept = torch.nonzero(turn == fold)[:, 0], torch.nonzero(turn != fold)[:, 0]
        left_out, rest = support.of(held), support.of(kept).subsample_negatives(FIT_ON)
        for column, candidate in enumerate(candidates):
            state = candidate_state(candidate, starts, basis, rest)
            moved[column, held] = transform(state, axes, left_out.queries)
            gains[held, column] = support_ndcg(moved[column, held], left_out) - before[held]
    return before, gains, moved
