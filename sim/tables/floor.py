"""The part of a table that has some of its subnets, such as those that are accurate enough."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.tables.latency import LatencyTable


@lru_cache(maxsize=32)
def accurate_part(table: LatencyTable, floor: float) -> LatencyTable:
    """Return a table without the subnets that are less accurate than a floor, of which some are not.

    The same object for the same arguments: policies remember what they worked out of a table.

    Args:
        table: The table.
        floor: The least accuracy in percent.
    """
    return part_of(table, tuple(row for row, subnet in enumerate(table.subnets) if subnet.accuracy >= floor))


@lru_cache(maxsize=256)
def part_of(table: LatencyTable, subnets: tuple[int, ...]) -> LatencyTable:
    """Return a table with some of its subnets; the same object for the same arguments.

    Args:
        table: The table.
        subnets: Those that it keeps, increasing; one or more.
    """
    kept = list(subnets)
    if len(kept) == len(table.subnets):
        return table
    uncertainty: dict[str, Any] = {name: grid[kept] for name, grid in table.uncertainty.items()}
    return replace(
        table,
        subnets=tuple(table.subnets[row] for row in kept),
        latency_ns=table.latency_ns[kept],
        **uncertainty,
        stages={name: grid[kept] for name, grid in table.stages.items()},
        energy_uj=None if table.energy_uj is None else table.energy_uj[kept],
        samples_ns=None if table.samples_ns is None else tuple(table.samples_ns[row] for row in kept),
    )
