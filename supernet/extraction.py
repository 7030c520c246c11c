"""Extracts a subnet from its supernet: a plain module with its own copy of the weights in use."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import nn

from supernet.assembly import subnet_modules
from supernet.layers import is_norm, reset_tracking

if TYPE_CHECKING:
    from supernet.network import Supernet
    from supernet.space import SubnetConfig


def extract(supernet: Supernet, subnet: SubnetConfig | str) -> nn.Module:
    """Return a subnet as a module of the original's class that shares no tensor with the supernet.

    Its layers have the subnet's sizes and their original names, except that the blocks of a numbered list are
    renumbered if some are left out. It is in the supernet's mode. Its norm layers have the subnet's running statistics
    in evaluation mode, and fresh ones in training mode.

    Raises:
        SpecError: The subnet is unknown or, in evaluation mode, has no running statistics.
    """
    viewed = supernet.actuate(subnet)
    memo: dict[int, object] = {}  # the copy of each slice, as copy.deepcopy looks it up
    for part in subnet_modules(viewed, supernet.model):
        for name, slice_ in part.named_buffers(recurse=False):
            dense = slice_.detach().clone()  # in the slice's order of dimensions
            memo[id(slice_)] = nn.Parameter(dense, slice_.requires_grad) if name in {"weight", "bias"} else dense
    plain = copy.deepcopy(viewed, memo)
    for part in plain.modules():
        buffers = vars(part)["_buffers"]
        for name in [name for name, tensor in buffers.items() if isinstance(tensor, nn.Parameter)]:
            vars(part)["_parameters"][name] = buffers.pop(name)
        if is_norm(part) and part.running_mean is None:
            reset_tracking(part, next(supernet.parameters()))
    return plain
