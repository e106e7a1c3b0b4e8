"""Within-class shrinkage, as in linear discriminant analysis: directions in which a query and its relevant documents
differ count less."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.meta_parameters import MetaParameters, hyperparameter, init_hyperparameters, task_features
from semsearch.adapters.state import shrinkage_rows
from semsearch.adapters.states import State
from semsearch.adapters.support import Support


def scatter(support: Support) -> Tensor:
    """(dim, dim) within-class scatter, scaled to a mean eigenvalue of 1.

    It sums the differences of queries from the mean of their relevant documents, and of the relevant documents of a
    query from their mean.
    """
    means = support.targets @ support.documents
    differences = torch.nn.functional.normalize(means, dim=1) - support.queries
    relevant = (support.relevance > 0).to(support.queries)
    count = relevant.sum(dim=1)
    centres = (relevant @ support.documents) / count[:, None]
    # a single relevant document has no scatter
    several = (count > 1).to(relevant)
    weight = (relevant * several[:, None]).sum(dim=0)
    used = weight > 0
    documents = support.documents[used]
    within = (documents * weight[used, None]).T @ documents - (centres * (several * count)[:, None]).T @ centres
    total = differences.T @ differences + within
    return total * (len(total) / total.trace().clamp_min(1e-12))


def shrinkage(strength: Tensor, support: Support) -> Tensor:
    """(r, dim) rows c with I − Σ c cᵀ = (I + strength · scatter)⁻¹ on the scatter's r leading axes.

    This is the linear part of a Gaussian model of the documents that belong to a query: linear discriminant analysis,
    with the scatter shrunk toward the identity. All other axes would shrink by one factor, which normalising undoes, so
    the rows hold only the shrinkage in excess of it.
    """
    axes, variances, mean_of_others = _leading_scatter(support)
    removed = 1 - (1 + strength * mean_of_others) / (1 + strength * torch.maximum(variances, mean_of_others))
    return (axes * removed.clamp_min(1e-12).sqrt()).T


@lru_cache(maxsize=4)
def _leading_scatter(support: Support) -> tuple[Tensor, Tensor, Tensor]:
    """Leading axes (dim, r) of the scatter, variances along them (r,), and the mean variance along all other axes.

    No gradients. Cached because the guard tries several strengths on one support set.
    """
    matrix = scatter(support).detach()
    axes = _leading_eigenvectors(matrix, shrinkage_rows(len(matrix)))
    variances = ((matrix @ axes) * axes).sum(dim=0)
    others = max(len(matrix) - len(variances), 1)
    return axes, variances, ((matrix.trace() - variances.sum()) / others).clamp_min(0.0)


def _leading_eigenvectors(matrix: Tensor, count: int) -> Tensor:
    """(dim, count) leading eigenvectors of a symmetric positive semi-definite matrix, by subspace iteration."""
    dimension = len(matrix)
    width = min(dimension, count + 8)
    block = matrix[:, torch.linspace(0, dimension - 1, width).long()] + torch.eye(dimension, width).to(matrix)
    for _ in range(6):
        block, _ = torch.linalg.qr(matrix @ block)
    values, rotation = torch.linalg.eigh(block.T @ matrix @ block)
    leading: Tensor = block @ rotation[:, values.argsort(descending=True)[:count]]
    return leading


def learn_shrinkage(parameters: MetaParameters, basis: SpectralBasis, support: Support) -> State:
    """Learn within-class shrinkage only; the outer loop learns its strength."""
    strength = hyperparameter(parameters, "contraction", task_features(basis, support))
    return replace(State.identity(support.queries), shrinkage=shrinkage(strength, support))


def init_shrinkage(_: int) -> dict[str, Tensor]:
    """Return initial meta-parameters, before any outer loop."""
    return init_hyperparameters(contraction=0.1)
