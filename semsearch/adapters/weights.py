"""What was learned over many domains, as one file: learners' starts and the guard's prior, with their provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.candidates import CANDIDATES, UNBOUNDED, Candidate
from semsearch.adapters.guard import Verdict, decide
from semsearch.adapters.meta_parameters import MetaParameters
from semsearch.adapters.prior import Prior
from semsearch.adapters.state import DomainState
from semsearch.adapters.support import Support
from semsearch.errors import WeightsError
from semsearch.system.files import atomic_write

WEIGHTS_VERSION = 1
DEFAULT_WEIGHTS = Path(__file__).parent.parent / "weights" / "default.safetensors"
"""Trained on openly licensed domains only; its model card lies beside it."""

_FORMER_NAMES = {"contraction": "shrinkage", "fewest": "min_labels", "most": "max_labels"}
"""What fields of a candidate were called in files of semsearch 0.1."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """All that adaptation needs beside a domain's own labels."""

    meta_parameters: Mapping[str, MetaParameters]
    prior: Prior
    metadata: Mapping[str, JsonValue]
    """Encoder, training domains, settings: where it comes from."""
    candidates: Sequence[Candidate] = CANDIDATES

    def adapt(
        self,
        basis: SpectralBasis,
        support: Support,
        parent: DomainState | None = None,
        learners: Sequence[str] | None = None,
    ) -> Verdict:
        """A domain's state from its labels, guarded.

        learners: names of the candidates that the guard may choose from, at least one; by default all, each for the
        numbers of labels that it is meant for. Raises WeightsError where the dimensions disagree, or for a name that
        no candidate has.
        """
        self.check_basis(basis)
        if learners is None:
            return decide(self.candidates, self.meta_parameters, self.prior, basis, support, parent=parent)
        places = self.candidate_indices(learners)
        chosen = [replace(self.candidates[place], min_labels=1, max_labels=UNBOUNDED) for place in places]
        return decide(chosen, self.meta_parameters, self.prior.among(places), basis, support, parent=parent)

    def candidate_indices(self, learners: Sequence[str]) -> list[int]:
        """Where the candidates of these names stand. Raises WeightsError for a name that none has."""
        names = [candidate.name for candidate in self.candidates]
        for name in learners:
            if name not in names:
                raise WeightsError(
                    f"the weights have no learner {name!r}, only {', '.join(names)}: name one of those in"
                    " [adaptation] learners, or give the weights that the index was tuned with"
                )
        return [names.index(name) for name in learners]

    def check_basis(self, basis: SpectralBasis) -> None:
        """Raise WeightsError where the weights were learned for vectors of another dimension."""
        dimension = self.metadata.get("dimension")
        if dimension != basis.dimension:
            raise WeightsError(
                f"the weights were learned for {dimension} dimensions, the index has {basis.dimension}: learn weights"
                " for its encoder with semsearch learn"
            )

    def save(self, path: Path) -> None:
        """Write whole or not at all. Raises WeightsError if the disk refuses."""
        tensors = {
            f"start/{name}/{key}": value.detach().contiguous()
            for name, s in self.meta_parameters.items()
            for key, value in s.items()
        }
        for part in fields(Prior):
            value = np.ascontiguousarray(getattr(self.prior, part.name), np.float32)
            tensors[f"prior/{part.name}"] = torch.from_numpy(value)
        header = {
            "format_version": WEIGHTS_VERSION,
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "about": dict(self.metadata),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as unfinished:
                save_file(tensors, unfinished, metadata={"semsearch": json.dumps(header, sort_keys=True)})
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"the weights {path} cannot be written ({error}): choose another place") from error

    @classmethod
    def open(cls, path: Path = DEFAULT_WEIGHTS) -> Weights:
        """Read what `save` wrote. Raises WeightsError for anything else."""
        try:
            with safe_open(path, framework="pt") as file:
                header: dict[str, Any] = json.loads((file.metadata() or {})["semsearch"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if header["format_version"] != WEIGHTS_VERSION:
                raise WeightsError(
                    f"the weights {path} have format version {header['format_version']!r}, this semsearch reads"
                    f" {WEIGHTS_VERSION}: learn them again"
                )
            starts: dict[str, dict[str, torch.Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith("start/"):
                    _, member, key = name.split("/")
                    starts.setdefault(member, {})[key] = value
            prior = Prior(**{part.name: tensors[f"prior/{part.name}"].double().numpy() for part in fields(Prior)})
            candidates = [
                Candidate(**{_FORMER_NAMES.get(name, name): value for name, value in values.items()})
                for values in header["candidates"]
            ]
            return cls(starts, prior, dict(header["about"]), candidates)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path} holds no weights ({error}): give a file that semsearch learn wrote") from error
