"""Rules of aggregation that see each update, in place of the weighted mean; YAML selects one by `kind`.

A rule is a frozen dataclass with `combine`. It sees the updates of a round as the rows of a matrix, all of them of the
same subnet. An intermediate aggregator applies it to its own clients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

import annotated_types as at
import torch

from sim.base.errors import DataError, SpecError
from sim.base.parameters import NonNegative, NonNegativeInt, Parameters, Positive, PositiveInt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from federated.averaging import Update

_Half = Annotated[float, at.Ge(0), at.Lt(0.5)]


class AggregationRule(Protocol):
    """A frozen dataclass whose fields are its parameters.

    With a class attribute `uses_losses = True`, `combine` takes a third argument: the loss of the received model on the
    examples of each client, float64, shape (updates,).
    """

    def combine(self, deltas: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the change of the model.

        Args:
            deltas: The updates, flattened, float64, shape (updates, elements).
            weights: The weight of each in the mean, such as its examples, float64, shape (updates,).

        Returns:
            Float64, shape (elements,).

        Raises:
            SpecError: There are too few updates.
        """
        ...


def combined(rule: AggregationRule, updates: Sequence[Update], mean: Update) -> Update:
    """Return the mean of updates with its delta replaced by what a rule makes of them.

    Raises:
        DataError: The updates are of different subnets, or the rule returned another shape or a value that is not
            finite.
        SpecError: The rule needs more updates.
    """
    if len({next(iter(update.weights)) for update in updates}) > 1:
        hint = "use `subnets: largest`"
        raise DataError("aggregation", "a rule needs updates of the same subnet", type(rule).__name__, hint)
    names = list(mean.delta)
    rows = [torch.cat([update.delta[name].to(torch.float64).flatten() for name in names]) for update in updates]
    weights = torch.tensor([update.weight for update in updates], dtype=torch.float64)
    more = [torch.tensor([update.loss for update in updates], dtype=torch.float64)] if needs_losses(rule) else []
    change: Any = rule.combine(torch.stack(rows), weights, *more)
    if not isinstance(change, torch.Tensor) or change.shape != rows[0].shape:
        value = str(tuple(change.shape)) if isinstance(change, torch.Tensor) else type(change).__name__
        raise DataError(
            "aggregation", f"{type(rule).__name__} returned the wrong shape", value, f"{tuple(rows[0].shape)}"
        )
    if not torch.isfinite(change).all():
        raise DataError("aggregation", f"{type(rule).__name__} returned values that are not finite")
    parts = change.split([mean.delta[name].numel() for name in names])
    delta = {name: part.reshape(mean.delta[name].shape) for name, part in zip(names, parts, strict=True)}
    return replace(mean, delta={name: part.to(mean.delta[name].dtype) for name, part in delta.items()})


def needs_losses(rule: AggregationRule | None) -> bool:
    """Return whether a rule uses the losses of the received model."""
    return bool(getattr(rule, "uses_losses", False))


