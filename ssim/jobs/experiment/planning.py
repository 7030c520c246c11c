"""The table that a policy sees, made once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sim.tables.law import planned

if TYPE_CHECKING:
    from sim.tables.latency import LatencyTable
    from sim.tables.law import LatencyLaw, PlanName


@lru_cache(maxsize=16)
def table_seen(table: LatencyTable, plan: PlanName | float | None, law: LatencyLaw) -> LatencyTable:
    """Return `sim.tables.law.planned`: the same object for the same arguments, since policies remember tables."""
    return planned(table, plan, law)
