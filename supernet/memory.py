"""Memory footprints of many subnets: as separate models, and as one supernet. Counted from tensors."""

from __future__ import annotations

import copy
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch

from supernet.extraction import extract
from supernet.families.resnet import plain_resnet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from supernet.network import Supernet
    from supernet.space import SubnetConfig

HAND_TUNED = (18, 34, 50, 101)
"""The layers of the ResNets that a supernet is compared with: SuperServe (NSDI 2025), Figure 5a, compares four."""

BYTES_PER_MB = 10**6


class Footprint(NamedTuple):
    """The memory of a number of models.

    Attributes:
        system: How they are stored.
        models: The number of models.
        bytes: Their memory together.
    """

    system: str
    models: int
    bytes: int


def hand_tuned() -> list[Footprint]:
    """Return the footprint of one to four ResNets, the smallest first."""
    with torch.device("meta"):  # tensors of the same sizes, without memory
        sizes = [model_bytes(plain_resnet(layers)) for layers in HAND_TUNED]
    return [Footprint("hand-tuned ResNets", n, total) for n, total in enumerate(accumulate(sizes), 1)]


def extracted(supernet: Supernet, subnets: Iterable[SubnetConfig]) -> list[Footprint]:
    """Return the footprint of one, two, ... subnets as separate models."""
    twin = copy.deepcopy(supernet).to("meta").train()  # in training mode, extraction needs no statistics
    sizes = (model_bytes(extract(twin, subnet)) for subnet in subnets)
    return [Footprint("extracted subnets", n, total) for n, total in enumerate(accumulate(sizes), 1)]


def in_place(supernet: Supernet, subnets: Iterable[SubnetConfig]) -> list[Footprint]:
    """Return the footprint of one supernet for one, two, ... subnets: weights, running statistics, and its cache.

    Args:
        supernet: Left in evaluation mode, with statistics of these subnets alone, all 0.
        subnets: Each is actuated once, which fills the cache of slices.
    """
    supernet.eval().forget_statistics()
    cache = supernet.cache_bytes
    system = f"SubNetAct with up to {cache / BYTES_PER_MB:g} MB of slices" if cache else "SubNetAct"
    rows: list[Footprint] = []
    for models, subnet in enumerate(subnets, 1):
        channels = sum(supernet.assembly.norm_sizes(supernet.active_config(subnet)).values())
        supernet.set_statistics(subnet, next(supernet.parameters()).new_zeros(2 * channels))
        supernet.actuate(subnet)
        rows.append(Footprint(system, models, sum(supernet.memory())))
    return rows


def model_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
