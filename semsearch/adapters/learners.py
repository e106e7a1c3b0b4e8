"""The learners: pure functions `(parameters, basis, support) -> State` that make a domain state from a support set.

The outer loop differentiates through the same functions that adapt a served domain, so the two cannot diverge. Does not
depend on files or on the choice of a learner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.displacement import init_displacement, init_listwise, learn_displacement, learn_listwise
from semsearch.adapters.film import init_film, learn_film, learn_film_first_order
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.shrinkage import init_shrinkage, learn_shrinkage
from semsearch.adapters.spectral_gains import init_spectral_gains, learn_spectral_gains
from semsearch.adapters.states import State
from semsearch.adapters.support import Support
from semsearch.adapters.tensor_names import CONTEXT_SLOPE


class Learner(Protocol):
    """A function that adapts to a support set."""

    def __call__(self, parameters: MetaParameters, basis: SpectralBasis, support: Support) -> State:
        """Run the inner loop. Differentiable with respect to `parameters`."""
        ...


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """A learner with its name, its initial meta-parameters, and how the outer loop updates them."""

    name: str
    learn: Learner
    init: Callable[[int], dict[str, Tensor]]
    """Dimension → the meta-parameters before any outer loop."""
    reptile: bool = False
    """Whether the outer loop moves the meta-parameters toward the adapted values (Reptile), not along the gradient."""

    def outer_lr(self, key: str) -> float:
        """Learning rate of the outer loop for a tensor: high for logarithms of scalars, low for vectors."""
        return 0.05 if key.startswith("log_") else 0.02 if key.startswith(CONTEXT_SLOPE) else 0.002


LEARNERS: Mapping[str, LearnerSpec] = {
    spec.name: spec
    for spec in (
        LearnerSpec("gains", learn_spectral_gains, init_spectral_gains),
        LearnerSpec("contraction", learn_shrinkage, init_shrinkage),
        LearnerSpec("displacement", learn_displacement, init_displacement),
        LearnerSpec("listwise", learn_listwise, init_listwise),
        LearnerSpec("film", learn_film, init_film),
        LearnerSpec("film_first_order", learn_film_first_order, init_film),
        LearnerSpec("film_reptile", learn_film, init_film, reptile=True),
    )
}
