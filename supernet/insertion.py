"""Turns an ordinary network into a supernet: automatic operator insertion (SuperServe, NSDI 2025, Algorithm 1)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError
from supernet.discovery import find_structure
from supernet.network import Supernet
from supernet.ratios import Ratios, orders
from supernet.verification import verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


def insert(
    model: nn.Module,
    inputs: Any,
    *,
    name: str = "inserted",
    depths: Sequence[Sequence[int]] | None = None,
    expands: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    widths: Sequence[float] = (1.0,),
    uniform: bool = False,
    keep: Sequence[str] = (),
) -> Supernet:
    """Return a supernet of an ordinary network, which is left as it is.

    The network runs on the inputs to find its structure (`supernet.discovery`), and the smallest subnet to check that
    it computes what the whole network computes with all unused channels at zero. Hooks of the network run, too.

    The supernet has the weights of the network, and its device, dtype, hooks, frozen parameters, and mode of each
    module: in evaluation mode if the network is.

    Args:
        model: Any module. Its blocks can be left out where they stand in an `nn.Sequential` or `nn.ModuleList` and
            have a residual connection; its `Conv1d` to `Conv3d` and `Linear` layers can be sliced.
        inputs: What the model is called with: a tensor, or a tuple of arguments. The values do not matter.
        name: What ids of subnets begin with.
        depths: For each stage, a run of neighbouring blocks that can be left out: how many of them may run. Any
            number, unless given; but of a stage that makes up its whole list, one at the least.
        expands: The ratios by which the channels inside of a block may be cut.
        widths: The ratios by which channels may be cut that are in no single block, such as a residual stream.
        uniform: Whether one ratio goes for all blocks, or each has its own.
        keep: Paths of modules that are left whole, with all in them.

    Raises:
        SpecError: A layer inside of a block can't be sliced, or a subnet of the network fails, or computes something
            else: names the module. Or there is nothing to choose, or ratios or depths do not fit.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    model = copy.deepcopy(model)
    structure = find_structure(model, arguments, keep)
    if structure.stuck:
        first, more = structure.stuck[0], len(structure.stuck) - 1
        value = f"it {first.why}" + (f"; and {more} more" if more else "")
        raise SpecError(f"{name}, {first.path}", "can't be sliced", value, f"keep=[{first.path!r}] leaves it whole")
    rule = Ratios(structure, orders(model, structure), uniform, tuple(widths))
    supernet = Supernet(model, structure, rule.space(name, depths, expands), rule)
    verify(supernet, arguments)
    return supernet
