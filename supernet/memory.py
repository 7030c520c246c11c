"""How many bytes it takes to hold subnets: one by one, and as one supernet. Counted from tensors."""

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
    from supernet.space import SubNet

HAND_TUNED = (18, 34, 50, 101)
"""The layers of the ResNets that a supernet is held against: SuperServe (NSDI 2025), Figure 5a, compares four."""


BYTES_PER_MB = 10**6


class Held(NamedTuple):
    """What it takes to hold a number of models.

    Attributes:
        system: How they are held.
        models: How many.
        bytes: What they take together.
    """

    system: str
    models: int
    bytes: int


def hand_tuned() -> list[Held]:
    """Return what one to four ResNets take, the smallest first."""
    with torch.device("meta"):  # tensors of the same sizes, without memory
        sizes = [model_bytes(plain_resnet(layers)) for layers in HAND_TUNED]
    return [Held("hand-tuned ResNets", n, total) for n, total in enumerate(accumulate(sizes), 1)]


def extracted(supernet: Supernet, subnets: Iterable[SubNet]) -> list[Held]:
    """Return what one, two, ... subnets take as models of their own."""
    twin = copy.deepcopy(supernet).to("meta").train()  # in training mode no statistics are needed, and all are there
    sizes = (model_bytes(extract(twin, subnet)) for subnet in subnets)
    return [Held("extracted subnets", n, total) for n, total in enumerate(accumulate(sizes), 1)]


def in_place(supernet: Supernet, subnets: Iterable[SubNet]) -> list[Held]:
    """Return what one supernet takes that can run one, two, ... subnets: weights, running statistics, and its cache.

    Args:
        supernet: Is left in evaluation mode, with statistics of these subnets alone, and those are all 0.
        subnets: Each is actuated once, which is what fills a cache of slices.
    """
    supernet.eval().forget_statistics()
    cache = supernet.cache_bytes
    system = f"SubNetAct with up to {cache / BYTES_PER_MB:g} MB of slices" if cache else "SubNetAct"
    rows: list[Held] = []
    for models, subnet in enumerate(subnets, 1):
        channels = sum(supernet.assembly.norm_sizes(supernet.choice(subnet)).values())
        supernet.set_statistics(subnet, next(supernet.parameters()).new_zeros(2 * channels))
        supernet.actuate(subnet)
        rows.append(Held(system, models, sum(supernet.memory())))
    return rows


def model_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
