"""Tries whether a layer of an unknown class can be sliced: whether its parts compute parts of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from supernet.layers import PLAIN, axis, channels, groups, is_transposed
from supernet.operators import ChannelSlice, WeightSlice
from supernet.structure import ActiveConfig

if TYPE_CHECKING:
    from supernet.layers import Weighted


def trial_error(layer: Weighted, side: str, shape: torch.Size) -> str:
    """Return why a layer computes something else when sliced on a side; empty if it does not.

    Layers of the classes of torch are known to be sliceable. For others, such as one that standardizes its weight over
    its inputs, half of the channels are compared with those of the whole layer.

    Args:
        layer: The layer.
        side: "in" or "out".
        shape: Of its input.
    """
    if type(layer) in PLAIN or is_transposed(layer) or channels(layer, side) < 2:  # noqa: PLR2004
        return ""
    weight = layer.weight
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(weight)
    count, in_groups = channels(layer, side), groups(layer)
    units = in_groups if in_groups > 1 else count
    cut = ChannelSlice(count, 0, units)
    other = ChannelSlice(channels(layer, "out" if side == "in" else "in"), 0 if in_groups > 1 else None, units)
    ends = (cut, other) if side == "in" else (other, cut)
    config = ActiveConfig((), (units // 2,))
    taken, given = (end.size(config) for end in ends)
    dim = axis(layer, x)
    try:
        expected = layer(x.index_fill(dim, torch.arange(taken, x.shape[dim], device=x.device), 0.0))
        found = WeightSlice(*ends, in_groups).view(layer, config)(x.narrow(dim, 0, taken))
        expected = expected.narrow(axis(layer, expected), 0, given)
        is_same = found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-3)
    except Exception as error:  # noqa: BLE001 - any error of a class of the user's
        return f"fails on a part of its channels ({type(error).__name__})"
    return "" if is_same else f"depends on all of its {side}put channels together"
