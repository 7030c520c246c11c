"""A profile from its cells to its table: which cells there are, what is known of them, and what is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.grid import Cell, grid_cells
from profiler.table import STAGE, batch_grid, better_between, build_table, held_out, midpoints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.grid import CellEstimate, Grid
    from profiler.table import HeldOutCell
    from sim.tables.latency import LatencyTable, Subnet


@dataclass(frozen=True, slots=True)
class ProfilePlan:
    """What is to be measured.

    Attributes:
        subnets: With their accuracies, the least accurate first.
        largest: The largest batch size.
        asked: Batch sizes beside 1 and its doublings.
        stages: The names of the stages around the forward pass that are measured, too.
        precision: The relative half-width that the interval of a cell's median is to have, at most.
    """

    subnets: tuple[Subnet, ...]
    largest: int
    asked: tuple[int, ...] = ()
    stages: tuple[str, ...] = ()
    precision: float = 0.02

    @property
    def batch_sizes(self) -> list[int]:
        """The batch sizes of the table."""
        return batch_grid(self.largest, self.asked)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells: those of the table, and some between its batch sizes, held out to see what it says of them.

        Held out are all gaps, of the first and the last subnet only: how time goes from one batch size to the next
        is much the same for all.
        """
        names = [subnet.id for subnet in self.subnets]
        ends = dict.fromkeys((names[0], names[-1]))
        around = [STAGE + name for name in self.stages]
        return (*grid_cells([*names, *around], self.batch_sizes), *grid_cells(ends, midpoints(self.batch_sizes)))

    def measured(self, grid: Grid) -> dict[Cell, CellEstimate]:
        """Return what is known of each cell."""
        return {cell: grid.estimate(cell, self.precision) for cell in self.cells}


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """What came out.

    Attributes:
        table: The latency table.
        found: What is known of each cell.
        held_out: Cells between the table's batch sizes, and what it says of them.
    """

    table: LatencyTable
    found: Mapping[Cell, CellEstimate]
    held_out: Sequence[HeldOutCell]


def outcome(profile: ProfilePlan, grid: Grid, device: str, provenance: Mapping[str, str]) -> ProfileResult:
    """Return the table of a profile and how it does on the cells that were held out.

    A subnet that can't be timed at all is left out. Of padding and straight lines, that one becomes the table's rule
    for other batch sizes which is nearer to them.

    Raises:
        DataError: No batch size has a latency for every subnet that can be timed.
    """
    found, sizes = profile.measured(grid), profile.batch_sizes
    timed = [subnet for subnet in profile.subnets if any(found[Cell(subnet.id, size)].wall for size in sizes)]
    between = held_out(build_table(device, timed, sizes, found), found)
    rule = better_between(between)
    table = build_table(device, timed, sizes, found, stages=profile.stages, between=rule, provenance=provenance)
    return ProfileResult(table, found, between)
