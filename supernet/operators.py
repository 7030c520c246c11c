"""The three operators of SubNetAct (SuperServe, NSDI 2025, section 3): each gives what a choice uses of a module.

What they give is an ordinary module of the same class whose tensors are views of the shared ones. It carries no switch:
to run another subnet is to call another module. A network put together from such parts (`supernet.network`) can be
run by several threads, compiled, exported and captured, and gradients flow through the views to the shared weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from supernet.layers import Norm, Weighted
    from supernet.structure import Choice

MemberT = TypeVar("MemberT")


class Moments(NamedTuple):
    """The running statistics of one norm layer for one subnet: each of shape (channels,)."""

    mean: torch.Tensor
    variance: torch.Tensor


@dataclass(frozen=True, slots=True)
class Cut:
    """How many channels there are on one side of a layer, and how they are cut.

    Attributes:
        count: All of them.
        group: The group (index) that they belong to; None where they can't be cut.
        units: In how many units that group can be cut.
    """

    count: int
    group: int | None = None
    units: int = 1

    def of(self, choice: Choice) -> int:
        """Return how many of the channels a choice uses."""
        return self.count if self.group is None else self.count * choice.units[self.group] // self.units


@dataclass(frozen=True, slots=True)
class LayerSelect:
    """Gives the members of a list or sequence that run.

    Attributes:
        blocks: By the names of those members that can be left out: the number of the block.
    """

    blocks: Mapping[str, int]

    def view(self, members: Mapping[str, MemberT], choice: Choice) -> dict[str, MemberT]:
        """Return the members that run, by name; numbered from 0 if all were numbered."""
        runs = {name: m for name, m in members.items() if name not in self.blocks or choice.runs[self.blocks[name]]}
        return {str(n): m for n, m in enumerate(runs.values())} if all(map(str.isdigit, members)) else runs


@dataclass(frozen=True, slots=True)
class WeightSlice:
    """Gives a convolution or linear layer on its leading channels, which may be neurons or heads of attention.

    Attributes:
        takes: Its input channels.
        gives: Its output channels.
        groups: The groups of the convolution.
    """

    takes: Cut
    gives: Cut
    groups: int = 1

    def view(self, layer: Weighted, choice: Choice) -> nn.Module:
        """Return the layer on its leading channels; the layer itself where all are used."""
        taken, given = self.takes.of(choice), self.gives.of(choice)
        if (taken, given) == (self.takes.count, self.gives.count):
            return layer
        in_groups = self.groups > 1  # then the weight holds the inputs of one group, which stay as many
        weight = layer.weight[:given] if in_groups or taken == self.takes.count else layer.weight[:given, :taken]
        held = {"weight": weight, "bias": _leading(layer.bias, given)}
        if isinstance(layer, nn.Linear):
            return shell(layer, {"in_features": taken, "out_features": given}, held)
        groups = self.groups * taken // self.takes.count if in_groups else 1
        return shell(layer, {"in_channels": taken, "out_channels": given, "groups": groups}, held)


@dataclass(frozen=True, slots=True)
class SubnetNorm:
    """Gives a norm layer with a subnet's own running statistics; scale and shift are shared, and cut like channels.

    Attributes:
        gives: Its channels.
    """

    gives: Cut

    def view(self, norm: Norm, choice: Choice, moments: Moments | None) -> nn.Module:
        """Return the layer for a subnet; without statistics, one that takes those of each batch."""
        size = self.gives.of(choice)
        held = {
            "weight": _leading(norm.weight, size),
            "bias": _leading(norm.bias, size),
            "running_mean": None if moments is None else moments.mean,
            "running_var": None if moments is None else moments.variance,
            "num_batches_tracked": None,
        }
        return shell(norm, {"num_features": size, "track_running_stats": moments is not None}, held)


def _leading(tensor: torch.Tensor | None, size: int) -> torch.Tensor | None:
    return None if tensor is None else tensor[:size]


def shell(
    module: nn.Module, attributes: Mapping[str, Any], held: dict[str, torch.Tensor | None] | None = None
) -> nn.Module:
    """Return a module of the same class with the same hooks, without running its constructor.

    Args:
        module: What it is like.
        attributes: Those in which it differs.
        held: The only tensors that it holds, in place of the module's own. They are buffers: a parameter has to be a
            leaf, at which gradients would end.
    """
    part = object.__new__(type(module))
    vars(part).update(vars(module))  # not by setattr, which modules make slow
    vars(part).update(attributes)
    if held is not None:
        vars(part).update(_parameters={}, _buffers=held)
    return part
