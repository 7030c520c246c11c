"""Finds the structure of a network: residual blocks, stages, and the channels that must be sliced together.

All of it is seen by tracing NaN (`supernet.nan_tracing`), so it holds for any code that runs: there are no rules for
names or operations.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from torch import nn

from sim.base.errors import SpecError
from supernet.grouping import GroupFinder
from supernet.nan_tracing import NAN, Injection, Tracer, single_thread
from supernet.structure import Structure

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_Containers = nn.Sequential | nn.ModuleList


def find_structure(
    model: nn.Module, args: tuple[Any, ...], keep: Collection[str] = (), kwargs: Mapping[str, Any] | None = None
) -> Structure:
    """Return the residual blocks, stages and groups of sliceable channels of a network.

    Args:
        model: Runs about three times per layer, in evaluation mode and on one thread; left unchanged.
        args: The positional arguments of a call. Only shapes matter: the smaller, the faster.
        keep: Paths of modules that are not sliced, including everything inside them.
        kwargs: The arguments by name.

    Raises:
        SpecError: The result has NaN in it, which tells nothing then.
    """
    with single_thread(), Tracer(model, args, kwargs or {}) as tracer:
        if tracer.run(Injection(), [""]).outputs:
            raise SpecError("inputs", "the network's result has NaN in it", "", "inputs without NaN, and no overflow")
        skippable = _outermost_of_mixed(tracer, _skippable(tracer))
        kinds = {type(tracer.modules[path]) for path in skippable} - {nn.Sequential, nn.ModuleList}
        blocks = tuple(path for path, module in tracer.modules.items() if type(module) in kinds or path in skippable)
        finder = GroupFinder(tracer, blocks, keep)
        finder.trace_all()
        groups, unsliceable = finder.groups(), finder.unsliceable()
    calls = {path: replace(tracer.calls[path], is_chained=path not in tracer.detached) for path in skippable}
    return Structure(blocks, _stages(tracer, blocks, skippable), groups, unsliceable, calls)


def _skippable(tracer: Tracer) -> set[str]:
    """Return the paths of the residual blocks that can be left out.

    Such a block is a member of a list or sequence, its output has the shape of its input, it has a path around all of
    its layers (its output is NaN when its input is, though each of its layers cleans its input), and its layers add to
    that path: a gate, which multiplies, gives nothing where nothing enters. It returns nothing else that it was not
    given, and shares no layer with other modules.
    """
    weighted = [*tracer.layers, *sorted(tracer.opaque)]

    def can_be_left_out(path: str) -> bool:
        shapes, layers = tracer.shapes.get(path, []), [layer for layer in weighted if layer.startswith(f"{path}.")]
        return (
            len(shapes) == 2  # noqa: PLR2004 - an input and an output
            and shapes[0] == shapes[1]
            and path in tracer.calls
            and bool(layers)
            and all(place.startswith(f"{path}.") for layer in layers for place in tracer.paths[tracer.modules[layer]])
            and all(path in tracer.run(Injection(entering=path, fill=fill), [path]).outputs for fill in (NAN, 0.0))
        )

    return set(filter(can_be_left_out, _listed(tracer)))


def _outermost_of_mixed(tracer: Tracer, blocks: set[str]) -> set[str]:
    """Return the blocks that count where some contain others.

    These are the innermost: a stage of blocks is not a block. But if the members of a list differ in type, as the
    attention and the feed-forward part of a T5 block do, the block around them counts.
    """
    containers = _listed(tracer)
    mixed = set[type]()
    for container in set(containers.values()):
        members = [path for path in blocks if containers[path] == container]
        types = {type(tracer.modules[path]) for path in members}
        around = [path for path in blocks if container.startswith(f"{path}.")]
        if len(types) > 1 and any(not isinstance(tracer.modules[path], _Containers) for path in around):
            mixed |= types
    left = {path for path in blocks if type(tracer.modules[path]) not in mixed}
    return {path for path in left if not any(other.startswith(f"{path}.") for other in left)}


def _listed(tracer: Tracer) -> dict[str, str]:
    """Return the paths of all members of lists and sequences, in order, each with the path of its container."""
    return {
        f"{path}.{name}".removeprefix("."): path
        for path, module in tracer.modules.items()
        if isinstance(module, _Containers)
        for name, _ in module.named_children()
    }


def _stages(tracer: Tracer, blocks: tuple[str, ...], skippable: set[str]) -> tuple[tuple[int, ...], ...]:
    """Return the runs of neighbouring blocks that can be left out."""
    listed = _listed(tracer)
    runs = groupby(listed, key=lambda path: (listed[path], path in skippable))
    return tuple(tuple(blocks.index(path) for path in run) for (_, can_skip), run in runs if can_skip)
