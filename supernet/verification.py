"""Shows that a supernet computes what it should: a slice is the whole network with all else at zero."""

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
    from supernet.structure import Choice

TOLERANCE = 1e-3
"""Of the largest value: far above what another order of additions makes of 32-bit numbers, far below a mistake."""

_REMEDY = "keep=[...] leaves a module whole"


def verify(supernet: Supernet, arguments: tuple[Any, ...]) -> None:
    """Pass if the smallest subnet computes what the whole network does with the channels at zero that it lacks.

    Both leave out the same blocks. Nothing here knows how slices are made: of the whole network, only what enters its
    layers is changed. So code between layers is found out that depends on how many channels there are.

    Args:
        supernet: Is run in evaluation mode; comes back as it was.
        arguments: What its network is called with.

    Raises:
        SpecError: The subnet fails, or computes something else; names the module.
    """
    choice = supernet.choice(supernet.space.smallest)
    whole = supernet.structure.choice(list(choice.runs), [group.units for group in supernet.structure.groups])
    with evaluation(supernet.model):
        expected = _run_masked(supernet, whole, choice, arguments)
        found = _run_sliced(supernet, choice, arguments)
    for path, wanted, got in zip(expected.paths, expected.values, found.values, strict=True):
        used = wanted
        for dim, size in enumerate(got.shape):
            used = used.narrow(dim, 0, min(size, used.shape[dim]))
        scale = float(used.abs().max()) if used.numel() else 0.0
        if used.shape != got.shape or not torch.allclose(used, got, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
            what = "something between its layers depends on how many channels there are"
            raise SpecError(f"{supernet.space.family}, {path}", what, f"seen in {supernet.space.smallest.id}", _REMEDY)


class _Values(NamedTuple):
    """What entered each layer, in the order of the calls, and what came out in the end.

    Attributes:
        paths: Of the layers; for results, "its result".
        values: The tensors.
    """

    paths: list[str]
    values: list[torch.Tensor]


def _run_masked(supernet: Supernet, whole: Choice, choice: Choice, arguments: tuple[Any, ...]) -> _Values:
    """Run the whole network and put zero into each channel of a layer that a choice does not use."""
    taken = {path: part.takes.of(choice) for path, part in supernet.assembly.slices.items()}
    layers = {path: layer for path, layer in supernet.model.named_modules() if path in taken and is_weighted(layer)}
    network = supernet.assembly.view(supernet.model, whole, _leading_moments(supernet, whole))
    return _run(network, layers, arguments, taken)


def _run_sliced(supernet: Supernet, choice: Choice, arguments: tuple[Any, ...]) -> _Values:
    network = supernet.assembly.view(supernet.model, choice, _leading_moments(supernet, choice))
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, Weighted)}
    try:
        return _run(network, layers, arguments, {})
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        names = {module: path for path, module in network.named_modules()}
        selves = (frame.f_locals.get("self") for frame, _ in frames)
        inside = [names[it] for it in selves if isinstance(it, nn.Module) and it in names]
        where = next((path for path in reversed(inside) if path), type(supernet.model).__name__)
        value = f"{type(error).__name__}: {error}"
        what = f"fails when it is cut to {supernet.space.smallest.id}"
        raise SpecError(f"{supernet.space.family}, {where}", what, value, _REMEDY) from error


def _run(
    network: nn.Module, layers: Mapping[str, Weighted], arguments: tuple[Any, ...], taken: Mapping[str, int]
) -> _Values:
    seen = _Values([], [])

    def note(path: str, layer: Weighted) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            def masked(given: torch.Tensor) -> torch.Tensor:
                dim = axis(layer, given)
                used = taken.get(path, given.shape[dim])
                value = given.index_fill(dim, torch.arange(used, given.shape[dim], device=given.device), 0.0)
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


def _leading_moments(supernet: Supernet, choice: Choice) -> dict[str, Moments]:
    """Return the shared network's own running statistics on the channels that a choice uses, whatever they are."""
    found: dict[str, Moments] = {}
    for path, size in supernet.assembly.norm_sizes(choice).items():
        norm = supernet.model.get_submodule(path)
        if is_norm(norm) and norm.running_mean is not None and norm.running_var is not None:
            found[path] = Moments(norm.running_mean[:size], norm.running_var[:size])
    return found
