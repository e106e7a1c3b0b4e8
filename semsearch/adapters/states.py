"""A domain's state as tensors, for learners to differentiate, and its reduction to the size that is stored.

Does not depend on how a state is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import DomainState, key_rows

MIN_SHRINKAGE = 0.01
"""Squared length below which a row of the shrinkage is dropped from the stored state."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A differentiable domain state. The fields are those of `DomainState`."""

    spectral_gains: Tensor
    shrinkage: Tensor
    keys: Tensor
    values: Tensor
    shift: Tensor
    sharpness: Tensor

    @classmethod
    def identity(cls, like: Tensor) -> State:
        """The state that changes no query. like: (..., dim) gives dimension, dtype and device."""
        dimension = like.shape[-1]
        empty = like.new_zeros((0, dimension))
        return cls(like.new_ones(dimension), empty, empty, empty, like.new_zeros(dimension), like.new_zeros(0))

    @classmethod
    def from_domain_state(cls, state: DomainState, like: Tensor) -> State:
        """The tensors of a stored state, with the dtype and device of `like`."""
        return cls(**{name: torch.from_numpy(getattr(state, name)).to(like) for name in _FIELDS})

    def truncated(self, max_keys: int) -> State:
        """Return a state of at most `max_keys` keys that approximates the displacement of this one.

        Keys are replaced by keys of the same sharpness.
        """
        if len(self.keys) <= max_keys:
            return self
        groups = []
        for sharpness, share in _shares(self.sharpness, max_keys):
            group = self.sharpness == sharpness
            keys, values = _fewer_keys(self.keys[group], self.values[group], sharpness, share)
            groups.append((keys, values, sharpness.expand(len(keys))))
        if not groups:
            return replace(self, keys=self.keys[:0], values=self.values[:0], sharpness=self.sharpness[:0])
        keys, values, sharpnesses = (torch.cat(parts) for parts in zip(*groups, strict=True))
        return replace(self, keys=keys, values=values, sharpness=sharpnesses)

    def to_domain_state(self) -> DomainState:
        """Return the state that is stored and served: as many keys as fit, quantized."""
        reduced = self.truncated(key_rows(self.keys.shape[1]))
        effective = (self.shrinkage * self.shrinkage).sum(dim=1) >= MIN_SHRINKAGE
        return DomainState(
            spectral_gains=self.spectral_gains.float().numpy(force=True),
            shrinkage=self.shrinkage[effective].float().numpy(force=True),
            keys=reduced.keys.float().numpy(force=True),
            values=reduced.values.float().numpy(force=True),
            shift=self.shift.float().numpy(force=True),
            sharpness=reduced.sharpness.float().numpy(force=True),
        ).quantized()


def with_parent(parameters: Mapping[str, Tensor], parent: DomainState) -> dict[str, Tensor]:
    """Return a learner's meta-parameters with the state of the domain's parent, to be read by `parent_state`."""
    return {**parameters, **{f"parent_{name}": torch.from_numpy(getattr(parent, name)) for name in _FIELDS}}


def parent_state(parameters: Mapping[str, Tensor], like: Tensor) -> State | None:
    """Return the parent's state that `with_parent` added, with the dtype and device of `like`, or None."""
    if "parent_keys" not in parameters:
        return None
    return State(**{name: parameters[f"parent_{name}"].to(like) for name in _FIELDS})


_FIELDS = ("spectral_gains", "shrinkage", "keys", "values", "shift", "sharpness")


def transform(state: State, axes: Tensor, queries: Tensor) -> Tensor:
    """Transform (n, dim) unit rows to (n, dim) unit rows, as `Adapter.transform` does, but differentiable."""
    x = before_displacement(state, axes, queries)
    displaced = x + kernel(x @ state.keys.T, state.sharpness) @ state.values + state.shift
    return torch.nn.functional.normalize(displaced, dim=1)


def axes_of(basis: SpectralBasis, like: Tensor) -> Tensor:
    """(dim, dim) the axes of the corpus, with the dtype and device of `like`."""
    return torch.from_numpy(basis.axes).to(like)


