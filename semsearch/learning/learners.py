"""The set of models M: small learners that turn a support set into a domain state.

Each is a pure function `(start, basis, support) -> State`. The outer loop differentiates through the very functions
that adapt a domain in service, so the two cannot drift. Knows nothing of files or of choosing among learners.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.func import grad

from semsearch.adapter import MAX_CONTRACTION, MAX_KEYS, DomainState, SpectralBasis
from semsearch.learning.support import Support

Start = Mapping[str, Tensor]
"""What the outer loop learns of one learner, by name."""

BANDS = 8
"""Spectral gains are this many smooth numbers over the logarithm of the eigenvalues."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A domain state in tensors, through which gradients pass; the fields are those of `DomainState`."""

    gains: Tensor
    contraction: Tensor
    keys: Tensor
    values: Tensor
    shift: Tensor
    sharpness: Tensor

    @classmethod
    def identity(cls, like: Tensor) -> State:
        """Nothing learned; `like` (…, dim) gives dimension and precision."""
        dimension = like.shape[-1]
        empty = like.new_zeros((0, dimension))
        return cls(like.new_ones(dimension), empty, empty, empty, like.new_zeros(dimension), like.new_zeros(()))

    def scaled(self, strength: float) -> State:
        """Strength 0 is the identity, 1 the state itself; gains and contraction go by their logarithm."""
        norms = (self.contraction * self.contraction).sum(dim=1, keepdim=True).clamp(1e-12, 1 - 1e-6)
        return State(
            self.gains**strength,
            self.contraction * ((1 - (1 - norms) ** strength) / norms).sqrt(),
            self.keys,
            self.values * strength,
            self.shift * strength,
            self.sharpness,
        )

    def compact(self) -> DomainState:
        """What goes to disk and serves: at most MAX_KEYS keys, rounded as the file will be."""
        keys, values = _fewer_keys(self.keys, self.values, self.sharpness)
        return DomainState(
            gains=self.gains.float().numpy(force=True),
            contraction=self.contraction.float().numpy(force=True),
            keys=keys.float().numpy(force=True),
            values=values.float().numpy(force=True),
            shift=self.shift.float().numpy(force=True),
            sharpness=float(self.sharpness),
        ).rounded()


def rescale(state: State, axes: Tensor, queries: Tensor) -> Tensor:
    """What `Adapter.rescale` does, differentiable: (n, dim) unit rows → (n, dim) unit rows."""
    x = prepare(state, axes, queries)
    moved = x + kernel(x @ state.keys.T, state.sharpness) @ state.values + state.shift
    return torch.nn.functional.normalize(moved, dim=1)


def prepare(state: State, axes: Tensor, queries: Tensor) -> Tensor:
    """Queries under gains and contraction: the space in which keys stand."""
    x = ((queries @ axes) * state.gains) @ axes.T
    x = x - (x @ state.contraction.T) @ state.contraction
    return torch.nn.functional.normalize(x, dim=1)


def kernel(nearness: Tensor, sharpness: Tensor) -> Tensor:
    """k(s) = (exp(βs) − 1) / (exp(β) − 1): positive definite, k(1) = 1, linear as β tends to 0."""
    sharp = sharpness.clamp_min(1e-4)
    return torch.where(sharpness > 0, torch.expm1(sharp * nearness) / torch.expm1(sharp), nearness)


def listwise_loss(queries: Tensor, support: Support, temperature: Tensor | float) -> Tensor:
    """(n,) cross-entropy of each query's relevant documents under a softmax over all documents (ListNet's top-one
    loss, Cao et al. 2007, doi:10.1145/1273496.1273513)."""
    logits = queries @ support.documents.T / temperature + support.offsets
    return -(support.targets * torch.log_softmax(logits, dim=1)).sum(dim=1)


def residual(queries: Tensor, support: Support, temperature: Tensor) -> Tensor:
    """(n, dim) the listwise loss's downhill direction: the mean relevant document less the softmax-expected one."""
    logits = queries @ support.documents.T / temperature + support.offsets
    return (support.targets - torch.softmax(logits, dim=1)) @ support.documents


