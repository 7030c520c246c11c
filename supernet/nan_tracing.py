"""Traces NaN through a network: one channel is made NaN, and the layers that depend on it are where NaN arrives.

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
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from supernet.layers import (
    Norm,
    Weighted,
    axis,
    evaluation,
    is_norm,
    is_weighted,
    mapped,
    own_parameters,
    tensors,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from typing import Self

NAN = float("nan")
_THREADS = threading.Lock()


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
class Poison:
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
class Reached:
    """Where the poison of one run arrived.

    Attributes:
        layers: For each layer, at which of its input channels: bool, shape (channels,).
        others: Modules of other kinds that have parameters or groups of their own.
        outputs: The watched modules whose result is poisoned; with a fill of 0, is not all 0.
    """

    layers: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    others: list[str] = field(default_factory=list[str])
    outputs: set[str] = field(default_factory=set[str])


class Probe:
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
        self._reached = Reached()
        self._poison = Poison()
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

    def run(self, poison: Poison, watched: Sequence[str] = ()) -> Reached:
        """Run the network with some poison in it.

        Args:
            poison: The values that are replaced.
            watched: The modules whose results are looked at.
        """
        self._reached, self._poison = Reached(), poison
        with ExitStack() as stack:
            if poison.entering is not None:
                module = self.modules[poison.entering]
                handle = module.register_forward_pre_hook(self._replace_input, with_kwargs=True, prepend=True)
                stack.callback(handle.remove)
            for path in watched:
                self._hook(stack, path, leave=self._look_at(path))
            self.model(*self.inputs)
        return self._reached

    def run_with_all_else_poisoned(self) -> Reached:
        """Run the network with NaN in everything but the outputs of layers: inputs, and parameters of other modules."""
        modules = (module for path, module in self.modules.items() if path not in self.known)
        foreign = {id(p): p for module in modules for p in own_parameters(module).values() if p.is_floating_point()}
        before = [parameter.clone() for parameter in foreign.values()]
        try:
            for parameter in foreign.values():
                parameter.fill_(NAN)
            return self.run(Poison(entering=""))
        finally:
            for parameter, value in zip(foreign.values(), before, strict=True):
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
            floats = [t for t in tensors((args, kwargs)) if t.is_floating_point()]
            if not any(t.isnan().any() for t in floats):
                return None
            if path not in self.known:
                self._reached.others.append(path)
                return None
            poisoned = floats[0].isnan().movedim(axis(self.known[path], floats[0]), 0).flatten(1).any(dim=1)
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
            floats = [t for t in tensors(result) if t.is_floating_point()]
            if any((t.isnan() if math.isnan(self._poison.fill) else t).any() for t in floats):
                self._reached.outputs.add(path)

        return hook


def _has_own_parameters(module: nn.Module) -> bool:
    """Return whether a module may mix channels: it has parameters or groups of its own."""
    return bool(own_parameters(module)) or isinstance(module, nn.GroupNorm)
