"""Rescales query vectors for their domains. Does not depend on texts, indexes or how a domain's state was learned.

A query q (a unit vector) of a domain with gains g, contraction C, keys K, values U, shift b and sharpnesses β becomes

    x  = V (g ⊙ Vᵀ q)                      spectral gains, V the eigenvectors of the corpus's own covariance
    x  = normalise(x − Cᵀ C x)              directions in which what belongs together differs count less
    q' = normalise(x + Σⱼ k(Kⱼ · x) Uⱼ + b)  displacement, k(s) = (exp(βⱼs) − 1) / (exp(βⱼ) − 1), or s where βⱼ = 0

Documents never move, so adapting a domain needs no re-index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import DomainState
from semsearch.errors import StateError
from semsearch.types import Vectors

MIN_SHARPNESS = np.float32(1e-4)
"""Below it the kernel is linear to the last bit that matters, and its formula would divide by zero."""


@dataclass(frozen=True, slots=True, eq=False)
class DomainAdapter:
    """What a domain's queries are rescaled with, and how that came about."""

    state: DomainState | None
    """None: they pass as they are."""
    domain: str | None = None
    """Whose state it is: the domain's own or an ancestor's."""
    version: int = 0
    learner: str = "none"
    reason: str = "nothing is known of this domain yet"
    """Why it is so, for people."""
    verdict: Mapping[str, JsonValue] = field(default_factory=dict)
    """What the guard found; nothing where it was not asked."""


UNKNOWN_DOMAIN = DomainAdapter(None)


class Adapter:
    """The states of an index's domains, applied to batches in which domains mix. Never changes."""

    def __init__(self, basis: SpectralBasis, servings: Mapping[str, DomainAdapter]) -> None:
        """Take what each domain is served with. Raises StateError where a state does not fit the basis."""
        for domain, serving in servings.items():
            if serving.state is not None and serving.state.dimension != basis.dimension:
                raise StateError(
                    f"the state of domain {domain!r} has {serving.state.dimension} dimensions, the index"
                    f" {basis.dimension}: adapt the domain again"
                )
        self.basis = basis
        self._servings = dict(servings)

    @classmethod
    def from_states(cls, basis: SpectralBasis, states: Mapping[str, DomainState]) -> Adapter:
        """States that are nobody's version yet."""
        return cls(basis, {domain: DomainAdapter(state, domain=domain) for domain, state in states.items()})

    def updated(self, servings: Mapping[str, DomainAdapter]) -> Adapter:
        """The same adapter but for these domains."""
        return Adapter(self.basis, {**self._servings, **servings})

    def with_basis(self, basis: SpectralBasis) -> Adapter:
        """The same states in the axes of another corpus. Raises StateError where one does not fit them."""
        return self if basis is self.basis else Adapter(basis, self._servings)

    def for_domain(self, domain: str) -> DomainAdapter:
        """What the domain is served with."""
        return self._servings.get(domain, UNKNOWN_DOMAIN)

    def transform(self, queries: Vectors, domains: Sequence[str]) -> Vectors:
        """Each query as its own domain sees it, in one pass whatever the mixture.

        queries: (n, dim) float32, unit rows; domains: n names. Returns (n, dim) float32, unit rows. A row whose
        domain has learned nothing is returned bit for bit, and no domain's state touches another's rows.
        """
        servings = [self.for_domain(domain) for domain in domains]
        states = {id(one.state): one.state for one in servings if one.state is not None}
        if not states:
            return queries
        numbers = {key: slot for slot, key in enumerate(states)}
        slots = np.array([numbers.get(id(one.state), -1) for one in servings], dtype=np.intp)
        order = np.argsort(slots, kind="stable")
        order = order[slots[order] >= 0]
        x, slots = queries[order], slots[order]
        listed = list(states.values())
        groups = [(listed[slot], rows) for slot, rows in _groups(slots)]
        for state, rows in groups:
            if state.has_gains:
                x[rows] = ((x[rows] @ self.basis.axes) * state.spectral_gains) @ self.basis.axes.T
            if len(state.shrinkage):
                x[rows] -= (x[rows] @ state.shrinkage.T) @ state.shrinkage
        _normalise(x)
        for state, rows in groups:
            block = x[rows]
            near = block @ state.keys.T
            if not state.is_linear:
                # k(s) = (exp(βs) − 1) / (exp(β) − 1), which tends to s as β tends to 0
                sharp = np.maximum(state.sharpness, MIN_SHARPNESS)
                near = np.expm1(near * sharp) / np.expm1(sharp)
            block += near @ state.values
            block += state.shift
        _normalise(x)
        rescaled = queries.copy()
        rescaled[order] = x
        return rescaled


def _normalise(x: Vectors) -> None:
    """Bring rows to unit length, in place."""
    x /= np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]


def _groups(slots: npt.NDArray[np.intp]) -> Iterator[tuple[int, slice]]:
    """Each stretch of equal values, as (value, where)."""
    starts = np.flatnonzero(np.diff(slots, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(slots)], strict=True):
        yield int(slots[start]), slice(start, stop)
