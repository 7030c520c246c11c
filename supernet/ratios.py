"""The rule by which channels are cut by ratios: that of inserted operators, and of transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from sim.base.errors import SpecError
from supernet.space import SubNetSpace
from supernet.structure import kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.tables.latency import ControlTuple
    from supernet.structure import Choice, Order, Structure

_ROUNDING = 1e-9
"""Above the error of a product of a ratio and a count, below any share of a channel."""


@dataclass(frozen=True, slots=True)
class Ratios:
    """The rule of a supernet whose channels are cut by ratios: of C units, a ratio W leaves ceil(W * C).

    A depth is the number of blocks of a stage that run. An expand ratio goes for all channels inside of a block, or of
    all blocks. A width is the number of a ratio, and goes for one group of channels that is in no single block.
    SuperServe (NSDI 2025), section 3.

    Attributes:
        structure: What is chosen from.
        orders: For each stage, which of its blocks run at a depth.
        uniform: Whether one expand ratio goes for all blocks.
        widths: The ratios that widths are numbers of. One ratio alone is no choice: there are no entries then.
    """

    structure: Structure
    orders: tuple[Order, ...]
    uniform: bool
    widths: tuple[float, ...]

    def choose(self, control: ControlTuple) -> Choice:
        """Return what a control tuple stands for."""
        runs = [True] * len(self.structure.blocks)
        for blocks, depth, order in zip(self.structure.stages, control.depths, self.orders, strict=True):
            for block, run in zip(blocks, kept(len(blocks), depth, order), strict=True):
                runs[block] = run
        entries, widths = self._cut_blocks(), iter(control.widths)
        units: list[int] = []
        for group in self.structure.groups:
            if group.block is not None:
                ratio = control.expands[0 if self.uniform else entries.index(group.block)]
            else:
                ratio = self.widths[next(widths) if len(self.widths) > 1 else -1]
            units.append(math.ceil(ratio * group.units - _ROUNDING))
        return self.structure.choice(runs, units)

    def space(self, name: str, depths: Sequence[Sequence[int]] | None, expands: Sequence[float]) -> SubNetSpace:
        """Return the space of all control tuples.

        Args:
            name: What ids of subnets begin with.
            depths: For each stage, how many of its blocks may run; None for any number.
            expands: What expand ratios there are.

        Raises:
            SpecError: Depths or ratios do not fit the structure, or leave nothing to choose.
        """
        stages = self.structure.stages
        found = [range(self._fewest(stage), len(stage) + 1) for stage in stages] if depths is None else depths
        if len(found) != len(stages):
            raise SpecError(f"{name}, depths", "are not one list for each stage", f"{len(found)}", f"{len(stages)}")
        for index, (choices, stage) in enumerate(zip(found, stages, strict=True)):
            if not choices or max(choices) != len(stage) or min(choices) < 0:
                right = f"up to {len(stage)}, the number of its blocks"
                raise SpecError(f"{name}, depths[{index}]", "do not fit the stage", str(list(choices)), right)
        for option, ratios in (("expands", expands), ("widths", self.widths)):
            if not ratios or max(ratios) != 1 or min(ratios) <= 0:
                raise SpecError(f"{name}, {option}", "are no ratios", str(list(ratios)), "above 0, up to 1")
        cut = self._cut_blocks()
        sizes = [len(choices) for choices in found] + [len(expands)] * len(cut)
        free = sum(group.block is None for group in self.structure.groups) if len(self.widths) > 1 else 0
        if len(self.widths) > 1 and not free:
            right = "no channels outside of single blocks can be cut; leave widths out"
            raise SpecError(f"{name}, widths", "cut nothing", str(list(self.widths)), right)
        if max(sizes, default=1) == 1 and not free:
            value = f"blocks: {len(self.structure.blocks)}, stages: {len(stages)}, groups: {len(self.structure.groups)}"
            right = "residual blocks in a list or sequence; or widths=(0.5, 1.0), to cut what is in no block"
            raise SpecError(name, "has nothing to choose", value, right)
        return SubNetSpace(
            name,
            tuple(tuple(choices) for choices in found),
            (tuple(expands),) * (min(1, len(cut)) if self.uniform else len(cut)),
            (tuple(range(len(self.widths))),) * free,
        )

    def _cut_blocks(self) -> list[int]:
        """Return the blocks that have channels to cut, in order."""
        return sorted({group.block for group in self.structure.groups if group.block is not None})

    def _fewest(self, stage: tuple[int, ...]) -> int:
        """Return how many blocks of a stage have to run: none if its list has others."""
        blocks = self.structure.blocks
        lists = [block.rpartition(".")[0] for block in blocks]
        own = lists[stage[0]]
        return 0 if any(place == own for n, place in enumerate(lists) if n not in stage) else 1


def orders(model: nn.Module, structure: Structure) -> tuple[Order, ...]:
    """Return which blocks run at a depth: the first ones of stages with convolutions, all but evenly spaced of others.

    SuperServe (NSDI 2025), section 3: LayerSelect in convolutional networks and in transformers.
    """
    blocks = [model.get_submodule(structure.blocks[stage[0]]) for stage in structure.stages]
    convolve = [
        any(isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d) for part in block.modules()) for block in blocks
    ]
    return tuple("first" if found else "every_other" for found in convolve)
