"""Finds the structure of a network: residual blocks, stages, and the channels that must be sliced together.

All of it is seen by tracing NaN (`supernet.nan_tracing`), so it holds for any code that runs: there are no rules for
types of modules, names or operations.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from supernet.layers import channels, groups, own_parameters
from supernet.nan_tracing import NAN, Poison, Probe, single_thread
from supernet.structure import Channels, Group, Structure, Unsliceable

if TYPE_CHECKING:
    from collections.abc import Sequence

_Containers = nn.Sequential | nn.ModuleList


def find_structure(model: nn.Module, inputs: tuple[Any, ...], keep: Sequence[str] = ()) -> Structure:
    """Return the residual blocks, stages and groups of sliceable channels of a network.

    Args:
        model: Runs about three times per layer, in evaluation mode and on one thread; left unchanged.
        inputs: The arguments of a call. Only shapes matter: the smaller, the faster.
        keep: Paths of modules that are not sliced, including everything inside them.
    """
    with single_thread(), Probe(model, inputs) as probe:
        skippable = _skippable(probe)
        kinds = {type(probe.modules[path]) for path in skippable} - {nn.Sequential, nn.ModuleList}
        blocks = tuple(path for path, module in probe.modules.items() if type(module) in kinds or path in skippable)
        finder = _GroupFinder(probe, blocks, keep)
        finder.trace_all()
    return Structure(blocks, _stages(probe, blocks, skippable), finder.groups(), tuple(finder.unsliceable))


def _skippable(probe: Probe) -> set[str]:
    """Return the paths of the residual blocks that can be left out.

    Such a block is a member of a list or sequence, its output has the shape of its input, it has a path around all of
    its layers (its output is poisoned when its input is, though each of its layers cleans its input), and its layers
    add to that path: a gate, which multiplies, gives nothing where nothing enters. It shares no layer with other
    modules, and of nested blocks, the innermost counts.
    """
    blocks: set[str] = set()
    for path in sorted(_listed(probe), key=lambda path: -path.count(".")):
        shapes, layers = probe.shapes.get(path, []), [layer for layer in probe.layers if layer.startswith(f"{path}.")]
        if (
            len(shapes) == 2  # noqa: PLR2004 - an input and an output
            and shapes[0] == shapes[1]
            and layers
            and all(place.startswith(f"{path}.") for layer in layers for place in probe.paths[probe.layers[layer]])
            and not any(block.startswith(f"{path}.") for block in blocks)
            and all(path in probe.run(Poison(entering=path, fill=fill), [path]).outputs for fill in (NAN, 0.0))
        ):
            blocks.add(path)
    return blocks


def _listed(probe: Probe) -> dict[str, str]:
    """Return the paths of all members of lists and sequences, in order, each with the path of its container."""
    return {
        f"{path}.{name}".removeprefix("."): path
        for path, module in probe.modules.items()
        if isinstance(module, _Containers)
        for name, _ in module.named_children()
    }


def _stages(probe: Probe, blocks: tuple[str, ...], skippable: set[str]) -> tuple[tuple[int, ...], ...]:
    """Return the runs of neighbouring blocks that can be left out."""
    listed = _listed(probe)
    runs = groupby(listed, key=lambda path: (listed[path], path in skippable))
    return tuple(tuple(blocks.index(path) for path in run) for (_, can_skip), run in runs if can_skip)


class _GroupFinder:
    """Poisons each layer in turn and joins the channels that must be sliced together (union-find)."""

    def __init__(self, probe: Probe, blocks: tuple[str, ...], keep: Sequence[str]) -> None:
        self.probe, self.blocks, self.keep = probe, blocks, keep
        self.unsliceable: list[Unsliceable] = []
        self._parent: dict[Channels, Channels] = {}
        self._units: dict[Channels, int] = {}
        self._fixed: set[Channels] = set()

    def trace_all(self) -> None:
        """Trace the output of each layer, then everything else."""
        for path in [path for path in self.probe.layers if path in self.probe.shapes]:
            layer, out = self.probe.layers[path], Channels(path, "out")
            self._join(out, out, channels(layer, "out"))
            if groups(layer) > 1:  # the inputs and the outputs of a group belong together
                self._join(Channels(path, "in"), out, groups(layer))
            self._trace(path)
            if self._is_kept(path):
                self._fixed |= {Channels(path, "in"), out}
        self._fixed |= {Channels(path, "in") for path in self.probe.run_with_all_else_poisoned().layers}
        for path, module in self.probe.modules.items():
            if path not in self.probe.layers and any(p.dim() > 1 for p in own_parameters(module).values()):
                self._note_unsliceable(path, f"is a {type(module).__name__}")

    def groups(self) -> tuple[Group, ...]:
        """Return the channels that can be sliced, in the order of the layers that output them."""
        members: dict[Channels, list[Channels]] = {}
        for node in self._parent:
            members.setdefault(self._root(node), []).append(node)
        fixed = {self._root(node) for node in self._fixed & self._parent.keys()}
        return tuple(
            Group(tuple(nodes), self._units[root], self._block_of(*(node.path for node in nodes)))
            for root, nodes in members.items()
            if root not in fixed and self._units[root] > 1
        )

    def _trace(self, path: str) -> None:
        """Join a layer's output with the layers that it reaches, or note that it can't be sliced."""
        out, count = Channels(path, "out"), channels(self.probe.layers[path], "out")
        if count == 1:
            self._fixed.add(out)
            return
        samples = sorted({count // 2, count - 1})
        watched = ["", *self.blocks]
        first, second = (self.probe.run(Poison({path: poisoned}), watched) for poisoned in ([0], samples))
        reached = dict.fromkeys((*first.layers, *second.layers))
        reason = f"goes through {self._name(first.others[0])}" if first.others else ""
        reason = reason or ("" if reached or first.outputs else "reaches no other layer")
        for taker in reached:
            units = _units(count, first.layers.get(taker), second.layers.get(taker), samples)
            if units > 1:
                self._join(out, Channels(taker, "in" if taker in self.probe.layers else "out"), units)
            else:
                reason = reason or f"is mixed or reordered before {self._name(taker)}"
        if reason or "" in first.outputs:
            self._fixed.add(out)
        block = self._block_of(path)
        stays_inside = block is not None and self.blocks[block] not in first.outputs
        if reason and stays_inside and not any(map(self._is_kept, first.others)):
            self._note_unsliceable(path, reason)

    def _note_unsliceable(self, path: str, reason: str) -> None:
        if self._block_of(path) is not None and not self._is_kept(path):
            self.unsliceable.append(Unsliceable(path, reason))

    def _name(self, path: str) -> str:
        return f"{path} ({type(self.probe.modules[path]).__name__})"

    def _is_kept(self, path: str) -> bool:
        return any(path == whole or path.startswith(f"{whole}.") for whole in self.keep)

    def _block_of(self, *paths: str) -> int | None:
        inside = [n for n, block in enumerate(self.blocks) if all(path.startswith(f"{block}.") for path in paths)]
        return inside[-1] if inside else None

    def _root(self, node: Channels) -> Channels:
        while self._parent[node] != node:
            node = self._parent[node]
        return node

    def _join(self, first: Channels, second: Channels, units: int) -> None:
        """Record that channels must be sliced together, in units that both allow."""
        for node in (first, second):
            self._parent.setdefault(node, node)
            self._units.setdefault(node, 0)
        root, child = self._root(first), self._root(second)
        self._parent[child] = root
        self._units[root] = math.gcd(self._units[root], self._units[child], units)


def _units(count: int, first: torch.Tensor | None, second: torch.Tensor | None, samples: Sequence[int]) -> int:
    """Return into how many equal units channels are divided on their way from one layer into another, in order.

    Args:
        count: The output channels of the first layer.
        first: The channels of the second layer that the first layer's channel 0 poisons: bool, shape (channels,).
        second: Those that the channels `samples` poison.
        samples: Some channels of the first layer.

    Returns:
        The largest number that divides the channels of both layers and for which poison stays within its unit; 1, which
        can't be sliced, if there is no other.
    """
    if first is None or second is None:
        return 1
    inputs = len(first)
    for units in range(math.gcd(count, inputs), 1, -1):
        if count % units or inputs % units:
            continue
        poisoned = torch.stack((first, second)).unflatten(1, (units, -1)).any(dim=2)
        expected = torch.zeros_like(poisoned)
        expected[0, 0] = True
        expected[1, [sample * units // count for sample in samples]] = True
        if torch.equal(poisoned, expected):
            return units
    return 1