CONTEXT = ("labels", "relevant", "first hit", "drop", "effective rank")
"""What a learner's numbers may depend on, beside the labels themselves; each is about within ±1."""


def context(basis: SpectralBasis, support: Support) -> Tensor:
    """(len(CONTEXT),) the support set's size, how many documents are relevant to a query, the mean similarity of a
    query's first hit, how much it drops to the tenth, and the effective rank (Σw)² / Σw² of the corpus."""
    scores = (support.queries @ support.documents.T).topk(min(10, len(support.documents)), dim=1).values
    values = torch.from_numpy(basis.values).to(scores)
    rank = values.sum() ** 2 / (values * values).sum().clamp_min(1e-12)
    relevant = (support.gains > 0).sum(dim=1).to(scores).log().mean()
    return torch.stack(
        (
            torch.tensor(len(support) / 16.0).to(scores).log() / 2,
            relevant / 2 - 0.5,
            (scores[:, 0].mean() - 0.65) / 0.15,
            ((scores[:, 0] - scores[:, -1]).mean() - 0.2) / 0.1,
            (rank / 60).log(),
        )
    ).clamp(-1.5, 1.5)


def setting(start: Start, name: str, given: Tensor) -> Tensor:
    """A learner's positive number for a context: exp(log_NAME + tilt_NAME · context)."""
    return torch.exp(start[f"log_{name}"] + start[f"tilt_{name}"] @ given)


def _settings(**numbers: float) -> dict[str, Tensor]:
    """Where the outer loop begins for settings of these values: the same in every context."""
    logs = {f"log_{name}": torch.tensor(value).log() for name, value in numbers.items()}
    return logs | {f"tilt_{name}": torch.zeros(len(CONTEXT)) for name in numbers}


class Learner(Protocol):
    """One way to adapt."""

    def __call__(self, start: Start, basis: SpectralBasis, support: Support) -> State:
        """The inner loop: what the labels of a domain change. Differentiable with respect to `start`."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A learner with its name and where the outer loop begins."""

    name: str
    learn: Learner
    begin: Callable[[int], dict[str, Tensor]]
    """Dimension → the start before any outer loop."""
    reptile: bool = False
    """Whether the outer loop moves the start toward what adaptation made of it, instead of by its gradient."""

    def pace(self, key: str) -> float:
        """Learning rate of the outer loop: logarithms of single numbers move fast, vectors slowly."""
        return 0.05 if key.startswith("log_") else 0.02 if key.startswith("tilt_") else 0.002


def _axes(basis: SpectralBasis, like: Tensor) -> Tensor:
    return torch.from_numpy(basis.axes).to(like)


def bands(basis: SpectralBasis, like: Tensor) -> Tensor:
    """(dim, BANDS) a Gaussian bump for each band over the standardised logarithm of the eigenvalues; rows sum to 1."""
    values = torch.from_numpy(basis.values).to(like)
    log = torch.log(values + 1e-3 * values.mean() + 1e-12)
    position = (log - log.mean()) / (log.std() + 1e-9)
    centres = torch.linspace(-2.0, 2.0, BANDS).to(like)
    bumps = torch.exp(-0.5 * ((position[:, None] - centres) / 0.6) ** 2) + 1e-9
    return bumps / bumps.sum(dim=1, keepdim=True)


# --- spectral gains ---------------------------------------------------------------------------------------------

STEPS = 5
"""Gradient steps of the inner loops that are not closed forms."""


def learn_gains(start: Start, basis: SpectralBasis, support: Support) -> State:
    """Band gains by gradient steps with learned rates (Meta-SGD, Li et al. 2017, arXiv:1707.09835), pulled to 1."""
    axes, bump = _axes(basis, support.queries), bands(basis, support.queries)
    given = context(basis, support)
    temperature, pull = setting(start, "temperature", given), setting(start, "pull", given) / len(support)
    still = State.identity(support.queries)

    def loss(phi: Tensor) -> Tensor:
        moved = rescale(replace(still, gains=torch.exp(bump @ phi)), axes, support.queries)
        return listwise_loss(moved, support, temperature).mean() + pull * (phi * phi).sum()

    phi = support.queries.new_zeros(BANDS)
    for _ in range(STEPS):
        phi = phi - start["log_rates"].exp() * grad(loss)(phi)
    return replace(still, gains=torch.exp(bump @ phi))


