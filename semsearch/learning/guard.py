"""Decides for one domain whether to adapt, and how strongly; knows nothing of files or of serving.

Cross-validation on the domain's own labels gives, for every candidate, what it adds and how uncertain that is. What
the same candidates added on the training domains is the prior. The posterior of the two, a Gaussian, decides:
empirical Bayes (Robbins 1956; Efron 2010), so that few labels are believed little and many are believed much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue
from torch import Tensor

from semsearch.adapter import DomainState, SpectralBasis
from semsearch.learning.learners import MEMBERS, Start, State, rescale
from semsearch.learning.support import Support
from semsearch.learning.tasks import Domain

Numbers = npt.NDArray[np.float64]

DEPTH = 10
"""The guard judges by nDCG at this depth."""
FOLDS = 5
FIT_ON = 768
"""Documents that candidates are cross-validated with; they are judged on all of the support set's."""
FEWEST = 4
"""Labelled queries below which nothing can be judged."""
PRIOR_LABELS = 16
"""How many labelled queries' worth of noise the prior contributes to a domain's own."""
CAUTION = 0.4
"""Posterior standard deviations a candidate must clear."""
CAUTION_IN_THE_DARK = 2.0
"""The same where the frozen encoder finds none of what is labelled: labels that are all wrong look like that."""
DARK = 0.1
"""Frozen nDCG@10 below which caution rises."""
MARGIN = 0.001
"""nDCG@10 beyond that which a candidate must clear."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A learner with its contraction and its rate turned up or down."""

    member: str
    contraction: float = 1.0
    """Factor on the learned strength of the contraction."""
    rate: float = 1.0
    """Factor on the learned rate."""
    fewest: int = 1
    """Labelled queries below which it is not considered: bold candidates need evidence that few labels cannot give."""
    most: int = 1_000_000
    """Labelled queries above which it is not considered: timid candidates are for few."""

    def considered(self, labels: int) -> bool:
        """Whether it is a candidate for so many labelled queries."""
        return self.fewest <= labels <= self.most


CANDIDATES: Sequence[Candidate] = (
    Candidate("listwise", contraction=0.0, rate=0.4, most=47),
    Candidate("listwise", contraction=0.0, rate=1.0, fewest=9),
    Candidate("listwise", contraction=1.0, rate=1.0, fewest=9),
    Candidate("listwise", contraction=3.0, rate=1.0, fewest=24),
    Candidate("listwise", contraction=10.0, rate=1.0, fewest=24),
    Candidate("listwise", contraction=30.0, rate=1.0, fewest=48),
    Candidate("listwise", contraction=1.0, rate=3.0, fewest=48),
)


class Reason(StrEnum):
    """Why a domain was adapted or not."""

    ADAPTED = "adapted"
    TOO_FEW = "too few labelled queries to judge"
    ONE_DOCUMENT = "one document is the answer to more than half of the labelled queries"
    NO_GAIN = "no learner would surely help"


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What the guard decided for a domain."""

    state: DomainState
    """What to serve with: learned, or the parent's, or the identity."""
    candidate: Candidate | None
    """What was chosen; None where nothing was."""
    reason: Reason
    labels: int
    """Labelled queries it was decided on."""
    frozen: float
    """nDCG@10 of the frozen encoder on them, over the support set's documents."""
    estimate: float
    """Expected change of nDCG@10 on queries to come, by the best candidate, whether it was taken or not."""
    low: float
    high: float
    """Bounds of its central 95% interval."""

    @property
    def adapted(self) -> bool:
        """Whether the labels changed anything."""
        return self.candidate is not None

    def as_json(self) -> dict[str, JsonValue]:
        """The verdict without its state, for files and programs."""
        return {
            "adapted": self.adapted,
            "reason": self.reason.value,
            "candidate": None if self.candidate is None else dict[str, JsonValue](asdict(self.candidate)),
            "labels": self.labels,
            "frozen": None if math.isnan(self.frozen) else round(self.frozen, 4),
            "estimate": round(self.estimate, 4),
            "interval": [round(bound, 4) if math.isfinite(bound) else None for bound in (self.low, self.high)],
        }

    def words(self) -> str:
        """The verdict as a sentence for people."""
        if self.reason is Reason.TOO_FEW:
            return f"Not adapted: {self.labels} labelled queries, at least {FEWEST} are needed to judge."
        if self.reason is Reason.ONE_DOCUMENT:
            return f"Not adapted: {self.reason.value}."
        expected = (
            f"{self.estimate:+.3f} nDCG@10 ({self.low:+.3f} to {self.high:+.3f}) from {self.labels} labelled queries"
        )
        if self.adapted:
            return f"Adapted: expected {expected}."
        return f"Not adapted: {self.reason.value}; the best would give {expected}."


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """What candidates added on the training domains, by the number of labelled queries; in shares of the room."""

    sizes: Numbers
    """(S,) labelled queries, rising."""
    mean: Numbers
    """(S, K)."""
    covariance: Numbers
    """(S, K, K) between domains."""
    noise: Numbers
    """(S, K, K) between queries of one domain."""

    def among(self, columns: Sequence[int]) -> Prior:
        """The same for some of the candidates."""
        both = np.ix_(range(len(self.sizes)), columns, columns)
        return Prior(self.sizes, self.mean[:, list(columns)], self.covariance[both], self.noise[both])

    def at(self, labels: int) -> tuple[Numbers, Numbers, Numbers]:
        """(mean, covariance, noise), interpolated over the logarithm of the number of labelled queries."""
        place = float(np.interp(np.log(labels), np.log(self.sizes), np.arange(len(self.sizes))))
        low = min(int(place), len(self.sizes) - 2) if len(self.sizes) > 1 else 0
        high = min(low + 1, len(self.sizes) - 1)
        part = place - low
        mean, covariance, noise = (
            values[low] * (1 - part) + values[high] * part for values in (self.mean, self.covariance, self.noise)
        )
        return mean, covariance, noise


