"""Transforms query vectors for their domains. Does not depend on texts, indexes or how a domain's state was learned.

A query q (a unit vector) of a domain with spectral gains g, shrinkage C, keys K, values U, shift b and sharpnesses β
becomes

    x  = V (g ⊙ Vᵀ q)                        spectral gains; V are the eigenvectors of the corpus's covariance
    x  = normalise(x − Cᵀ C x)               within-class shrinkage
    q' = normalise(x + Σⱼ k(Kⱼ · x) Uⱼ + b)  displacement; k(s) = (exp(βⱼs) − 1) / (exp(βⱼ) − 1), or s if βⱼ = 0

Document vectors never change, so adapting a domain needs no re-indexing.
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
"""Smallest sharpness used in the kernel's formula, which would divide by zero at 0. The kernel is linear there."""

MAX_EXPONENT = np.float32(10)
"""Largest exponent in the kernel's formula, so that no vector overflows; it is above 0 only for keys longer than 1."""


@dataclass(frozen=True, slots=True, eq=False)
class DomainAdapter:
    """The state that a domain's queries are transformed with, and the reason for it."""

    state: DomainState | None
    """None: queries are not changed."""
    domain: str | None = None
    """The domain that the state belongs to: this one or an ancestor."""
    version: int = 0
    learner: str = "none"
    reason: str = "nothing is known of this domain yet"
    """For users, also those of a server: it contains no paths."""
    damage: str = ""
    """The reason with the paths of the damaged files, for the log and the command line; empty without damage."""
    verdict: Mapping[str, JsonValue] = field(default_factory=dict)
    """The guard's verdict as JSON; empty if the guard was not used."""

    @property
    def is_unknown(self) -> bool:
        """Whether the domain has not been adapted, nor has an ancestor."""
        return self is UNKNOWN_DOMAIN

    @property
    def full_reason(self) -> str:
        """The reason, with the paths of damaged files."""
        return self.damage or self.reason


UNKNOWN_DOMAIN = DomainAdapter(None)


class Adapter:
    """The states of an index's domains, applied to batches of queries of any domains. Immutable."""

    def __init__(self, basis: SpectralBasis, domain_adapters: Mapping[str, DomainAdapter]) -> None:
        """domain_adapters: by domain name. Raises StateError if a state does not fit the basis."""
        for domain, adapter in domain_adapters.items():
            if adapter.state is not None and adapter.state.dimension != basis.dimension:
                raise StateError(
                    f"the state of domain {domain!r} has {adapter.state.dimension} dimensions, the index"
                    f" {basis.dimension}: adapt the domain again"
                )
        self.basis = basis
        self._domain_adapters = dict(domain_adapters)

    @classmethod
    def from_states(cls, basis: SpectralBasis, states: Mapping[str, DomainState]) -> Adapter:
        """An adapter of states that have no version number."""
        return cls(basis, {domain: DomainAdapter(state, domain=domain) for domain, state in states.items()})

    def updated(self, domain_adapters: Mapping[str, DomainAdapter]) -> Adapter:
        """A copy in which these domains are replaced or added; one that became UNKNOWN_DOMAIN is removed."""
        merged = {**self._domain_adapters, **domain_adapters}
        return Adapter(
            self.basis, {domain: adapter for domain, adapter in merged.items() if adapter is not UNKNOWN_DOMAIN}
        )

    def __len__(self) -> int:
        """Number of domains of which anything is known."""
        return len(self._domain_adapters)

    def with_basis(self, basis: SpectralBasis) -> Adapter:
        """A copy with the basis of another corpus. Raises StateError if a state does not fit it."""
        return self if basis is self.basis else Adapter(basis, self._domain_adapters)

    def for_domain(self, domain: str) -> DomainAdapter:
        """The domain's adapter, or UNKNOWN_DOMAIN."""
        return self._domain_adapters.get(domain, UNKNOWN_DOMAIN)

    def transform(self, queries: Vectors, domains: Sequence[str]) -> Vectors:
        """Transform each query with the state of its own domain, in one pass for all domains.

        queries: (n, dim) float32, unit rows.
        domains: n names.

        Returns (n, dim) float32, unit rows. A row whose domain has no state is returned bit for bit, and a row does not
        depend on the states of other domains.
        """
        adapters = [self.for_domain(domain) for domain in domains]
        states = {id(adapter.state): adapter.state for adapter in adapters if adapter.state is not None}
        if not states:
            return queries
        slot_of = {key: slot for slot, key in enumerate(states)}
        slots = np.array([slot_of.get(id(adapter.state), -1) for adapter in adapters], dtype=np.intp)
        order = np.argsort(slots, kind="stable")
        order = order[slots[order] >= 0]
        x, slots = queries[order], slots[order]
        distinct = list(states.values())
        groups = [(distinct[slot], rows) for slot, rows in _runs(slots)]
        for state, rows in groups:
            if state.has_gains:
                x[rows] = ((x[rows] @ self.basis.axes) * state.spectral_gains) @ self.basis.axes.T
            if len(state.shrinkage):
                x[rows] -= (x[rows] @ state.shrinkage.T) @ state.shrinkage
        _normalise(x)
        for state, rows in groups:
            block = x[rows]
            weights = block @ state.keys.T
            if not state.is_linear:
                # k(s) = (exp(βs) − 1) / (exp(β) − 1), which tends to s as β tends to 0. Numerator and denominator are
                # divided by exp(β), which may overflow
                sharpness = np.maximum(state.sharpness, MIN_SHARPNESS)
                least = np.expm1(-sharpness)
                weights = (np.expm1(np.minimum((weights - 1) * sharpness, MAX_EXPONENT)) - least) / -least
            block += weights @ state.values
            block += state.shift
        _normalise(x)
        transformed = queries.copy()
        transformed[order] = x
        return transformed


def _normalise(x: Vectors) -> None:
    """Scale rows to unit length, in place; a row of zeros stays one."""
    norms = np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]
    x /= np.where(norms == 0, np.float32(1), norms)


def _runs(slots: npt.NDArray[np.intp]) -> Iterator[tuple[int, slice]]:
    """Yield each run of equal values as (value, its slice)."""
    starts = np.flatnonzero(np.diff(slots, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(slots)], strict=True):
        yield int(slots[start]), slice(start, stop)