def _begin_gains(_: int) -> dict[str, Tensor]:
    return {"log_rates": torch.full((BANDS,), 0.25).log()} | _settings(temperature=0.035, pull=0.2)


# --- contraction ------------------------------------------------------------------------------------------------


def scatter(support: Support) -> Tensor:
    """(dim, dim) how that which belongs together differs: queries from their relevant documents' mean, and relevant
    documents of one query from one another. The mean eigenvalue is 1."""
    means = support.targets @ support.documents
    apart = torch.nn.functional.normalize(means, dim=1) - support.queries
    members = (support.gains > 0).to(support.queries)
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


def contraction(strength: Tensor, support: Support) -> Tensor:
    """(r, dim) rows c with I − Σ c cᵀ = (I + strength · scatter)⁻¹ on the scatter's r ≤ MAX_CONTRACTION first axes.

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
    axes = _leading(whole, min(MAX_CONTRACTION, len(whole)))
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


def learn_contraction(start: Start, basis: SpectralBasis, support: Support) -> State:
    """Only the contraction, of learned strength."""
    strength = setting(start, "contraction", context(basis, support))
    return replace(State.identity(support.queries), contraction=contraction(strength, support))


def _begin_contraction(_: int) -> dict[str, Tensor]:
    return _settings(contraction=0.1)


# --- displacement -----------------------------------------------------------------------------------------------


def learn_displacement(start: Start, basis: SpectralBasis, support: Support) -> State:
    """Ridge regression from queries to listwise residuals, closed form, with the gain its own left-out queries bear.

    The gain is the regression of the residuals on their leave-one-out predictions, shrunk to a learned one: the less
    labels predict one another, the less they displace.
    """
    x, given = support.queries, context(basis, support)
    wanted = residual(x, support, setting(start, "temperature", given))
    inverse = torch.linalg.inv(x @ x.T + setting(start, "ridge", given) * torch.eye(len(x)).to(x))
    dual = inverse @ wanted
    predicted = wanted - dual / inverse.diagonal()[:, None]
    size = (predicted * predicted).sum()
    prior = setting(start, "prior", given) * size / len(x)
    fit = ((predicted * wanted).sum() + prior) / (size + prior + 1e-12)
    gain = setting(start, "gain", given) * fit.clamp(0.0, 2.0)
    return replace(State.identity(x), keys=x, values=gain * dual)


def _begin_displacement(_: int) -> dict[str, Tensor]:
    return _settings(ridge=1.0, temperature=0.05, gain=1.0, prior=8.0)


# --- listwise displacement --------------------------------------------------------------------------------------

LISTWISE_STEPS = 8


def learn_listwise(start: Start, basis: SpectralBasis, support: Support) -> State:
    """Kernel logistic regression over documents, in the space that the contraction leaves.

    Gradient descent in function space (Mason et al. 1999): each step moves every key's value along the listwise
    residual, less a learned decay; rate, temperature, sharpness and contraction are learned.
    """
    given = context(basis, support)
    shrunk = contraction(setting(start, "contraction", given), support)
    still = replace(State.identity(support.queries), contraction=shrunk)
    x = prepare(still, _axes(basis, support.queries), support.queries)
    sharpness, temperature = setting(start, "sharpness", given), setting(start, "temperature", given)
    near = kernel(x @ x.T, sharpness)
    # the largest eigenvalue bounds the step at which descent is stable
    rate = setting(start, "rate", given) / torch.linalg.eigvalsh(near)[-1]
    decay = setting(start, "decay", given)
    values = torch.zeros_like(x)
    for _ in range(LISTWISE_STEPS):
        moved = torch.nn.functional.normalize(x + near @ values, dim=1)
        values = values + rate * (residual(moved, support, temperature) - decay * values)
    return replace(still, keys=x, values=values, sharpness=sharpness)


def _begin_listwise(_: int) -> dict[str, Tensor]:
    return _settings(contraction=0.1, sharpness=2.0, temperature=0.03, rate=1.5, decay=0.03)


# --- FiLM -------------------------------------------------------------------------------------------------------


def learn_film(start: Start, basis: SpectralBasis, support: Support, *, first_order: bool = False) -> State:
    """A scale and a shift for every axis (FiLM, Perez et al. 2018) by gradient steps from a learned start (MAML,
    Finn et al. 2017, arXiv:1703.03400)."""
    axes = _axes(basis, support.queries)
    temperature = start["log_temperature"].exp()
    still = State.identity(support.queries)

    def loss(scale: Tensor, shift: Tensor) -> Tensor:
        moved = rescale(replace(still, gains=scale.exp(), shift=shift), axes, support.queries)
        return listwise_loss(moved, support, temperature).mean()

    scale, shift = start["scale"], start["shift"]
    for _ in range(STEPS):
        slope_scale, slope_shift = grad(loss, argnums=(0, 1))(scale, shift)
        if first_order:
            slope_scale, slope_shift = slope_scale.detach(), slope_shift.detach()
        scale = scale - start["log_rate_scale"].exp() * slope_scale
        shift = shift - start["log_rate_shift"].exp() * slope_shift
    return replace(still, gains=scale.exp(), shift=shift)


def learn_film_first_order(start: Start, basis: SpectralBasis, support: Support) -> State:
    """The same inner loop; the outer loop sees no second derivatives (first-order MAML)."""
    return learn_film(start, basis, support, first_order=True)


def _begin_film(dimension: int) -> dict[str, Tensor]:
    return {
        "scale": torch.zeros(dimension),
        "shift": torch.zeros(dimension),
        "log_rate_scale": torch.tensor(1.0).log(),
        "log_rate_shift": torch.tensor(0.003).log(),
        "log_temperature": torch.tensor(0.05).log(),
    }


MEMBERS: Mapping[str, Member] = {
    member.name: member
    for member in (
        Member("gains", learn_gains, _begin_gains),
        Member("contraction", learn_contraction, _begin_contraction),
        Member("displacement", learn_displacement, _begin_displacement),
        Member("listwise", learn_listwise, _begin_listwise),
        Member("film", learn_film, _begin_film),
        Member("film_first_order", learn_film_first_order, _begin_film),
        Member("film_reptile", learn_film, _begin_film, reptile=True),
    )
}


def _fewer_keys(keys: Tensor, values: Tensor, sharpness: Tensor) -> tuple[Tensor, Tensor]:
    """At most MAX_KEYS keys whose displacement is as near as may be to that of all of them."""
    if len(keys) <= MAX_KEYS:
        return keys, values
    if float(sharpness) == 0:
        # a linear displacement is a matrix: its best approximation of a rank is its truncated SVD
        q_keys, r_keys = torch.linalg.qr(keys.T)
        q_values, r_values = torch.linalg.qr(values.T)
        left, sizes, right = torch.linalg.svd(r_keys @ r_values.T)
        few = min(MAX_KEYS, len(sizes))
        return (q_keys @ left[:, :few]).T, ((q_values @ right[:few].T) * sizes[:few]).T
    near = kernel(keys @ keys.T, sharpness)
    chosen = _pivots(near, values, MAX_KEYS)
    # the projection, in the kernel's own space, of the whole displacement onto the chosen keys
    among = near[chosen][:, chosen]
    steady = among + 1e-4 * torch.eye(len(chosen)).to(among)
    return keys[chosen], torch.linalg.solve(steady, near[chosen] @ values)


def _pivots(near: Tensor, values: Tensor, count: int) -> Tensor:
    """Keys that explain most of the displacement: pivoted Cholesky, a pivot weighted by the size of its value."""
    remaining = near.diagonal().clone()
    size = (values * values).sum(dim=1)
    factor = near.new_zeros((len(near), count))
    chosen: list[int] = []
    for step in range(count):
        score = remaining.clamp_min(0) * size
        score[chosen] = -1
        pivot = int(score.argmax())
        chosen.append(pivot)
        column = (near[:, pivot] - factor[:, :step] @ factor[pivot, :step]) / remaining[pivot].clamp_min(1e-9).sqrt()
        factor[:, step] = column
        remaining = remaining - column * column
    return torch.tensor(chosen)
