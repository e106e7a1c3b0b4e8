"""What inner and outer loops lower, and what the guard raises; knows nothing of states."""

from __future__ import annotations

import torch
from torch import Tensor

from semsearch.adapters.support import Support

DEPTH = 10
"""nDCG counts so many places."""


def listwise_loss(queries: Tensor, support: Support, temperature: Tensor | float) -> Tensor:
    """(n,) cross-entropy of each query's relevant documents under a softmax over all documents (ListNet's top-one
    loss, Cao et al. 2007, doi:10.1145/1273496.1273513)."""
    logits = support.known(support.scores(queries) / temperature + support.offsets)
    return -torch.where(support.targets > 0, support.targets * torch.log_softmax(logits, dim=1), 0.0).sum(dim=1)


def residual(queries: Tensor, support: Support, temperature: Tensor) -> Tensor:
    """(n, dim) the listwise loss's downhill direction: the mean relevant document less the softmax-expected one."""
    logits = support.known(support.scores(queries) / temperature + support.offsets)
    return (support.targets - torch.softmax(logits, dim=1)) @ support.documents


def ndcg(queries: Tensor, support: Support) -> Tensor:
    """(n,) nDCG@10 of each query over the support set's documents, gains linear, discount log2(rank + 1)."""
    return ndcg_of(support.scores(queries), support)


def ndcg_of(scores: Tensor, support: Support) -> Tensor:
    """(n,) the same for documents ranked by (n, m) scores."""
    depth = min(DEPTH, len(support.documents))
    top = support.known(scores).topk(depth, dim=1).indices
    discount = 1 / torch.log2(torch.arange(2, depth + 2).to(scores))
    found = (support.gains.gather(1, top) * discount).sum(dim=1)
    return found / (support.gains.topk(depth, dim=1).values * discount).sum(dim=1)
