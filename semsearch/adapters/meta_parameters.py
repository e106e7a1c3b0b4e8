"""The meta-parameters of the learners, and the task features that hyperparameters may depend on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.cosine_scale import REFERENCE_CONTRAST, cosine_scale
from semsearch.adapters.support import Support
from semsearch.adapters.tensor_names import CONTEXT_SLOPE

MetaParameters = Mapping[str, Tensor]
"""The tensors of one learner that the outer loop learns, by name."""

TASK_FEATURES = ("labels", "relevant", "first hit", "drop", "effective rank")
"""The numbers that describe a task, a support set over a corpus. Each is scaled to about [-1, 1]."""


def task_features(basis: SpectralBasis, support: Support) -> Tensor:
    """Return the (len(TASK_FEATURES),) features of a task, clamped to [-1.5, 1.5].

    These are the number of labelled queries, the number of relevant documents of a query, the mean similarity of a
    query's first hit, its difference to the tenth hit's, and the effective rank (Σw)² / Σw² of the corpus's eigenvalues
    w. Similarities are shares of the distance of the mean cosine to 1, which encoders use differently.
    """
    scores = (support.queries @ support.documents.T).topk(min(10, len(support.documents)), dim=1).values
    scale = cosine_scale(basis, support.queries.float().numpy(force=True))
    first = (scores[:, 0].mean() - scale.background) / scale.contrast * REFERENCE_CONTRAST
    drop = (scores[:, 0] - scores[:, -1]).mean() / scale.contrast * REFERENCE_CONTRAST
    eigenvalues = torch.from_numpy(basis.eigenvalues).to(scores)
    rank = eigenvalues.sum() ** 2 / (eigenvalues * eigenvalues).sum().clamp_min(1e-12)
    relevant = (support.relevance > 0).sum(dim=1).to(scores).log().mean()
    return torch.stack(
        (
            torch.tensor(len(support) / 16.0).to(scores).log() / 2,
            relevant / 2 - 0.5,
            (first - 0.43) / 0.15,
            (drop - 0.2) / 0.1,
            (rank / 60).log(),
        )
    ).clamp(-1.5, 1.5)


def hyperparameter(parameters: MetaParameters, name: str, features: Tensor) -> Tensor:
    """Return a positive hyperparameter for a task: exp(log_NAME + context_slope_NAME · features)."""
    return torch.exp(parameters[f"log_{name}"] + parameters[f"{CONTEXT_SLOPE}{name}"] @ features)


def scale_of(basis: SpectralBasis, support: Support) -> float:
    """Return the factor of `cosine_scale` for the queries of a support set."""
    return cosine_scale(basis, support.queries.float().numpy(force=True)).factor


def init_hyperparameters(**values: float) -> dict[str, Tensor]:
    """Return initial meta-parameters of hyperparameters that have these values for every task."""
    logs = {f"log_{name}": torch.tensor(value).log() for name, value in values.items()}
    return logs | {f"{CONTEXT_SLOPE}{name}": torch.zeros(len(TASK_FEATURES)) for name in values}
