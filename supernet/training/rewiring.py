"""Network rewiring: units are put in the order of their importance, so that a slice keeps the most important.

DynaBERT (Hou et al., NeurIPS 2020, section 2.1) orders heads of attention and neurons; once-for-all (Cai et al., ICLR
2020, section 3.3) channels. The largest subnet computes what it did before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from supernet.layers import channels, is_norm, is_weighted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supernet.data.source import Examples
    from supernet.network import Supernet
    from supernet.structure import Group, Side


def importance(supernet: Supernet, batches: Iterable[Examples]) -> list[torch.Tensor]:
    """Return how much the loss depends on each unit, by groups of the structure: float32, shape (units,).

    To first order, the loss changes by the sum of weight times gradient over all weights that take a unit in, when it
    is left out. Taken is its size, summed over batches.

    Args:
        supernet: The gradients of its largest subnet are taken; gradients that weights had are gone afterwards.
        batches: What the loss is of.
    """
    groups = supernet.structure.groups
    found = [torch.zeros(group.units, device=next(supernet.parameters()).device) for group in groups]
    for batch in batches:
        supernet.zero_grad()
        logits = supernet(batch.inputs[0], supernet.space.largest, *batch.inputs[1:])
        torch.autograd.backward(functional.cross_entropy(logits, batch.labels))
        for group, total in zip(groups, found, strict=True):
            change = torch.zeros_like(total)
            for weight, dim in _weights(supernet, group, "in"):
                if weight.grad is not None:
                    product = (weight.detach() * weight.grad).movedim(dim, 0)
                    change += product.reshape(group.units, -1).sum(1)
            total.add_(change.abs())
    supernet.zero_grad()
    return found


def rewire(supernet: Supernet, found: list[torch.Tensor]) -> None:
    """Put the units of each group in the order of their importance, the most important first.

    Args:
        supernet: Its weights change places; running statistics of subnets are dropped, since they do not.
        found: As `importance` returns it.
    """
    with torch.no_grad():
        for group, values in zip(supernet.structure.groups, found, strict=True):
            order = values.argsort(descending=True, stable=True)
            for side in ("out", "in"):
                for weight, dim in _weights(supernet, group, side):
                    index = torch.arange(weight.shape[dim], device=weight.device).view(group.units, -1)[order].flatten()
                    weight.copy_(weight.index_select(dim, index))
    supernet.forget_statistics()


def _weights(supernet: Supernet, group: Group, side: Side) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield the weights that give (or take in) a group's units, and which of their dimensions goes over them."""
    for path, found in group.members:
        layer = supernet.model.get_submodule(path)
        if found != side:
            continue
        if is_norm(layer) or (is_weighted(layer) and side == "out"):
            yield from ((parameter, 0) for parameter in layer.parameters(recurse=False))
        elif is_weighted(layer) and layer.weight.shape[1] == channels(layer, "in"):
            yield layer.weight, 1  # that of a convolution in groups goes over the channels of one group only
