"""Displacement: queries move from the documents they find toward those they should find.

Two learners: a closed form and gradient descent.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.losses import descend, residuals
from semsearch.adapters.meta_parameters import (
    MetaParameters,
    hyperparameter,
    init_hyperparameters,
    scale_of,
    task_features,
)
from semsearch.adapters.shrinkage import shrinkage
from semsearch.adapters.state import MAX_SHARPNESS
from semsearch.adapters.states import State, axes_of, before_displacement, kernel, parent_state
from semsearch.adapters.support import Support

STEPS = 8
"""Gradient steps of the listwise learner."""


def learn_displacement(parameters: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """Learn a linear displacement in closed form: ridge regression from queries to listwise residuals.

    The displacement is scaled by the slope of the regression of the residuals on their leave-one-out predictions,
    shrunk toward 1, and by a learned factor. The less the labels predict each other, the smaller the displacement.
    """
    x, features = support.queries, task_features(basis, support)
    targets = residuals(x, support, hyperparameter(parameters, "temperature", features) * scale_of(basis, support))
    inverse = torch.linalg.inv(x @ x.T + hyperparameter(parameters, "ridge", features) * torch.eye(len(x)).to(x))
    dual = inverse @ targets
    # the leave-one-out predictions of ridge regression, without a fit for each query
    predicted = targets - dual / inverse.diagonal()[:, None]
    squared_norm = (predicted * predicted).sum()
    prior = hyperparameter(parameters, "prior", features) * squared_norm / len(x)
    slope = ((predicted * targets).sum() + prior) / (squared_norm + prior + 1e-12)
    scale = hyperparameter(parameters, "gain", features) * slope.clamp(0.0, 2.0)
    return replace(State.identity(x), keys=x, values=scale * dual, sharpness=x.new_zeros(len(x)))


def init_displacement(_: int) -> dict[str, Tensor]:
    """Return initial meta-parameters, before any outer loop."""
    return init_hyperparameters(ridge=1.0, temperature=0.05, gain=1.0, prior=8.0)


def learn_listwise(parameters: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """Learn a displacement by kernel logistic regression over documents, after within-class shrinkage.

    Gradient descent in function space (Mason et al. 1999, Boosting algorithms as gradient descent): each step adds to
    the value of every key its query's listwise residual, less a decay. The outer loop learns rate, decay, temperature,
    sharpness and strength of shrinkage. With a parent's state, shrinkage and displacement are the parent's, and keys
    are added.
    """
    features = task_features(basis, support)
    axes = axes_of(basis, support.queries)
    base_state = parent_state(parameters, support.queries)
    if base_state is None:
        rows = shrinkage(hyperparameter(parameters, "contraction", features), support)
        base_state = replace(State.identity(support.queries), shrinkage=rows)
    x = before_displacement(base_state, axes, support.queries)
    base_queries = x + kernel(x @ base_state.keys.T, base_state.sharpness) @ base_state.values + base_state.shift
    scale = scale_of(basis, support)
    temperature = hyperparameter(parameters, "temperature", features) * scale
    sharpness = (hyperparameter(parameters, "sharpness", features) / scale).clamp_max(MAX_SHARPNESS)
    values = descend(
        base_queries,
        kernel(x @ x.T, sharpness),
        support,
        temperature=temperature,
        rate=hyperparameter(parameters, "rate", features),
        steps=STEPS,
        decay=hyperparameter(parameters, "decay", features),
    )
    return replace(
        base_state,
        keys=torch.cat((base_state.keys, x)),
        values=torch.cat((base_state.values, values)),
        sharpness=torch.cat((base_state.sharpness, sharpness.expand(len(x)))),
    )


def init_listwise(_: int) -> dict[str, Tensor]:
    """Return initial meta-parameters, before any outer loop."""
    return init_hyperparameters(contraction=0.1, sharpness=2.0, temperature=0.03, rate=1.5, decay=0.03)
