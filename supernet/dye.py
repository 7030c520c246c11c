"""Finds the structure of a network with dye: a channel is made NaN, and where the NaN turns up is where it flows.

NaN goes wherever a channel goes: through activations, poolings, reshapes, residual additions and attention, whatever
code does these. A layer with weights takes note of the channels at which dye arrives, and works on clean ones. So one
channel's dye shows every layer that must be cut together with the layer it was put into, and in which units: if the
first output channel of a query layer stains the first 64 inputs of the layer behind, heads are 64 wide. Nothing of a
network is assumed but that it can be run, and there is no table of operations to keep up to date.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from supernet.layers import (
    Norm,
    Weighted,
    axis,
    channels,
    evaluation,
    groups,
    is_norm,
    is_weighted,
    mapped,
    own_parameters,
    tensors,
)
from supernet.structure import Channels, Group, Structure, Stuck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

NAN = float("nan")
_Containers = nn.Sequential | nn.ModuleList


def find_structure(model: nn.Module, inputs: tuple[Any, ...], keep: Sequence[str] = ()) -> Structure:
    """Return what can be chosen in a network.

    Args:
        model: Is run about three times for each of its layers, in evaluation mode; comes back as it was.
        inputs: What it is called with: any values of the right shape, the smaller the faster.
        keep: Paths of modules that are left whole, with all in them.
    """
    with _Bath(model, inputs) as bath:
        skippable = _skippable(bath)
        kinds = {type(bath.modules[path]) for path in skippable} - {nn.Sequential, nn.ModuleList}
        blocks = tuple(path for path, module in bath.modules.items() if type(module) in kinds or path in skippable)
        flows = _Flows(bath, blocks, keep)
        flows.follow()
    return Structure(blocks, _stages(bath, blocks, skippable), flows.groups(), tuple(flows.stuck))


@dataclass(frozen=True, slots=True)
class _Dye:
    """What is put into a network in one run.

    Attributes:
        channels: For some layers, the output channels that become NaN.
        flooded: A module into which nothing but `water` flows.
        water: NaN; or 0, and then the layers in the flooded module make up numbers, whatever they take.
    """

    channels: Mapping[str, Sequence[int]] = field(default_factory=dict[str, "Sequence[int]"])
    flooded: str | None = None
    water: float = NAN

    def makes_up(self, path: str) -> bool:
        """Return whether a layer makes up its output."""
        return self.flooded is not None and self.water == 0 and path.startswith(f"{self.flooded}.")


@dataclass(slots=True)
class _Seen:
    """What one run of a dyed network showed.

    Attributes:
        at: For each layer that dye reached, at which of its channels: bool, shape (channels,).
        through: Modules of other kinds, with parameters or groups of their own, that dye went into.
        out_of: Those of the watched modules whose result is stained; where the water is 0, is not all 0.
    """

    at: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    through: list[str] = field(default_factory=list[str])
    out_of: set[str] = field(default_factory=set[str])


class _Bath:
    """A network under observation: in evaluation mode, without the kernels that lose NaN; restored at the end."""

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.model, self.inputs = model, inputs
        self.modules = dict(model.named_modules())
        self.layers: dict[str, Weighted] = {path: m for path, m in self.modules.items() if is_weighted(m)}
        self.known: dict[str, Weighted | Norm] = self.layers | {p: m for p, m in self.modules.items() if is_norm(m)}
        self.places: dict[nn.Module, list[str]] = {}
        """For each module: all its paths."""
        self.watched: set[str] = set()
        self.shapes: dict[str, list[torch.Size]] = {}
        """For each module that is called: the shapes of the first tensor that enters and of the first that leaves."""
        for path, module in model.named_modules(remove_duplicate=False):
            self.places.setdefault(module, []).append(path)
        self._seen = _Seen()
        self._dye = _Dye()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._observe()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _observe(self) -> None:
        self._stack.enter_context(evaluation(self.model))
        self._stack.enter_context(torch.no_grad())
        self._stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # fused kernels lose NaN in queries and keys
        for path, module in self.modules.items():
            enter = module.register_forward_pre_hook(self._entering(path, module), with_kwargs=True)
            leave = module.register_forward_hook(self._leaving(path))
            self._stack.callback(enter.remove)
            self._stack.callback(leave.remove)
        self.run()

    def run(self, dye: _Dye | None = None) -> _Seen:
        """Return what is seen when the network is run with some dye in it."""
        self._seen, self._dye = _Seen(), dye or _Dye()
        self.model(*self.inputs)
        return self._seen

    def run_with_all_else_dyed(self) -> _Seen:
        """Return what is seen when all is dyed that is no layer's output: the input, and parameters of other kinds."""
        foreign = (module for path, module in self.modules.items() if path not in self.known)
        others = {id(p): p for module in foreign for p in own_parameters(module).values() if p.is_floating_point()}
        before = [parameter.clone() for parameter in others.values()]
        try:
            for parameter in others.values():
                parameter.fill_(NAN)
            return self.run(_Dye(flooded=""))
        finally:
            for parameter, value in zip(others.values(), before, strict=True):
                parameter.copy_(value)

    def _entering(self, path: str, module: nn.Module) -> Any:
        has_own = bool(own_parameters(module)) or isinstance(module, nn.GroupNorm)
        is_other = has_own and path not in self.known and not any(module.children())

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = [t for t in tensors((args, kwargs)) if t.is_floating_point()]
            self.shapes.setdefault(path, [given[0].shape if given else torch.Size()])
            if path == self._dye.flooded:
                return mapped(args, kwargs, lambda t: torch.full_like(t, self._dye.water))
            if not any(t.isnan().any() for t in given):
                return None
            if path in self.known:
                stained = given[0].isnan().movedim(axis(self.known[path], given[0]), 0).flatten(1).any(dim=1)
                self._seen.at[path] = stained | self._seen.at.get(path, stained)
            elif is_other:
                self._seen.through.append(path)
            return mapped(args, kwargs, lambda t: t.nan_to_num(0.0)) if path in self.layers else None

        return hook

    def _leaving(self, path: str) -> Any:
        def hook(_: nn.Module, __: Any, result: Any) -> Any:
            first = next(tensors(result), None)
            if first is None:
                return None
            if len(self.shapes[path]) == 1:
                self.shapes[path].append(first.shape)
            if path in self._dye.channels:
                where = torch.tensor(self._dye.channels[path], device=first.device)
                return first.index_fill(axis(self.layers[path], first), where, NAN)
            if path in self.known and self._dye.makes_up(path):  # a norm that begins at 0 would hide them
                return torch.linspace(-1, 1, first.numel(), dtype=first.dtype, device=first.device).view_as(first)
            if path in self.watched:
                given = [t for t in tensors(result) if t.is_floating_point()]
                if any((t.isnan() if math.isnan(self._dye.water) else t).any() for t in given):
                    self._seen.out_of.add(path)
            return None

        return hook


