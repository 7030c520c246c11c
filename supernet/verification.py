"""Verifies a supernet: a slice must compute what the whole network computes with unused channels at zero."""

from __future__ import annotations

import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from sim.base.errors import SpecError
from supernet.layers import Weighted, axis, evaluation, is_norm, is_weighted, mapped, tensors
from supernet.operators import Moments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supernet.network import Supernet
    from supernet.structure import ActiveConfig

TOLERANCE = 1e-3
"""Relative to the largest value: far above rounding in 32 bits, far below a wrong slice."""

_HINT = "keep=[...] leaves a module whole"


def verify(supernet: Supernet, arguments: tuple[Any, ...]) -> None:
    """Check that the smallest subnet computes what the whole network computes with the unused channels at zero.

    Both leave out the same blocks. The check does not depend on how slices are made: in the whole network, only the
    inputs of layers are masked. So it detects code between layers that depends on the number of channels.

    Args:
        supernet: Runs in evaluation mode; left unchanged.
        arguments: The arguments of its network.

    Raises:
        SpecError: The subnet fails, or its results differ; names the module.
    """
    config = supernet.active_config(supernet.space.smallest)
    whole = supernet.structure.config(list(config.active_blocks), [group.units for group in supernet.structure.groups])
    with evaluation(supernet.model):
        masked = _run_masked(supernet, whole, config, arguments)
        sliced = _run_sliced(supernet, config, arguments)
    for path, expected, result in zip(masked.paths, masked.values, sliced.values, strict=True):
        used = expected
        for dim, size in enumerate(result.shape):
            used = used.narrow(dim, 0, min(size, used.shape[dim]))
        scale = float(used.abs().max()) if used.numel() else 0.0
        if used.shape != result.shape or not torch.allclose(
            used, result, rtol=0, atol=TOLERANCE * scale, equal_nan=True
        ):
            problem = "code between its layers depends on the number of channels"
            raise SpecError(
                f"{supernet.space.family}, {path}", problem, f"in subnet {supernet.space.smallest.id}", _HINT
            )


class _Values(NamedTuple):
    """The inputs of all layers, in the order of the calls, and the results.

    Attributes:
        paths: Of the layers; for results, "its result".
        values: The tensors.
    """

    paths: list[str]
    values: list[torch.Tensor]


def _run_masked(supernet: Supernet, whole: ActiveConfig, config: ActiveConfig, arguments: tuple[Any, ...]) -> _Values:
    """Run the whole network with each unused input channel of a layer at zero."""
    used = {path: part.inputs.size(config) for path, part in supernet.assembly.slices.items()}
    layers = {path: layer for path, layer in supernet.model.named_modules() if path in used and is_weighted(layer)}
    network = supernet.assembly.view(supernet.model, whole, _leading_moments(supernet, whole))
    return _run(network, layers, arguments, used)


def _run_sliced(supernet: Supernet, config: ActiveConfig, arguments: tuple[Any, ...]) -> _Values:
    network = supernet.assembly.view(supernet.model, config, _leading_moments(supernet, config))
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, Weighted)}
    try:
        return _run(network, layers, arguments, {})
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        names = {module: path for path, module in network.named_modules()}
        selves = (frame.f_locals.get("self") for frame, _ in frames)
        inside = [names[owner] for owner in selves if isinstance(owner, nn.Module) and owner in names]
        where = next((path for path in reversed(inside) if path), type(supernet.model).__name__)
        value = f"{type(error).__name__}: {error}"
        problem = f"fails in subnet {supernet.space.smallest.id}"
        raise SpecError(f"{supernet.space.family}, {where}", problem, value, _HINT) from error


def _run(
    network: nn.Module, layers: Mapping[str, Weighted], arguments: tuple[Any, ...], used: Mapping[str, int]
) -> _Values:
    seen = _Values([], [])

    def note(path: str, layer: Weighted) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            def masked(value: torch.Tensor) -> torch.Tensor:
                dim = axis(layer, value)
                size = used.get(path, value.shape[dim])
                value = value.index_fill(dim, torch.arange(size, value.shape[dim], device=value.device), 0.0)
                seen.paths.append(path)
                seen.values.append(value)
                return value

            return mapped(args, kwargs, masked)

        return hook

    with ExitStack() as stack, torch.no_grad():
        for path, layer in layers.items():
            handle = layer.register_forward_pre_hook(note(path, layer), with_kwargs=True)
            stack.callback(handle.remove)
        for result in tensors(network(*arguments)):
            seen.paths.append("its result")
            seen.values.append(result)
    return seen


def _leading_moments(supernet: Supernet, config: ActiveConfig) -> dict[str, Moments]:
    """Return the shared network's running statistics on the channels of a configuration, calibrated or not."""
    moments: dict[str, Moments] = {}
    for path, size in supernet.assembly.norm_sizes(config).items():
        norm = supernet.model.get_submodule(path)
        if is_norm(norm) and norm.running_mean is not None and norm.running_var is not None:
            moments[path] = Moments(norm.running_mean[:size], norm.running_var[:size])
    return moments
