"""Extracts a subnet from its supernet: a plain module with its own copy of the weights in use."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

from torch import nn

from supernet.assembly import subnet_modules
from supernet.layers import is_norm, reset_tracking
from supernet.operators import ComputedWeight, plain_class
from supernet.pretrained import fit_config
from supernet.renumbering import renumber

if TYPE_CHECKING:
    from supernet.network import Supernet
    from supernet.space import SubnetConfig


def extract(supernet: Supernet, subnet: SubnetConfig | str) -> nn.Module:
    """Return a subnet as a module of the original's class that shares no tensor with the supernet.

    Its layers have the subnet's sizes and their original names; an identity takes the place of each block that is left
    out. A model of transformers has no such places: its layers are renumbered, and its config agrees with their number
    and widths; where none can, its `save_pretrained` refuses (`supernet.pretrained`).

    It is in the supernet's mode. Its norm layers have the subnet's running statistics in evaluation mode, and fresh
    ones in training mode.

    Raises:
        SpecError: The subnet is unknown or, in evaluation mode, has no running statistics.
    """
    viewed = supernet.actuate(subnet)
    memo: dict[int, object] = {}  # the copy of each slice, as copy.deepcopy looks it up
    for part in subnet_modules(viewed, supernet.model):
        if isinstance(part, ComputedWeight):
            memo[id(part)] = _plain(part)
            continue
        names = vars(part).get("sliced_parameters", ())
        for name, slice_ in part.named_buffers(recurse=False):
            dense = slice_.detach().clone()  # in the slice's order of dimensions
            memo[id(slice_)] = nn.Parameter(dense, slice_.requires_grad) if name in names else dense
    plain = copy.deepcopy(viewed, memo)
    for part in plain.modules():
        buffers = vars(part)["_buffers"]
        order = vars(part).pop("sliced_parameters", ())
        own = vars(part)["_parameters"] | {name: buffers.pop(name) for name in order if name in buffers}
        vars(part)["_parameters"] = {name: own[name] for name in (*order, *own) if name in own}
        if is_norm(part) and part.running_mean is None:
            reset_tracking(part, next(supernet.parameters()))
    plain = renumber(plain, supernet.example)
    fit_config(plain, supernet.example)
    return plain


def _plain(part: ComputedWeight) -> nn.Module:
    """Return a layer with the weights of one that computes them, without its parametrization."""
    module = cast("nn.Module", part)
    layer = object.__new__(plain_class(module))
    left_out = {"part", "sliced_parameters", "_parameters", "_modules"}
    vars(layer).update({name: copy.deepcopy(value) for name, value in vars(module).items() if name not in left_out})
    requires_grad = any(parameter.requires_grad for parameter in part.part.layer.parameters())
    tensors = {"weight": part.weight, "bias": part.bias}
    vars(layer).update(
        _modules={},
        _parameters={
            name: None if tensor is None else nn.Parameter(tensor.detach().clone(), requires_grad)
            for name, tensor in tensors.items()
        },
    )
    return layer
