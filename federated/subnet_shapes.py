"""Which prefix slice of each shared parameter a subnet uses, and the weight of each element in a mean that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from federated.state import CONTROL, State, prefix_slice
from sim.base.errors import DataError, SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from supernet.network import Supernet

    Shapes = Mapping[str, tuple[int, ...]]


@dataclass(slots=True, eq=False)
class SubnetShapes:
    """Shapes of the parameters of subnets.

    Attributes:
        full: Shape of each full parameter, by name.
        known: Shapes of the prefix slices that each subnet uses, by subnet id.
        network: Source of the shapes of further subnets; None if `known` is complete.
    """

    full: Shapes
    known: dict[str, Shapes]
    network: Supernet | None = field(default=None, repr=False)

    @classmethod
    def from_network(cls, network: Supernet, personal: Collection[str] = ()) -> SubnetShapes:
        """Return the shapes of a supernet's subnets, each computed on first use.

        Args:
            network: The supernet.
            personal: Names of parameters that stay with each client, and are left out.
        """
        shared = {name: tuple(p.shape) for name, p in network.model.named_parameters() if name not in personal}
        return cls(shared, {}, network)

    def of(self, subnet: str) -> Shapes:
        """Return the shape of each parameter that a subnet uses, by name.

        Raises:
            SpecError: The subnet is unknown.
        """
        if subnet not in self.known:
            if self.network is None:
                raise SpecError("subnet", "unknown id", subnet)
            used = _used_shapes(self.network, subnet)
            self.known[subnet] = {name: shape for name, shape in used.items() if name in self.full}
        return self.known[subnet]

    def check(self, subnet: str) -> None:
        """Check that a subnet exists.

        Raises:
            DataError: The subnet is unknown.
        """
        try:
            self.of(subnet)
        except SpecError as error:
            raise DataError("update", "unknown subnet", subnet, str(error)) from error

    def union(self, subnets: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Return the smallest prefix slices that contain those of all given subnets."""
        merged: dict[str, tuple[int, ...]] = {}
        for subnet in subnets:
            for name, shape in self.of(subnet).items():
                previous = merged.get(name)
                merged[name] = shape if previous is None else tuple(map(max, shape, previous))
        return {name: merged[name] for name in self.full if name in merged}

    def slice(self, state: State, subnet: str) -> State:
        """Return the part of a full state that a subnet uses; slices are copied, full parameters are shared."""
        parts = {name: prefix_slice(state[name], shape) for name, shape in self.of(subnet).items()}
        return {name: part if part is state[name] else part.clone() for name, part in parts.items()}

    def element_weights(
        self, name: str, weights: Mapping[str, float], shape: tuple[int, ...] | None = None
    ) -> torch.Tensor:
        """Return the weight of each element of a parameter in a mean, float64.

        Where all subnets use the same slice, the result is one number, expanded.

        Args:
            name: Name of the parameter, or of its control variate.
            weights: Sum of client weights by subnet id.
            shape: Shape of the wanted prefix slice; by default that of the full parameter.
        """
        name = name.removeprefix(CONTROL)
        parts = [(used, weight) for subnet, weight in weights.items() if (used := self.of(subnet).get(name))]
        full = self.full[name]
        if len({used for used, _ in parts}) == 1:
            weight = math.fsum(weight for _, weight in parts)
            total = torch.tensor(weight, dtype=torch.float64).expand(full)
        else:
            total = torch.zeros(full, dtype=torch.float64)
            for used, weight in parts:
                prefix_slice(total, used).add_(weight)
        return total if shape is None else prefix_slice(total, shape)


def _used_shapes(network: Supernet, subnet: str) -> Shapes:
    names = {id(parameter): name for name, parameter in network.model.named_parameters()}
    view = network.actuate(subnet)
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in (*view.parameters(), *view.buffers()):
        base = tensor if tensor._base is None else tensor._base  # noqa: SLF001 - the tensor of which this is a view
        name = names.get(id(base))
        if name is not None:
            shapes[name] = tuple(tensor.shape)
    return {name: shapes[name] for name in names.values() if name in shapes}
