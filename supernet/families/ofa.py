"""Once-for-all residual networks: OFA-ResNet50 (Cai et al., ICLR 2020), and a small one in its manner."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from sim.base.parameters import Parameters, PositiveInt
from supernet.families.resnet import ResNet, StemBlock, basic, bottleneck, conv_norm
from supernet.space import SubNetSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sim.tables.latency import ControlTuple
    from supernet.families.resnet import Block
    from supernet.structure import Choice, Structure

DEPTHS = (0, 1, 2)
"""How many run of the two blocks of a stage that may be left out."""


@dataclass(frozen=True, slots=True)
class StageRule:
    """The rule of a residual network whose stages have a depth and a width, and whose blocks have an expand ratio.

    A depth d leaves out the last 2 - d blocks of a stage. A width is the number of one of the choices that there are
    for the channels between blocks. Inside, a block has the channels that it gives times its expand ratio. As coded in
    once-for-all: `OFAResNets.set_active_subnet` and `DynamicResNetBottleneckBlock.active_middle_channels`.

    Attributes:
        structure: What is chosen from. Its groups that are in no block are those of the widths, in order; its last
            blocks those of the expand ratios.
        stages: For each depth, the blocks (indices) that it is about.
        width_of: For each block, the width (index) of what it gives.
        channels: For each width, its choices.
        divisor: The channels inside of a block are a multiple of it.
    """

    structure: Structure
    stages: tuple[tuple[int, ...], ...]
    width_of: tuple[int, ...]
    channels: tuple[tuple[int, ...], ...]
    divisor: int

    def choose(self, control: ControlTuple) -> Choice:
        """Return what a control tuple stands for."""
        runs = [True] * len(self.structure.blocks)
        for blocks, depth in zip(self.stages, control.depths, strict=True):
            for block in blocks[max(0, len(blocks) - (DEPTHS[-1] - depth)) :]:
                runs[block] = False
        widths = [choices[number] for choices, number in zip(self.channels, control.widths, strict=True)]
        between, first = iter(widths), len(runs) - len(control.expands)
        units = [
            next(between)
            if group.block is None
            else inside(widths[self.width_of[group.block]], control.expands[group.block - first], self.divisor)
            for group in self.structure.groups
        ]
        return self.structure.choice(runs, units)


def stage_rule(
    structure: Structure, blocks: tuple[int, ...], channels: tuple[tuple[int, ...], ...], divisor: int
) -> StageRule:
    """Return the rule of a network of so many blocks in each stage; blocks before them have a depth of their own."""
    before = len(structure.blocks) - sum(blocks)
    ends = list(accumulate(blocks, initial=before))
    stages = tuple(tuple(range(*ends_of)) for ends_of in pairwise(ends))
    last_widths = range(len(channels) - len(blocks), len(channels))
    width_of = [width for width, count in zip(last_widths, blocks, strict=True) for _ in range(count)]
    first = (tuple(range(before)),) if before else ()
    return StageRule(structure, (*first, *stages), (*[0] * before, *width_of), channels, divisor)


@dataclass(frozen=True, slots=True)
class OfaResNet50(Parameters):
    """OFA-ResNet50, which SuperServe serves: a ResNet-D of 10 to 18 bottleneck blocks, for images of 224 x 224.

    Attributes:
        classes: The classes; 1000 in the published weights.
    """

    classes: PositiveInt = 1000

    usual_size: ClassVar[int] = 224

    @property
    def space(self) -> SubNetSpace:
        """As coded: depths of the stem's block, which runs at 2 alone, and of four stages; 18 ratios; six widths."""
        depths = ((DEPTHS[0], DEPTHS[-1]), *(DEPTHS,) * len(_BLOCKS))
        return SubNetSpace("ofa_resnet50", depths, (_EXPANDS,) * sum(_BLOCKS), (tuple(range(len(_WIDTHS))),) * 6)

    def network(self, narrower: int = 1) -> nn.Module:
        """Return the largest subnet with random weights."""
        middle, first, *given = (choices[-1] // narrower for choices in _channels())
        stem = conv_norm(3, middle, kernel=3, stride=2), StemBlock(middle), conv_norm(middle, first, kernel=3)
        blocks = _in_stages(bottleneck, first, zip(given, _BLOCKS, (1, 2, 2, 2), strict=True), _EXPANDS[-1], _DIVISOR)
        return ResNet(stem, nn.MaxPool2d(3, 2, padding=1), blocks, given[-1], self.classes)

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return images of shape (batch, 3, size, size); the smallest that pass the network have a size of 32."""
        return (torch.zeros(batch, 3, size or 32, size or 32),)

    def rule(self, structure: Structure) -> StageRule:
        """Return the rule of the published supernet."""
        return stage_rule(structure, _BLOCKS, _channels(), _DIVISOR)

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return the name in the published supernet, whose layers that can be cut hold a whole one of the same name.

        Example:
            >>> OfaResNet50().original_names("blocks.0.conv1.bn.weight")
            ('blocks.0.conv1.bn.bn.weight',)
        """
        return (re.sub(r"(conv|bn|linear)(\.\w+)$", r"\1.\1\2", name),)


@dataclass(frozen=True, slots=True)
class OfaResNetSmall(Parameters):
    """A residual network for small images that is trained in minutes: three stages of one to three blocks.

    Its widths go down to an eighth: most of the distance in accuracy between its subnets comes from them.

    Attributes:
        classes: The classes.
        channels: Those of an image: 1 for grey.
        width: The features that the first stage gives at most; each further stage gives twice as many.
    """

    classes: PositiveInt = 10
    channels: PositiveInt = 1
    width: PositiveInt = 16

    usual_size: ClassVar[int] = 28

    @property
    def space(self) -> SubNetSpace:
        """A depth and a width for each of three stages, an expand ratio for each of nine blocks."""
        widths = (tuple(range(len(_SMALL_WIDTHS))),) * len(_SMALL_BLOCKS)
        return SubNetSpace("ofa_resnet_small", (DEPTHS,) * 3, (_SMALL_EXPANDS,) * sum(_SMALL_BLOCKS), widths)

    def network(self, narrower: int = 1) -> nn.Module:
        """Return the largest subnet with random weights."""
        given = [max(2, self.width * times // narrower) for times in (1, 2, 4)]
        stages = zip(given, _SMALL_BLOCKS, (1, 2, 2), strict=True)
        blocks = _in_stages(basic, given[0], stages, _SMALL_EXPANDS[-1], 1)
        stem = conv_norm(self.channels, given[0], kernel=3)
        return ResNet([stem], nn.Identity(), blocks, given[-1], self.classes)

    def example(self, batch: int = 1, size: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return images of shape (batch, channels, size, size); of 8 x 8, unless another size is given."""
        return (torch.zeros(batch, self.channels, size or 8, size or 8),)

    def rule(self, structure: Structure) -> StageRule:
        """Return the rule: the stem has the width of the first stage."""
        widths = [[divisible(self.width * times * ratio, 1) for ratio in _SMALL_WIDTHS] for times in (1, 2, 4)]
        return stage_rule(structure, _SMALL_BLOCKS, tuple(map(tuple, widths)), 1)

    def original_names(self, name: str) -> tuple[str, ...]:
        """Return no other names: nobody has published weights."""
        return ()


_BLOCKS = (4, 4, 6, 4)
_EXPANDS = (0.2, 0.25, 0.35)
_WIDTHS = (0.65, 0.8, 1.0)
_DIVISOR = 8

_SMALL_BLOCKS = (3, 3, 3)
_SMALL_EXPANDS = (0.5, 0.75, 1.0)
_SMALL_WIDTHS = (0.125, 0.25, 0.5, 1.0)


def _channels() -> tuple[tuple[int, ...], ...]:
    """Return OFA-ResNet50's choices for each width: of the stem's first two layers, of its third, of four stages."""
    first = [divisible(64 * ratio, _DIVISOR) for ratio in _WIDTHS]
    middle = [divisible(channels // 2, _DIVISOR) for channels in first]
    stages = [[divisible(width * ratio, _DIVISOR) for ratio in _WIDTHS] for width in (256, 512, 1024, 2048)]
    return tuple(map(tuple, (middle, first, *stages)))


def _in_stages(
    block: Callable[[int, int, int, int], Block],
    taken: int,
    stages: Iterable[tuple[int, int, int]],
    expand: float,
    divisor: int,
) -> list[Block]:
    """Return the blocks of stages; a stage is what it gives, how many blocks it has, and the stride of the first."""
    blocks: list[Block] = []
    for given, count, stride in stages:
        for number in range(count):
            blocks.append(block(taken, inside(given, expand, divisor), given, stride if number == 0 else 1))
            taken = given
    return blocks


def inside(given: int, expand: float, divisor: int) -> int:
    """Return how many channels a block has inside.

    Example:
        >>> inside(2048, 0.35, divisor=8)
        720
    """
    return divisible(round(given * expand), divisor)


def divisible(channels: float, divisor: int) -> int:
    """Return the multiple of a divisor that is nearest to a number of channels, but not more than a tenth below it.

    Example:
        >>> divisible(64 * 0.65, 8), divisible(11, 8)
        (40, 16)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
