"""The frontier of value over cost that no policy and no planner exceeds, whatever the start-up of workers.

Workers that come and go for nothing, and are paid only while they run batches, cost no more than any others. So each
batch costs the time that it occupies its worker, and a query at least that share of it that the largest batch leaves to
it. `docs/optimum.md` has the proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import SpecError
from sim.base.units import NS_PER_S
from sim.bounds.gains import parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sim.bounds.instance import Instance

    _Floats = npt.NDArray[np.float64]

_NS_PER_H = 3600 * NS_PER_S

_LINES = 200
"""Lines of a frontier, at most; any of them bounds all runs, and more of them bound more tightly."""

_SAFETY = 1e-9
"""As `sim.bounds.upper` has it."""


@dataclass(frozen=True, slots=True, eq=False)
class CostFrontier:
    """An upper bound on the value of a query by the cost of a run: the lowest of some straight lines.

    Attributes:
        slope: Value per query for a unit of cost, float64, shape (lines,).
        base: Value per query at no cost, float64, shape (lines,).
    """

    slope: _Floats
    base: _Floats

    def value(self, cost: float) -> float:
        """Return the mean value per query that no run of a cost exceeds."""
        return float((self.base + self.slope * cost).min()) + _SAFETY

    def least_cost(self, value: float) -> float:
        """Return the cost that no run of a mean value per query is below; infinite if no run has that value."""
        short = value - _SAFETY - self.base
        if (short[self.slope == 0] > 0).any():
            return float("inf")
        rising = self.slope > 0
        return max(0.0, float((short[rising] / self.slope[rising]).max(initial=0.0)))


def cost_frontier(instance: Instance, price_per_h: Sequence[float], slot_ns: int = 4_000_000) -> CostFrontier:
    """Return the frontier of a trace and kinds of workers, of which there may be any number at any time.

    Args:
        instance: The queries and ways; the number of workers has no meaning.
        price_per_h: The price of a worker of each kind for an hour; one price without kinds.
        slot_ns: Queries that arrive in one slot are bounded together. Shorter is tighter and slower.

    Raises:
        SpecError: The slot length is not positive, or prices are missing.
    """
    if slot_ns < 1:
        raise SpecError("slot_ns", "invalid slot length", str(slot_ns), "1 or more")
    kinds = sum(map(len, instance.kinds))
    if len(price_per_h) != kinds or not all(0 <= price < float("inf") for price in price_per_h):
        raise SpecError("price_per_h", "is not a price for each kind", repr(price_per_h), f"{kinds} numbers, 0 or more")
    per_ns = [min(price_per_h[kind] for kind in members) / _NS_PER_H for members in instance.kinds]
    options: list[tuple[_Floats, _Floats, _Floats]] = []  # by queue: queries, and cost and value of each way and slot
    for part in parts_of(instance, slot_ns):
        there = np.flatnonzero(part.queries)
        values = np.unique([0.0, *(way.value for way in part.ways)])
        cost = np.full((len(values), len(there)), np.inf)
        cost[0] = 0.0
        for way in part.ways:
            largest = part.largest(way)[there]
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.where(largest > 0, per_ns[way.group] * (way.whole + way.rest) * slot_ns / largest, np.inf)
            row = cost[np.searchsorted(values, way.value)]
            np.minimum(row, share, out=row)
        options.append((part.queries[there], cost, values))
    slopes = np.concatenate([[0.0], *(_slopes(cost, values) for _, cost, values in options)])
    chosen = np.unique(np.quantile(slopes, np.linspace(0, 1, _LINES), method="nearest"))
    base = np.zeros(len(chosen))
    for queries, cost, values in options:
        for line, slope in enumerate(chosen.tolist()):
            with np.errstate(invalid="ignore"):
                gain = np.where(np.isinf(cost), -np.inf, values[:, None] - slope * cost)
            base[line] += queries @ gain.max(axis=0)
    return CostFrontier(chosen / len(instance), base / len(instance))


def _slopes(cost: _Floats, values: _Floats) -> _Floats:
    """Return the value that a unit of cost buys, from each value to each higher one, for each slot; all different."""
    low, high = np.triu_indices(len(values), 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slopes = (values[high] - values[low])[:, None] / (cost[high] - cost[low])
    return np.unique(slopes[np.isfinite(slopes) & (slopes > 0)])
