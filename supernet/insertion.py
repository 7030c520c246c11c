"""Makes a supernet of an ordinary network: automatic operator insertion (SuperServe, NSDI 2025, Algorithm 1)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError
from supernet.discovery import find_structure
from supernet.network import Supernet
from supernet.ratios import RatioDecoder, orders
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
    """Return a supernet of an ordinary network, which is left unchanged.

    The network runs on the inputs to find its structure (`supernet.discovery`), and the smallest subnet to check that
    it computes what the whole network computes with all unused channels at zero. Hooks of the network run, too.

    The supernet has the weights of the network, and its device, dtype, hooks, frozen parameters, and mode of each
    module: in evaluation mode if the network is.

    Args:
        model: Any module. Blocks with a residual connection can be left out if they are members of an `nn.Sequential`
            or `nn.ModuleList`; `Conv1d` to `Conv3d` and `Linear` layers can be sliced.
        inputs: The arguments of a call: a tensor, or a tuple. Only shapes matter.
        name: The family name that ids of subnets begin with.
        depths: For each stage (a run of neighbouring blocks that can be left out), the allowed numbers of active
            blocks. By default any number; at least one if the stage is its whole list.
        expands: The allowed ratios of active channels inside a block.
        widths: The allowed ratios of channels that are in no single block, such as a residual stream.
        uniform: Whether one ratio holds for all blocks; else each block has its own.
        keep: Paths of modules that are not sliced, including everything inside them.

    Raises:
        SpecError: A layer inside a block can't be sliced, or the smallest subnet fails or computes something else
            (names the module); or the space is empty, or ratios or depths do not fit.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    model = copy.deepcopy(model)
    structure = find_structure(model, arguments, keep)
    if structure.unsliceable:
        first, further = structure.unsliceable[0], len(structure.unsliceable) - 1
        value = f"it {first.reason}" + (f"; and {further} more" if further else "")
        raise SpecError(f"{name}, {first.path}", "can't be sliced", value, f"keep=[{first.path!r}] leaves it whole")
    decoder = RatioDecoder(structure, orders(model, structure), uniform, tuple(widths))
    supernet = Supernet(model, structure, decoder.space(name, depths, expands), decoder)
    verify(supernet, arguments)
    return supernet
