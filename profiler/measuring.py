"""A profile from its cells to its table: which cells there are, what is known of them, and what is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.assemble import STAGE, batch_grid, better_between, between_sizes, held_out, table_of
from profiler.grid import Cell, cells_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.assemble import HeldOut
    from profiler.grid import Grid, Measured
    from sim.tables.latency import LatencyTable, ProfiledSubnet


@dataclass(frozen=True, slots=True)
class Profile:
    """What is to be measured.

    Attributes:
        subnets: With their accuracies, the least accurate first.
        largest: The largest batch size.
        asked: Batch sizes beside 1 and its doublings.
        stages: The names of the stages around the forward pass that are measured, too.
        precision: The relative half-width that the interval of a cell's median is to have, at most.
    """

    subnets: tuple[ProfiledSubnet, ...]
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
        return (*cells_of([*names, *around], self.batch_sizes), *cells_of(ends, between_sizes(self.batch_sizes)))

    def measured(self, grid: Grid) -> dict[Cell, Measured]:
        """Return what is known of each cell."""
        return {cell: grid.measured(cell, self.precision) for cell in self.cells}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out.

    Attributes:
        table: The latency table.
        found: What is known of each cell.
        held_out: Cells between the table's batch sizes, and what it says of them.
    """

    table: LatencyTable
    found: Mapping[Cell, Measured]
    held_out: Sequence[HeldOut]


def outcome(profile: Profile, grid: Grid, device: str, provenance: Mapping[str, str]) -> Outcome:
    """Return the table of a profile and how it does on the cells that were held out.

    A subnet that can't be timed at all is left out. Of padding and straight lines, that one becomes the table's rule
    for other batch sizes which is nearer to them.

    Raises:
        DataError: No batch size has a latency for every subnet that can be timed.
    """
    found, sizes = profile.measured(grid), profile.batch_sizes
    timed = [subnet for subnet in profile.subnets if any(found[Cell(subnet.id, size)].wall for size in sizes)]
    between = held_out(table_of(device, timed, sizes, found), found)
    rule = better_between(between)
    table = table_of(device, timed, sizes, found, stages=profile.stages, between=rule, provenance=provenance)
    return Outcome(table, found, between)
