"""Two latency tables, cell by cell: faster, slower, or no telling, by the confidence intervals of both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sim.base.errors import DataError

if TYPE_CHECKING:
    from sim.tables.latency import LatencyTable


class LatencyChange(StrEnum):
    """What can be said of a cell of the second table, held against the first."""

    FASTER = "faster"
    """Its whole interval lies below that of the first."""
    SLOWER = "slower"
    """Its whole interval lies above."""
    SAME = "same"
    """The two latencies are equal, to the nanosecond."""
    INCONCLUSIVE = "inconclusive"
    """The intervals overlap, or one of the two is not known."""


@dataclass(frozen=True, slots=True)
class CellDifference:
    """One cell that both tables have.

    Attributes:
        subnet: The subnet's id.
        batch_size: The batch size in queries.
        first_ns: Its latency in the first table.
        second_ns: Its latency in the second.
        difference: What can be said.
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
    """Return the cells that both tables have, in the order of the first.

    Raises:
        DataError: They have no cells in common.
    """
    row_of = {subnet.id: row for row, subnet in enumerate(second.subnets)}
    column_of = {size: column for column, size in enumerate(second.batch_sizes)}
    found = [
        _compared(first, (row, column), second, (row_of[subnet.id], column_of[size]))
        for row, subnet in enumerate(first.subnets)
        for column, size in enumerate(first.batch_sizes)
        if subnet.id in row_of and size in column_of
    ]
    if not found:
        both = f"{first.device} and {second.device}"
        raise DataError("tables", "have no cells in common", both, "tables with common subnet ids and batch sizes")
    return found


def _compared(
    first: LatencyTable, here: tuple[int, int], second: LatencyTable, there: tuple[int, int]
) -> CellDifference:
    one, other = int(first.latency_ns[here]), int(second.latency_ns[there])
    if first.low_ns is None or first.high_ns is None or second.low_ns is None or second.high_ns is None:
        said = LatencyChange.SAME if one == other else LatencyChange.INCONCLUSIVE
    elif second.high_ns[there] < first.low_ns[here]:
        said = LatencyChange.FASTER
    elif second.low_ns[there] > first.high_ns[here]:
        said = LatencyChange.SLOWER
    else:
        said = LatencyChange.SAME if one == other else LatencyChange.INCONCLUSIVE
    return CellDifference(first.subnets[here[0]].id, first.batch_sizes[here[1]], one, other, said)
