"""Meta-trained weights as one file: the learners' meta-parameters and the guard's prior, with their provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from semsearch.adapters.basis import SpectralBasis
from semsearch.adapters.candidates import CANDIDATES, UNBOUNDED, Candidate
from semsearch.adapters.prior import Prior
from semsearch.adapters.state import DomainState
from semsearch.adapters.tensor_names import VECTORS, current_key
from semsearch.errors import WeightsError
from semsearch.system.files import atomic_write

# a server reads weights when it starts, but needs torch, which takes a second to import, only to adapt
if TYPE_CHECKING:
    from semsearch.adapters.meta_parameters import MetaParameters
    from semsearch.adapters.support import Support
    from semsearch.adapters.verdict import Verdict

WEIGHTS_VERSION = 1
DEFAULT_WEIGHTS = Path(__file__).parent.parent / "weights" / "default.safetensors"
"""Trained on openly licensed data sets only; its model card is README.md in the same folder."""

_META_PARAMETERS = "meta_parameters"
"""Group of the tensors `meta_parameters/LEARNER/KEY` in a file."""
_FORMER_META_PARAMETERS = "start"
"""The same in files of semsearch 0.1."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Everything that adaptation needs besides a domain's labels."""

    arrays: Mapping[str, Mapping[str, npt.NDArray[np.float32]]]
    """The meta-parameters by learner and name."""
    prior: Prior
    """Of the candidates, in their order."""
    metadata: Mapping[str, JsonValue]
    """Provenance: encoder, dimension, training data sets, settings."""
    candidates: Sequence[Candidate] = CANDIDATES

    @classmethod
    def of(
        cls, meta_parameters: Mapping[str, MetaParameters], prior: Prior, metadata: Mapping[str, JsonValue]
    ) -> Weights:
        """Return weights with the present candidates. Parameters: as the attributes."""
        arrays = {
            learner: {name: tensor.detach().contiguous().numpy() for name, tensor in parameters.items()}
            for learner, parameters in meta_parameters.items()
        }
        return cls(arrays, prior, metadata)

    @cached_property
    def meta_parameters(self) -> Mapping[str, MetaParameters]:
        """The meta-parameters as tensors, by learner."""
        import torch

        return {
            learner: {name: torch.tensor(array) for name, array in parameters.items()}
            for learner, parameters in self.arrays.items()
        }

    def adapt(
        self,
        basis: SpectralBasis,
        support: Support,
        parent: DomainState | None = None,
        learners: Sequence[str] | None = None,
    ) -> Verdict:
        """Let the guard decide on a domain's state, given its labels.

        parent: see `decide`.
        learners: names of the candidates that the guard may choose from, at least one, whatever the number of labels.
        By default all candidates, each for its own numbers of labels.

        Raises WeightsError if the dimension does not match, or for a name that no candidate has.
        """
        from semsearch.adapters.guard import decide

        self.check_dimension(basis.dimension)
        if learners is None:
            return decide(self.candidates, self.meta_parameters, self.prior, basis, support, parent=parent)
        indices = self.candidate_indices(learners)
        candidates = [replace(self.candidates[index], min_labels=1, max_labels=UNBOUNDED) for index in indices]
        return decide(candidates, self.meta_parameters, self.prior.select(indices), basis, support, parent=parent)

    def candidate_indices(self, learners: Sequence[str]) -> list[int]:
        """Return the indices of the candidates of these names. Raises WeightsError for a name that no candidate has."""
        names = [candidate.name for candidate in self.candidates]
        for name in learners:
            if name not in names:
                raise WeightsError(
                    f"the weights have no learner {name!r}, only {', '.join(names)}: name one of those in"
                    " [adaptation] learners, or give the weights that the index was tuned with"
                )
        return [names.index(name) for name in learners]

    def check_dimension(self, dimension: int) -> None:
        """Raise WeightsError if the weights hold vectors of another dimension.

        Those of some baselines do. The candidates' learners have numbers only, which hold for every encoder.
        """
        for learner, parameters in self.arrays.items():
            for name, array in parameters.items():
                if name in VECTORS and array.shape != (dimension,):
                    raise WeightsError(
                        f"the learner {learner!r} of the weights holds vectors of shape {array.shape}, the index has"
                        f" {dimension}: learn it for this encoder with semsearch learn, or use weights without it"
                    )

    def save(self, path: Path) -> None:
        """Write the file atomically. Raises WeightsError if it cannot be written."""
        tensors = {
            f"{_META_PARAMETERS}/{learner}/{key}": array
            for learner, parameters in self.arrays.items()
            for key, array in parameters.items()
        }
        for field in fields(Prior):
            tensors[f"prior/{field.name}"] = np.ascontiguousarray(getattr(self.prior, field.name), np.float32)
        header = {
            "format_version": WEIGHTS_VERSION,
            "candidates": [candidate.as_json() for candidate in self.candidates],
            "about": dict(self.metadata),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as unfinished:
                save_file(tensors, unfinished, metadata={"semsearch": json.dumps(header, sort_keys=True)})
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"the weights {path} cannot be written ({error}): choose another path") from error

    @classmethod
    def open(cls, path: Path = DEFAULT_WEIGHTS) -> Weights:
        """Read a file written by `save`, also of semsearch 0.1. Raises WeightsError for any other file."""
        try:
            with safe_open(path, framework="numpy") as file:
                header: dict[str, Any] = json.loads((file.metadata() or {})["semsearch"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if header["format_version"] != WEIGHTS_VERSION:
                raise WeightsError(
                    f"the weights {path} have format version {header['format_version']!r}, this semsearch reads"
                    f" {WEIGHTS_VERSION}: learn them again"
                )
            arrays: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
            for name, value in tensors.items():
                group, _, learner_key = name.partition("/")
                if group in {_META_PARAMETERS, _FORMER_META_PARAMETERS}:
                    learner, key = learner_key.split("/")
                    arrays.setdefault(learner, {})[current_key(key)] = value
            prior = Prior(**{field.name: tensors[f"prior/{field.name}"].astype(np.float64) for field in fields(Prior)})
            candidates = [Candidate.from_json(values) for values in header["candidates"]]
            return cls(arrays, prior, dict(header["about"]), candidates)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path} holds no weights ({error}): give a file that semsearch learn wrote") from error
