"""A profile: the plan of its cells, their estimates, and the table that results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.grid import Cell, grid_cells
from profiler.table import STAGE, batch_grid, build_table, held_out, midpoints, nearer_rule
from sim.base.errors import DataError
from sim.tables.latency import ProfiledSubnet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.grid import CellEstimate, Grid
    from profiler.table import HeldOutCell
    from sim.tables.latency import LatencyTable
    from supernet.space import SubnetConfig


@dataclass(frozen=True, slots=True)
class ProfilePlan:
    """The subnets and batch sizes to measure.

    Attributes:
        subnets: With their accuracies, the least accurate first; where an accuracy is unknown, in any order.
        max_batch: The largest batch size.
        extra_batches: Batch sizes beside 1 and its doublings.
        stages: The names of the measured stages around the forward pass.
        precision: The relative half-width of the confidence interval of a cell's median to reach.
    """

    subnets: tuple[ProfiledSubnet | SubnetConfig, ...]
    max_batch: int
    extra_batches: tuple[int, ...] = ()
    stages: tuple[str, ...] = ()
    precision: float = 0.02

    @property
    def rated(self) -> tuple[ProfiledSubnet, ...] | None:
        """The subnets with their accuracies; None if one is unknown, so that there is no table."""
        rated = tuple(subnet for subnet in self.subnets if isinstance(subnet, ProfiledSubnet))
        return rated if len(rated) == len(self.subnets) else None

    @property
    def batch_sizes(self) -> list[int]:
        """The batch sizes of the table."""
        return batch_grid(self.max_batch, self.extra_batches)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells: those of the table, and held-out ones between its batch sizes.

        Held out is one batch size in each gap, for the first and the last subnet only: the shape of the latency over
        the batch size is similar for all subnets.
        """
        names = [subnet.id for subnet in self.subnets]
        ends = dict.fromkeys((names[0], names[-1]))
        stages = [STAGE + name for name in self.stages]
        return (*grid_cells([*names, *stages], self.batch_sizes), *grid_cells(ends, midpoints(self.batch_sizes)))

    def estimates(self, grid: Grid) -> dict[Cell, CellEstimate]:
        """Return the estimate of each cell."""
        return {cell: grid.estimate(cell, self.precision) for cell in self.cells}


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """The result of a profile.

    Attributes:
        table: The latency table.
        estimates: Of each cell.
        held_out: Cells between the table's batch sizes, with the table's predictions.
    """

    table: LatencyTable
    estimates: Mapping[Cell, CellEstimate]
    held_out: Sequence[HeldOutCell]


def profile_result(plan: ProfilePlan, grid: Grid, device: str, provenance: Mapping[str, str]) -> ProfileResult:
    """Return the table of a profile and its errors on the held-out cells.

    Subnets without any latency are left out. The table's rule for other batch sizes is padding or linear
    interpolation, whichever has the smaller error on the held-out cells.

    Raises:
        DataError: No batch size has a latency for every subnet with a latency, or accuracies are unknown.
    """
    estimates, sizes = plan.estimates(grid), plan.batch_sizes
    if plan.rated is None:
        raise DataError("subnets", "accuracy unknown", "", "one for each")
    timed = [subnet for subnet in plan.rated if any(estimates[Cell(subnet.id, size)].wall for size in sizes)]
    between = held_out(build_table(device, timed, sizes, estimates), estimates)
    rule = nearer_rule(between)
    table = build_table(
        device, timed, sizes, estimates, stages=plan.stages, between=rule, provenance=provenance, use=grid.use
    )
    return ProfileResult(table, estimates, between)