@dataclass(frozen=True)
class Median:
    """The median of each element (Yin et al., ICML 2018); of an even number of updates the mean of the middle two."""

    def combine(self, deltas: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the median; weights do not count."""
        return deltas.quantile(0.5, dim=0)


@dataclass(frozen=True)
class TrimmedMean(Parameters):
    """The mean of each element without its largest and smallest values (Yin et al., ICML 2018).

    Attributes:
        trim: Share of the updates that is left out at each end.
    """

    trim: _Half = 0.1

    def combine(self, deltas: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean of the others; weights do not count."""
        left_out = int(self.trim * len(deltas))
        return deltas.sort(0).values[left_out : len(deltas) - left_out].mean(0)


@dataclass(frozen=True)
class Krum(Parameters):
    """The update that is closest to its neighbours, or the mean of several (Blanchard et al., NeurIPS 2017).

    Attributes:
        byzantine: Number of faulty updates that it withstands, the paper's f; it needs at least 2 f + 3 updates.
        select: Number of updates of which the mean is taken: 1 is Krum, more is multi-Krum.
    """

    byzantine: NonNegativeInt = 1
    select: PositiveInt = 1

    def combine(self, deltas: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean of the updates with the smallest sum of squared distances to their n - f - 2 neighbours.

        Raises:
            SpecError: There are too few updates.
        """
        count = len(deltas)
        least = max(2 * self.byzantine + 3, self.select)
        if count < least:
            hint = f"needs at least {least}: use a smaller byzantine or select, or more clients in a round"
            raise SpecError("aggregation.byzantine", "too few updates", f"{count} for {self.byzantine}", hint)
        distances = torch.cdist(deltas, deltas, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        nearest = distances.sort(1).values[:, 1 : count - self.byzantine - 1]  # the first is its own, 0
        chosen = nearest.sum(1).argsort(stable=True)[: self.select]
        return deltas[chosen].mean(0)


@dataclass(frozen=True)
class GeometricMedian(Parameters):
    """The point of least weighted distance to all updates, by Weiszfeld's iteration (RFA: Pillutla et al., 2022).

    Attributes:
        steps: Maximum number of iterations; it ends before when the point no longer moves.
    """

    steps: PositiveInt = 100

    def combine(self, deltas: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the weighted geometric median."""
        point = deltas.quantile(0.5, dim=0)  # robust, too: the mean may be far away
        for _ in range(self.steps):
            distances = (deltas - point).norm(dim=1).clamp_min(torch.finfo(deltas.dtype).tiny ** 0.5)
            share = weights / distances
            moved = (share[:, None] * deltas).sum(0) / share.sum()
            if torch.allclose(moved, point, rtol=1e-12, atol=0):
                break
            point = moved
        return point


@dataclass(frozen=True)
class ClippedMean(Parameters):
    """The weighted mean of updates that are scaled down to a norm (Sun et al., arXiv 1911.07963).

    Attributes:
        norm: Maximum L2 norm of an update.
    """

    norm: Positive = 1.0

    def combine(self, deltas: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean of the clipped updates."""
        norms = deltas.norm(dim=1).clamp_min(self.norm)
        clipped = deltas * (self.norm / norms)[:, None]
        mean: torch.Tensor = (weights[:, None] * clipped).sum(0) / weights.sum()
        return mean


@dataclass(frozen=True)
class QFedAvg(Parameters):
    """Clients with a higher loss count more: q-FedAvg (Li et al., ICLR 2020, Algorithm 2).

    Attributes:
        q: Degree of fairness: 0 for a plain mean in which all clients have equal weight.
        rate: The clients' learning rate; the paper's L is 1 / rate.
    """

    q: NonNegative = 1.0
    rate: Positive = 0.1

    uses_losses: ClassVar[bool] = True

    def combine(self, deltas: torch.Tensor, weights: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        """Return the sum of the updates, each times its loss to the power of q, divided by the paper's h."""
        scale, losses = 1 / self.rate, losses.clamp_min(torch.finfo(losses.dtype).tiny ** 0.25)
        shares = losses**self.q
        h = self.q * losses ** (self.q - 1) * scale**2 * (deltas**2).sum(1) + scale * shares
        change: torch.Tensor = scale * (shares[:, None] * deltas).sum(0) / h.sum()
        return change


SHORT_NAMES = {
    "clipped_mean": "federated.aggregation:ClippedMean",
    "geometric_median": "federated.aggregation:GeometricMedian",
    "krum": "federated.aggregation:Krum",
    "median": "federated.aggregation:Median",
    "q_fedavg": "federated.aggregation:QFedAvg",
    "trimmed_mean": "federated.aggregation:TrimmedMean",
}
"""Short names in YAML."""
OTHER_NAMES = {
    "mean": "the default: leave `aggregation` out",
    "multi_krum": "{kind: krum, select: <number>}",
    "norm_clipping": "{kind: clipped_mean, norm: <number>}",
    "qffl": "{kind: q_fedavg, q: <number>}",
    "rfa": "geometric_median",
}
"""What the names that rules have elsewhere are here."""
