"""The classic of few-shot adaptation, as a member of M and as what the others are measured against: FiLM by MAML.

A scale and a shift for every axis (FiLM, Perez et al. 2018, arXiv:1709.07871) by gradient steps from a learned start
(MAML, Finn et al. 2017, arXiv:1703.03400).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import grad

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.losses import listwise_loss
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.states import State, axes_of, transform
from semsearch.adapters.support import Support

STEPS = 5


def learn_film(start: MetaParameters, basis: SpectralBasis, support: Support, *, first_order: bool = False) -> State:
    """Gradient steps on scale and shift; the outer loop sees through them, second derivatives included."""
    axes = axes_of(basis, support.queries)
    temperature = start["log_temperature"].exp()
    still = State.identity(support.queries)

    def loss(scale: Tensor, shift: Tensor) -> Tensor:
        moved = transform(replace(still, spectral_gains=scale.exp(), shift=shift), axes, support.queries)
        return listwise_loss(moved, support, temperature).mean()

    scale, shift = start["scale"], start["shift"]
    for _ in range(STEPS):
        slope_scale, slope_shift = grad(loss, argnums=(0, 1))(scale, shift)
        if first_order:
            slope_scale, slope_shift = slope_scale.detach(), slope_shift.detach()
        scale = scale - start["log_rate_scale"].exp() * slope_scale
        shift = shift - start["log_rate_shift"].exp() * slope_shift
    return replace(still, spectral_gains=scale.exp(), shift=shift)


def learn_film_first_order(start: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """The same inner loop; the outer loop sees no second derivatives (first-order MAML)."""
    return learn_film(start, basis, support, first_order=True)


def init_film(dimension: int) -> dict[str, Tensor]:
    """Where the outer loop begins."""
    return {
        "scale": torch.zeros(dimension),
        "shift": torch.zeros(dimension),
        "log_rate_scale": torch.tensor(1.0).log(),
        "log_rate_shift": torch.tensor(0.003).log(),
        "log_temperature": torch.tensor(0.05).log(),
    }