def decide(
    candidates: Sequence[Candidate],
    starts: Mapping[str, Start],
    prior: Prior,
    basis: SpectralBasis,
    support: Support,
    *,
    parent: DomainState | None = None,
) -> Verdict:
    """Adapt a domain to its labels, or not.

    parent: what to serve with where the labels do not decide; by default the identity.
    """
    fallback = parent if parent is not None else DomainState.identity(support.queries.shape[1])
    n = len(support)
    if n < FEWEST:
        return Verdict(fallback, None, Reason.TOO_FEW, n, float("nan"), 0.0, float("-inf"), float("inf"))
    answered = (support.gains > 0).sum(dim=0).max()
    if int(answered) > n / 2 and float((support.gains > 0).sum(dim=1).float().mean()) < 2:
        return Verdict(fallback, None, Reason.ONE_DOCUMENT, n, float("nan"), 0.0, float("-inf"), float("inf"))
    considered = [place for place, candidate in enumerate(candidates) if candidate.considered(n)]
    candidates = [candidates[place] for place in considered]
    with torch.no_grad():
        frozen, gains = cross_validate(candidates, starts, basis, support)
        mean, deviation = posterior(prior.among(considered), frozen, gains)
        careful = caution(frozen.double().numpy())
        best = int(np.argmax(mean - careful * deviation))
        estimate, spread = float(mean[best]), 1.96 * float(deviation[best])
        taken = estimate - careful * float(deviation[best]) > MARGIN
        state = candidate_state(candidates[best], starts, basis, support).compact() if taken else fallback
    return Verdict(
        state,
        candidates[best] if taken else None,
        Reason.ADAPTED if taken else Reason.NO_GAIN,
        n,
        float(frozen.mean()),
        estimate,
        estimate - spread,
        estimate + spread,
    )


def candidate_state(candidate: Candidate, starts: Mapping[str, Start], basis: SpectralBasis, support: Support) -> State:
    """What a candidate makes of the support set."""
    start = dict(starts[candidate.member])
    for name, factor in (("log_contraction", candidate.contraction), ("log_rate", candidate.rate)):
        if name in start:
            start[name] = start[name] + torch.tensor(max(factor, 1e-9)).log()
    return MEMBERS[candidate.member].learn(start, basis, support)


def ndcg(queries: Tensor, support: Support) -> Tensor:
    """(n,) nDCG@10 of each query over the support set's documents, gains linear, discount log2(rank + 1)."""
    depth = min(DEPTH, len(support.documents))
    top = (queries @ support.documents.T).topk(depth, dim=1).indices
    discount = 1 / torch.log2(torch.arange(2, depth + 2).to(queries))
    found = (support.gains.gather(1, top) * discount).sum(dim=1)
    return found / (support.gains.topk(depth, dim=1).values * discount).sum(dim=1)


def cross_validate(
    candidates: Sequence[Candidate], starts: Mapping[str, Start], basis: SpectralBasis, support: Support
) -> tuple[Tensor, Tensor]:
    """(n,) the frozen nDCG@10 of each support query, and (n, K) what each candidate, learned without it, adds."""
    n = len(support)
    frozen = ndcg(support.queries, support)
    gains = frozen.new_zeros((n, len(candidates)))
    axes = torch.from_numpy(basis.axes).to(frozen)
    folds = min(FOLDS, n)
    # the support set is sorted by its vectors: neighbours there are alike, and shall not be folds
    turn = torch.randperm(n, generator=torch.Generator().manual_seed(n)) % folds
    for fold in range(folds):
        held, kept = torch.nonzero(turn == fold)[:, 0], torch.nonzero(turn != fold)[:, 0]
        left_out, rest = support.of(held), support.of(kept).thinned(FIT_ON)
        for column, candidate in enumerate(candidates):
            state = candidate_state(candidate, starts, basis, rest)
            gains[held, column] = ndcg(rescale(state, axes, left_out.queries), left_out) - frozen[held]
    return frozen, gains


