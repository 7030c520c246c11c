"""Traces NaN through a network: one channel is made NaN, and the layers that depend on it are where NaN arrives.

NaN goes wherever a channel goes: through activations, poolings, reshapes, residual additions and attention, whatever
code computes these. A layer with weights records the input channels at which NaN arrives, and continues on clean
values. So one injected channel shows every layer that must be sliced together with its own, and in which units: if the
first output channel of a query layer reaches the first 64 inputs of the next layer, heads are 64 wide. The network only
has to run; there is no table of operations to keep up to date.
"""

from __future__ import annotations

import math
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from supernet.layers import (
    Norm,
    Weighted,
    axis,
    composed_attention,
    evaluation,
    is_channel_norm,
    is_norm,
    is_weighted,
    mapped,
    own_parameters,
    own_tensors,
    random_values,
    tensors,
)
from supernet.structure import Argument, BlockCall

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
class Injection:
    """The values that one run replaces.

    Attributes:
        channels: For some layers, the output channels that become NaN.
        entering: The path of a module whose input is replaced by `fill`.
        fill: NaN; or 0, and then the layers inside that module output numbers other than 0, whatever their input.
        tensors: Parts of parameters and buffers that become NaN.
    """

    channels: Mapping[str, Sequence[int]] = field(default_factory=dict[str, "Sequence[int]"])
    entering: str | None = None
    fill: float = NAN
    tensors: Sequence[torch.Tensor] = ()

    def is_around(self, path: str) -> bool:
        """Return whether a module is inside the one whose input is replaced."""
        return self.entering is not None and path.startswith(f"{self.entering}.")


@dataclass(slots=True)
class Arrivals:
    """Where the NaN of one run arrived.

    Attributes:
        layers: For each layer, at which of its input channels: bool, shape (channels,).
        others: Modules of other kinds that have parameters or groups of their own.
        outputs: The watched modules whose result has NaN in it; with a fill of 0, is not all 0.
    """

    layers: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    others: list[str] = field(default_factory=list[str])
    outputs: set[str] = field(default_factory=set[str])


