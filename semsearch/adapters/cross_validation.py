"""Learning with the guard's candidates, and their cross-validation on a support set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.candidates import Candidate
from semsearch.adapters.learners import LEARNERS
from semsearch.adapters.losses import support_ndcg
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.states import State, axes_of, parent_state, transform
from semsearch.adapters.support import Support

FOLDS = 5
FIT_DOCUMENTS = 768
"""Most documents that candidates are fitted on in cross-validation; they are measured on all of the support set's."""


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
