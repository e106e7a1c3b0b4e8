"""Memory: labelled queries, and very similar ones, find their labelled documents; other queries hardly change.

It is the displacement of the listwise learner with a kernel so sharp that a query of cosine 0.9 to a labelled one is
displaced by 4% as much. It is used alone if no learner can be trusted to generalise, and next to a learner otherwise,
because users expect that their judgments have an effect.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.cosine_scale import cosine_scale
from semsearch.adapters.losses import descend, residuals
from semsearch.adapters.meta_parameters import scale_of
from semsearch.adapters.state import MAX_SHARPNESS, DomainState, key_rows, rounded
from semsearch.adapters.states import State, axes_of, before_displacement, kernel
from semsearch.adapters.support import Support

# chosen on 41 data sets: docs/adaptation.md has the effect of other values
SHARPNESS = 32.0
TEMPERATURE = 0.05
RATE = 0.3
STEPS = 48
TOLERANCE = 0.03
"""The descent stops once every query's residual is shorter than this."""
MAX_KEYS_NEXT_TO_LEARNER = 40
"""Most queries that are memorized next to a learner that generalises: those with the longest residuals. At most half
of a state's keys are theirs."""


def max_keys_next_to_learner(max_keys: int) -> int:
    """Return how many queries are memorized next to a learner, at least 1. max_keys: most keys of the state."""
    return max(1, min(MAX_KEYS_NEXT_TO_LEARNER, max_keys // 2))


def generalises(basis: SpectralBasis, state: DomainState) -> bool:
    """Whether a state changes other queries than judged ones and very similar ones.

    basis: of the corpus that the state was made for.
    """
    if len(state.shrinkage) or state.shift.any() or state.has_gains:
        return True
    if not len(state.keys):
        return False
    # keys are queries, so they tell what a memory's sharpness is in this corpus; half of it is far above any learner's
    is_memory = state.sharpness >= _sharpness(cosine_scale(basis, state.keys).factor) / 2
    # earlier versions memorized with the same sharpness for every encoder
    return not (is_memory | (state.sharpness == SHARPNESS)).all()


def _sharpness(scale: float) -> float:
    """Return the sharpness of memorized queries' keys. scale: the factor of `cosine_scale`."""
    return min(SHARPNESS / scale, MAX_SHARPNESS)


def memorize(
    basis: SpectralBasis, support: Support, base_state: DomainState | None = None, *, max_keys: int | None = None
) -> DomainState:
    """Return a state under which the queries of the support set find their relevant documents.

    No meta-parameters are used.

    base_state: a state to extend; its keys may be reduced to leave space for the memorized queries. max_keys: most keys
    of the result, by default as many as fit a state.
    """
    like = support.queries
    max_keys = max_keys or key_rows(like.shape[1])
    max_memorized = max_keys_next_to_learner(max_keys)
    scale = scale_of(basis, support)
    base = State.identity(like) if base_state is None else State.from_domain_state(base_state, like)
    x = before_displacement(base, axes_of(basis, like), like)
    base_queries = x + kernel(x @ base.keys.T, base.sharpness) @ base.values + base.shift
    temperature, sharpness = (torch.tensor(value).to(x) for value in (TEMPERATURE * scale, _sharpness(scale)))
    if base_state is not None and len(x) > max_memorized:
        unit = torch.nn.functional.normalize(base_queries, dim=1)
        distances = residuals(unit, support, temperature).norm(dim=1)
        farthest = distances.argsort(descending=True, stable=True)[:max_memorized].sort().values
        x, base_queries, support = x[farthest], base_queries[farthest], support.select(farthest)
    values = descend(
        base_queries,
        kernel(x @ x.T, sharpness),
        support,
        temperature=temperature,
        rate=RATE,
        steps=STEPS,
        tolerance=TOLERANCE,
    )
    reduced = base.truncated(max_keys - min(len(x), max_memorized))
    # rounding changes a key's product with its query: scaled, a sharp kernel is 1 there all the same
    products = (torch.from_numpy(rounded(x.float().numpy(force=True))).to(x) * x).sum(dim=1, keepdim=True)
    extended = replace(
        reduced,
        keys=torch.cat((reduced.keys, x / products.clamp_min(0.5))),
        values=torch.cat((reduced.values, values)),
        sharpness=torch.cat((reduced.sharpness, sharpness.expand(len(x)))),
    )
    return extended.truncated(max_keys).to_domain_state()
