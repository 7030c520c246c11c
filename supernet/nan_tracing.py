"""Finds the structure of a network by tracing NaN: a channel is made NaN, and its dependents are where NaN arrives.

NaN goes wherever a channel goes: through activations, poolings, reshapes, residual additions and attention, whatever
code computes these. A layer with weights records the input channels at which NaN arrives, and continues on clean
values. So one poisoned channel shows every layer that must be sliced together with its own, and in which units: if the
first output channel of a query layer poisons the first 64 inputs of the next layer, heads are 64 wide. The network only
has to run; there is no table of operations to keep up to date.
"""

from __future__ import annotations

import math
import threading
from contextlib import ExitStack, contextmanager
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
    from collections.abc import Generator, Mapping, Sequence
    from typing import Self

NAN = float("nan")
_Containers = nn.Sequential | nn.ModuleList
_THREADS = threading.Lock()


def find_structure(model: nn.Module, inputs: tuple[Any, ...], keep: Sequence[str] = ()) -> Structure:
    """Return the residual blocks, stages and groups of sliceable channels of a network.

    Args:
        model: Runs about three times per layer, in evaluation mode and on one thread; left unchanged.
        inputs: The arguments of a call. Only shapes matter: the smaller, the faster.
        keep: Paths of modules that are not sliced, including everything inside them.
    """
    with single_thread(), _Probe(model, inputs) as probe:
        skippable = _skippable(probe)
        kinds = {type(probe.modules[path]) for path in skippable} - {nn.Sequential, nn.ModuleList}
        blocks = tuple(path for path, module in probe.modules.items() if type(module) in kinds or path in skippable)
        finder = _GroupFinder(probe, blocks, keep)
        finder.trace_all()
    return Structure(blocks, _stages(probe, blocks, skippable), finder.groups(), tuple(finder.unsliceable))


@contextmanager
def single_thread() -> Generator[None]:
    """Let torch compute on one thread; afterwards, on as many as before.

    Tracing is thousands of tiny operations. Handing each to a pool of threads costs more than computing it, and on a
    busy machine ten times as much.
    """
    with _THREADS:  # two that overlap would restore each other's number
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True)
class _Poison:
    """The values that one run replaces.

    Attributes:
        channels: For some layers, the output channels that become NaN.
        entering: The path of a module whose input is replaced by `fill`.
        fill: NaN; or 0, and then the layers inside that module output numbers other than 0, whatever their input.
    """

    channels: Mapping[str, Sequence[int]] = field(default_factory=dict[str, "Sequence[int]"])
    entering: str | None = None
    fill: float = NAN

    def replaces_output(self, path: str) -> bool:
        """Return whether a layer's output is replaced by numbers other than 0."""
        return self.entering is not None and self.fill == 0 and path.startswith(f"{self.entering}.")


@dataclass(slots=True)
class _Reached:
    """Where the poison of one run arrived.

    Attributes:
        layers: For each layer, at which of its input channels: bool, shape (channels,).
        others: Modules of other kinds that have parameters or groups of their own.
        outputs: The watched modules whose result is poisoned; with a fill of 0, is not all 0.
    """

    layers: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    others: list[str] = field(default_factory=list[str])
    outputs: set[str] = field(default_factory=set[str])


