"""Network rewiring: units are sorted by importance, so that a slice has the most important ones.

DynaBERT (Hou et al., NeurIPS 2020, section 2.1) sorts attention heads and neurons; once-for-all (Cai et al., ICLR 2020,
section 3.3) channels. The function of the largest subnet does not change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from sim.base.errors import SpecError
from supernet.calls import logits_of
from supernet.layers import channels, is_norm, is_transposed, is_weighted, own_tensors
from supernet.training.objective import CROSS_ENTROPY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supernet.data.source import Examples
    from supernet.layers import Weighted
    from supernet.network import Supernet
    from supernet.structure import Group
    from supernet.training.objective import Objective


def importance(
    supernet: Supernet, batches: Iterable[Examples], objective: Objective = CROSS_ENTROPY
) -> list[torch.Tensor]:
    """Return the importance of each unit, by groups of the structure: float32, shape (units,).

    To first order, leaving out a unit changes the loss by the sum of weight times gradient over all weights that have
    the unit as input. Its importance is the magnitude of that, summed over batches.

    Args:
        supernet: Gradients are those of its largest subnet; existing gradients of the weights are cleared.
        batches: The examples of the loss.
        objective: The loss.
    """
    groups = supernet.structure.groups
    scores = [torch.zeros(group.units, device=next(supernet.parameters()).device) for group in groups]
    for batch in batches:
        supernet.zero_grad()
        result = supernet(batch.inputs[0], supernet.space.largest, *batch.inputs[1:])
        torch.autograd.backward(objective.of_labels(logits_of(result), batch.labels))
        for group, total in zip(groups, scores, strict=True):
            change = torch.zeros_like(total)
            for weight, dim, _ in _weights(supernet, group, "in"):
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
                for weight, dim, sections in _weights(supernet, group, side):
                    places = torch.arange(weight.shape[dim], device=weight.device)
                    parts = places.split([*sections] or len(places))
                    index = torch.cat([part.view(group.units, -1)[order].flatten() for part in parts])
                    weight.copy_(weight.index_select(dim, index))
    supernet.forget_statistics()


def _weights(supernet: Supernet, group: Group, side: str) -> Iterator[tuple[torch.Tensor, int, tuple[int, ...]]]:
    """Yield the tensors with a group's units as outputs (or inputs), the dimension of the units, and its sections.

    Raises:
        SpecError: The weight of a layer is computed by a parametrization, so it can't be permuted.
    """
    for path, kind, sections, dim in group.members:
        layer = supernet.model.get_submodule(path)
        if is_parametrized(layer):
            hint = "torch.nn.utils.parametrize.remove_parametrizations"
            raise SpecError(path, "parametrized weights can't be sorted", type(layer).__name__, hint)
        if kind == "heads" and isinstance(layer, nn.MultiheadAttention):
            yield from _attention_weights(layer, side)
        elif side == "out" and kind not in {"in", "out", "heads", "channels"}:
            yield getattr(layer, kind), dim, ()
        elif side == "out" and (kind == "channels" or (kind == "out" and is_norm(layer))):
            yield from ((parameter, 0, ()) for parameter in layer.parameters(recurse=False))
        elif is_weighted(layer) and kind == side:
            yield from ((tensor, dim, sections) for tensor, dim in _layer_weights(layer, side))


def _layer_weights(layer: Weighted, side: str) -> Iterator[tuple[torch.Tensor, int]]:
    dim = int((side == "in") != is_transposed(layer))
    if side == "in":
        if layer.weight.shape[dim] == channels(layer, "in"):
            yield layer.weight, dim  # in a grouped convolution, it is the channels of one group only
        return
    for name, tensor in own_tensors(layer).items():
        if name == "weight" or tensor.shape[:1] == (channels(layer, "out"),):
            yield tensor, dim if name == "weight" else 0


def _attention_weights(module: nn.MultiheadAttention, side: str) -> Iterator[tuple[torch.Tensor, int, tuple[int, ...]]]:
    width = module.embed_dim
    if side == "in":
        yield module.out_proj.weight, 1, ()
        return
    for name, tensor in own_tensors(module).items():
        yield tensor, 0, (width,) * (tensor.shape[0] // width) if name.startswith("in_proj") else ()
