"""Puts a subnet together out of the parts that the operators give: a network of the same classes on shared weights."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from supernet.layers import channels, groups, is_norm, is_weighted
from supernet.operators import Cut, LayerSelect, SubnetNorm, WeightSlice, shell
from supernet.structure import Channels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supernet.layers import Norm, Weighted
    from supernet.operators import Moments
    from supernet.structure import Choice, Side, Structure


class Assembly:
    """The operators of a network, by the path of the module that each belongs to.

    Attributes:
        slices: One for each convolution and linear layer.
        norms: One for each norm layer that keeps running statistics.
        selects: One for each list or sequence that has blocks which can be left out.
    """

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        modules = dict(model.named_modules())
        group_of = {member: n for n, group in enumerate(structure.groups) for member in group.members}

        def cut(path: str, layer: Weighted | Norm, side: Side) -> Cut:
            group = group_of.get(Channels(path, side))
            return Cut(channels(layer, side), group, 1 if group is None else structure.groups[group].units)

        self.slices = {
            path: WeightSlice(cut(path, layer, "in"), cut(path, layer, "out"), groups(layer))
            for path, layer in modules.items()
            if is_weighted(layer)
        }
        self.norms = {path: SubnetNorm(cut(path, layer, "out")) for path, layer in modules.items() if is_norm(layer)}
        self.selects = _selects(structure)
        self._counts = _head_counts(modules, self.slices)
        self._blocks = {
            path: tuple(n for n, block in enumerate(structure.blocks) if path.startswith(f"{block}."))
            for path in modules
        }
        sliced = {path for path, part in self.slices.items() if {part.takes.group, part.gives.group} != {None}}
        at_work = {*self.norms, *self.selects, *self._counts, *sliced}
        first = {module: path for path, module in modules.items()}
        self._first = {path: first[module] for path, module in model.named_modules(remove_duplicate=False)}
        self._touched = {end for path, place in self._first.items() if place in at_work for end in _way_to(path)} | {""}

    def runs(self, path: str, choice: Choice) -> bool:
        """Return whether a layer is in no block that is left out."""
        return all(choice.runs[block] for block in self._blocks[path])

    def norm_sizes(self, choice: Choice) -> dict[str, int]:
        """Return how many channels each norm layer that runs has, in order."""
        return {path: norm.gives.of(choice) for path, norm in self.norms.items() if self.runs(path, choice)}

    def view(self, model: nn.Module, choice: Choice, moments: Mapping[str, Moments]) -> nn.Module:
        """Return the network of a choice, on views of the shared weights.

        What no operator touches is not copied: it is the shared network's own.

        Args:
            model: The shared network.
            choice: What is used of it.
            moments: The running statistics of each norm layer that runs; none to take those of each batch.
        """
        made: dict[nn.Module, nn.Module] = {}  # a module that has two places stays one

        def part(path: str, module: nn.Module) -> nn.Module:
            if path in self._touched and module not in made:
                made[module] = own(self._first[path], module)
            return made.get(module, module)

        def own(path: str, module: nn.Module) -> nn.Module:
            if path in self.slices:
                return self.slices[path].view(cast("Weighted", module), choice)
            if path in self.norms:
                return self.norms[path].view(cast("Norm", module), choice, moments.get(path))
            members: dict[str, tuple[str, nn.Module | None]]
            members = {name: (f"{path}.{name}".lstrip("."), m) for name, m in vars(module)["_modules"].items()}
            if path in self.selects:
                members = self.selects[path].view(members, choice)
            parts = {name: None if m is None else part(way, m) for name, (way, m) in members.items()}
            counts = {name: count.of(choice) for name, count in self._counts.get(path, {}).items()}
            return shell(module, {"_modules": parts, **counts})

        # Autograd has to see the views being made, even if the first to ask for them has switched it off.
        with torch.inference_mode(mode=False), torch.enable_grad():
            return part("", model)


def shells(network: nn.Module, model: nn.Module) -> list[nn.Module]:
    """Return those modules of a subnet's network that the shared network has not itself."""
    shared = set(model.modules())
    return [part for part in network.modules() if part not in shared]


def _way_to(path: str) -> list[str]:
    """Return the paths of a module and of all that it is in.

    Example:
        >>> _way_to("layer1.0.conv1")
        ['layer1', 'layer1.0', 'layer1.0.conv1']
    """
    return list(accumulate(path.split("."), "{}.{}".format))


def _selects(structure: Structure) -> dict[str, LayerSelect]:
    blocks: dict[str, dict[str, int]] = {}
    for block in (block for stage in structure.stages for block in stage):
        container, _, name = structure.blocks[block].rpartition(".")
        blocks.setdefault(container, {})[name] = block
    return {path: LayerSelect(names) for path, names in blocks.items()}


def _head_counts(modules: Mapping[str, nn.Module], slices: Mapping[str, WeightSlice]) -> dict[str, dict[str, Cut]]:
    """Return the numbers of heads that modules of attention keep, and that have to follow the slices.

    Many take a number such as `num_heads` or `all_head_size` for reshaping. It is known by its value, that of the
    layers in the module, and by its name: the size of a head may have the same value by chance.
    """
    found: dict[str, dict[str, Cut]] = {}
    for path, part in slices.items():
        gives, parent = part.gives, path.rpartition(".")[0]
        if gives.group is None or gives.units == gives.count or modules[parent] is modules[path]:
            continue
        for name, value in vars(modules[parent]).items():
            if type(value) is int and "head" in name:
                is_count = value == gives.units and "dim" not in name and "size" not in name
                if is_count or value == gives.count:
                    found.setdefault(parent, {})[name] = Cut(value, gives.group, gives.units)
    return found
