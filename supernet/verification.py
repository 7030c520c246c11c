"""Verifies a supernet: a subnet must compute what the whole network computes without the parts that it does not use."""

from __future__ import annotations

import traceback
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from sim.base.errors import SpecError
from sim.base.streams import stream
from supernet.layers import axis, composed_attention, evaluation, is_norm, is_weighted, mapped, random_values, tensors
from supernet.operators import Moments
from supernet.space import SubnetConfig

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from supernet.calls import Call
    from supernet.layers import Weighted
    from supernet.network import Supernet
    from supernet.structure import ActiveConfig, BlockCall

TOLERANCE = 1e-3
"""Relative to the largest value: far above rounding in 32 bits, far below a wrong slice."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a subnet is wrong.

    Attributes:
        path: The module at which it fails, or whose input differs; empty for the result.
        problem: What happens.
        value: More about it.
        is_depth: Whether the subnet with all blocks is right.
    """

    path: str
    problem: str
    value: str
    is_depth: bool


def difference(supernet: Supernet, call: Call) -> Mismatch | None:
    """Return where a subnet computes something else than the whole network without the unused parts; None if nowhere.

    The smallest subnet is compared, that with all blocks, and one with all blocks and mixed widths. The whole network
    is not assembled anew: the blocks that are left out return what they are given, and hooks put the unused input
    channels of layers to zero. So the comparison depends neither on how blocks are left out nor on how slices are made.
    It finds code that depends on the number of blocks or channels.

    Args:
        supernet: Runs in evaluation mode, with random values for constant parameters; left unchanged.
        call: The arguments of its network.

    Raises:
        SpecError: The network itself gives other results each time.
    """
    smallest, largest = supernet.space.smallest, supernet.space.largest
    all_blocks = SubnetConfig(smallest.family, replace(smallest.control, depths=largest.control.depths))
    mixed = supernet.space.sample(stream(0, "verify"))
    mixed = SubnetConfig(mixed.family, replace(mixed.control, depths=largest.control.depths))
    with evaluation(supernet.model), random_values(supernet.model), composed_attention(), torch.no_grad():
        for subnet in dict.fromkeys((all_blocks, mixed, smallest)):
            config = supernet.active_config(subnet)
            expected = _run_masked(supernet, config, call)
            network = supernet.assembly.view(supernet.model, config, _leading_moments(supernet, config))
            try:
                found = _run(network, _compared(supernet, network, config), call)
            except Exception as error:  # noqa: BLE001 - any error of the user's code
                return _failure(network, error, subnet.id, is_depth=subnet is smallest)
            place = _first_difference(expected, found)
            if place is not None:
                if _first_difference(expected, _run_masked(supernet, config, call)) is not None:
                    hint = "without random numbers in evaluation mode"
                    raise SpecError(supernet.space.family, "the network gives other results each time", "", hint)
                is_depth = subnet is smallest and smallest.control.depths != largest.control.depths
                kind = "blocks" if is_depth else "channels"
                problem = f"gets wrong values, since code before it depends on the number of {kind}"
                return Mismatch(place, problem, f"in subnet {subnet.id}", is_depth)
    return None


class _Values(NamedTuple):
    """The inputs of all layers, in the order of the calls, and the results.

    Attributes:
        paths: Of the layers; empty for results.
        values: The tensors.
    """

    paths: list[str]
    values: list[torch.Tensor]


def _first_difference(expected: _Values, found: _Values) -> str | None:
    if expected.paths != found.paths:
        return next((path for path, other in zip(expected.paths, found.paths, strict=False) if path != other), "")
    for path, whole, result in zip(expected.paths, expected.values, found.values, strict=True):
        used = whole
        for dim, size in enumerate(result.shape[: used.dim()]):
            used = used.narrow(dim, 0, min(size, used.shape[dim]))
        scale = float(used.abs().max()) if used.numel() else 0.0
        if used.shape != result.shape or not torch.allclose(
            used.double(), result.double(), rtol=0, atol=TOLERANCE * scale, equal_nan=True
        ):
            return path
    return None


