"""A domain's state while it is being learned: tensors through which gradients pass, and their compact form.

Does not depend on how a state is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.state import MAX_KEYS, DomainState

MIN_SHRINKAGE = 0.01
"""Share of a direction that a row must take away to be kept in the compact form."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A domain state in tensors, through which gradients pass; the fields are those of `DomainState`."""

    spectral_gains: Tensor
    shrinkage: Tensor
    keys: Tensor
    values: Tensor
    shift: Tensor
    sharpness: Tensor

    @classmethod
    def identity(cls, like: Tensor) -> State:
        """Nothing learned; `like` (…, dim) gives dimension and precision."""
        dimension = like.shape[-1]
        empty = like.new_zeros((0, dimension))
        return cls(like.new_ones(dimension), empty, empty, empty, like.new_zeros(dimension), like.new_zeros(0))

    @classmethod
    def from_domain_state(cls, state: DomainState, like: Tensor) -> State:
        """A state from disk again, in the precision of `like`."""
        return cls(**{name: torch.from_numpy(getattr(state, name)).to(like) for name in _PARTS})

    def truncated(self, most: int) -> State:
        """At most `most` keys whose displacement is as near as may be to that of all of them; keys of one sharpness
        stand for one another only."""
        if len(self.keys) <= most:
            return self
        parts = []
        for kind in torch.unique(self.sharpness):
            mine = self.sharpness == kind
            share = max(1, most * int(mine.sum()) // len(self.keys))
            keys, values = _fewer_keys(self.keys[mine], self.values[mine], kind, share)
            parts.append((keys, values, kind.expand(len(keys))))
        keys, values, sharpness = (torch.cat(part) for part in zip(*parts, strict=True))
        return replace(self, keys=keys, values=values, sharpness=sharpness)

    def to_domain_state(self) -> DomainState:
        """What goes to disk and serves: at most MAX_KEYS keys, rounded as the file will be."""
        few = self.truncated(MAX_KEYS)
        felt = (self.shrinkage * self.shrinkage).sum(dim=1) >= MIN_SHRINKAGE
        return DomainState(
            spectral_gains=self.spectral_gains.float().numpy(force=True),
            shrinkage=self.shrinkage[felt].float().numpy(force=True),
            keys=few.keys.float().numpy(force=True),
            values=few.values.float().numpy(force=True),
            shift=self.shift.float().numpy(force=True),
            sharpness=few.sharpness.float().numpy(force=True),
        ).quantized()


def inheriting(start: Mapping[str, Tensor], parent: DomainState) -> dict[str, Tensor]:
    """A learner's start with the state of the domain's parent, from which `inherited` makes it again."""
    return {**start, **{f"parent_{name}": torch.from_numpy(getattr(parent, name)) for name in _PARTS}}


def inherited(start: Mapping[str, Tensor], like: Tensor) -> State | None:
    """The parent's state that a start carries, in the precision of `like`; None where there is no parent."""
    if "parent_keys" not in start:
        return None
    return State(**{name: start[f"parent_{name}"].to(like) for name in _PARTS})


_PARTS = ("spectral_gains", "shrinkage", "keys", "values", "shift", "sharpness")


def transform(state: State, axes: Tensor, queries: Tensor) -> Tensor:
    """What `Adapter.transform` does, differentiable: (n, dim) unit rows → (n, dim) unit rows."""
    x = before_displacement(state, axes, queries)
    moved = x + kernel(x @ state.keys.T, state.sharpness) @ state.values + state.shift
    return torch.nn.functional.normalize(moved, dim=1)


def axes_of(basis: SpectralBasis, like: Tensor) -> Tensor:
    """(dim, dim) the corpus's axes in the precision of `like`."""
    return torch.from_numpy(basis.axes).to(like)


def before_displacement(state: State, axes: Tensor, queries: Tensor) -> Tensor:
    """Queries after spectral gains and within-class shrinkage: the space of the keys."""
    x = ((queries @ axes) * state.spectral_gains) @ axes.T
    x = x - (x @ state.shrinkage.T) @ state.shrinkage
    return torch.nn.functional.normalize(x, dim=1)


def kernel(nearness: Tensor, sharpness: Tensor) -> Tensor:
    """k(s) = (exp(βs) − 1) / (exp(β) − 1): positive definite, k(1) = 1, linear as β tends to 0. One β for all, or one a
    column."""
    sharp = sharpness.clamp_min(1e-4)
    return torch.where(sharpness > 0, torch.expm1(sharp * nearness) / torch.expm1(sharp), nearness)


def _fewer_keys(keys: Tensor, values: Tensor, sharpness: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Keys of one sharpness and their values, reduced to `most`."""
    if len(keys) <= most:
        return keys, values
    if float(sharpness) == 0:
        return truncate_linear(keys, values, most)
    return pivoted_cholesky_subset(keys, values, sharpness, most)


def truncate_linear(keys: Tensor, values: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Keys and values of the linear displacement keysᵀ values, truncated to `rank` by its singular values.

    keys, values: (n, dim). Returns two tensors of at most `rank` rows.
    """
    q_keys, r_keys = torch.linalg.qr(keys.T)
    q_values, r_values = torch.linalg.qr(values.T)
    left, singular_values, right = torch.linalg.svd(r_keys @ r_values.T)
    rank = min(rank, len(singular_values))
    return (q_keys @ left[:, :rank]).T, ((q_values @ right[:rank].T) * singular_values[:rank]).T


def pivoted_cholesky_subset(keys: Tensor, values: Tensor, sharpness: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` of the keys, chosen by pivoted Cholesky, with the values that best stand for the whole displacement.

    The values project the displacement, in the kernel's own space, onto the chosen keys.
    keys, values: (n, dim). Returns two tensors (count, dim).
    """
    gram = kernel(keys @ keys.T, sharpness)
    chosen = _pivots(gram, values, count)
    subset = gram[chosen][:, chosen]
    regularized = subset + 1e-4 * torch.eye(len(chosen)).to(subset)
    return keys[chosen], torch.linalg.solve(regularized, gram[chosen] @ values)


def _pivots(gram: Tensor, values: Tensor, count: int) -> Tensor:
    """Keys that explain most of the displacement: pivoted Cholesky, a pivot weighted by the size of its value."""
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
