"""The guard: decides whether a domain is adapted, and by which candidate. Does not depend on files or serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.candidates import Candidate
from semsearch.adapters.cross_validation import candidate_state, cross_validate
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.prior import Numbers, Prior, posterior
from semsearch.adapters.state import DomainState
from semsearch.adapters.states import with_parent
from semsearch.adapters.support import Support
from semsearch.adapters.verdict import MIN_LABELS, Reason, Verdict

CAUTION = 0.3
"""Posterior standard deviations by which a candidate's expected improvement must exceed MARGIN."""
WEAK_BASELINE_CAUTION = 3.0
"""The same if the frozen encoder ranks labelled documents no better than chance, as with labels that are all wrong."""
WEAK_BASELINE = 0.15
"""nDCG@10 before adaptation, on a scale from chance at 0 to 1, below which caution rises from CAUTION to
WEAK_BASELINE_CAUTION."""
MARGIN = 0.001
"""Improvement of nDCG@10."""


def decide(
    candidates: Sequence[Candidate],
    meta_parameters: Mapping[str, MetaParameters],
    prior: Prior,
    basis: SpectralBasis,
    support: Support,
    *,
    parent: DomainState | None = None,
) -> Verdict:
    """Choose the candidate with the best lower bound of its expected improvement, or none.

    meta_parameters: by learner.
    prior: of these candidates, in the same order.
    parent: the state that the inner loop starts from, and that is served if no candidate is chosen; by default the
    identity.
    """
    fallback = parent if parent is not None else DomainState.identity(support.queries.shape[1])
    n = len(support)
    refusal = _refusal(support)
    if refusal is not None:
        return Verdict(fallback, None, refusal, n, float("nan"), 0.0, float("-inf"), float("inf"))
    if parent is not None:
        meta_parameters = {name: with_parent(parameters, parent) for name, parameters in meta_parameters.items()}
    considered = [index for index, candidate in enumerate(candidates) if candidate.applies_to(n)]
    candidates = [candidates[index] for index in considered]
    with torch.no_grad():
        before, improvements, transformed = cross_validate(candidates, meta_parameters, basis, support)
        mean, deviation = posterior(prior.select(considered), before, improvements)
        deviations = caution(before.double().numpy(), support.chance_ndcg.double().numpy())
        best = int(np.argmax(mean - deviations * deviation))
        estimate, half_width = float(mean[best]), 1.96 * float(deviation[best])
        adapted = estimate - deviations * float(deviation[best]) > MARGIN
        state = fallback
        if adapted:
            state = candidate_state(candidates[best], meta_parameters, basis, support).to_domain_state()
    return Verdict(
        state,
        candidates[best] if adapted else None,
        Reason.ADAPTED if adapted else Reason.NO_IMPROVEMENT,
        n,
        float(before.mean()),
        estimate,
        estimate - half_width,
        estimate + half_width,
        transformed[best] if adapted else None,
    )


def _refusal(support: Support) -> Reason | None:
    """Return the reason to decline these labels without trying a candidate, if there is one."""
    if len(support) < MIN_LABELS:
        return Reason.TOO_FEW
    return Reason.ONE_DOCUMENT if support.has_one_answer else None


def caution(before: Numbers, chance: Numbers, *, least: float = CAUTION, most: float = WEAK_BASELINE_CAUTION) -> float:
    """Return the required number of standard deviations.

    It is `least`, and rises to `most` as the mean of `before` falls from WEAK_BASELINE of the distance between chance
    and 1 to chance.

    before: (n,) nDCG@10 of each labelled query before adaptation. chance: (n,) that of a random order of its judged
    documents, as `Support.chance_ndcg`.
    """
    above_chance = float((before - chance).mean()) / max(1 - float(chance.mean()), 1e-9)
    return least + (most - least) * min(1.0, max(0.0, 1 - above_chance / WEAK_BASELINE))
