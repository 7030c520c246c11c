"""Once-for-all residual networks: OFA-ResNet50 (Cai et al., ICLR 2020), and a small one in the same style."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from sim.base.parameters import Parameters, PositiveInt
from supernet.families.resnet import ResNet, StemBlock, basic, bottleneck, conv_norm
from supernet.space import SubnetSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sim.tables.latency import ControlTuple
    from supernet.families.resnet import Block
    from supernet.structure import ActiveConfig, Structure

DEPTHS = (0, 1, 2)
"""The active blocks of the two of a stage that can be left out."""


@dataclass(frozen=True, slots=True)
class StageDecoder:
    """Decodes a depth and a width for each stage of a residual network, and an expand ratio for each block.

    A depth d leaves out the last 2 - d blocks of a stage. A width is the index of a number of channels between blocks.
    The channels inside a block are its output channels times its expand ratio. As coded in once-for-all:
    `OFAResNets.set_active_subnet` and `DynamicResNetBottleneckBlock.active_middle_channels`.

    Attributes:
        structure: Of the network. Its groups outside blocks are those of the widths, in order; its last blocks are
            those of the expand ratios.
        stages: For each depth, the blocks (indices) of its stage.
        width_of: For each block, the width (index) of its output.
        channels: For each width, the choices of channels.
        divisor: The channels inside a block are a multiple of it.
    """

    structure: Structure
    stages: tuple[tuple[int, ...], ...]
    width_of: tuple[int, ...]
    channels: tuple[tuple[int, ...], ...]
    divisor: int

    def decode(self, control: ControlTuple) -> ActiveConfig:
        """Return the configuration of a control tuple."""
        active = [True] * len(self.structure.blocks)
        for blocks, depth in zip(self.stages, control.depths, strict=True):
            for block in blocks[max(0, len(blocks) - (DEPTHS[-1] - depth)) :]:
                active[block] = False
        widths = [choices[index] for choices, index in zip(self.channels, control.widths, strict=True)]
        between, first = iter(widths), len(active) - len(control.expands)
        units = [
            next(between)
            if group.block is None
            else inside(widths[self.width_of[group.block]], control.expands[group.block - first], self.divisor)
            for group in self.structure.groups
        ]
        return self.structure.config(active, units)


def stage_decoder(
    structure: Structure, blocks: tuple[int, ...], channels: tuple[tuple[int, ...], ...], divisor: int
) -> StageDecoder:
    """Return the decoder of a network by the blocks of each stage; blocks before these have a depth of their own."""
    before = len(structure.blocks) - sum(blocks)
    ends = list(accumulate(blocks, initial=before))
    stages = tuple(tuple(range(*ends_of)) for ends_of in pairwise(ends))
    last_widths = range(len(channels) - len(blocks), len(channels))
    width_of = [width for width, count in zip(last_widths, blocks, strict=True) for _ in range(count)]
    first = (tuple(range(before)),) if before else ()
    return StageDecoder(structure, (*first, *stages), (*[0] * before, *width_of), channels, divisor)


@dataclass(frozen=True, slots=True)
class OfaResNet50(Parameters):
    """OFA-ResNet50, which SuperServe serves: a ResNet-D of 10 to 18 bottleneck blocks, for images of 224 x 224.

    Attributes:
        classes: The classes; 1000 in the published weights.
    """

    classes: PositiveInt = 1000

    default_size: ClassVar[int] = 224

    @property
    def space(self) -> SubnetSpace:
        """As coded: depths of the stem's block (active at 2) and of four stages; 18 ratios; six widths."""
        depths = ((DEPTHS[0], DEPTHS[-1]), *(DEPTHS,) * len(_BLOCKS))
        return SubnetSpace("ofa_resnet50", depths, (_EXPANDS,) * sum(_BLOCKS), (tuple(range(len(_WIDTHS))),) * 6)

    def network(self, width_divisor: int = 1) -> nn.Module:
        """Return the largest subnet with random weights."""
        narrow, wide, *widths = (choices[-1] // width_divisor for choices in _channels())
        stem = conv_norm(3, narrow, kernel=3, stride=2), StemBlock(narrow), conv_norm(narrow, wide, kernel=3)
        stages = zip(widths, _BLOCKS, (1, 2, 2, 2), strict=True)
        blocks = _in_stages(bottleneck, wide, stages, _EXPANDS[-1], _DIVISOR)
        return ResNet(stem, nn.MaxPool2d(3, 2, padding=1), blocks, widths[-1], self.classes)

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return images of shape (batch, 3, size, size); of 32 x 32 by default, the smallest size that works."""
        return (torch.zeros(batch, 3, size or 32, size or 32),)

    def decoder(self, structure: Structure) -> StageDecoder:
        """Return the decoder of the published supernet."""
        return stage_decoder(structure, _BLOCKS, _channels(), _DIVISOR)

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return the name in the published supernet, whose sliceable layers wrap a whole one of the same name.

        Examples:
            >>> OfaResNet50().original_names("blocks.0.conv1.bn.weight")
            ('blocks.0.conv1.bn.bn.weight',)
        """
        return (re.sub(r"(conv|bn|linear)(\.\w+)$", r"\1.\1\2", name),)


@dataclass(frozen=True, slots=True)
class OfaResNetSmall(Parameters):
    """A residual network for small images that trains in minutes: three stages of one to three blocks.

    Its widths go down to an eighth, which causes most of the differences in accuracy between its subnets.

    Attributes:
        classes: The classes.
        channels: The channels of an image: 1 for grey.
        width: The largest width of the first stage; it doubles with each stage.
    """

    classes: PositiveInt = 10
    channels: PositiveInt = 1
    width: PositiveInt = 16

    default_size: ClassVar[int] = 28

    @property
    def space(self) -> SubnetSpace:
        """A depth and a width for each of three stages, an expand ratio for each of nine blocks."""
        widths = (tuple(range(len(_SMALL_WIDTHS))),) * len(_SMALL_BLOCKS)
        return SubnetSpace("ofa_resnet_small", (DEPTHS,) * 3, (_SMALL_EXPANDS,) * sum(_SMALL_BLOCKS), widths)

    def network(self, width_divisor: int = 1) -> nn.Module:
        """Return the largest subnet with random weights."""
        widths = [max(2, self.width * times // width_divisor) for times in (1, 2, 4)]
        stages = zip(widths, _SMALL_BLOCKS, (1, 2, 2), strict=True)
        blocks = _in_stages(basic, widths[0], stages, _SMALL_EXPANDS[-1], 1)
        stem = conv_norm(self.channels, widths[0], kernel=3)
        return ResNet([stem], nn.Identity(), blocks, widths[-1], self.classes)

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return images of shape (batch, channels, size, size); of 8 x 8, by default."""
        return (torch.zeros(batch, self.channels, size or 8, size or 8),)

    def decoder(self, structure: Structure) -> StageDecoder:
        """Return the decoder: the stem has the width of the first stage."""
        widths = [[divisible(self.width * times * ratio, 1) for ratio in _SMALL_WIDTHS] for times in (1, 2, 4)]
        return stage_decoder(structure, _SMALL_BLOCKS, tuple(map(tuple, widths)), 1)

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return no names: there are no published weights."""
        return ()


_BLOCKS = (4, 4, 6, 4)
_EXPANDS = (0.2, 0.25, 0.35)
_WIDTHS = (0.65, 0.8, 1.0)
_DIVISOR = 8

_SMALL_BLOCKS = (3, 3, 3)
_SMALL_EXPANDS = (0.5, 0.75, 1.0)
_SMALL_WIDTHS = (0.125, 0.25, 0.5, 1.0)


def _channels() -> tuple[tuple[int, ...], ...]:
    """Return OFA-ResNet50's channels for each width: of the stem's first two layers, its third, and four stages."""
    wide = [divisible(64 * ratio, _DIVISOR) for ratio in _WIDTHS]
    narrow = [divisible(channels // 2, _DIVISOR) for channels in wide]
    stages = [[divisible(width * ratio, _DIVISOR) for ratio in _WIDTHS] for width in (256, 512, 1024, 2048)]
    return tuple(map(tuple, (narrow, wide, *stages)))


def _in_stages(
    block: Callable[[int, int, int, int], Block],
    in_channels: int,
    stages: Iterable[tuple[int, int, int]],
    expand: float,
    divisor: int,
) -> list[Block]:
    """Return the blocks of stages; a stage is its output channels, its number of blocks, and its first stride."""
    blocks: list[Block] = []
    for out_channels, count, stride in stages:
        for number in range(count):
            mid_channels = inside(out_channels, expand, divisor)
            blocks.append(block(in_channels, mid_channels, out_channels, stride if number == 0 else 1))
            in_channels = out_channels
    return blocks


def inside(out_channels: int, expand: float, divisor: int) -> int:
    """Return the channels inside a block.

    Examples:
        >>> inside(2048, 0.35, divisor=8)
        720
    """
    return divisible(round(out_channels * expand), divisor)


def divisible(channels: float, divisor: int) -> int:
    """Return the multiple of a divisor nearest to a number of channels, but at most a tenth below it.

    Examples:
        >>> divisible(64 * 0.65, 8), divisible(11, 8)
        (40, 16)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
