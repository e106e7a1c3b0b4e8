"""Spectral gains: a domain hears some of the corpus's axes louder, by a few gradient steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import grad

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.losses import listwise_loss
from semsearch.adapters.meta_parameters import MetaParameters, hyperparameter, init_hyperparameters, task_features
from semsearch.adapters.states import State, axes_of, transform
from semsearch.adapters.support import Support

BANDS = 8
"""Gains are this many smooth numbers over the logarithm of the eigenvalues."""
STEPS = 5


def bands(basis: SpectralBasis, like: Tensor) -> Tensor:
    """(dim, BANDS) a Gaussian bump for each band over the standardised logarithm of the eigenvalues; rows sum to 1."""
    values = torch.from_numpy(basis.eigenvalues).to(like)
    log = torch.log(values + 1e-3 * values.mean() + 1e-12)
    position = (log - log.mean()) / (log.std() + 1e-9)
    centres = torch.linspace(-2.0, 2.0, BANDS).to(like)
    bumps = torch.exp(-0.5 * ((position[:, None] - centres) / 0.6) ** 2) + 1e-9
    return bumps / bumps.sum(dim=1, keepdim=True)


def learn_gains(start: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """Band gains by gradient steps with learned rates (Meta-SGD, Li et al. 2017, arXiv:1707.09835), pulled to 1."""
    axes, bump = axes_of(basis, support.queries), bands(basis, support.queries)
    given = task_features(basis, support)
    temperature, pull = hyperparameter(start, "temperature", given), hyperparameter(start, "pull", given) / len(support)
    still = State.identity(support.queries)

    def loss(phi: Tensor) -> Tensor:
        moved = transform(replace(still, spectral_gains=torch.exp(bump @ phi)), axes, support.queries)
        return listwise_loss(moved, support, temperature).mean() + pull * (phi * phi).sum()

    phi = support.queries.new_zeros(BANDS)
    for _ in range(STEPS):
        phi = phi - start["log_rates"].exp() * grad(loss)(phi)
    return replace(still, spectral_gains=torch.exp(bump @ phi))


def init_gains(_: int) -> dict[str, Tensor]:
    """Where the outer loop begins."""
    return {"log_rates": torch.full((BANDS,), 0.25).log()} | init_hyperparameters(temperature=0.035, pull=0.2)
