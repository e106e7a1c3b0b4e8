"""The set of models M: small learners that turn a support set into a domain state.

Each is a pure function `(start, basis, support) -> State`. The outer loop differentiates through the very functions
that adapt a domain in service, so the two cannot drift. Does not depend on files or choosing among learners.
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
from semsearch.adapters.spectral_gains import init_gains, learn_gains
from semsearch.adapters.states import State
from semsearch.adapters.support import Support


class Learner(Protocol):
    """One way to adapt."""

    def __call__(self, start: MetaParameters, basis: SpectralBasis, support: Support) -> State:
        """The inner loop: what the labels of a domain change. Differentiable with respect to `start`."""
        ...


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """A learner with its name and where the outer loop begins."""

    name: str
    learn: Learner
    init: Callable[[int], dict[str, Tensor]]
    """Dimension → the start before any outer loop."""
    reptile: bool = False
    """Whether the outer loop moves the start toward what adaptation made of it, instead of by its gradient."""

    def outer_lr(self, key: str) -> float:
        """Learning rate of the outer loop: logarithms of single numbers move fast, vectors slowly."""
        return 0.05 if key.startswith("log_") else 0.02 if key.startswith("tilt_") else 0.002


LEARNERS: Mapping[str, LearnerSpec] = {
    member.name: member
    for member in (
        LearnerSpec("gains", learn_gains, init_gains),
        LearnerSpec("contraction", learn_shrinkage, init_shrinkage),
        LearnerSpec("displacement", learn_displacement, init_displacement),
        LearnerSpec("listwise", learn_listwise, init_listwise),
        LearnerSpec("film", learn_film, init_film),
        LearnerSpec("film_first_order", learn_film_first_order, init_film),
        LearnerSpec("film_reptile", learn_film, init_film, reptile=True),
    )
}
