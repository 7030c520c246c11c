"""The table that a policy sees, made once, and what identifies a table."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sim.tables.law import planned
from ssim.jobs.identity import hash_of

if TYPE_CHECKING:
    from sim.tables.latency import LatencyTable
    from sim.tables.law import LatencyLaw, PlanName


@lru_cache(maxsize=16)
def table_seen(table: LatencyTable, plan: PlanName | float | None, law: LatencyLaw) -> LatencyTable:
    """Return `sim.tables.law.planned`: the same object for the same arguments, since policies remember tables."""
    return planned(table, plan, law)


@lru_cache(maxsize=8)
def table_hash(table: LatencyTable) -> str:
    """Return the hash of all of a table that decides a result."""
    grids = {"latency": table.dense_ns, "p99": table.p99_ns, **table.stages}
    numbers: dict[str, Any] = {name: None if grid is None else grid.tolist() for name, grid in grids.items()}
    if table.samples_ns is not None:
        numbers["samples"] = [[cell.tolist() for cell in row] for row in table.samples_ns]
    if table.energy_uj is not None:
        numbers["energy"] = table.energy_uj.tolist()
    subnets = [asdict(subnet) for subnet in table.subnets]
    return hash_of([table.device, subnets, table.batch_sizes, table.latency_ns.tolist(), numbers])
