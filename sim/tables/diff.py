"""Comparison of two latency tables, cell by cell, by their confidence intervals: faster, slower or inconclusive."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sim.base.errors import DataError

if TYPE_CHECKING:
    from sim.tables.latency import LatencyTable


class LatencyChange(StrEnum):
    """The change of a cell from the first table to the second."""

    FASTER = "faster"
    """Its interval lies below that of the first."""
    SLOWER = "slower"
    """Its interval lies above."""
    SAME = "same"
    """The two latencies are equal, to the nanosecond."""
    INCONCLUSIVE = "inconclusive"
    """The intervals overlap, or one of them is unknown."""


@dataclass(frozen=True, slots=True)
class CellDifference:
    """One cell that is in both tables.

    Attributes:
        subnet: The subnet's id.
        batch_size: The batch size in queries.
        first_ns: Its latency in the first table.
        second_ns: Its latency in the second.
        difference: The change.
    """

    subnet: str
    batch_size: int
    first_ns: int
    second_ns: int
    difference: LatencyChange

    @property
    def ratio(self) -> float:
        """The second latency over the first."""
        return self.second_ns / self.first_ns


def diff_tables(first: LatencyTable, second: LatencyTable) -> list[CellDifference]:
    """Return the cells that are in both tables, in the order of the first.

    Raises:
        DataError: They have no cells in common.
    """
    row_of = {subnet.id: row for row, subnet in enumerate(second.subnets)}
    column_of = {size: column for column, size in enumerate(second.batch_sizes)}
    cells = [
        _compared(first, (row, column), second, (row_of[subnet.id], column_of[size]))
        for row, subnet in enumerate(first.subnets)
        for column, size in enumerate(first.batch_sizes)
        if subnet.id in row_of and size in column_of
    ]
    if not cells:
        both = f"{first.device} and {second.device}"
        raise DataError("tables", "have no cells in common", both, "tables with common subnet ids and batch sizes")
    return cells


def _compared(
    first: LatencyTable, first_cell: tuple[int, int], second: LatencyTable, second_cell: tuple[int, int]
) -> CellDifference:
    first_ns, second_ns = int(first.latency_ns[first_cell]), int(second.latency_ns[second_cell])
    if first.low_ns is None or first.high_ns is None or second.low_ns is None or second.high_ns is None:
        change = LatencyChange.SAME if first_ns == second_ns else LatencyChange.INCONCLUSIVE
    elif second.high_ns[second_cell] < first.low_ns[first_cell]:
        change = LatencyChange.FASTER
    elif second.low_ns[second_cell] > first.high_ns[first_cell]:
        change = LatencyChange.SLOWER
    else:
        change = LatencyChange.SAME if first_ns == second_ns else LatencyChange.INCONCLUSIVE
    return CellDifference(
        first.subnets[first_cell[0]].id, first.batch_sizes[first_cell[1]], first_ns, second_ns, change
    )
