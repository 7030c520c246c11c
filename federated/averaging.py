"""What parties send, and its weighted mean: element by element over those who have the element.

A state is a mapping from names of parameters to tensors. That of a subnet holds, of each parameter that the subnet
uses, the leading part that it uses; sums are taken in float64. A mean carries the weights of all that went into it, by
subnet, from which the weight of each element follows: so means of means are means of the whole, in any tree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from federated.extents import leading
from sim.base.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from federated.extents import Extents

    State = dict[str, torch.Tensor]

CONTROL = "control:"
"""Begins the name of a control variate, which travels with the parameter and is cut like it."""


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """The mean of what some parties have changed.

    Attributes:
        change: What is to be added to each parameter.
        weights: The sum of weights of the parties that trained each subnet, by its id.
        parties: How many parties it stands for.
        of: How many parties there were to choose from.
        loss: The mean loss of training, by weight; NaN if it is not known.
        energy: The mean of squared losses, by weight (Oort's statistical utility); NaN if it is not known.
        base: The version of the model that it began from.
    """

    change: State
    weights: dict[str, float]
    parties: int = 1
    of: int = 1
    loss: float = math.nan
    energy: float = math.nan
    base: int = 0

    @property
    def weight(self) -> float:
        """The sum of all weights."""
        return math.fsum(self.weights.values())


@dataclass(slots=True, eq=False)
class Sum:
    """A sum of updates by weight, in float64, one after the other in whatever order.

    Attributes:
        extents: Which part of each parameter a subnet uses.
        weights: The sum of weights by subnet.
        total: The sum of changes times weights, by name, of the shape of the whole parameter.
    """

    extents: Extents
    weights: dict[str, float] = field(default_factory=dict)
    total: State = field(default_factory=dict)
    parties: int = 0
    of: int = 0
    loss: float = 0.0
    energy: float = 0.0

    def add(self, update: Update, scale: float = 1.0) -> None:
        """Add an update, its weights times a scale.

        Raises:
            DataError: It does not fit, or holds what is no finite number; nothing is added then.
        """
        self.check(update)
        scaled = {subnet: weight * scale for subnet, weight in update.weights.items()}
        one = next(iter(scaled.values())) if len(scaled) == 1 else None  # it is the weight of all elements
        for name, change in update.change.items():
            mass = leading(self.extents.mass(name, scaled), change.shape) if one is None else one
            weighed = change.to(torch.float64) * mass
            if name not in self.total:
                self.total[name] = torch.zeros(self.extents.shape(name), dtype=torch.float64)
            leading(self.total[name], change.shape).add_(weighed)
        for subnet, weight in scaled.items():
            self.weights[subnet] = self.weights.get(subnet, 0.0) + weight
        weight = math.fsum(scaled.values())
        self.parties, self.of = self.parties + update.parties, self.of + update.of
        self.loss, self.energy = self.loss + weight * update.loss, self.energy + weight * update.energy

    def check(self, update: Update) -> None:
        """Pass if an update can be added.

        Raises:
            DataError: A subnet is not known, a weight is not above zero, a name is missing or too many, a shape is
                another, or a value is no finite number.
        """
        if not update.weights:
            raise DataError("update", "carries no weight")
        for subnet, weight in update.weights.items():
            if not (math.isfinite(weight) and weight > 0):
                raise DataError("update", "has a weight that is none", f"{weight:g}", "a finite number above 0")
            self.extents.check(subnet)
        expected = self.extents.union(update.weights)
        names = {name.removeprefix(CONTROL) for name in update.change}
        if names != set(expected):
            odd = sorted(names ^ set(expected))
            raise DataError("update", "has other parameters than its subnets", odd[0], f"{len(expected)} parameters")
        for name, change in update.change.items():
            shape = expected[name.removeprefix(CONTROL)]
            if tuple(change.shape) != shape:
                raise DataError(f"update, {name}", "has the wrong shape", str(tuple(change.shape)), str(shape))
            if not math.isfinite(change.sum(dtype=torch.float64)) and not torch.isfinite(change).all():
                raise DataError(f"update, {name}", "is not all finite", f"{int((~torch.isfinite(change)).sum())} not")

    def merge(self, other: Sum, scale: float = 1.0, own: float = 1.0) -> Sum:
        """Return this sum times `own` plus another times `scale`."""
        merged = Sum(self.extents, parties=self.parties + other.parties, of=self.of + other.of)
        for part, times in ((self, own), (other, scale)):
            for name, total in part.total.items():
                have = merged.total.get(name)
                merged.total[name] = total * times if have is None else have + total * times
            for subnet, weight in part.weights.items():
                merged.weights[subnet] = merged.weights.get(subnet, 0.0) + weight * times
            merged.loss += part.loss * times
            merged.energy += part.energy * times
        return merged

    def mean(self, like: Mapping[str, torch.Tensor] | None = None, base: int = 0) -> Update:
        """Return the mean: of each element over the weight of those who have it, 0 where nobody has it.

        Args:
            like: Gives the type of the numbers, by name of the parameter; float64 without it.
            base: The version that it began from.
        """
        change: State = {}
        shapes = self.extents.union(self.weights)
        for name, total in self.total.items():
            plain = name.removeprefix(CONTROL)
            mass = leading(self.extents.mass(name, self.weights), shapes[plain])
            part = torch.where(mass > 0, leading(total, shapes[plain]) / mass, 0.0)
            change[name] = part.to(like[plain].dtype) if like is not None else part.clone()
        weight = math.fsum(self.weights.values())
        loss, energy = self.loss / weight, self.energy / weight
        return Update(change, dict(self.weights), self.parties, self.of, loss, energy, base)


def applied(state: Mapping[str, torch.Tensor], change: Mapping[str, torch.Tensor], rate: float = 1.0) -> State:
    """Return a state with a change added to the leading part that it is of; the state itself stays as it is.

    Additions are in float64.
    """
    new = dict(state)
    for name, part in change.items():
        whole = state[name].to(torch.float64, copy=True)
        leading(whole, part.shape).add_(rate * part.to(torch.float64))
        new[name] = whole.to(state[name].dtype)
    return new


def split(change: Mapping[str, torch.Tensor]) -> tuple[State, State]:
    """Return the changes of parameters, and those of control variates under the names of their parameters."""
    own = {name: part for name, part in change.items() if not name.startswith(CONTROL)}
    control = {name.removeprefix(CONTROL): part for name, part in change.items() if name.startswith(CONTROL)}
    return own, control
