"""The guard's candidates: learners with scaled hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import JsonValue

UNBOUNDED = 1_000_000
"""More labelled queries than any domain has."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A learner with factors on its shrinkage and its rate."""

    learner: str
    """Key of `learners.LEARNERS`."""
    shrinkage: float = 1.0
    """Factor on the learned strength of within-class shrinkage."""
    rate: float = 1.0
    """Factor on the learned rate."""
    min_labels: int = 1
    """Fewest labelled queries: candidates with strong effects need evidence that few labels cannot give."""
    max_labels: int = UNBOUNDED
    """Most labelled queries: candidates with weak effects are for few labels."""

    @property
    def name(self) -> str:
        """Name in recipes, such as `listwise-c3-r1`."""
        return f"{self.learner}-c{self.shrinkage:g}-r{self.rate:g}"

    def applies_to(self, labels: int) -> bool:
        """Whether it is considered for this number of labelled queries."""
        return self.min_labels <= labels <= self.max_labels

    def as_json(self) -> dict[str, JsonValue]:
        """Return the candidate for weight files and verdicts."""
        return {_JSON_KEYS.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Candidate:
        """Read `as_json`, also of semsearch 0.1. Raises TypeError for unknown keys."""
        return cls(**{_FIELDS.get(key, key): value for key, value in values.items()})


_JSON_KEYS = {"learner": "member"}
"""Field → key in JSON, where they differ."""
_FIELDS = {"member": "learner", "contraction": "shrinkage", "fewest": "min_labels", "most": "max_labels"}
"""Key in JSON → field, where they differ; also the keys of semsearch 0.1."""


CANDIDATES: Sequence[Candidate] = (
    Candidate("listwise", shrinkage=0.0, rate=0.4, max_labels=47),
    Candidate("listwise", shrinkage=0.0, rate=1.0, min_labels=9),
    Candidate("listwise", shrinkage=1.0, rate=1.0, min_labels=9),
    Candidate("listwise", shrinkage=3.0, rate=1.0, min_labels=24),
    Candidate("listwise", shrinkage=10.0, rate=1.0, min_labels=24),
    Candidate("listwise", shrinkage=30.0, rate=1.0, min_labels=48),
    Candidate("listwise", shrinkage=1.0, rate=3.0, min_labels=48),
)
