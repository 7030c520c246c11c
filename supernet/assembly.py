"""Assembles a subnet from the parts that the operators give: a network of the same classes on shared weights."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from supernet.layers import channels, groups, is_norm, is_weighted
from supernet.operators import ChannelSlice, LayerSelect, SubnetNorm, WeightSlice, shallow_copy
from supernet.structure import Channels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supernet.layers import Norm, Weighted
    from supernet.operators import Moments
    from supernet.structure import ActiveConfig, Side, Structure


class Assembly:
    """The operators of a network, by the path of the module that each belongs to.

    Attributes:
        slices: One for each convolution and linear layer.
        norms: One for each norm layer that has running statistics.
        selects: One for each list or sequence with blocks that can be left out.
    """

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        modules = dict(model.named_modules())
        group_of = {member: n for n, group in enumerate(structure.groups) for member in group.members}

        def channel_slice(path: str, layer: Weighted | Norm, side: Side) -> ChannelSlice:
            group = group_of.get(Channels(path, side))
            return ChannelSlice(channels(layer, side), group, 1 if group is None else structure.groups[group].units)

        self.slices = {
            path: WeightSlice(channel_slice(path, layer, "in"), channel_slice(path, layer, "out"), groups(layer))
            for path, layer in modules.items()
            if is_weighted(layer)
        }
        self.norms = {
            path: SubnetNorm(channel_slice(path, layer, "out")) for path, layer in modules.items() if is_norm(layer)
        }
        self.selects = _selects(structure)
        self._counts = _head_counts(modules, self.slices)
        self._blocks = {
            path: tuple(n for n, block in enumerate(structure.blocks) if path.startswith(f"{block}."))
            for path in modules
        }
        sliced = {path for path, part in self.slices.items() if {part.inputs.group, part.outputs.group} != {None}}
        replaced = {*self.norms, *self.selects, *self._counts, *sliced}
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
            if path in self.slices:
                return self.slices[path].view(cast("Weighted", module), config)
            if path in self.norms:
                return self.norms[path].view(cast("Norm", module), config, moments.get(path))
            members: dict[str, tuple[str, nn.Module | None]]
            members = {name: (f"{path}.{name}".lstrip("."), m) for name, m in vars(module)["_modules"].items()}
            if path in self.selects:
                members = self.selects[path].view(members, config)
            parts = {name: None if m is None else part(member, m) for name, (member, m) in members.items()}
            counts = {name: count.size(config) for name, count in self._counts.get(path, {}).items()}
            return shallow_copy(module, {"_modules": parts, **counts})

        # Autograd has to record the views, even if the caller has switched it off.
        with torch.inference_mode(mode=False), torch.enable_grad():
            return part("", model)


def subnet_modules(network: nn.Module, model: nn.Module) -> list[nn.Module]:
    """Return the modules of a subnet's network that are not shared with the whole network."""
    shared = set(model.modules())
    return [part for part in network.modules() if part not in shared]


def _ancestors(path: str) -> list[str]:
    """Return the paths of a module and of all modules around it.

    Example:
        >>> _ancestors("layer1.0.conv1")
        ['layer1', 'layer1.0', 'layer1.0.conv1']
    """
    return list(accumulate(path.split("."), "{}.{}".format))


def _selects(structure: Structure) -> dict[str, LayerSelect]:
    blocks: dict[str, dict[str, int]] = {}
    for block in (block for stage in structure.stages for block in stage):
        container, _, name = structure.blocks[block].rpartition(".")
        blocks.setdefault(container, {})[name] = block
    return {path: LayerSelect(names) for path, names in blocks.items()}


def _head_counts(
    modules: Mapping[str, nn.Module], slices: Mapping[str, WeightSlice]
) -> dict[str, dict[str, ChannelSlice]]:
    """Return the attributes of attention modules that count heads, and so have to follow the slices.

    Many modules use a number such as `num_heads` or `all_head_size` for reshaping. It is recognised by its value, that
    of the layers in the module, and by its name: the size of a head may happen to have the same value.
    """
    counts: dict[str, dict[str, ChannelSlice]] = {}
    for path, part in slices.items():
        outputs, parent = part.outputs, path.rpartition(".")[0]
        if outputs.group is None or outputs.units == outputs.count or modules[parent] is modules[path]:
            continue
        for name, value in vars(modules[parent]).items():
            if type(value) is int and "head" in name:
                is_count = value == outputs.units and "dim" not in name and "size" not in name
                if is_count or value == outputs.count:
                    counts.setdefault(parent, {})[name] = ChannelSlice(value, outputs.group, outputs.units)
    return counts
