"""The loss that inner and outer loops minimise, and the measure that the guard maximises. Does not depend on states."""

from __future__ import annotations

import torch
from torch import Tensor

from semsearch.adapters.ndcg import DEPTH, ndcg
from semsearch.adapters.support import Support


def listwise_loss(queries: Tensor, support: Support, temperature: Tensor | float) -> Tensor:
    """(n,) cross-entropy of each query's relevant documents under a softmax over all documents (ListNet's top-one
    loss, Cao et al. 2007, doi:10.1145/1273496.1273513)."""
    return -(support.targets * torch.log_softmax(support.logits(queries, temperature), dim=1)).sum(dim=1)


def residuals(queries: Tensor, support: Support, temperature: Tensor) -> Tensor:
    """(n, dim) negative gradient of the listwise loss, times the temperature: the mean relevant document less the
    mean under the softmax."""
    return (support.targets - torch.softmax(support.logits(queries, temperature), dim=1)) @ support.documents


def support_ndcg(queries: Tensor, support: Support) -> Tensor:
    """(n,) nDCG@10 of (n, dim) queries over the support set's documents."""
    return scores_ndcg(support.scores(queries), support)


def scores_ndcg(scores: Tensor, support: Support) -> Tensor:
    """(n,) nDCG@10 of the support set's documents ranked by (n, m) scores."""
    top = support.judged_scores(scores).topk(min(DEPTH, len(support.documents)), dim=1).indices
    ranked = support.relevance.gather(1, top)
    return torch.from_numpy(ndcg(ranked.numpy(force=True), support.relevance.numpy(force=True))).to(scores)


def descend(
    base_queries: Tensor,
    gram: Tensor,
    support: Support,
    *,
    temperature: Tensor,
    rate: Tensor | float,
    steps: int,
    decay: Tensor | None = None,
    tolerance: float | None = None,
) -> Tensor:
    """(n, dim) values of the support queries' keys, by gradient descent in function space (Mason et al. 1999).

    Each step adds the listwise residuals, less `decay` times the values.

    base_queries: (n, dim), the queries before the displacement by these keys.
    gram: (n, n), the kernel between the keys.
    rate: step size, as a share of the inverse of the largest eigenvalue of `gram`.
    tolerance: stop once every query's residual is shorter than this. By default all steps are taken.
    """
    # the largest eigenvalue bounds the step size for which the descent is stable
    step = rate / torch.linalg.eigvalsh(gram)[-1]
    values = torch.zeros_like(base_queries)
    for _ in range(steps):
        queries = torch.nn.functional.normalize(base_queries + gram @ values, dim=1)
        direction = residuals(queries, support, temperature)
        if tolerance is not None and float(direction.norm(dim=1).max()) < tolerance:
            break
        if decay is not None:
            direction = direction - decay * values
        values = values + step * direction
    return values