class _Probe:
    """A network with hooks: in evaluation mode, without the kernels that lose NaN; restored at the end."""

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.model, self.inputs = model, inputs
        self.modules = dict(model.named_modules())
        self.layers: dict[str, Weighted] = {path: m for path, m in self.modules.items() if is_weighted(m)}
        self.known: dict[str, Weighted | Norm] = self.layers | {p: m for p, m in self.modules.items() if is_norm(m)}
        self.paths: dict[nn.Module, list[str]] = {}
        """For each module: all its paths."""
        self.shapes: dict[str, list[torch.Size]] = {}
        """For each module that is called: the shapes of its first input tensor and of its first output tensor."""
        for path, module in model.named_modules(remove_duplicate=False):
            self.paths.setdefault(module, []).append(path)
        self._reached = _Reached()
        self._poison = _Poison()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(evaluation(self.model))
            self._stack.enter_context(torch.no_grad())
            self._stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # fused kernels lose NaN in queries and keys
            self._record_shapes()
            for path, module in self.modules.items():
                if path in self.known or (_has_own_parameters(module) and not any(module.children())):
                    self._hook(self._stack, path, enter=self._at_layer(path))
                if path in self.known:
                    self._hook(self._stack, path, leave=self._after_layer(path))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, poison: _Poison, watched: Sequence[str] = ()) -> _Reached:
        """Run the network with some poison in it.

        Args:
            poison: The values that are replaced.
            watched: The modules whose results are looked at.
        """
        self._reached, self._poison = _Reached(), poison
        with ExitStack() as stack:
            if poison.entering is not None:
                module = self.modules[poison.entering]
                handle = module.register_forward_pre_hook(self._replace_input, with_kwargs=True, prepend=True)
                stack.callback(handle.remove)
            for path in watched:
                self._hook(stack, path, leave=self._look_at(path))
            self.model(*self.inputs)
        return self._reached

    def run_with_all_else_poisoned(self) -> _Reached:
        """Run the network with NaN in all that is no layer's output: its inputs, and parameters of other modules."""
        foreign = (module for path, module in self.modules.items() if path not in self.known)
        others = {id(p): p for module in foreign for p in own_parameters(module).values() if p.is_floating_point()}
        before = [parameter.clone() for parameter in others.values()]
        try:
            for parameter in others.values():
                parameter.fill_(NAN)
            return self.run(_Poison(entering=""))
        finally:
            for parameter, value in zip(others.values(), before, strict=True):
                parameter.copy_(value)

    def _hook(self, stack: ExitStack, path: str, *, enter: Any = None, leave: Any = None) -> None:
        """Hook a module until the stack is closed."""
        if enter is not None:
            stack.callback(self.modules[path].register_forward_pre_hook(enter, with_kwargs=True).remove)
        if leave is not None:
            stack.callback(self.modules[path].register_forward_hook(leave).remove)

    def _record_shapes(self) -> None:
        def enter(path: str) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                first = next((t for t in tensors((args, kwargs)) if t.is_floating_point()), None)
                self.shapes.setdefault(path, [torch.Size() if first is None else first.shape])

            return hook

        def leave(path: str) -> Any:
            def hook(_: nn.Module, __: Any, result: Any) -> None:
                first = next(tensors(result), None)
                if first is not None and len(self.shapes[path]) == 1:
                    self.shapes[path].append(first.shape)

            return hook

        with ExitStack() as stack:
            for path in self.modules:
                self._hook(stack, path, enter=enter(path), leave=leave(path))
            self.model(*self.inputs)

    def _replace_input(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return mapped(args, kwargs, lambda t: torch.full_like(t, self._poison.fill))

    def _at_layer(self, path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = [t for t in tensors((args, kwargs)) if t.is_floating_point()]
            if not any(t.isnan().any() for t in given):
                return None
            if path not in self.known:
                self._reached.others.append(path)
                return None
            poisoned = given[0].isnan().movedim(axis(self.known[path], given[0]), 0).flatten(1).any(dim=1)
            self._reached.layers[path] = poisoned | self._reached.layers.get(path, poisoned)
            return mapped(args, kwargs, lambda t: t.nan_to_num(0.0)) if path in self.layers else None

        return hook

    def _after_layer(self, path: str) -> Any:
        def hook(_: nn.Module, __: Any, result: Any) -> Any:
            if path in self._poison.channels:
                where = torch.tensor(self._poison.channels[path], device=result.device)
                return result.index_fill(axis(self.layers[path], result), where, NAN)
            if self._poison.replaces_output(path):  # a norm whose scale starts at 0 would hide the block
                numbers = torch.linspace(-1, 1, result.numel(), dtype=result.dtype, device=result.device)
                return numbers.view_as(result)
            return None

        return hook

    def _look_at(self, path: str) -> Any:
        def hook(_: nn.Module, __: Any, result: Any) -> None:
            given = [t for t in tensors(result) if t.is_floating_point()]
            if any((t.isnan() if math.isnan(self._poison.fill) else t).any() for t in given):
                self._reached.outputs.add(path)

        return hook


def _has_own_parameters(module: nn.Module) -> bool:
    """Return whether channels can't be told apart behind a module: it has parameters or groups of its own."""
    return bool(own_parameters(module)) or isinstance(module, nn.GroupNorm)


def _skippable(probe: _Probe) -> set[str]:
    """Return the paths of the residual blocks that can be left out.

    Such a block is a member of a list or sequence, its output has the shape of its input, it has a path around all of
    its layers (its output is poisoned when its input is, though each of its layers cleans its input), and its layers
    add to that path: a gate, which multiplies, gives nothing where nothing enters. It shares no layer with other
    modules, and of nested blocks, the innermost counts.
    """
    found: set[str] = set()
    for path in sorted(_listed(probe), key=lambda path: -path.count(".")):
        shapes, layers = probe.shapes.get(path, []), [layer for layer in probe.layers if layer.startswith(f"{path}.")]
        if (
            len(shapes) == 2  # noqa: PLR2004 - an input and an output
            and shapes[0] == shapes[1]
            and layers
            and all(place.startswith(f"{path}.") for layer in layers for place in probe.paths[probe.layers[layer]])
            and not any(block.startswith(f"{path}.") for block in found)
            and all(path in probe.run(_Poison(entering=path, fill=fill), [path]).outputs for fill in (NAN, 0.0))
        ):
            found.add(path)
    return found


def _listed(probe: _Probe) -> dict[str, str]:
    """Return the paths of all members of lists and sequences, in order, each with the path of its container."""
    return {
        f"{path}.{name}".removeprefix("."): path
        for path, module in probe.modules.items()
        if isinstance(module, _Containers)
        for name, _ in module.named_children()
    }


def _stages(probe: _Probe, blocks: tuple[str, ...], skippable: set[str]) -> tuple[tuple[int, ...], ...]:
    """Return the runs of neighbouring blocks that can be left out."""
    listed = _listed(probe)
    runs = groupby(listed, key=lambda path: (listed[path], path in skippable))
    return tuple(tuple(blocks.index(path) for path in run) for (_, can_skip), run in runs if can_skip)


class _GroupFinder:
    """Poisons each layer in turn and joins the channels that must be sliced together (union-find)."""

    def __init__(self, probe: _Probe, blocks: tuple[str, ...], keep: Sequence[str]) -> None:
        self.probe, self.blocks, self.keep = probe, blocks, keep
        self.unsliceable: list[Stuck] = []
        self._parent: dict[Channels, Channels] = {}
        self._units: dict[Channels, int] = {}
        self._fixed: set[Channels] = set()

    def trace_all(self) -> None:
        """Trace each layer's output, and all that is no layer's output."""
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
        first, others = (self.probe.run(_Poison({path: poisoned}), watched) for poisoned in ([0], samples))
        reached = dict.fromkeys((*first.layers, *others.layers))
        reason = f"goes through {self._name(first.others[0])}" if first.others else ""
        reason = reason or ("" if reached or first.outputs else "reaches no other layer")
        for taker in reached:
            units = _units(count, first.layers.get(taker), others.layers.get(taker), samples)
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
            self.unsliceable.append(Stuck(path, reason))

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
        """Note that channels must be sliced together, in at most so many units; a group has the fewest of all pairs."""
        for node in (first, second):
            self._parent.setdefault(node, node)
            self._units.setdefault(node, 0)
        root, child = self._root(first), self._root(second)
        self._parent[child] = root
        self._units[root] = math.gcd(self._units[root], self._units[child], units)


def _units(count: int, first: torch.Tensor | None, others: torch.Tensor | None, samples: Sequence[int]) -> int:
    """Return into how many equal units channels are divided on their way from one layer into another, in order.

    Args:
        count: The output channels of the first layer.
        first: The channels of the second layer that the first layer's channel 0 poisons: bool, shape (channels,).
        others: Those that the channels `samples` poison.
        samples: Some channels of the first layer.

    Returns:
        The largest number that divides the channels of both layers and for which poison stays within its unit; 1, which
        can't be sliced, if there is no other.
    """
    if first is None or others is None:
        return 1
    taken = len(first)
    for units in range(math.gcd(count, taken), 1, -1):
        if count % units or taken % units:
            continue
        poisoned = torch.stack((first, others)).unflatten(1, (units, -1)).any(dim=2)
        expected = torch.zeros_like(poisoned)
        expected[0, 0] = True
        expected[1, [sample * units // count for sample in samples]] = True
        if torch.equal(poisoned, expected):
            return units
    return 1
