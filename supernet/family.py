"""Families: networks built as supernets, each with its own space. One file, one family or a few similar ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from supernet.discovery import find_structure
from supernet.layers import channels, is_norm, is_weighted
from supernet.network import Supernet
from supernet.network_family import NetworkFamily

if TYPE_CHECKING:
    from torch import nn

    from supernet.space import SubnetSpace
    from supernet.structure import Channels, Decoder, Structure

TRACED_WIDTH_DIVISOR = 16
"""The structure of a network is found in a copy with this fraction of its channels."""


class Family(Protocol):
    """A frozen dataclass whose fields are the options of the network, such as the number of classes.

    `supernet.checks.check_family` checks a family of your own.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    default_size: ClassVar[int]
    """The side of images, or the tokens of texts, for which costs are given by default."""

    def __hash__(self) -> int: ...

    @property
    def space(self) -> SubnetSpace:
        """The subnets."""
        ...

    def network(self, width_divisor: int = 1) -> nn.Module:
        """Return the largest subnet as an ordinary module with random weights, and its channels divided by a number."""
        ...

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return arguments for the network; `size` is the side of images or the length of texts."""
        ...

    def decoder(self, structure: Structure) -> Decoder:
        """Return the decoder of the space's control tuples."""
        ...

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return the names of a parameter in weight files of other tools."""
        ...


def build(
    family: Family, *, seed: int = 0, device: str = "cpu", max_cached: int = 64, cache_bytes: int = 0
) -> Supernet:
    """Return a family's supernet with random weights.

    Args:
        family: With its options.
        seed: Of the weights; torch's global random state is left unchanged.
        device: Of the weights; "meta" allocates none, which is enough to count costs.
        max_cached: As in `Supernet`.
        cache_bytes: As in `Supernet`.
    """
    with torch.random.fork_rng(devices=[]):
        structure = _structure(family)
        torch.manual_seed(seed)
        with torch.device(device):
            network = family.network().to(device)  # a network of your own begins on the CPU
    return Supernet(
        network, structure, family.space, family.decoder(structure), max_cached=max_cached, cache_bytes=cache_bytes
    )


@cache
def _structure(family: Family) -> Structure:
    """Return the structure of a family's network, found in a narrow copy, which runs much faster."""
    if isinstance(family, NetworkFamily):
        return family.structure
    with torch.device("cpu"):
        narrow, example = family.network(width_divisor=TRACED_WIDTH_DIVISOR), family.example()
    structure = find_structure(narrow, example)  # outside: each operation under a device mode takes twice as long
    with torch.device("meta"):
        network = family.network()

    def count(model: nn.Module, channel: Channels) -> int:
        layer = model.get_submodule(channel.path)
        return channels(layer, channel.side) if is_weighted(layer) or is_norm(layer) else 0

    groups = (
        # Where each channel is a unit, there are as many units as channels; heads are as many as in the narrow copy.
        replace(group, units=count(network, output) if group.units == count(narrow, output) else group.units)
        for group in structure.groups
        for output in [next((member for member in group.members if member.side == "out"), group.members[0])]
    )
    return replace(structure, groups=tuple(groups))
