"""The three operators of SubNetAct (SuperServe, NSDI 2025, section 3): each gives the part of a module in use.

The result is an ordinary module of the same class whose tensors are views of the shared ones. It contains no switch:
another subnet is another module. A network assembled from such parts (`supernet.network`) can be run by several
threads, compiled, exported and captured, and gradients flow through the views to the shared weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from supernet.layers import is_transposed, own_parameters, own_tensors
from supernet.structure import BlockCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supernet.layers import Norm, Weighted
    from supernet.structure import ActiveConfig


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
        sections: The sizes of parts of which the first channels of each are used; empty for a single part.
    """

    count: int
    group: int | None = None
    units: int = 1
    sections: tuple[int, ...] = ()

    def size(self, config: ActiveConfig) -> int:
        """Return the number of channels in use."""
        return self.count if self.group is None else self.count * config.active_units[self.group] // self.units

    def ranges(self, config: ActiveConfig) -> list[slice]:
        """Return the ranges of channels in use, one for each section."""
        size, sections = self.size(config), self.sections or (self.count,)
        starts = accumulate(sections[:-1], initial=0)
        return [slice(start, start + of * size // self.count) for start, of in zip(starts, sections, strict=True)]


class Passthrough(nn.Module):
    """Stands for a block that is left out, at its place, and passes on what the block is given.

    Args:
        call: How the block is called.
    """

    def __init__(self, call: BlockCall) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the arguments in the form of the block's result."""
        return self.call.passed_on(args, kwargs)


@dataclass(frozen=True, slots=True)
class LayerSelect:
    """Selects whether a block runs; if not, the identity takes its place, so that others keep theirs.

    Attributes:
        block: The block (index).
        call: How it is called.
    """

    block: int
    call: BlockCall = field(default_factory=BlockCall)

    def view(self, module: nn.Module, config: ActiveConfig) -> nn.Module:
        """Return the block, or what takes its place, with the block's attributes: others may read them."""
        if config.active_blocks[self.block]:
            return module
        identity = nn.Identity() if self.call.is_plain else Passthrough(self.call)
        hidden = vars(identity).keys()
        vars(identity).update({name: value for name, value in vars(module).items() if name not in hidden})
        identity.training = module.training
        vars(identity)[_MARK] = True
        return identity


_MARK = "is_left_out_block"


def is_left_out(module: nn.Module) -> bool:
    """Return whether a module is in the place of a block that is left out."""
    return vars(module).get(_MARK, False) is True


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

    def is_computed(self, layer: nn.Module) -> bool:
        """Return whether a layer's weight is computed by a parametrization, and sliced afterwards."""
        return is_parametrized(layer) and {self.inputs.group, self.outputs.group} != {None}

    def view(self, layer: Weighted, config: ActiveConfig) -> nn.Module:
        """Return the layer on its first channels; the layer itself where all are in use."""
        inputs, outputs = self.inputs.size(config), self.outputs.size(config)
        if (inputs, outputs) == (self.inputs.count, self.outputs.count) and not self.is_computed(layer):
            return layer
        in_groups = self.groups > 1  # then the weight holds the inputs of one group, whose number does not change
        part = _Part(layer, tuple(self.outputs.ranges(config)), None if in_groups else inputs)
        names = ("nx", "nf") if is_transposed(layer) else ("in_features", "out_features")
        attributes: dict[str, Any] = dict(zip(names, (inputs, outputs), strict=True))
        if hasattr(layer, "kernel_size"):
            groups = self.groups * inputs // self.inputs.count if in_groups else 1
            attributes = {"in_channels": inputs, "out_channels": outputs, "groups": groups}
        others = {name: t for name, t in own_tensors(layer).items() if name not in {"weight", "bias"}}
        if len(part.rows) == 1 and not is_parametrized(layer):
            count = self.outputs.count
            others = {n: t[part.rows[0]] if t.shape[:1] == (count,) else t for n, t in others.items()}
            return shallow_copy(layer, attributes, {"weight": part.weight(), "bias": part.bias(), **others})
        children = {name: child for name, child in vars(layer)["_modules"].items() if name != "parametrizations"}
        view = shallow_copy(layer, {**attributes, "part": part, "_modules": children}, {**others})
        view.__class__ = _computed_class(plain_class(layer))  # type: ignore[arg-type] # classes can be hashed
        return view


class _Part(NamedTuple):
    """The part of a layer's weight in use.

    Attributes:
        layer: The layer.
        rows: The ranges of its output channels.
        inputs: The number of input channels; None where the weight has those of one group.
    """

    layer: Weighted
    rows: tuple[slice, ...]
    inputs: int | None

    def weight(self) -> torch.Tensor:
        weight = self.layer.weight.transpose(0, 1) if is_transposed(self.layer) else self.layer.weight
        if self.inputs is not None and self.inputs != weight.shape[1]:
            weight = weight[:, : self.inputs]
        weight = _joined(weight, self.rows)
        return weight.transpose(0, 1) if is_transposed(self.layer) else weight

    def bias(self) -> torch.Tensor | None:
        return None if self.layer.bias is None else _joined(self.layer.bias, self.rows)


class ComputedWeight:
    """A layer whose weight is computed at each access: that of a parametrized or of a fused layer is not a view."""

    part: _Part

    @property
    def weight(self) -> torch.Tensor:
        """The weight in use."""
        return self.part.weight()

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias in use."""
        return self.part.bias()


@cache
def _computed_class(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (ComputedWeight, kind), {"__module__": kind.__module__})


def plain_class(layer: nn.Module) -> type[nn.Module]:
    """Return the class of a layer without its parametrization, or without that of `ComputedWeight`."""
    kind = type(layer)
    if isinstance(layer, ComputedWeight):
        return kind.__mro__[2]
    return kind.__mro__[1] if is_parametrized(layer) else kind


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


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """Slices a parameter or buffer that a module has beside those of layers, such as a scale for each channel.

    Attributes:
        name: Of the tensor.
        dim: The dimension of its channels.
        part: The channels.
    """

    name: str
    dim: int
    part: ChannelSlice

    def view(self, module: nn.Module, config: ActiveConfig) -> torch.Tensor | None:
        """Return the tensor on its first channels."""
        tensor = getattr(module, self.name)
        return None if tensor is None else tensor.narrow(self.dim, 0, self.part.size(config))


def _leading(tensor: torch.Tensor | None, size: int) -> torch.Tensor | None:
    return None if tensor is None else tensor[:size]


def _joined(tensor: torch.Tensor, rows: tuple[slice, ...]) -> torch.Tensor:
    return tensor[rows[0]] if len(rows) == 1 else torch.cat([tensor[part] for part in rows])


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
        vars(part).update(_parameters={}, _buffers=tensors, sliced_parameters=tuple(own_parameters(module)))
    return part
