"""What learners start from, and what of a domain those numbers may depend on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.support import Support

MetaParameters = Mapping[str, Tensor]
"""What the outer loop learns of one learner, by name."""

TASK_FEATURES = ("labels", "relevant", "first hit", "drop", "effective rank")
"""What a learner's numbers may depend on, beside the labels themselves; each is about within ±1."""


def task_features(basis: SpectralBasis, support: Support) -> Tensor:
    """(len(CONTEXT),) the support set's size, how many documents are relevant to a query, the mean similarity of a
    query's first hit, how much it drops to the tenth, and the effective rank (Σw)² / Σw² of the corpus."""
    scores = (support.queries @ support.documents.T).topk(min(10, len(support.documents)), dim=1).values
    values = torch.from_numpy(basis.eigenvalues).to(scores)
    rank = values.sum() ** 2 / (values * values).sum().clamp_min(1e-12)
    relevant = (support.relevance > 0).sum(dim=1).to(scores).log().mean()
    return torch.stack(
        (
            torch.tensor(len(support) / 16.0).to(scores).log() / 2,
            relevant / 2 - 0.5,
            (scores[:, 0].mean() - 0.65) / 0.15,
            ((scores[:, 0] - scores[:, -1]).mean() - 0.2) / 0.1,
            (rank / 60).log(),
        )
    ).clamp(-1.5, 1.5)


def hyperparameter(start: MetaParameters, name: str, given: Tensor) -> Tensor:
    """A learner's positive number for a context: exp(log_NAME + tilt_NAME · context)."""
    return torch.exp(start[f"log_{name}"] + start[f"tilt_{name}"] @ given)


def init_hyperparameters(**numbers: float) -> dict[str, Tensor]:
    """Where the outer loop begins for settings of these values: the same in every context."""
    logs = {f"log_{name}": torch.tensor(value).log() for name, value in numbers.items()}
    return logs | {f"tilt_{name}": torch.zeros(len(TASK_FEATURES)) for name in numbers}