def before_displacement(state: State, axes: Tensor, queries: Tensor) -> Tensor:
    """Queries after spectral gains and within-class shrinkage: the space of the keys."""
    x = ((queries @ axes) * state.spectral_gains) @ axes.T
    x = x - (x @ state.shrinkage.T) @ state.shrinkage
    return torch.nn.functional.normalize(x, dim=1)


def kernel(similarity: Tensor, sharpness: Tensor) -> Tensor:
    """k(s) = (exp(βs) − 1) / (exp(β) − 1): positive definite, k(1) = 1, linear as β tends to 0.

    similarity: (n, m), s.
    sharpness: β, a scalar or (m,).
    """
    positive = sharpness.clamp_min(1e-4)
    least = torch.expm1(-positive)
    # numerator and denominator are divided by exp(β), which may overflow
    return torch.where(sharpness > 0, (torch.expm1(positive * (similarity - 1)) - least) / -least, similarity)


def _shares(sharpness: Tensor, max_keys: int) -> list[tuple[Tensor, int]]:
    """Return distinct sharpnesses and how many of `max_keys` keys each gets, at least 1.

    Of more than `max_keys` sharpnesses, the rarest are left out.
    """
    distinct, counts = torch.unique(sharpness, return_counts=True)
    largest = counts.argsort(descending=True, stable=True)[:max_keys].sort().values
    shares = [max(1, max_keys * int(count) // len(sharpness)) for count in counts[largest]]
    while sum(shares) > max_keys:
        shares[shares.index(max(shares))] -= 1
    return list(zip(distinct[largest], shares, strict=True))


def _fewer_keys(keys: Tensor, values: Tensor, sharpness: Tensor, max_keys: int) -> tuple[Tensor, Tensor]:
    """Reduce keys of one sharpness, and their values, to at most `max_keys`."""
    if len(keys) <= max_keys:
        return keys, values
    if float(sharpness) == 0:
        return truncate_linear(keys, values, max_keys)
    return pivoted_cholesky_subset(keys, values, sharpness, max_keys)


def truncate_linear(keys: Tensor, values: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Truncate the linear displacement keysᵀ values to `rank` by singular value decomposition.

    keys, values: (n, dim). Returns keys and values of at most `rank` rows.
    """
    q_keys, r_keys = torch.linalg.qr(keys.T)
    q_values, r_values = torch.linalg.qr(values.T)
    u, singular_values, vt = torch.linalg.svd(r_keys @ r_values.T)
    rank = min(rank, len(singular_values))
    return (q_keys @ u[:, :rank]).T, ((q_values @ vt[:rank].T) * singular_values[:rank]).T


def pivoted_cholesky_subset(keys: Tensor, values: Tensor, sharpness: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Choose `count` of the keys by pivoted Cholesky decomposition, and project the displacement onto them.

    The projection is orthogonal in the kernel's Hilbert space.

    keys, values: (n, dim). Returns keys and values, each (count, dim).
    """
    gram = kernel(keys @ keys.T, sharpness)
    chosen = _pivots(gram, values, count)
    subset = gram[chosen][:, chosen]
    regularized = subset + 1e-4 * torch.eye(len(chosen)).to(subset)
    return keys[chosen], torch.linalg.solve(regularized, gram[chosen] @ values)


def _pivots(gram: Tensor, values: Tensor, count: int) -> Tensor:
    """Return the indices of `count` pivots, each the key with the largest remaining variance times squared value."""
    remaining = gram.diagonal().clone()
    size = (values * values).sum(dim=1)
    factor = gram.new_zeros((len(gram), count))
    chosen: list[int] = []
    for step in range(count):
        score = remaining.clamp_min(0) * size
        score[chosen] = -1
        pivot = int(score.argmax())
        chosen.append(pivot)
        column = (gram[:, pivot] - factor[:, :step] @ factor[pivot, :step]) / remaining[pivot].clamp_min(1e-9).sqrt()
        factor[:, step] = column
        remaining = remaining - column * column
    return torch.tensor(chosen)
