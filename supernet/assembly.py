"""Assembles a subnet from the parts that the operators give: a network of the same classes on shared weights."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from supernet.attention import HeadSlice
from supernet.layers import channels, groups, is_norm, is_weighted, own_tensors
from supernet.operators import ChannelSlice, LayerSelect, SubnetNorm, TensorSlice, WeightSlice, shallow_copy
from supernet.structure import BlockCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supernet.layers import Norm, Weighted
    from supernet.operators import Moments
    from supernet.structure import ActiveConfig, Structure

_SIDES = {"in", "out", "heads", "channels"}
"""The sides of members that are not tensors by name."""

_COUNTING = ("head", "split_size", "inner_dim", "attn_dim")
"""Parts of the names of attributes that count heads or their features."""


class Assembly:
    """The operators of a network, by the path of the module that each belongs to.

    Attributes:
        slices: One for each convolution and linear layer.
        norms: One for each norm layer that has running statistics.
        selects: One for each block that can be left out.
        heads: One for each `nn.MultiheadAttention` whose heads are sliced.
        channel_norms: The channels of each norm of groups or single channels that is sliced.
        tensors: Further parameters and buffers that are sliced.
    """

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        modules = dict(model.named_modules())
        group_of = {
            (member.path, member.side): n for n, group in enumerate(structure.groups) for member in group.members
        }
        members = [member for group in structure.groups for member in group.members]
        places = {(member.path, member.side): member for member in members}

        def channel_slice(path: str, side: str, count: int) -> ChannelSlice:
            group, place = group_of.get((path, side)), places.get((path, side))
            units = 1 if group is None else structure.groups[group].units
            return ChannelSlice(count, group, units, place.sections if place else ())

        def layer_slice(path: str, layer: Weighted | Norm, side: str) -> ChannelSlice:
            return channel_slice(path, side, channels(layer, side))

        self.slices = {
            path: WeightSlice(layer_slice(path, layer, "in"), layer_slice(path, layer, "out"), groups(layer))
            for path, layer in modules.items()
            if is_weighted(layer)
        }
        self.norms = {path: SubnetNorm(layer_slice(path, m, "out")) for path, m in modules.items() if is_norm(m)}
        self.heads = {
            path: HeadSlice(channel_slice(path, "heads", cast("nn.MultiheadAttention", modules[path]).num_heads))
            for path, side in places
            if side == "heads"
        }
        self.channel_norms = {
            path: channel_slice(path, "channels", _norm_channels(modules[path]))
            for path, side in places
            if side == "channels"
        }
        self.tensors: dict[str, list[TensorSlice]] = {}
        for path, part in self.channel_norms.items():
            self.tensors[path] = [TensorSlice(name, 0, part) for name in own_tensors(modules[path])]
        for member in members:
            if member.side not in _SIDES:
                count = getattr(modules[member.path], member.side).shape[member.dim]
                part = channel_slice(member.path, member.side, count)
                self.tensors.setdefault(member.path, []).append(TensorSlice(member.side, member.dim, part))
        self.selects = _selects(structure)
        self._counts = _head_counts(modules, self.slices)
        self._blocks = {
            path: tuple(n for n, block in enumerate(structure.blocks) if path == block or path.startswith(f"{block}."))
            for path in modules
        }
        sliced = {path for path, part in self.slices.items() if {part.inputs.group, part.outputs.group} != {None}}
        replaced = {*self.norms, *self.selects, *self.heads, *self.tensors, *self._counts, *sliced}
        paths = {module: path for path, module in modules.items()}
        self._first_path = {path: paths[module] for path, module in model.named_modules(remove_duplicate=False)}
        changed = (path for path, first in self._first_path.items() if first in replaced)
        self._copied = {ancestor for path in changed for ancestor in _ancestors(path)} | {""}

    def is_active(self, path: str, config: ActiveConfig) -> bool:
        """Return whether none of the blocks that contain a layer is left out."""
        return all(config.active_blocks[block] for block in self._blocks[path])

    def norm_sizes(self, config: ActiveConfig) -> dict[str, int]:
        """Return the number of channels of each active norm layer, in order."""
        return {path: norm.outputs.size(config) for path, norm in self.norms.items() if self.is_active(path, config)}

    def view(self, model: nn.Module, config: ActiveConfig, moments: Mapping[str, Moments]) -> nn.Module:
        """Return the network of a configuration, on views of the shared weights.

        Modules in which no operator changes anything are not copied: they are the shared network's own.

        Args:
            model: The shared network.
            config: The blocks and units in use.
            moments: The running statistics of each active norm layer; none to normalise by those of each batch.
        """
        made: dict[nn.Module, nn.Module] = {}  # a module at two paths stays one module

        def part(path: str, module: nn.Module) -> nn.Module:
            if path in self._copied and module not in made:
                made[module] = copied(self._first_path[path], module)
            return made.get(module, module)

        def copied(path: str, module: nn.Module) -> nn.Module:
            if path in self.selects and not config.active_blocks[self.selects[path].block]:
                return self.selects[path].view(module, config)
            if path in self.slices:
                return self.slices[path].view(cast("Weighted", module), config)
            if path in self.norms:
                return self.norms[path].view(cast("Norm", module), config, moments.get(path))
            if path in self.heads:
                return self.heads[path].view(cast("nn.MultiheadAttention", module), config)
            members = vars(module)["_modules"]
            parts = {n: None if m is None else part(f"{path}.{n}".lstrip("."), m) for n, m in members.items()}
            view = shallow_copy(module, {"_modules": parts, **self._sizes(path, module, config)})
            return with_tensors(path, module, view) if path in self.tensors else view

        def with_tensors(path: str, module: nn.Module, view: nn.Module) -> nn.Module:
            sliced = {one.name: one.view(module, config) for one in self.tensors[path]}
            own = {name: t for name, t in vars(module)["_parameters"].items() if name not in sliced}
            names = tuple(vars(module)["_parameters"])
            buffers = {**vars(module)["_buffers"], **sliced}
            vars(view).update(_parameters=own, _buffers=buffers, sliced_parameters=names)
            return view

        # Autograd has to record the views, even if the caller has switched it off.
        with torch.inference_mode(mode=False), torch.enable_grad():
            return part("", model)

    def _sizes(self, path: str, module: nn.Module, config: ActiveConfig) -> dict[str, int]:
        """Return the attributes of a module that count what is sliced."""
        sizes = {name: count.size(config) for name, count in self._counts.get(path, {}).items()}
        if path in self.channel_norms:
            size = self.channel_norms[path].size(config)
            if not isinstance(module, nn.GroupNorm):
                return sizes | {"num_features": size}
            sizes |= {"num_channels": size, "num_groups": module.num_groups * size // module.num_channels}
        return sizes


def subnet_modules(network: nn.Module, model: nn.Module) -> list[nn.Module]:
    """Return the modules of a subnet's network that are not shared with the whole network."""
    shared = set(model.modules())
    return [part for part in network.modules() if part not in shared]