def _skippable(bath: _Bath) -> set[str]:
    """Return the paths of the residual blocks that can be left out.

    Such a block has a place in a list or sequence, gives what has the shape of what it takes, has a way around all of
    its layers (it is stained when what enters it is, though each of its layers cleans what it takes), and its layers
    add to what goes that way: a gate, which multiplies, gives nothing where nothing enters. It has its layers to
    itself, and of blocks in blocks, the innermost count.
    """
    found: set[str] = set()
    for path in sorted(_listed(bath), key=lambda path: -path.count(".")):
        shapes, layers = bath.shapes.get(path, []), [layer for layer in bath.layers if layer.startswith(f"{path}.")]
        if (
            len(shapes) == 2  # noqa: PLR2004 - something came in, something came out
            and shapes[0] == shapes[1]
            and layers
            and all(place.startswith(f"{path}.") for layer in layers for place in bath.places[bath.layers[layer]])
            and not any(block.startswith(f"{path}.") for block in found)
        ):
            bath.watched = {path}
            if all(path in bath.run(_Dye(flooded=path, water=water)).out_of for water in (NAN, 0.0)):
                found.add(path)
    return found


def _listed(bath: _Bath) -> dict[str, str]:
    """Return the paths of all members of lists and sequences, in order, and the path of the one each is in."""
    return {
        f"{path}.{name}".removeprefix("."): path
        for path, module in bath.modules.items()
        if isinstance(module, _Containers)
        for name, _ in module.named_children()
    }


def _stages(bath: _Bath, blocks: tuple[str, ...], skippable: set[str]) -> tuple[tuple[int, ...], ...]:
    """Return the runs of neighbouring blocks that can be left out."""
    listed = _listed(bath)
    runs = groupby(listed, key=lambda path: (listed[path], path in skippable))
    return tuple(tuple(blocks.index(path) for path in run) for (_, can_skip), run in runs if can_skip)


