"""Takes a subnet out of the supernet: a plain module of its own, with its own copy of what it uses."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import nn

from supernet.assembly import shells
from supernet.layers import is_norm, track_anew

if TYPE_CHECKING:
    from supernet.network import Supernet
    from supernet.space import SubNet


def extract(supernet: Supernet, subnet: SubNet | str) -> nn.Module:
    """Return a subnet as a module of the original's class that shares nothing with the supernet.

    Its layers have the sizes that the subnet uses, and the names they had; but behind a block that is left out of a
    numbered list, the others move up. It is in the mode that the supernet is in. Its norm layers have the subnet's
    running statistics in evaluation mode, and none as yet in training mode.

    Raises:
        SpecError: There is no such subnet, or, in evaluation mode, it has no running statistics.
    """
    viewed = supernet.actuate(subnet)
    stands_for: dict[int, object] = {}  # for each slice, what a deep copy has in its place
    for part in shells(viewed, supernet.model):
        for name, slice_ in part.named_buffers(recurse=False):
            own = slice_.detach().clone()  # dense, in the slice's order of dimensions
            stands_for[id(slice_)] = nn.Parameter(own, slice_.requires_grad) if name in {"weight", "bias"} else own
    plain = copy.deepcopy(viewed, stands_for)
    for part in plain.modules():
        buffers = vars(part)["_buffers"]
        for name in [name for name, tensor in buffers.items() if isinstance(tensor, nn.Parameter)]:
            vars(part)["_parameters"][name] = buffers.pop(name)
        if is_norm(part) and part.running_mean is None:
            track_anew(part, next(supernet.parameters()))
    return plain
