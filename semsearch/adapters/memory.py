"""Memory: labelled queries, and those much like them, find what they were labelled with; all others stay as they are.

The displacement of the listwise learner with a kernel so sharp that a query of cosine 0.9 to a labelled one moves by 4%
of what that one does. It stands alone where no learner can be trusted to generalise, and beside one that does, since
people expect what they marked to count.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.losses import residuals
from semsearch.adapters.state import MAX_KEYS, DomainState
from semsearch.adapters.states import State, axes_of, before_displacement, kernel
from semsearch.adapters.support import Support

# chosen on 41 domains: docs/adaptation.md has what other values do
SHARPNESS = 32.0
TEMPERATURE = 0.05
RATE = 0.3
STEPS = 48
SETTLED = 0.03
"""Length of what is left for every query, at most, for the steps to end early."""
MAX_KEYS_NEXT_TO_LEARNER = 40
"""Queries remembered at most beside a learner that generalises: those that it leaves farthest from their answers."""


def generalises(state: DomainState) -> bool:
    """Whether a state changes more than judged queries and those much like them."""
    return bool(len(state.shrinkage) or state.shift.any() or state.has_gains or (state.sharpness != SHARPNESS).any())


def memorize(basis: SpectralBasis, support: Support, begun: DomainState | None = None) -> DomainState:
    """The state under which the support set's own queries find their relevant documents. Nothing in it is learned
    beforehand.

    begun: a state to be kept beside it; its keys may be made fewer to leave room.
    """
    still = State.identity(support.queries) if begun is None else State.from_domain_state(begun, support.queries)
    x = before_displacement(still, axes_of(basis, support.queries), support.queries)
    moved_by_it = x + kernel(x @ still.keys.T, still.sharpness) @ still.values + still.shift
    temperature, sharpness = torch.tensor(TEMPERATURE).to(x), torch.tensor(SHARPNESS).to(x)
    if begun is not None and len(x) > MAX_KEYS_NEXT_TO_LEARNER:
        left = residuals(torch.nn.functional.normalize(moved_by_it, dim=1), support, temperature).norm(dim=1)
        farthest = left.argsort(descending=True, stable=True)[:MAX_KEYS_NEXT_TO_LEARNER].sort().values
        x, moved_by_it, support = x[farthest], moved_by_it[farthest], support.of(farthest)
    near = kernel(x @ x.T, sharpness)
    rate = RATE / torch.linalg.eigvalsh(near)[-1]
    values = torch.zeros_like(x)
    for _ in range(STEPS):
        moved = torch.nn.functional.normalize(moved_by_it + near @ values, dim=1)
        left = residuals(moved, support, temperature)
        if float(left.norm(dim=1).max()) < SETTLED:
            break
        values = values + rate * left
    room = still.truncated(MAX_KEYS - min(len(x), MAX_KEYS_NEXT_TO_LEARNER))
    return replace(
        room,
        keys=torch.cat((room.keys, x)),
        values=torch.cat((room.values, values)),
        sharpness=torch.cat((room.sharpness, sharpness.expand(len(x)))),
    ).to_domain_state()
