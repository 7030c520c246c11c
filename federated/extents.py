"""Which leading part of each shared parameter a subnet uses, and so how much weight each element of a mean has."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from sim.base.errors import DataError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supernet.network import Supernet

    Shapes = Mapping[str, tuple[int, ...]]


@dataclass(slots=True, eq=False)
class Extents:
    """Extents of subnets, by id.

    Attributes:
        shapes: The shape of each whole parameter, by name.
        known: For each subnet, the shape of the leading part of each parameter that it uses.
        network: Where the extents of others come from; None if those that are known are all.
    """

    shapes: Shapes
    known: dict[str, Shapes]
    network: Supernet | None = field(default=None, repr=False)

    def of(self, subnet: str) -> Shapes:
        """Return the extents of a subnet.

        Raises:
            SpecError: There is no such subnet.
        """
        if subnet not in self.known:
            if self.network is None:
                raise SpecError("subnet", "is not known", subnet)
            self.known[subnet] = _found(self.network, subnet)
        return self.known[subnet]

    def check(self, subnet: str) -> None:
        """Pass if there is such a subnet.

        Raises:
            DataError: There is none.
        """
        try:
            self.of(subnet)
        except SpecError as error:
            raise DataError("update", "is of a subnet that there is not", subnet, str(error)) from error

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a whole parameter; that of a control variate is its parameter's."""
        return self.shapes[name.rpartition(":")[2]]

    def union(self, subnets: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Return the smallest leading parts in which those of some subnets lie."""
        merged: dict[str, tuple[int, ...]] = {}
        for subnet in subnets:
            for name, shape in self.of(subnet).items():
                other = merged.get(name)
                merged[name] = shape if other is None else tuple(map(max, shape, other))
        return {name: merged[name] for name in self.shapes if name in merged}

    def mass(self, name: str, weights: Mapping[str, float]) -> torch.Tensor:
        """Return the weight of each element of a parameter, float64, of the shape of the whole.

        Where all subnets use the same part, it is that part's weight everywhere, in one number that is repeated.

        Args:
            name: Of the parameter, or of its control variate.
            weights: By subnet.
        """
        plain = name.rpartition(":")[2]
        parts = [(shape, weight) for subnet, weight in weights.items() if (shape := self.of(subnet).get(plain))]
        if len({shape for shape, _ in parts}) == 1:
            weight = math.fsum(weight for _, weight in parts)
            return torch.tensor(weight, dtype=torch.float64).expand(self.shapes[plain])
        mass = torch.zeros(self.shapes[plain], dtype=torch.float64)
        for shape, weight in parts:
            leading(mass, shape).add_(weight)
        return mass


def leading(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a view of the leading part of a tensor; the tensor itself, if that is all of it."""
    return tensor if tensor.shape == shape else tensor[tuple(map(slice, shape))]


def extents_of(network: Supernet) -> Extents:
    """Return the extents of a supernet's subnets, looked up when they are asked for."""
    return Extents({name: tuple(p.shape) for name, p in network.model.named_parameters()}, {}, network)


def _found(network: Supernet, subnet: str) -> Shapes:
    names = {id(parameter): name for name, parameter in network.model.named_parameters()}
    view = network.actuate(subnet)
    found: dict[str, tuple[int, ...]] = {}
    for tensor in (*view.parameters(), *view.buffers()):
        name = names.get(id(tensor if tensor._base is None else tensor._base))  # noqa: SLF001  (what a view is of)
        if name is not None:
            found[name] = tuple(tensor.shape)
    return {name: found[name] for name in names.values() if name in found}
