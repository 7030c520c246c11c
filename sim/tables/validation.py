"""What must hold between the grids of a latency table, and the order of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.arrays import read_only
from sim.base.errors import DataError
from sim.base.units import format_ms
from sim.tables.grids import first_cell

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sim.tables.latency import LatencyTable


def check_uncertainty(table: LatencyTable) -> None:
    """Check the grids that quantify the uncertainty of the latencies.

    Raises:
        DataError: A 99th percentile is below the latency, or an interval is incomplete or does not contain it.
    """
    location = f"table of {table.device}"

    def cell(mask: npt.NDArray[np.bool_]) -> tuple[int, int, str]:
        row, column = first_cell(mask)
        return row, column, f"subnet {table.subnets[row].id}, batch {table.batch_sizes[column]}"

    if table.p99_ns is not None and (table.p99_ns < table.latency_ns).any():
        row, column, name = cell(table.p99_ns < table.latency_ns)
        both = f"{name}: {format_ms(int(table.p99_ns[row, column]))} < {format_ms(int(table.latency_ns[row, column]))}"
        hint = "is it the 99th percentile, and in the unit of the latency?"
        raise DataError(location, "the 99th percentile is below the latency", both, hint)
    for prefix, middle, what in (("", "latency_ns", "latency"), ("p99_", "p99_ns", "99th percentile")):
        names = (f"{prefix}low_ns", middle, f"{prefix}high_ns")
        low, value, high = (getattr(table, name) for name in names)
        if low is None and high is None:
            continue
        if low is None or value is None or high is None:
            missing = ", ".join(name for name in names if getattr(table, name) is None)
            raise DataError(location, f"interval of the {what} is incomplete", "", f"give {missing}")
        outside = (low > value) | (high < value)
        if outside.any():
            raise DataError(location, f"{what} outside its confidence interval", cell(outside)[2], " <= ".join(names))


def sort_equals(table: LatencyTable) -> None:
    """Put equally accurate subnets into the table's order, with all of their rows."""
    rows = table.latency_ns.tolist()
    keys = [(s.accuracy, -sum(row), [-ns for ns in row], s.id) for s, row in zip(table.subnets, rows, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    if order == list(range(len(keys))):
        return
    object.__setattr__(table, "subnets", tuple(table.subnets[s] for s in order))
    energy = {} if table.energy_uj is None else {"energy_uj": table.energy_uj}
    for name, grid in {"latency_ns": table.latency_ns, **table.uncertainty, **energy}.items():
        object.__setattr__(table, name, read_only(grid[order]))
    object.__setattr__(table, "stages", {name: read_only(grid[order]) for name, grid in table.stages.items()})
    if table.samples_ns is not None:
        object.__setattr__(table, "samples_ns", tuple(table.samples_ns[s] for s in order))
