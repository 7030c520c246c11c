"""Families: networks that are built as supernets, with a space of their own. One file, one family or a few alike."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from supernet.discovery import find_structure
from supernet.layers import channels, is_norm, is_weighted
from supernet.network import Supernet

if TYPE_CHECKING:
    from torch import nn

    from supernet.space import SubNetSpace
    from supernet.structure import Channels, Rule, Structure

TWIN = 16
"""How many times narrower the twin of a network is that its structure is found in."""


class Family(Protocol):
    """A frozen dataclass whose fields are what is open in the network, such as the number of classes."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    usual_size: ClassVar[int]
    """The side of the images, or the tokens of the texts, for which costs are told unless another is asked for."""

    def __hash__(self) -> int: ...

    @property
    def space(self) -> SubNetSpace:
        """The subnets."""
        ...

    def network(self, narrower: int = 1) -> nn.Module:
        """Return the largest subnet as an ordinary module with random weights; with channels divided, if asked for."""
        ...

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return what the network may be called with; `size` is the side of images or the length of texts."""
        ...

    def rule(self, structure: Structure) -> Rule:
        """Return what turns the space's control tuples into choices."""
        ...

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return what else a parameter is called in files of weights that were not written by this toolkit."""
        ...


def build(family: Family, *, seed: int = 0, device: str = "cpu", held: int = 64, cache_bytes: int = 0) -> Supernet:
    """Return a family's supernet with random weights.

    Args:
        family: With its classes and the like.
        seed: Of the weights; no other random numbers are drawn, or changed.
        device: Where the weights are; on "meta" there are none, which is enough to count.
        held: As in `Supernet`.
        cache_bytes: As in `Supernet`.
    """
    with torch.random.fork_rng(devices=[]):
        structure = _structure(family)
        torch.manual_seed(seed)
        with torch.device(device):
            network = family.network()
    return Supernet(network, structure, family.space, family.rule(structure), held=held, cache_bytes=cache_bytes)


@cache
def _structure(family: Family) -> Structure:
    """Return the structure of a family's network, found in a narrow twin: to run the network itself takes long."""
    with torch.device("cpu"):
        twin, example = family.network(narrower=TWIN), family.example()
    found = find_structure(twin, example)  # outside: each operation under a device mode takes twice as long
    with torch.device("meta"):
        network = family.network()

    def count(model: nn.Module, channel: Channels) -> int:
        layer = model.get_submodule(channel.path)
        return channels(layer, channel.side) if is_weighted(layer) or is_norm(layer) else 0

    groups = (
        # Where each channel is a unit, there are as many units as channels; heads there are as many as in the twin.
        replace(group, units=count(network, maker) if group.units == count(twin, maker) else group.units)
        for group in found.groups
        for maker in [next(member for member in group.members if member.side == "out")]
    )
    return replace(found, groups=tuple(groups))
