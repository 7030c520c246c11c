"""Decodes ratios of channels: the control tuples of inserted operators, and of transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from sim.base.errors import SpecError
from supernet.space import SubnetSpace
from supernet.structure import active_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.tables.latency import ControlTuple
    from supernet.structure import ActiveConfig, Order, Structure

_ROUNDING = 1e-9
"""Above the error of a product of a ratio and a count, below any share of a channel."""


@dataclass(frozen=True, slots=True)
class RatioDecoder:
    """Decodes control tuples of ratios: of C units, a ratio W keeps ceil(W * C) active.

    A depth is the number of active blocks of a stage. An expand ratio holds for all channels inside a block, or inside
    all blocks. A width is the index of a ratio, for one group of channels that is in no single block.
    SuperServe (NSDI 2025), section 3.

    Attributes:
        structure: Of the network.
        orders: For each stage, which of its blocks run at a depth.
        uniform: Whether one expand ratio holds for all blocks.
        widths: The ratios that widths are indices of. With a single ratio, control tuples have no widths.
    """

    structure: Structure
    orders: tuple[Order, ...]
    uniform: bool
    widths: tuple[float, ...]

    def decode(self, control: ControlTuple) -> ActiveConfig:
        """Return the configuration of a control tuple."""
        active = [True] * len(self.structure.blocks)
        for blocks, depth, order in zip(self.structure.stages, control.depths, self.orders, strict=True):
            for block, is_active in zip(blocks, active_blocks(len(blocks), depth, order), strict=True):
                active[block] = is_active
        sliced, widths = self._sliced_blocks(), iter(control.widths)
        units: list[int] = []
        for group in self.structure.groups:
            if group.block is not None:
                ratio = control.expands[0 if self.uniform else sliced.index(group.block)]
            else:
                ratio = self.widths[next(widths) if len(self.widths) > 1 else -1]
            units.append(math.ceil(ratio * group.units - _ROUNDING))
        return self.structure.config(active, units)

    def space(self, name: str, depths: Sequence[Sequence[int]] | None, expands: Sequence[float]) -> SubnetSpace:
        """Return the space of all control tuples.

        Args:
            name: The family name that ids of subnets begin with.
            depths: For each stage, the allowed numbers of active blocks; None for any number.
            expands: The allowed expand ratios.

        Raises:
            SpecError: Depths or ratios do not fit the structure, or the space is empty.
        """
        stages = self.structure.stages
        options = [range(self._min_depth(stage), len(stage) + 1) for stage in stages] if depths is None else depths
        if len(options) != len(stages):
            raise SpecError(f"{name}, depths", "one list per stage is needed", f"{len(options)}", f"{len(stages)}")
        for index, (choices, stage) in enumerate(zip(options, stages, strict=True)):
            if not choices or max(choices) != len(stage) or min(choices) < 0:
                hint = f"numbers up to {len(stage)}, the blocks of the stage"
                raise SpecError(f"{name}, depths[{index}]", "do not fit the stage", str(list(choices)), hint)
        for option, ratios in (("expands", expands), ("widths", self.widths)):
            if not ratios or max(ratios) != 1 or min(ratios) <= 0:
                hint = "ratios above 0, the largest 1"
                raise SpecError(f"{name}, {option}", "not valid ratios", str(list(ratios)), hint)
        sliced = self._sliced_blocks()
        sizes = [len(choices) for choices in options] + [len(expands)] * len(sliced)
        free = sum(group.block is None for group in self.structure.groups) if len(self.widths) > 1 else 0
        if len(self.widths) > 1 and not free:
            hint = "leave widths out"
            raise SpecError(f"{name}, widths", "no channels outside blocks can be sliced", str(list(self.widths)), hint)
        if max(sizes, default=1) == 1 and not free:
            value = f"blocks: {len(self.structure.blocks)}, stages: {len(stages)}, groups: {len(self.structure.groups)}"
            hint = "residual blocks in a list or sequence; or, to slice channels outside blocks, widths=(0.5, 1.0) "
            hint += "(in a file insert: {widths: [0.5, 1.0]})"
            raise SpecError(name, "the network has only one subnet", value, hint)
        return SubnetSpace(
            name,
            tuple(tuple(choices) for choices in options),
            (tuple(expands),) * (min(1, len(sliced)) if self.uniform else len(sliced)),
            (tuple(range(len(self.widths))),) * free,
        )

    def _sliced_blocks(self) -> list[int]:
        """Return the blocks with channels that can be sliced, in order."""
        return sorted({group.block for group in self.structure.groups if group.block is not None})

    def _min_depth(self, stage: tuple[int, ...]) -> int:
        """Return the smallest depth of a stage: 0 if its list has other blocks."""
        blocks = self.structure.blocks
        lists = [block.rpartition(".")[0] for block in blocks]
        return 0 if any(path == lists[stage[0]] for n, path in enumerate(lists) if n not in stage) else 1


def orders(model: nn.Module, structure: Structure) -> tuple[Order, ...]:
    """Return which blocks run at a depth: in stages with convolutions the first, else all but evenly spaced ones.

    SuperServe (NSDI 2025), section 3: LayerSelect in convolutional networks and in transformers.
    """
    blocks = [model.get_submodule(structure.blocks[stage[0]]) for stage in structure.stages]
    has_convolutions = (
        any(isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d) for part in block.modules()) for block in blocks
    )
    return tuple("first" if convolutional else "every_other" for convolutional in has_convolutions)