@contextmanager
def masked(supernet: Supernet, config: ActiveConfig) -> Generator[None]:
    """Let the whole network compute what a configuration computes, without the parts that it does not use."""
    model, assembly = supernet.model, supernet.assembly
    modules = dict(model.named_modules())

    with ExitStack() as stack:
        for path, part in assembly.slices.items():
            layer, size = modules[path], part.inputs.size(config)
            if size < part.inputs.count and is_weighted(layer):
                hook = layer.register_forward_pre_hook(_zero_beyond(layer, size), with_kwargs=True, prepend=True)
                stack.callback(hook.remove)
        for path, attention in assembly.heads.items():
            module = modules[path]
            size = attention.heads.size(config)
            if isinstance(module, nn.MultiheadAttention) and size < attention.heads.count:
                weight = module.out_proj.weight  # its layer is not called
                stack.callback(weight.copy_, weight.clone())
                weight[:, size * module.head_dim :] = 0.0
        for path, select in assembly.selects.items():
            if not config.active_blocks[select.block]:
                vars_ = modules[path].__dict__
                vars_["forward"] = _passing_on(select.call)
                stack.callback(vars_.pop, "forward")
        yield


def _zero_beyond(layer: Weighted, size: int) -> Any:
    """Return a hook that puts the input channels of a layer beyond a number to zero."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def cut(value: torch.Tensor) -> torch.Tensor:
            dim = axis(layer, value)
            return value.index_fill(dim, torch.arange(size, value.shape[dim], device=value.device), 0.0)

        return mapped((args, kwargs), cut)

    return hook


def _passing_on(call: BlockCall) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        return call.passed_on(args, kwargs)

    return run


def _run_masked(supernet: Supernet, config: ActiveConfig, call: Call) -> _Values:
    with masked(supernet, config):
        return _run(supernet.model, _compared(supernet, supernet.model, config), call)


def _compared(supernet: Supernet, network: nn.Module, config: ActiveConfig) -> dict[str, nn.Module]:
    """Return the layers whose inputs are compared: those in blocks that run, and that whole attention calls, too."""
    assembly = supernet.assembly
    return {
        path: module
        for path, module in network.named_modules()
        if path in assembly.slices
        and assembly.is_active(path, config)
        and path.rpartition(".")[0] not in assembly.heads
    }


def _run(network: nn.Module, layers: Mapping[str, nn.Module], call: Call) -> _Values:
    seen = _Values([], [])

    def note(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for value in tensors((args, kwargs)):
                seen.paths.append(path)
                seen.values.append(value.clone())

        return hook

    with ExitStack() as stack:
        for path, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(note(path), with_kwargs=True).remove)
        for result in tensors(network(*call.args, **call.kwargs)):
            seen.paths.append("")
            seen.values.append(result)
    return seen


def _failure(network: nn.Module, error: Exception, subnet: str, *, is_depth: bool) -> Mismatch:
    """Return the innermost module in whose code a subnet fails."""
    paths = {module: path for path, module in network.named_modules()}
    owners = (frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__))
    inside = [paths[owner] for owner in owners if isinstance(owner, nn.Module) and owner in paths]
    where = next((path for path in reversed(inside) if path), "")
    message = str(error).partition("\n")[0]
    return Mismatch(where, f"fails in subnet {subnet}", f"{type(error).__name__}: {message}", is_depth)


def _leading_moments(supernet: Supernet, config: ActiveConfig) -> dict[str, Moments]:
    """Return the shared network's running statistics on the channels of a configuration, calibrated or not."""
    moments: dict[str, Moments] = {}
    for path, size in supernet.assembly.norm_sizes(config).items():
        norm = supernet.model.get_submodule(path)
        if is_norm(norm) and norm.running_mean is not None and norm.running_var is not None:
            moments[path] = Moments(norm.running_mean[:size], norm.running_var[:size])
    return moments
