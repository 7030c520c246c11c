"""From measured cells to the latency table that the simulator replays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from profiler.grid import Cell, Measured
from sim.base.errors import DataError
from sim.tables.latency import LatencyTable, table_from_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sim.tables.latency import Between, ProfiledSubnet

STAGE = "stage:"
"""What the names of cells begin with that are no subnets, but work around them, such as copying a batch."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A cell that is not in the table, and what the table says of it.

    Attributes:
        cell: The cell.
        measured_ns: Its median.
        padded_ns: The latency of the next larger batch size of the table.
        interpolated_ns: That on the straight line between its neighbours.
    """

    cell: Cell
    measured_ns: float
    padded_ns: float
    interpolated_ns: float


def table_of(
    device: str,
    subnets: Sequence[ProfiledSubnet],
    batch_sizes: Sequence[int],
    found: Mapping[Cell, Measured],
    *,
    stages: Sequence[str] = (),
    between: Between = "pad",
    provenance: Mapping[str, str] | None = None,
) -> LatencyTable:
    """Return the table of all batch sizes at which every subnet has a latency.

    The latency is the median of the wall clock. With stages around the forward pass it is the sum of theirs and its
    own, and its interval goes from the sum of the lower ends to that of the upper ones.

    Args:
        device: What was measured on.
        subnets: With their accuracies.
        batch_sizes: Those that the table is to have.
        found: What is known of the cells.
        stages: The names of the stages around the forward pass.
        between: What a batch size costs that is not in the table.
        provenance: Where the figures come from.

    Raises:
        DataError: No batch size has a latency for every subnet.
    """
    whole = [
        size
        for size in batch_sizes
        if all(found[Cell(name, size)].wall for name in (*(s.id for s in subnets), *(STAGE + n for n in stages)))
    ]
    if not whole or not subnets:
        raise DataError("profile", "no batch size has a latency for every subnet", "", "smaller ones, or more time")
    cells = [(subnet.id, size) for subnet in subnets for size in whole]
    parts = {name: {cell: found[Cell(STAGE + name, cell[1])] for cell in cells} for name in stages}
    forward = {cell: found[Cell(*cell)] for cell in cells}
    every = [forward, *parts.values()]

    def summed(end: str) -> dict[tuple[str, int], int]:
        return {cell: max(1, sum(_ns(part[cell], end) for part in every)) for cell in cells}

    p99 = None if stages else {cell: max(1, round(forward[cell].p99_ns or 0)) for cell in cells}
    finite = all(np.isfinite(part[cell].wall.doubt) for part in every for cell in cells if part[cell].wall)  # type: ignore[union-attr]
    interval = {"low_ns": summed("low"), "high_ns": summed("high")} if finite else {}
    return table_from_cells(
        device,
        subnets,
        summed("median"),
        {**({} if p99 is None else {"p99_ns": p99}), **interval},
        {
            name: {cell: _ns(part[cell], "median") for cell in cells}
            for name, part in ({**parts, "forward": forward} if stages else {}).items()
        },
        location="profile",
        between=between,
        provenance=provenance,
    )


def _ns(found: Measured, end: str) -> int:
    return 0 if found.wall is None else round(getattr(found.wall, end))


def held_out(table: LatencyTable, found: Mapping[Cell, Measured]) -> list[HeldOut]:
    """Return the cells of a table's subnets that lie between its batch sizes, and what it says of them.

    Args:
        table: The table, of the forward pass alone.
        found: What is known of all cells.
    """
    rows = {subnet.id: row for row, subnet in enumerate(table.subnets)}
    cells = [cell for cell in found if cell.subnet in rows and cell.batch_size not in table.batch_sizes]
    result = []
    for cell in cells:
        wall = found[cell].wall
        if wall is None or not table.batch_sizes[0] < cell.batch_size < table.batch_sizes[-1]:
            continue
        row = table.latency_ns[rows[cell.subnet]]
        above = int(np.searchsorted(table.batch_sizes, cell.batch_size))
        line = float(np.interp(cell.batch_size, table.batch_sizes, row))
        result.append(HeldOut(cell, wall.median, float(row[above]), line))
    return result


def better_between(cells: Sequence[HeldOut]) -> Between:
    """Return which rule comes nearer to batch sizes that are not in the table, by the median relative error."""
    if not cells:
        return "pad"
    padded, line = (
        np.median([abs(getattr(cell, name) / cell.measured_ns - 1) for cell in cells])
        for name in ("padded_ns", "interpolated_ns")
    )
    return "interpolate" if line < padded else "pad"


def batch_grid(largest: int, asked: Sequence[int] = ()) -> list[int]:
    """Return the batch sizes of a table: 1 and its doublings up to the largest, the largest, and those asked for.

    Example:
        >>> batch_grid(16), batch_grid(12, [3])
        ([1, 2, 4, 8, 16], [1, 2, 3, 4, 8, 12])
    """
    doublings = [2**power for power in range(largest.bit_length()) if 2**power <= largest]
    return sorted({*doublings, largest, *asked})


def between_sizes(sizes: Sequence[int]) -> list[int]:
    """Return one batch size in the middle of each gap.

    Example:
        >>> between_sizes([1, 2, 4, 8, 16])
        [3, 6, 12]
    """
    return [(low + high) // 2 for low, high in pairwise(sizes) if high - low > 1]
