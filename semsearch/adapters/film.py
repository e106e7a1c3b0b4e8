"""FiLM by MAML: the usual method of few-shot adaptation, as one of the learners and as their baseline.

A scale and a shift for every axis (FiLM, Perez et al. 2018, arXiv:1709.07871), by gradient steps from learned initial
values (MAML, Finn et al. 2017, arXiv:1703.03400).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import grad

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.losses import listwise_loss
from semsearch.adapters.meta_parameters import MetaParameters, scale_of
from semsearch.adapters.states import State, axes_of, transform
from semsearch.adapters.support import Support

STEPS = 5


def learn_film(
    parameters: MetaParameters, basis: SpectralBasis, support: Support, *, first_order: bool = False
) -> State:
    """Learn scale and shift by gradient steps, through which the outer loop differentiates.

    first_order: leave out second derivatives.
    """
    axes = axes_of(basis, support.queries)
    temperature = parameters["log_temperature"].exp() * scale_of(basis, support)
    identity_state = State.identity(support.queries)

    def loss(scale: Tensor, shift: Tensor) -> Tensor:
        state = replace(identity_state, spectral_gains=scale.exp(), shift=shift)
        return listwise_loss(transform(state, axes, support.queries), support, temperature).mean()

    scale, shift = parameters["scale"], parameters["shift"]
    for _ in range(STEPS):
        scale_gradient, shift_gradient = grad(loss, argnums=(0, 1))(scale, shift)
        if first_order:
            scale_gradient, shift_gradient = scale_gradient.detach(), shift_gradient.detach()
        scale = scale - parameters["log_rate_scale"].exp() * scale_gradient
        shift = shift - parameters["log_rate_shift"].exp() * shift_gradient
    return replace(identity_state, spectral_gains=scale.exp(), shift=shift)


def learn_film_first_order(parameters: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """The same inner loop without second derivatives (first-order MAML)."""
    return learn_film(parameters, basis, support, first_order=True)


def init_film(dimension: int) -> dict[str, Tensor]:
    """Return initial meta-parameters, before any outer loop."""
    return {
        "scale": torch.zeros(dimension),
        "shift": torch.zeros(dimension),
        "log_rate_scale": torch.tensor(1.0).log(),
        "log_rate_shift": torch.tensor(0.003).log(),
        "log_temperature": torch.tensor(0.05).log(),
    }
