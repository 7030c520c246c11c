"""An upper bound on all policies, clairvoyant ones included, for traces of millions of queries.

Lagrangian relaxation: workers are not limited but rented at a price that changes over time. For any prices, the value
of a schedule is at most the cost of all workers over all time, plus for each query its best gain in any batch that
could include it, net of its share of the rent. `docs/optimum.md` has the proof. All prices give a bound; good prices
are found with a smoothed version of it, and the bound itself is evaluated exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import SpecError
from sim.bounds.gains import parts_of, slots_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.bounds.instance import Instance

    _Floats = npt.NDArray[np.float64]

SMOOTHINGS = (0.003, 0.0005)
"""Temperatures of the smoothed bound in units of value; the last is below the difference of any two subnets."""

ITERATIONS = 10
"""Steps at each temperature. The best constant price is already close; ten times the steps gain a tenth as much."""

_SAFETY = 1e-9
"""Margin added to the bound: more than the rounding errors of float64 in a mean of fractions."""


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """An upper bound on all policies.

    Attributes:
        upper: Maximum mean value per query.
        price: Rent of a worker of each group in each slot, float64, shape (groups x slots,), group by group: the
            certificate of the bound, high where load is tight.
        slot_ns: The length of a slot.
    """

    upper: float
    price: _Floats
    slot_ns: int


def upper_bound(
    instance: Instance, slot_ns: int = 4_000_000, iterations: int = ITERATIONS, price: _Floats | None = None
) -> Bound:
    """Return an upper bound on all policies.

    It holds for clusters with failures and actuation delays: the workers that are alive are rented, and switches are
    free. Queries may have individual SLOs; the bound is tightest for one SLO.

    Args:
        instance: The queries, workers and ways.
        slot_ns: Time over which prices are constant. Shorter is tighter and slower.
        iterations: Steps of the search for prices at each temperature; 0 takes the best constant price.
        price: Initial prices of the search; None for the best constant price.

    Raises:
        SpecError: The slot length is not positive, or workers come and go.
    """
    instance.check_workers_stay()
    if slot_ns < 1:
        raise SpecError("slot_ns", "invalid slot length", str(slot_ns), "1 or more")
    dual = _Dual(instance, slot_ns)
    best = dual.constant() if price is None else price
    best_bound = dual.bound(best)
    for smoothing in SMOOTHINGS if iterations else ():
        improved = dual.improved(best, smoothing, iterations)
        bound = dual.bound(improved)
        if bound >= best_bound:
            break  # where a rougher search finds nothing, a finer one finds little
        best, best_bound = improved, bound
    return Bound(min(best_bound, dual.everything) + _SAFETY, best, slot_ns)


class _Dual:
    """The bound as a function of prices."""

    def __init__(self, instance: Instance, slot_ns: int) -> None:
        self._slots = slots_of(instance, slot_ns)
        self._parts = parts_of(instance, slot_ns)
        self._tail = max(part.tail for part in self._parts)
        self._workers = _alive(instance, slot_ns, self._slots)
        groups = len(instance.workers)
        self._size = groups * self._slots  # number of prices
        self._total = len(instance)
        self.everything = sum(part.everything * (part.total / self._total) for part in self._parts)
        """Mean value per query without any limit on workers."""
        rates = instance.value * instance.max_queries * (slot_ns / instance.occupied_ns)
        # What a worker earns in a slot, at most: the unit of its prices.
        best = [float(rates[instance.group == group].max()) for group in range(groups)]
        self._unit = np.repeat(best, self._slots)

    def constant(self) -> _Floats:
        """Return the best of some constant prices."""
        levels = np.concatenate([[0.0], np.geomspace(1e-3, 1, 13)])
        bounds = [self.bound(level * self._unit) for level in levels]
        return np.asarray(levels[int(np.argmin(bounds))] * self._unit)

    def bound(self, price: _Floats) -> float:
        """Return the bound at these prices per query."""
        price = np.maximum(price, 0.0)
        extended = self._extended(price)
        gains = sum(part.queries @ part.best(extended) for part in self._parts)
        return float(self._workers @ price + gains) / self._total

    def improved(self, price: _Floats, smoothing: float, iterations: int) -> _Floats:
        """Return prices that minimise the smoothed bound, found by L-BFGS from these."""
        from scipy.optimize import minimize  # noqa: PLC0415 - half a second, and only this needs it

        def scaled(x: _Floats) -> tuple[float, _Floats]:
            value, slope = self._smoothed(x * self._unit, smoothing)
            return value * self._slots, slope * self._unit * self._slots

        improved = minimize(
            scaled,
            price / self._unit,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, None)] * self._size,
            options={"maxiter": iterations, "maxfun": 2 * iterations},
        )
        return np.asarray(improved.x * self._unit)

    def _extended(self, price: _Floats) -> _Floats:
        """Return the prices of each group, extended by zeros after the last slot, where no batch has value."""
        by_group = price.reshape(-1, self._slots)
        return np.concatenate([by_group, np.zeros((len(by_group), self._tail))], axis=1)

    def _smoothed(self, price: _Floats, smoothing: float) -> tuple[float, _Floats]:
        """Return the bound with soft maxima and its gradient by price, both per query."""
        extended = self._extended(price)
        value, slope = float(self._workers @ price), self._workers.copy()
        for part in self._parts:
            value += part.smoothed(extended, smoothing, slope)
        return value / self._total, slope / self._total


def _alive(instance: Instance, slot_ns: int, slots: int) -> _Floats:
    """Return the mean number of workers of each group alive in each slot, float64, shape (groups x slots,)."""
    workers = np.repeat(instance.workers.astype(np.float64), slots)
    edges = np.arange(slots + 1) * slot_ns
    for fault in instance.cluster.faults:
        end = edges[-1] if fault.recover_ns is None else min(fault.recover_ns, int(edges[-1]))
        down = np.minimum(edges[1:], end) - np.maximum(edges[:-1], fault.at_ns)
        first = int(instance.group_of[fault.worker]) * slots
        workers[first : first + slots] -= np.maximum(down, 0) / slot_ns
    return workers