class _Flows:
    """Puts dye into each layer in turn and joins what must be cut together."""

    def __init__(self, bath: _Bath, blocks: tuple[str, ...], keep: Sequence[str]) -> None:
        self.bath, self.blocks, self.keep = bath, blocks, keep
        self.stuck: list[Stuck] = []
        self._parent: dict[Channels, Channels] = {}
        self._units: dict[Channels, int] = {}
        self._fixed: set[Channels] = set()

    def follow(self) -> None:
        """Put dye into each layer's output, and into all that is no output of a layer."""
        self.bath.watched = {"", *self.blocks}
        for path in [path for path in self.bath.layers if path in self.bath.shapes]:
            layer, out = self.bath.layers[path], Channels(path, "out")
            self._join(out, out, channels(layer, "out"))
            if groups(layer) > 1:  # what enters a group leaves it
                self._join(Channels(path, "in"), out, groups(layer))
            self._follow(path)
            if self._is_kept(path):
                self._fixed |= {Channels(path, "in"), out}
        self._fixed |= {Channels(path, "in") for path in self.bath.run_with_all_else_dyed().at}
        for path, module in self.bath.modules.items():
            if path not in self.bath.layers and any(p.dim() > 1 for p in own_parameters(module).values()):
                self._note_stuck(path, f"is a {type(module).__name__}")

    def groups(self) -> tuple[Group, ...]:
        """Return the channels that can be cut, in the order of the layers that make them."""
        members: dict[Channels, list[Channels]] = {}
        for node in self._parent:
            members.setdefault(self._root(node), []).append(node)
        fixed = {self._root(node) for node in self._fixed & self._parent.keys()}
        return tuple(
            Group(tuple(nodes), self._units[root], self._block_of(*(node.path for node in nodes)))
            for root, nodes in members.items()
            if root not in fixed and self._units[root] > 1
        )

    def _follow(self, path: str) -> None:
        """Join a layer's output with what it flows into, or note that it can't be cut."""
        out, count = Channels(path, "out"), channels(self.bath.layers[path], "out")
        if count == 1:
            self._fixed.add(out)
            return
        places = sorted({count // 2, count - 1})
        first, others = (self.bath.run(_Dye({path: which})) for which in ([0], places))
        reached = dict.fromkeys((*first.at, *others.at))
        why = f"goes through {self._name(first.through[0])}" if first.through else ""
        why = why or ("" if reached or first.out_of else "is lost sight of")
        for taker in reached:
            units = _units(count, first.at.get(taker), others.at.get(taker), places)
            if units > 1:
                self._join(out, Channels(taker, "in" if taker in self.bath.layers else "out"), units)
            else:
                why = why or f"is mixed or put into another order before {self._name(taker)}"
        if why or "" in first.out_of:
            self._fixed.add(out)
        block = self._block_of(path)
        stays_inside = block is not None and self.blocks[block] not in first.out_of
        if why and stays_inside and not any(map(self._is_kept, first.through)):
            self._note_stuck(path, why)

    def _note_stuck(self, path: str, why: str) -> None:
        if self._block_of(path) is not None and not self._is_kept(path):
            self.stuck.append(Stuck(path, why))

    def _name(self, path: str) -> str:
        return f"{path} ({type(self.bath.modules[path]).__name__})"

    def _is_kept(self, path: str) -> bool:
        return any(path == whole or path.startswith(f"{whole}.") for whole in self.keep)

    def _block_of(self, *paths: str) -> int | None:
        inside = [n for n, block in enumerate(self.blocks) if all(path.startswith(f"{block}.") for path in paths)]
        return inside[-1] if inside else None

    def _root(self, node: Channels) -> Channels:
        while self._parent[node] != node:
            node = self._parent[node]
        return node

    def _join(self, one: Channels, other: Channels, units: int) -> None:
        """Note that two must be cut together, in no more than so many units; what is joined shares the fewest."""
        for node in (one, other):
            self._parent.setdefault(node, node)
            self._units.setdefault(node, 0)
        keeps, joins = self._root(one), self._root(other)
        self._parent[joins] = keeps
        self._units[keeps] = math.gcd(self._units[keeps], self._units[joins], units)


def _units(made: int, begin: torch.Tensor | None, others: torch.Tensor | None, places: Sequence[int]) -> int:
    """Return in how many equal units, the more the better, channels flow from one layer into another in their order.

    Args:
        made: How many channels the first layer makes.
        begin: At which channels of the second layer the dye of the first one's channel 0 arrives: bool, (channels,).
        others: Where the dye of the channels at `places` arrives.
        places: Some channels.

    Returns:
        A number that divides both layers' channels, such that no dye leaves the unit that it was put into; 1, in which
        nothing can be cut, if there is no other.
    """
    if begin is None or others is None:
        return 1
    taken = len(begin)
    for units in range(math.gcd(made, taken), 1, -1):
        if made % units or taken % units:
            continue
        stained = torch.stack((begin, others)).unflatten(1, (units, -1)).any(dim=2)
        expected = torch.zeros_like(stained)
        expected[0, 0] = True
        expected[1, [place * units // made for place in places]] = True
        if torch.equal(stained, expected):
            return units
    return 1
