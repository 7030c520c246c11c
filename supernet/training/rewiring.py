"""Network rewiring: units are sorted by importance, so that a slice has the most important ones.

DynaBERT (Hou et al., NeurIPS 2020, section 2.1) sorts attention heads and neurons; once-for-all (Cai et al., ICLR 2020,
section 3.3) channels. The function of the largest subnet does not change.
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
    """Return the importance of each unit, by groups of the structure: float32, shape (units,).

    To first order, leaving out a unit changes the loss by the sum of weight times gradient over all weights that have
    the unit as input. Its importance is the magnitude of that, summed over batches.

    Args:
        supernet: Gradients are those of its largest subnet; existing gradients of the weights are cleared.
        batches: The examples of the loss.
    """
    groups = supernet.structure.groups
    scores = [torch.zeros(group.units, device=next(supernet.parameters()).device) for group in groups]
    for batch in batches:
        supernet.zero_grad()
        logits = supernet(batch.inputs[0], supernet.space.largest, *batch.inputs[1:])
        torch.autograd.backward(functional.cross_entropy(logits, batch.labels))
        for group, total in zip(groups, scores, strict=True):
            change = torch.zeros_like(total)
            for weight, dim in _weights(supernet, group, "in"):
                if weight.grad is not None:
                    product = (weight.detach() * weight.grad).movedim(dim, 0)
                    change += product.reshape(group.units, -1).sum(1)
            total.add_(change.abs())
    supernet.zero_grad()
    return scores


def rewire(supernet: Supernet, scores: list[torch.Tensor]) -> None:
    """Sort the units of each group by importance, the most important first.

    Args:
        supernet: Its weights are permuted, and the running statistics of all subnets dropped.
        scores: As `importance` returns them.
    """
    with torch.no_grad():
        for group, values in zip(supernet.structure.groups, scores, strict=True):
            order = values.argsort(descending=True, stable=True)
            for side in ("out", "in"):
                for weight, dim in _weights(supernet, group, side):
                    index = torch.arange(weight.shape[dim], device=weight.device).view(group.units, -1)[order].flatten()
                    weight.copy_(weight.index_select(dim, index))
    supernet.forget_statistics()


def _weights(supernet: Supernet, group: Group, side: Side) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield the weights with a group's units as outputs (or inputs), and the dimension of the units."""
    for path, member_side in group.members:
        layer = supernet.model.get_submodule(path)
        if member_side != side:
            continue
        if is_norm(layer) or (is_weighted(layer) and side == "out"):
            yield from ((parameter, 0) for parameter in layer.parameters(recurse=False))
        elif is_weighted(layer) and layer.weight.shape[1] == channels(layer, "in"):
            yield layer.weight, 1  # in a grouped convolution, this dimension is the channels of one group only