def _ancestors(path: str) -> list[str]:
    """Return the paths of a module and of all modules around it.

    Examples:
        >>> _ancestors("layer1.0.conv1")
        ['layer1', 'layer1.0', 'layer1.0.conv1']
    """
    return list(accumulate(path.split("."), "{}.{}".format))


def _norm_channels(module: nn.Module) -> int:
    return module.num_channels if isinstance(module, nn.GroupNorm) else cast("nn.InstanceNorm1d", module).num_features


def _selects(structure: Structure) -> dict[str, LayerSelect]:
    blocks = ((block, structure.blocks[block]) for stage in structure.stages for block in stage)
    return {path: LayerSelect(block, structure.calls.get(path, BlockCall())) for block, path in blocks}


def _head_counts(
    modules: Mapping[str, nn.Module], slices: Mapping[str, WeightSlice]
) -> dict[str, dict[str, ChannelSlice]]:
    """Return the attributes of attention modules that count heads or their features, and so have to follow the slices.

    Many modules use a number such as `num_heads` or `all_head_size` for reshaping. It is recognised by its value, that
    of the layers in the module, and by its name: the size of a head may happen to have the same value.
    """
    counts: dict[str, dict[str, ChannelSlice]] = {}
    for path, part in slices.items():
        outputs, parent = part.outputs, path.rpartition(".")[0]
        if outputs.group is None or outputs.units == outputs.count or modules[parent] is modules[path]:
            continue
        features = {outputs.count, *outputs.sections}
        for name, value in vars(modules[parent]).items():
            if type(value) is int and any(word in name for word in _COUNTING):
                is_count = value == outputs.units and "head" in name and "dim" not in name and "size" not in name
                if is_count or (value in features and value > outputs.units):
                    counts.setdefault(parent, {})[name] = ChannelSlice(value, outputs.group, outputs.units)
    return counts
