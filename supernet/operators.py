"""The three operators of SubNetAct (SuperServe, NSDI 2025, section 3): each gives the part of a module in use.

The result is an ordinary module of the same class whose tensors are views of the shared ones. It contains no switch:
another subnet is another module. A network assembled from such parts (`supernet.network`) can be run by several
threads, compiled, exported and captured, and gradients flow through the views to the shared weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from supernet.layers import Norm, Weighted
    from supernet.structure import ActiveConfig

MemberT = TypeVar("MemberT")


class Moments(NamedTuple):
    """The running statistics of one norm layer for one subnet: each of shape (channels,)."""

    mean: torch.Tensor
    variance: torch.Tensor


@dataclass(frozen=True, slots=True)
class ChannelSlice:
    """The channels on one side of a layer, of which a subnet uses the first ones.

    Attributes:
        count: The number of channels.
        group: The group (index) that they belong to; None where they can't be sliced.
        units: The units of that group.
    """

    count: int
    group: int | None = None
    units: int = 1

    def size(self, config: ActiveConfig) -> int:
        """Return the number of channels in use."""
        return self.count if self.group is None else self.count * config.active_units[self.group] // self.units


@dataclass(frozen=True, slots=True)
class LayerSelect:
    """Selects the members of a list or sequence that run.

    Attributes:
        blocks: The block (index) of each member that can be left out, by the member's name.
    """

    blocks: Mapping[str, int]

    def view(self, members: Mapping[str, MemberT], config: ActiveConfig) -> dict[str, MemberT]:
        """Return the active members by name; renumbered from 0 if all names are numbers."""
        active = {
            name: m for name, m in members.items() if name not in self.blocks or config.active_blocks[self.blocks[name]]
        }
        return {str(n): m for n, m in enumerate(active.values())} if all(map(str.isdigit, members)) else active


@dataclass(frozen=True, slots=True)
class WeightSlice:
    """Slices a convolution or linear layer to its first channels, which may be neurons or attention heads.

    Attributes:
        inputs: Its input channels.
        outputs: Its output channels.
        groups: The groups of the convolution.
    """

    inputs: ChannelSlice
    outputs: ChannelSlice
    groups: int = 1

    def view(self, layer: Weighted, config: ActiveConfig) -> nn.Module:
        """Return the layer on its first channels; the layer itself where all are in use."""
        inputs, outputs = self.inputs.size(config), self.outputs.size(config)
        if (inputs, outputs) == (self.inputs.count, self.outputs.count):
            return layer
        in_groups = self.groups > 1  # then the weight holds the inputs of one group, whose number does not change
        weight = layer.weight[:outputs] if in_groups or inputs == self.inputs.count else layer.weight[:outputs, :inputs]
        tensors = {"weight": weight, "bias": _leading(layer.bias, outputs)}
        if isinstance(layer, nn.Linear):
            return shallow_copy(layer, {"in_features": inputs, "out_features": outputs}, tensors)
        groups = self.groups * inputs // self.inputs.count if in_groups else 1
        return shallow_copy(layer, {"in_channels": inputs, "out_channels": outputs, "groups": groups}, tensors)


@dataclass(frozen=True, slots=True)
class SubnetNorm:
    """Gives a norm layer a subnet's own running statistics; scale and shift are shared and sliced like channels.

    Attributes:
        outputs: Its channels.
    """

    outputs: ChannelSlice

    def view(self, norm: Norm, config: ActiveConfig, moments: Moments | None) -> nn.Module:
        """Return the layer for a subnet; without statistics, one that normalises by those of each batch."""
        size = self.outputs.size(config)
        tensors = {
            "weight": _leading(norm.weight, size),
            "bias": _leading(norm.bias, size),
            "running_mean": None if moments is None else moments.mean,
            "running_var": None if moments is None else moments.variance,
            "num_batches_tracked": None,
        }
        return shallow_copy(norm, {"num_features": size, "track_running_stats": moments is not None}, tensors)


def _leading(tensor: torch.Tensor | None, size: int) -> torch.Tensor | None:
    return None if tensor is None else tensor[:size]


def shallow_copy(
    module: nn.Module, attributes: Mapping[str, Any], tensors: dict[str, torch.Tensor | None] | None = None
) -> nn.Module:
    """Return a module of the same class with the same hooks, without running its constructor.

    Args:
        module: The original.
        attributes: Attributes that differ from the original's.
        tensors: If given, the only tensors of the copy, as buffers: a parameter has to be a leaf, and gradients would
            end there.
    """
    part = object.__new__(type(module))
    vars(part).update(vars(module))  # not by setattr, which modules make slow
    vars(part).update(attributes)
    if tensors is not None:
        vars(part).update(_parameters={}, _buffers=tensors)
    return part