def room(frozen: Numbers) -> float:
    """How much there is to gain: what the frozen encoder leaves, less where it finds next to nothing, since labels
    that few of its hits agree with are as likely wrong as they are unforeseen."""
    level = _level(frozen)
    return (1 - level) * min(1.0, 0.1 + level / 0.2)


def caution(frozen: Numbers) -> float:
    """How many posterior standard deviations a candidate must clear on these labels."""
    return CAUTION + (CAUTION_IN_THE_DARK - CAUTION) * max(0.0, 1 - _level(frozen) / DARK)


def _level(frozen: Numbers) -> float:
    """Mean frozen nDCG@10, as if one query more had 0.6: few labels say little about it."""
    return (float(frozen.sum()) + 0.6) / (len(frozen) + 1)


def posterior(prior: Prior, frozen: Tensor, gains: Tensor) -> tuple[Numbers, Numbers]:
    """(K,) expected change of nDCG@10 of each candidate on queries to come, and (K,) its standard deviation.

    frozen: (n,), gains: (n, K), from `cross_validate`.
    """
    scale = room(frozen.double().numpy())
    seen = gains.double().numpy() / scale
    n = len(seen)
    mean, covariance, noise = prior.at(n)
    own = np.cov(seen.T).reshape(noise.shape)
    error = ((n - 1) * own + PRIOR_LABELS * noise) / (n - 1 + PRIOR_LABELS) / n
    # the diagonal keeps candidates apart that no training domain told apart
    between = covariance + 0.02 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    weight = np.linalg.solve(between + error + 1e-8 * np.eye(len(mean)), between).T
    updated = mean + weight @ (seen.mean(axis=0) - mean)
    variance = np.diag(between - weight @ between)
    return updated * scale, np.sqrt(np.maximum(variance, 0.0)) * scale


# --- what the prior is learned from -----------------------------------------------------------------------------

SIZES = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One adaptation of a training domain: what cross-validation said, and what was true."""

    domain: str
    family: str
    size: int
    frozen: Numbers
    """(n,)."""
    seen: Numbers
    """(n, K) cross-validated."""
    true: Numbers
    """(K,) on the domain's other half, over its whole corpus."""


def trials(
    candidates: Sequence[Candidate],
    starts: Mapping[str, Start],
    domains: Sequence[Domain],
    *,
    seeds: int = 3,
    most_documents: int = 2048,
    most_queries: int = 300,
) -> Iterator[Trial]:
    """Adapt every domain at every size of SIZES that half of its queries reach, for each seed."""
    for domain in domains:
        axes = torch.from_numpy(domain.basis.axes)
        for seed in range(seeds):
            half, others = domain.halves(seed)
            judged = domain.support(others[:most_queries], most=len(domain.documents))
            frozen = ndcg(judged.queries, judged)
            for size in SIZES:
                if size > max(len(half) * 1.6, SIZES[0]):
                    continue
                support = domain.support(half[:size], most=most_documents)
                with torch.no_grad():
                    own, seen = cross_validate(candidates, starts, domain.basis, support)
                    true = [
                        float((ndcg(rescale(state, axes, judged.queries), judged) - frozen).mean())
                        for state in (candidate_state(c, starts, domain.basis, support) for c in candidates)
                    ]
                yield Trial(
                    domain.name, domain.family, size, own.double().numpy(), seen.double().numpy(), np.array(true)
                )


def fit_prior(done: Sequence[Trial]) -> Prior:
    """The prior that trials tell: families count alike, domains alike within a family."""
    sizes = sorted({trial.size for trial in done})
    parts = [_moments([trial for trial in done if trial.size == size]) for size in sizes]
    mean, covariance, noise = (np.stack(part) for part in zip(*parts, strict=True))
    return Prior(np.array(sizes, np.float64), mean, covariance, noise)


def _moments(done: Sequence[Trial]) -> tuple[Numbers, Numbers, Numbers]:
    domains: dict[str, set[str]] = {}
    for trial in done:
        domains.setdefault(trial.family, set()).add(trial.domain)
    times = {name: sum(trial.domain == name for trial in done) for trial in done for name in [trial.domain]}
    weights = np.array([1 / len(domains) / len(domains[t.family]) / times[t.domain] for t in done])
    true = np.array([trial.true / room(trial.frozen) for trial in done])
    mean = weights @ true
    apart = true - mean
    noise = [np.cov((trial.seen / room(trial.frozen)).T).reshape(len(mean), -1) for trial in done]
    return mean, (apart * weights[:, None]).T @ apart, np.tensordot(weights, np.array(noise), axes=1)
