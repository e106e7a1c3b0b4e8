"""Spectral gains: factors on the axes of the corpus, learned by gradient steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import grad

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.losses import listwise_loss
from semsearch.adapters.meta_parameters import (
    MetaParameters,
    hyperparameter,
    init_hyperparameters,
    scale_of,
    task_features,
)
from semsearch.adapters.states import State, axes_of, transform
from semsearch.adapters.support import Support

BANDS = 8
"""Number of smooth functions of the logarithm of the eigenvalue that the logarithms of the gains are combined from."""
STEPS = 5


def bands(basis: SpectralBasis, like: Tensor) -> Tensor:
    """(dim, BANDS) Gaussians over the standardised logarithm of the eigenvalues; rows sum to 1."""
    values = torch.from_numpy(basis.eigenvalues).to(like)
    log = torch.log(values + 1e-3 * values.mean() + 1e-12)
    position = (log - log.mean()) / (log.std() + 1e-9)
    centres = torch.linspace(-2.0, 2.0, BANDS).to(like)
    bumps = torch.exp(-0.5 * ((position[:, None] - centres) / 0.6) ** 2) + 1e-9
    return bumps / bumps.sum(dim=1, keepdim=True)


def learn_spectral_gains(parameters: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """Learn a log gain for each band by gradient steps with an L2 penalty.

    The outer loop learns a rate for each band (Meta-SGD, Li et al. 2017, arXiv:1707.09835), temperature and penalty.
    """
    axes, band = axes_of(basis, support.queries), bands(basis, support.queries)
    features = task_features(basis, support)
    temperature = hyperparameter(parameters, "temperature", features) * scale_of(basis, support)
    penalty = hyperparameter(parameters, "pull", features) / len(support)
    identity_state = State.identity(support.queries)

    def loss(log_gains: Tensor) -> Tensor:
        state = replace(identity_state, spectral_gains=torch.exp(band @ log_gains))
        adapted = transform(state, axes, support.queries)
        return listwise_loss(adapted, support, temperature).mean() + penalty * (log_gains * log_gains).sum()

    log_gains = support.queries.new_zeros(BANDS)
    for _ in range(STEPS):
        log_gains = log_gains - parameters["log_rates"].exp() * grad(loss)(log_gains)
    return replace(identity_state, spectral_gains=torch.exp(band @ log_gains))


def init_spectral_gains(_: int) -> dict[str, Tensor]:
    """Return initial meta-parameters, before any outer loop."""
    return {"log_rates": torch.full((BANDS,), 0.25).log()} | init_hyperparameters(temperature=0.035, pull=0.2)
