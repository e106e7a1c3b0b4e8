"""What inner and outer loops lower, and what the guard raises; knows nothing of states."""

from __future__ import annotations

import torch
from torch import Tensor

from semsearch.adapters.ndcg import DEPTH, ndcg
from semsearch.adapters.support import Support


def listwise_loss(queries: Tensor, support: Support, temperature: Tensor | float) -> Tensor:
    """(n,) cross-entropy of each query's relevant documents under a softmax over all documents (ListNet's top-one
    loss, Cao et al. 2007, doi:10.1145/1273496.1273513)."""
    logits = support.judged_scores(support.scores(queries) / temperature + support.log_sampling_weight)
    return -torch.where(support.targets > 0, support.targets * torch.log_softmax(logits, dim=1), 0.0).sum(dim=1)


def residuals(queries: Tensor, support: Support, temperature: Tensor) -> Tensor:
    """(n, dim) the listwise loss's downhill direction: the mean relevant document less the softmax-expected one."""
    logits = support.judged_scores(support.scores(queries) / temperature + support.log_sampling_weight)
    return (support.targets - torch.softmax(logits, dim=1)) @ support.documents


def support_ndcg(queries: Tensor, support: Support) -> Tensor:
    """(n,) nDCG@10 of (n, dim) queries over the support set's documents."""
    return scores_ndcg(support.scores(queries), support)


def scores_ndcg(scores: Tensor, support: Support) -> Tensor:
    """(n,) nDCG@10 of the support set's documents ranked by (n, m) scores."""
    top = support.judged_scores(scores).topk(min(DEPTH, len(support.documents)), dim=1).indices
    ranked = support.relevance.gather(1, top)
    return torch.from_numpy(ndcg(ranked.numpy(force=True), support.relevance.numpy(force=True))).to(scores)
