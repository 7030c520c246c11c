"""Builds the latency table that the simulator replays from the estimates of cells."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from profiler.grid import Cell, CellEstimate, DeviceUse
from sim.base.errors import DataError
from sim.tables.cells import table_from_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sim.tables.latency import Between, LatencyTable, ProfiledSubnet

STAGE = "stage:"
"""The prefix of cells that are not subnets but stages around the forward pass, such as copying a batch."""


@dataclass(frozen=True, slots=True)
class HeldOutCell:
    """A measured cell between the batch sizes of the table, with the table's predictions.

    Attributes:
        cell: The cell.
        measured_ns: The measured median.
        padded_ns: The latency of the next larger batch size of the table.
        interpolated_ns: The linear interpolation between its neighbours.
    """

    cell: Cell
    measured_ns: float
    padded_ns: float
    interpolated_ns: float


def build_table(
    device: str,
    subnets: Sequence[ProfiledSubnet],
    batch_sizes: Sequence[int],
    estimates: Mapping[Cell, CellEstimate],
    *,
    stages: Sequence[str] = (),
    between: Between = "pad",
    provenance: Mapping[str, str] | None = None,
    use: Mapping[Cell, DeviceUse] | None = None,
) -> LatencyTable:
    """Return the table of all batch sizes at which every subnet has a latency.

    The latency is the median of the wall clock. With stages around the forward pass, it is the sum over the stages and
    the forward pass, and the ends of its interval are the sums of their ends. The table has samples if there are no
    stages, and 99th percentiles if in addition the samples of every cell are enough for them.

    Args:
        device: The name of the measured device.
        subnets: With their accuracies.
        batch_sizes: Of the table; those without a latency for every subnet are left out.
        estimates: Of all cells.
        stages: The names of the stages around the forward pass.
        between: The table's rule for batch sizes between its own.
        provenance: The origin of the measurements.
        use: How cells use the device. The table has the energy of batches if it is known of all, and without stages.

    Raises:
        DataError: No batch size has a latency for every subnet.
    """
    complete = [
        size
        for size in batch_sizes
        if all(estimates[Cell(name, size)].wall for name in (*(s.id for s in subnets), *(STAGE + n for n in stages)))
    ]
    if not complete or not subnets:
        hint = "smaller batch sizes, or more time"
        raise DataError("profile", "no batch size has a latency for every subnet", "", hint)
    cells = [(subnet.id, size) for subnet in subnets for size in complete]
    parts = {name: {cell: estimates[Cell(STAGE + name, cell[1])] for cell in cells} for name in stages}
    forward = {cell: estimates[Cell(*cell)] for cell in cells}
    summands = [forward, *parts.values()]

    def summed(end: str) -> dict[tuple[str, int], int]:
        return {cell: max(1, sum(_ns(part[cell], end) for part in summands)) for cell in cells}

    p99 = {cell: interval for cell in cells if (interval := forward[cell].p99)}
    percentiles = {
        name: {cell: max(1, round(getattr(interval, end))) for cell, interval in p99.items()}
        for name, end in (("p99_ns", "median"), ("p99_low_ns", "low"), ("p99_high_ns", "high"))
        if len(p99) == len(cells) and not stages
    }
    measured = {cell: (use or {}).get(Cell(*cell), DeviceUse()).energy_mj for cell in cells}
    energies = {cell: max(1, round(1000 * energy)) for cell, energy in measured.items() if energy is not None}
    samples = {cell: taken.tolist() for cell in cells if (taken := forward[cell].samples_ns) is not None}
    walls = (wall for part in summands for cell in cells if (wall := part[cell].wall))
    finite = all(np.isfinite(wall.relative_half_width) for wall in walls)
    bounds = {"low_ns": summed("low"), "high_ns": summed("high")} if finite else {}
    return table_from_cells(
        device,
        subnets,
        summed("median"),
        {**percentiles, **bounds},
        {
            name: {cell: _ns(part[cell], "median") for cell in cells}
            for name, part in ({**parts, "forward": forward} if stages else {}).items()
        },
        samples if len(samples) == len(cells) and not stages else None,
        energy=energies if len(energies) == len(cells) and not stages else None,
        location="profile",
        between=between,
        provenance=provenance,
    )


def _ns(estimate: CellEstimate, end: str) -> int:
    return 0 if estimate.wall is None else round(getattr(estimate.wall, end))


def held_out(table: LatencyTable, estimates: Mapping[Cell, CellEstimate]) -> list[HeldOutCell]:
    """Return the cells of a table's subnets between its batch sizes, with the table's predictions.

    Args:
        table: The table, of the forward pass alone.
        estimates: Of all cells.
    """
    rows = {subnet.id: row for row, subnet in enumerate(table.subnets)}
    cells = [cell for cell in estimates if cell.subnet in rows and cell.batch_size not in table.batch_sizes]
    result = []
    for cell in cells:
        wall = estimates[cell].wall
        if wall is None or not table.batch_sizes[0] < cell.batch_size < table.batch_sizes[-1]:
            continue
        row = table.latency_ns[rows[cell.subnet]]
        above = int(np.searchsorted(table.batch_sizes, cell.batch_size))
        line = float(np.interp(cell.batch_size, table.batch_sizes, row))
        result.append(HeldOutCell(cell, wall.median, float(row[above]), line))
    return result


def nearer_rule(cells: Sequence[HeldOutCell]) -> Between:
    """Return the rule with the smaller median relative error on held-out cells."""
    if not cells:
        return "pad"
    padded, line = (
        np.median([abs(getattr(cell, name) / cell.measured_ns - 1) for cell in cells])
        for name in ("padded_ns", "interpolated_ns")
    )
    return "interpolate" if line < padded else "pad"


def batch_grid(max_batch: int, extra: Sequence[int] = ()) -> list[int]:
    """Return the batch sizes of a table: 1 and its doublings, the largest, and extra ones.

    Examples:
        >>> batch_grid(16), batch_grid(12, [3])
        ([1, 2, 4, 8, 16], [1, 2, 3, 4, 8, 12])
    """
    doublings = [2**power for power in range(max_batch.bit_length()) if 2**power <= max_batch]
    return sorted({*doublings, max_batch, *extra})


def midpoints(sizes: Sequence[int]) -> list[int]:
    """Return the batch size in the middle of each gap.

    Examples:
        >>> midpoints([1, 2, 4, 8, 16])
        [3, 6, 12]
    """
    return [(low + high) // 2 for low, high in pairwise(sizes) if high - low > 1]
