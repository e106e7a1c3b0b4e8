"""The guard's candidates: learners with scaled hyperparameters, and their cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.learners import LEARNERS
from semsearch.adapters.losses import support_ndcg
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.states import State, axes_of, parent_state, transform
from semsearch.adapters.support import Support

FOLDS = 5
FIT_DOCUMENTS = 768
"""Most documents that candidates are fitted on in cross-validation; they are measured on all of the support set's."""
UNBOUNDED = 1_000_000
"""More labelled queries than any domain has."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A learner with factors on its shrinkage and its rate."""

    learner: str
    """Key of LEARNERS."""
    shrinkage: float = 1.0
    """Factor on the learned strength of within-class shrinkage."""
    rate: float = 1.0
    """Factor on the learned rate."""
    min_labels: int = 1
    """Fewest labelled queries: candidates with strong effects need evidence that few labels cannot give."""
    max_labels: int = UNBOUNDED
    """Most labelled queries: candidates with weak effects are for few labels."""

    @property
    def name(self) -> str:
        """Name in recipes, such as `listwise-c3-r1`."""
        return f"{self.learner}-c{self.shrinkage:g}-r{self.rate:g}"

    def applies_to(self, labels: int) -> bool:
        """Whether it is considered for this number of labelled queries."""
        return self.min_labels <= labels <= self.max_labels

    def as_json(self) -> dict[str, JsonValue]:
        """Return the candidate for weight files and verdicts."""
        return {_JSON_KEYS.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Candidate:
        """Read `as_json`, also of semsearch 0.1. Raises TypeError for unknown keys."""
        return cls(**{_FIELDS.get(key, key): value for key, value in values.items()})


_JSON_KEYS = {"learner": "member"}
"""Field → key in JSON, where they differ."""
_FIELDS = {"member": "learner", "contraction": "shrinkage", "fewest": "min_labels", "most": "max_labels"}
"""Key in JSON → field, where they differ; also the keys of semsearch 0.1."""


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
    candidate: Candidate, meta_parameters: Mapping[str, MetaParameters], basis: SpectralBasis, support: Support
) -> State:
    """Return the state that a candidate learns from the support set.

    meta_parameters: by learner.
    """
    parameters = dict(meta_parameters[candidate.learner])
    for name, factor in (("log_contraction", candidate.shrinkage), ("log_rate", candidate.rate)):
        if name in parameters:
            parameters[name] = parameters[name] + torch.tensor(max(factor, 1e-9)).log()
    return LEARNERS[candidate.learner].learn(parameters, basis, support)


def cross_validate(
    candidates: Sequence[Candidate],
    meta_parameters: Mapping[str, MetaParameters],
    basis: SpectralBasis,
    support: Support,
) -> tuple[Tensor, Tensor, Tensor]:
    """Measure K candidates on each of the n queries of the support set, after learning from the other folds.

    meta_parameters: by learner; with a parent's state, if the candidates start from one.

    Returns (n,) nDCG@10 of the frozen encoder or of the parent's state, (n, K) its change by each candidate, and
    (K, n, dim) the queries as each candidate transforms them.
    """
    n = len(support)
    axes = axes_of(basis, support.queries)
    parent = parent_state(next(iter(meta_parameters.values())), support.queries)
    before = support_ndcg(support.queries if parent is None else transform(parent, axes, support.queries), support)
    improvements = before.new_zeros((n, len(candidates)))
    transformed = support.queries.new_zeros((len(candidates), *support.queries.shape))
    folds = min(FOLDS, n)
    # the support set is sorted by its vectors: folds of neighbours would be folds of similar queries
    fold_of = torch.randperm(n, generator=torch.Generator().manual_seed(n)) % folds
    for fold in range(folds):
        held_out, fitted = torch.nonzero(fold_of == fold)[:, 0], torch.nonzero(fold_of != fold)[:, 0]
        measured, training = support.select(held_out), support.select(fitted).subsample_negatives(FIT_DOCUMENTS)
        for column, candidate in enumerate(candidates):
            state = candidate_state(candidate, meta_parameters, basis, training)
            transformed[column, held_out] = transform(state, axes, measured.queries)
            improvements[held_out, column] = support_ndcg(transformed[column, held_out], measured) - before[held_out]
    return before, improvements, transformed
