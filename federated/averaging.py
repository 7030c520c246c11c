"""Updates of clients and their weighted mean, element by element over the clients that trained the element.

A mean carries the weights of all updates in it, by subnet. The weight of each element follows from these, so that a
mean of means is the mean of the whole, in any tree. Sums are taken in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch

from federated.state import CONTROL, State, compact, prefix_slice
from sim.base.errors import DataError
from topology.message import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from federated.subnet_shapes import SubnetShapes


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """The mean delta of some clients; of one client, its own.

    Attributes:
        delta: Difference to the weights that training began from, by parameter name.
        weights: Sum of client weights by id of the subnet that they trained.
        clients: Number of clients in the mean.
        eligible: Number of clients that could have been selected.
        loss: Weighted mean of the training losses; NaN if unknown.
        squared_loss: Weighted mean of the mean squared losses (Oort's statistical utility); NaN if unknown.
        base: Version of the model that training began from.
        steps: Weighted mean of the numbers of local steps, if the algorithm needs it; otherwise NaN, and not sent.
    """

    delta: State
    weights: dict[str, float]
    clients: int = 1
    eligible: int = 1
    loss: float = math.nan
    squared_loss: float = math.nan
    base: int = 0
    steps: float = math.nan

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how it is pickled: without what its tensors are views of."""
        delta, *others = (getattr(self, field.name) for field in fields(self))
        return Update, (compact(delta), *others)

    @property
    def nbytes(self) -> int:
        """The bytes of what is sent."""
        rest = (self.clients, self.eligible, self.loss, self.squared_loss, self.base)
        return size_of((self.delta, self.weights, rest)) + (0 if math.isnan(self.steps) else size_of(self.steps))

    @property
    def weight(self) -> float:
        """The sum of all weights."""
        return math.fsum(self.weights.values())


@dataclass(slots=True, eq=False)
class UpdateSum:
    """A weighted sum of updates in float64, accumulated in any order.

    Attributes:
        shapes: Shapes of the subnets.
        weights: Sum of weights by subnet id.
        total: Sum of weights times deltas, by name, each of the shape of the full parameter.
    """

    shapes: SubnetShapes
    weights: dict[str, float] = field(default_factory=dict)
    total: State = field(default_factory=dict)
    clients: int = 0
    eligible: int = 0
    loss: float = 0.0
    squared_loss: float = 0.0
    steps: float = 0.0

    def add(self, update: Update, scale: float = 1.0) -> None:
        """Add an update whose weights are multiplied by `scale`.

        Raises:
            DataError: The update is invalid; the sum is unchanged.
        """
        self.check(update)
        scaled = {subnet: weight * scale for subnet, weight in update.weights.items()}
        uniform = next(iter(scaled.values())) if len(scaled) == 1 else None  # all elements have the same weight
        for name, part in update.delta.items():
            weight = self.shapes.element_weights(name, scaled, part.shape) if uniform is None else uniform
            weighted = part.to(torch.float64, copy=True).mul_(weight)
            if name not in self.total:
                self.total[name] = torch.zeros(self.shapes.full[name.removeprefix(CONTROL)], dtype=torch.float64)
            prefix_slice(self.total[name], part.shape).add_(weighted)
        for subnet, weight in scaled.items():
            self.weights[subnet] = self.weights.get(subnet, 0.0) + weight
        weight = math.fsum(scaled.values())
        self.clients, self.eligible = self.clients + update.clients, self.eligible + update.eligible
        self.loss += weight * update.loss
        self.squared_loss += weight * update.squared_loss
        self.steps += weight * update.steps

    def check(self, update: Update) -> None:
        """Check that an update can be added.

        Raises:
            DataError: A subnet is unknown, a weight is not positive and finite, a name is missing or unexpected, a
                shape is wrong, or a value is not finite.
        """
        if not update.weights:
            raise DataError("update", "has no weight")
        for subnet, weight in update.weights.items():
            if not (math.isfinite(weight) and weight > 0):
                raise DataError("update", "invalid weight", f"{weight:g}", "must be a finite number above 0")
            self.shapes.check(subnet)
        expected = self.shapes.union(update.weights)
        names = {name.removeprefix(CONTROL) for name in update.delta}
        if names != set(expected):
            name, hint = min(names ^ set(expected)), f"expected {len(expected)} parameters"
            raise DataError("update", "parameters differ from those of its subnets", name, hint)
        for name, part in update.delta.items():
            shape = expected[name.removeprefix(CONTROL)]
            if tuple(part.shape) != shape:
                raise DataError(f"update, {name}", "wrong shape", str(tuple(part.shape)), f"expected {shape}")
            if not math.isfinite(part.sum()) and not torch.isfinite(part).all():
                count = int((~torch.isfinite(part)).sum())
                raise DataError(f"update, {name}", "not all values are finite", f"{count} of {part.numel()}")

    def merge(self, other: UpdateSum, own_scale: float = 1.0, other_scale: float = 1.0) -> UpdateSum:
        """Return `own_scale` times this sum plus `other_scale` times another."""
        merged = UpdateSum(self.shapes, clients=self.clients + other.clients, eligible=self.eligible + other.eligible)
        for part, scale in ((self, own_scale), (other, other_scale)):
            for name, total in part.total.items():
                previous = merged.total.get(name)
                merged.total[name] = total * scale if previous is None else previous + total * scale
            for subnet, weight in part.weights.items():
                merged.weights[subnet] = merged.weights.get(subnet, 0.0) + weight * scale
            merged.loss += part.loss * scale
            merged.squared_loss += part.squared_loss * scale
            merged.steps += part.steps * scale
        return merged

    def mean(self, like: Mapping[str, torch.Tensor] | None = None, base: int = 0) -> Update:
        """Return the mean: of each element over the clients that trained it, 0 where no client did.

        Args:
            like: Gives the data type of each parameter; float64 by default.
            base: Version of the model that training began from.
        """
        delta: State = {}
        shapes = self.shapes.union(self.weights)
        for name, total in self.total.items():
            parameter = name.removeprefix(CONTROL)
            weights = self.shapes.element_weights(name, self.weights, shapes[parameter])
            part = torch.where(weights > 0, prefix_slice(total, shapes[parameter]) / weights, 0.0)
            delta[name] = part.to(like[parameter].dtype) if like is not None else part.clone()
        weight = math.fsum(self.weights.values())
        loss, squared_loss, steps = self.loss / weight, self.squared_loss / weight, self.steps / weight
        return Update(delta, dict(self.weights), self.clients, self.eligible, loss, squared_loss, base, steps)