class Tracer:
    """A network with hooks: in evaluation mode, without the kernels that lose NaN; restored at the end.

    Parameters and statistics that are constant, as many are before training, have random values meanwhile: a scale of 0
    would hide a block.
    """

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        self.modules = dict(model.named_modules())
        self.layers: dict[str, Weighted] = {path: m for path, m in self.modules.items() if is_weighted(m)}
        self.known: dict[str, Weighted | Norm] = self.layers | {p: m for p, m in self.modules.items() if is_norm(m)}
        self.foreign = {p: m for p, m in self.modules.items() if p not in self.known and not _is_inside(p, self.known)}
        """Modules other than layers and batch norms."""
        self.opaque = {p for p, m in self.foreign.items() if any(_is_matrix(t) for t in own_parameters(m).values())}
        """Those that have weights of their own, such as an LSTM."""
        self.paths: dict[nn.Module, list[str]] = {}
        """For each module: all its paths."""
        self.shapes: dict[str, list[torch.Size]] = {}
        """For each module that is called: the shapes of its first input tensor and of its first output tensor."""
        self.calls: dict[str, BlockCall] = {}
        """For each module that could be replaced by the identity: how it is called."""
        self.detached: set[str] = set()
        """Members of lists that are given something else than the result of the member before."""
        for path, module in model.named_modules(remove_duplicate=False):
            self.paths.setdefault(module, []).append(path)
        self._arrivals = Arrivals()
        self._injection = Injection()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(evaluation(self.model))
            self._stack.enter_context(torch.no_grad())
            self._stack.enter_context(random_values(self.model))
            self._stack.enter_context(composed_attention())
            self._record_calls()
            for path, module in self.modules.items():
                has_own = bool(own_tensors(module)) or is_channel_norm(module)
                if path in self.known or (path in self.foreign and has_own and path):
                    self._hook(self._stack, path, enter=self._at_layer(path), leave=self._after_layer(path))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, injection: Injection, watched: Sequence[str] = ()) -> Arrivals:
        """Run the network with NaN in some places.

        Args:
            injection: The values that are replaced.
            watched: The modules whose results are looked at.
        """
        self._arrivals, self._injection = Arrivals(), injection
        before = [tensor.clone() for tensor in injection.tensors]
        with ExitStack() as stack:
            if injection.entering is not None:
                module = self.modules[injection.entering]
                handle = module.register_forward_pre_hook(self._replace_input, with_kwargs=True, prepend=True)
                stack.callback(handle.remove)
            for path in watched:
                self._hook(stack, path, leave=self._look_at(path))
            try:
                for tensor in injection.tensors:
                    tensor.fill_(NAN)
                self.model(*self.args, **self.kwargs)
            finally:
                self._injection = Injection()
                for tensor, value in zip(injection.tensors, before, strict=True):
                    tensor.copy_(value)
        return self._arrivals

    def run_with_all_else_nan(self) -> Arrivals:
        """Run the network with NaN in everything but the outputs of layers: inputs, and tensors of other modules."""
        foreign = {id(t): t for module in self.foreign.values() for t in own_tensors(module).values()}
        return self.run(Injection(entering="", tensors=tuple(foreign.values())))

    def _hook(self, stack: ExitStack, path: str, *, enter: Any = None, leave: Any = None) -> None:
        """Hook a module until the stack is closed."""
        if enter is not None:
            stack.callback(self.modules[path].register_forward_pre_hook(enter, with_kwargs=True).remove)
        if leave is not None:
            stack.callback(self.modules[path].register_forward_hook(leave, with_kwargs=True).remove)

    def _record_calls(self) -> None:
        before = _neighbours(self.modules)
        results: dict[str, torch.Tensor] = {}

        def enter(path: str) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                first = next((t for t in tensors((args, kwargs)) if t.is_floating_point()), None)
                self.shapes.setdefault(path, [torch.Size() if first is None else first.shape])
                previous = results.pop(before.get(path, ""), None)
                if previous is not None and (first is None or not torch.equal(first, previous)):
                    self.detached.add(path)

            return hook

        def leave(path: str) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
                first = next(tensors(result), None)
                if first is not None and len(self.shapes[path]) == 1:
                    self.shapes[path].append(first.shape)
                    call = _block_call(args, kwargs, result)
                    if call is not None:
                        self.calls[path] = call
                        results[path] = first.clone()  # it may be changed in place

            return hook

        with ExitStack() as stack:
            for path in self.modules:
                self._hook(stack, path, enter=enter(path), leave=leave(path))
            self.model(*self.args, **self.kwargs)

    def _replace_input(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return mapped((args, kwargs), lambda t: torch.full_like(t, self._injection.fill))

    def _at_layer(self, path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            floats = [t for t in tensors((args, kwargs)) if t.is_floating_point()]
            if not any(t.isnan().any() for t in floats):
                return None
            clean = mapped((args, kwargs), lambda t: t.nan_to_num(0.0))
            if path not in self.known:
                self._arrivals.others.append(path)
                return clean if path in self.opaque and self._injection.is_around(path) else None
            arrived = floats[0].isnan().movedim(axis(self.known[path], floats[0]), 0).flatten(1).any(dim=1)
            self._arrivals.layers[path] = arrived | self._arrivals.layers.get(path, arrived)
            return clean if path in self.layers else None

        return hook

    def _after_layer(self, path: str) -> Any:
        def numbers(result: torch.Tensor) -> torch.Tensor:
            line = torch.linspace(-1, 1, result.numel(), dtype=result.dtype, device=result.device)
            return line.view_as(result)

        def hook(_: nn.Module, __: Any, ___: Any, result: Any) -> Any:
            if path in self._injection.channels:
                where = torch.tensor(self._injection.channels[path], device=result.device)
                return result.index_fill(axis(self.layers[path], result), where, NAN)
            # A norm whose scale starts at 0 would hide the block.
            replaces = self._injection.fill == 0 and self._injection.is_around(path)
            if replaces and (path in self.known or path in self.opaque):
                return mapped(result, numbers)
            return None

        return hook

    def _look_at(self, path: str) -> Any:
        def hook(_: nn.Module, __: Any, ___: Any, result: Any) -> None:
            floats = [t for t in tensors(result) if t.is_floating_point()]
            if any((t.isnan() if math.isnan(self._injection.fill) else t).any() for t in floats):
                self._arrivals.outputs.add(path)

        return hook


def _block_call(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> BlockCall | None:
    """Return how a call is replaced by passing on its first floating-point argument; None if it can't be."""
    every: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    given = {key: value for key, value in every if isinstance(value, torch.Tensor)}
    main = next((key for key, value in given.items() if value.is_floating_point()), None)
    first = next(tensors(result), None)
    if main is None or first is None or given[main].shape != first.shape:
        return None
    known = {id(first): Argument(main)} | {id(value): Argument(key) for key, value in given.items() if key != main}

    def replaced(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return known[id(value)]
        if type(value) in {tuple, list}:
            return type(value)(map(replaced, value))
        if isinstance(value, (type(None), bool, int, float, str)):
            return value
        raise KeyError

    try:
        return BlockCall(replaced(result), len(args) == 1 and not kwargs and isinstance(result, torch.Tensor))
    except KeyError:  # it returns more than it was given
        return None


def _neighbours(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return for the path of each member of a list or sequence the member before."""
    lists = [(path, [*m._modules]) for path, m in modules.items() if isinstance(m, (nn.Sequential, nn.ModuleList))]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the names of all children
    return {
        f"{path}.{name}".lstrip("."): f"{path}.{previous}".lstrip(".")
        for path, names in lists
        for previous, name in pairwise(names)
    }


def _is_inside(path: str, others: Mapping[str, object]) -> bool:
    """Return whether a module is part of another, as the parametrization of a layer's weight is."""
    names = path.split(".")
    return any(".".join(names[:count]) in others for count in range(1, len(names)))


def _is_matrix(tensor: torch.Tensor) -> bool:
    return sum(size > 1 for size in tensor.shape) > 1
