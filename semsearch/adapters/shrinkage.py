"""Within-class shrinkage: directions in which queries and their documents differ count less (shrunk LDA)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.meta_parameters import MetaParameters, hyperparameter, init_hyperparameters, task_features
from semsearch.adapters.state import MAX_SHRINKAGE
from semsearch.adapters.states import State
from semsearch.adapters.support import Support


def scatter(support: Support) -> Tensor:
    """(dim, dim) how that which belongs together differs: queries from their relevant documents' mean, and relevant
    documents of one query from one another. The mean eigenvalue is 1."""
    means = support.targets @ support.documents
    apart = torch.nn.functional.normalize(means, dim=1) - support.queries
    members = (support.relevance > 0).to(support.queries)
    count = members.sum(dim=1)
    centres = (members @ support.documents) / count[:, None]
    # the scatter of the relevant documents of each query around their mean; one document alone has none
    several = (count > 1).to(members)
    weight = (members * several[:, None]).sum(dim=0)
    used = weight > 0
    documents = support.documents[used]
    within = (documents * weight[used, None]).T @ documents - (centres * (several * count)[:, None]).T @ centres
    total = apart.T @ apart + within
    return total * (len(total) / total.trace().clamp_min(1e-12))


def shrinkage(strength: Tensor, support: Support) -> Tensor:
    """(r, dim) rows c with I − Σ c cᵀ = (I + strength · scatter)⁻¹ on the scatter's r ≤ MAX_SHRINKAGE first axes.

    It is the linear part of a Gaussian model of the documents that belong to a query (linear discriminant analysis,
    with the scatter shrunk to the identity). The other axes would shrink alike, which normalising undoes: only what
    exceeds that is kept.
    """
    axes, sizes, rest = _spread(support)
    kept = 1 - (1 + strength * rest) / (1 + strength * torch.maximum(sizes, rest))
    return (axes * kept.clamp_min(1e-12).sqrt()).T


@lru_cache(maxsize=4)
def _spread(support: Support) -> tuple[Tensor, Tensor, Tensor]:
    """The scatter's leading axes (dim, r), its size along them (r,), and its mean size along all others.

    Constant to gradients. Remembered, since a guard tries many strengths on one support set.
    """
    whole = scatter(support).detach()
    axes = _leading(whole, min(MAX_SHRINKAGE, len(whole)))
    sizes = ((whole @ axes) * axes).sum(dim=0)
    return axes, sizes, ((whole.trace() - sizes.sum()) / max(len(whole) - len(sizes), 1)).clamp_min(0.0)


def _leading(matrix: Tensor, count: int) -> Tensor:
    """(dim, count) leading eigenvectors of a symmetric positive matrix, by subspace iteration."""
    dimension = len(matrix)
    width = min(dimension, count + 8)
    block = matrix[:, torch.linspace(0, dimension - 1, width).long()] + torch.eye(dimension, width).to(matrix)
    for _ in range(6):
        block, _ = torch.linalg.qr(matrix @ block)
    values, turn = torch.linalg.eigh(block.T @ matrix @ block)
    leading: Tensor = block @ turn[:, values.argsort(descending=True)[:count]]
    return leading


def learn_shrinkage(start: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """Within-class shrinkage only, of learned strength."""
    strength = hyperparameter(start, "contraction", task_features(basis, support))
    return replace(State.identity(support.queries), shrinkage=shrinkage(strength, support))


def init_shrinkage(_: int) -> dict[str, Tensor]:
    """Where the outer loop begins."""
    return init_hyperparameters(contraction=0.1)
