"""Displacement: queries move away from what they find, toward what they should find; in closed form or by steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.losses import descend, residuals
from semsearch.adapters.meta_parameters import MetaParameters, hyperparameter, init_hyperparameters, task_features
from semsearch.adapters.shrinkage import shrinkage
from semsearch.adapters.states import State, axes_of, before_displacement, inherited, kernel
from semsearch.adapters.support import Support

STEPS = 8
"""Of the listwise learner."""


def learn_displacement(start: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """Ridge regression from queries to listwise residuals, closed form, with the gain its own left-out queries bear.

    The gain is the regression of the residuals on their leave-one-out predictions, shrunk to a learned one: the less
    labels predict one another, the less they displace.
    """
    x, given = support.queries, task_features(basis, support)
    wanted = residuals(x, support, hyperparameter(start, "temperature", given))
    inverse = torch.linalg.inv(x @ x.T + hyperparameter(start, "ridge", given) * torch.eye(len(x)).to(x))
    dual = inverse @ wanted
    predicted = wanted - dual / inverse.diagonal()[:, None]
    size = (predicted * predicted).sum()
    prior = hyperparameter(start, "prior", given) * size / len(x)
    fit = ((predicted * wanted).sum() + prior) / (size + prior + 1e-12)
    gain = hyperparameter(start, "gain", given) * fit.clamp(0.0, 2.0)
    return replace(State.identity(x), keys=x, values=gain * dual, sharpness=x.new_zeros(len(x)))


def init_displacement(_: int) -> dict[str, Tensor]:
    """Where the outer loop begins."""
    return init_hyperparameters(ridge=1.0, temperature=0.05, gain=1.0, prior=8.0)


def learn_listwise(start: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """Kernel logistic regression over documents, in the space that within-class shrinkage leaves.

    Gradient descent in function space (Mason et al. 1999): each step moves every key's value along the listwise
    residual, less a learned decay; rate, temperature, sharpness and shrinkage are learned. From a parent's state it
    takes shrinkage and displacement, and adds keys of its own.
    """
    given = task_features(basis, support)
    axes = axes_of(basis, support.queries)
    base_state = inherited(start, support.queries)
    if base_state is None:
        shrunk = shrinkage(hyperparameter(start, "contraction", given), support)
        base_state = replace(State.identity(support.queries), shrinkage=shrunk)
    x = before_displacement(base_state, axes, support.queries)
    base_queries = x + kernel(x @ base_state.keys.T, base_state.sharpness) @ base_state.values + base_state.shift
    temperature = hyperparameter(start, "temperature", given)
    sharpness = hyperparameter(start, "sharpness", given)
    values = descend(
        base_queries,
        kernel(x @ x.T, sharpness),
        support,
        temperature=temperature,
        rate=hyperparameter(start, "rate", given),
        steps=STEPS,
        decay=hyperparameter(start, "decay", given),
    )
    return replace(
        base_state,
        keys=torch.cat((base_state.keys, x)),
        values=torch.cat((base_state.values, values)),
        sharpness=torch.cat((base_state.sharpness, sharpness.expand(len(x)))),
    )


def init_listwise(_: int) -> dict[str, Tensor]:
    """Where the outer loop begins."""
    return init_hyperparameters(contraction=0.1, sharpness=2.0, temperature=0.03, rate=1.5, decay=0.03)
