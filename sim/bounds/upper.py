"""An upper bound on all policies, clairvoyant ones included, for traces of millions of queries.

Lagrangian relaxation: workers are not limited but rented at a price that changes over time. For any prices, the value
of a schedule is at most the cost of all workers over all time, plus for each query its best gain in any batch that
could include it, net of its share of the rent. `docs/optimum.md` has the proof. All prices give a bound; good prices
are found with a smoothed version of it, and the bound itself is evaluated exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.base.errors import SpecError

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.bounds.instance import Instance

    _Floats = npt.NDArray[np.float64]
    _Whole = npt.NDArray[np.int64]

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
        SpecError: The slot length is not positive.
    """
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


class _Way(NamedTuple):
    """A way to run a batch on workers of a group: it occupies its worker for `whole` slots and the part `rest` of one.

    `fill` is the largest batch that can start in each slot, float64, shape (slots,). `barred` says for each offset,
    from 0, which groups of queries can't be in a batch that starts so many slots after their own: bool, shape
    (slots,), or None where all can.
    """

    value: float
    group: int
    whole: int
    rest: float
    fill: _Floats
    barred: tuple[npt.NDArray[np.bool_] | None, ...]


class _Priced(NamedTuple):
    """A way at given prices: the gain of a query by the slot of its start, and the cheapest time in that slot."""

    gain: _Floats
    cheapest: _Whole


class _Dual:
    """The bound as a function of prices. Queries that arrive in the same slot form a group, which may be empty."""

    def __init__(self, instance: Instance, slot_ns: int) -> None:
        arrival, deadline = instance.arrival_ns, instance.deadline_ns
        self._slots = int(deadline.max() // slot_ns) + 1
        queries = np.bincount(arrival // slot_ns, minlength=self._slots)
        self._queries = queries.astype(np.float64)
        self._slo = int((deadline - arrival).max())
        self._there = np.flatnonzero(queries)
        self._first = (np.cumsum(queries) - queries)[self._there]
        self._latest = np.maximum.reduceat(deadline, self._first)
        come = np.searchsorted(arrival, arrival, "right")
        ways = np.flatnonzero(instance.duration_ns <= self._slo).tolist()
        self._ways = [self._way(instance, way, slot_ns, come) for way in ways]
        self._tail = 2 + max((way.whole for way in self._ways), default=0)
        self._workers = _alive(instance, slot_ns, self._slots)
        groups = len(instance.workers)
        self._size = groups * self._slots  # number of prices
        self._total = len(instance)
        self.everything = max((way.value for way in self._ways), default=0.0)
        """Mean value per query without any limit on workers."""
        rates = instance.value * instance.max_queries * (slot_ns / instance.occupied_ns)
        # What a worker earns in a slot, at most: the unit of its prices.
        best = [float(rates[instance.group == group].max()) for group in range(groups)]
        self._unit = np.repeat(best, self._slots)

    def _way(self, instance: Instance, way: int, slot_ns: int, come: _Whole) -> _Way:
        """Return a way; `come` is the number of arrivals up to each query, itself included."""
        arrival, duration = instance.arrival_ns, int(instance.duration_ns[way])
        # Who may be in a batch that starts at t has come by t, and not so early that its time is up before the end.
        room = self._slo - duration
        edges = np.arange(self._slots) * slot_ns
        count = np.searchsorted(arrival, edges, "right") - np.searchsorted(arrival, edges - room, "left")
        # Within a slot the count rises at arrivals only.
        at_arrival = come - np.searchsorted(arrival, arrival - room, "left")
        count[self._there] = np.maximum(count[self._there], np.maximum.reduceat(at_arrival, self._first))
        latest = self._latest - duration
        span = np.where(latest >= 0, latest // slot_ns - self._there, -1)  # from a group's slot to its last start
        barred = []
        for offset in range(int(span.max()) + 1):
            late = np.zeros(self._slots, dtype=bool)
            late[self._there] = span < offset
            barred.append(late if late.any() else None)
        fill = np.minimum(count, instance.max_queries[way]).astype(np.float64)
        whole, rest = divmod(int(instance.occupied_ns[way]), slot_ns)
        return _Way(float(instance.value[way]), int(instance.group[way]), whole, rest / slot_ns, fill, tuple(barred))

    def constant(self) -> _Floats:
        """Return the best of some constant prices."""
        levels = np.concatenate([[0.0], np.geomspace(1e-3, 1, 13)])
        bounds = [self.bound(level * self._unit) for level in levels]
        return np.asarray(levels[int(np.argmin(bounds))] * self._unit)

    def bound(self, price: _Floats) -> float:
        """Return the bound at these prices per query."""
        price = np.maximum(price, 0.0)
        extended = self._extended(price)
        gains = self._best([self._priced(way, extended[way.group]).gain for way in self._ways])
        return float(self._workers @ price + self._queries @ gains) / self._total

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

    def _priced(self, way: _Way, price: _Floats) -> _Priced:
        """Return the gain of a query in this way by the slot in which its batch starts, at the cheapest time in it.

        The rent is piecewise linear in the start, with breaks where the batch begins or ends at the edge of a slot. So
        the cheapest start is one of three: the beginning of the slot, the time in it at which the end meets an edge,
        and the end of the slot.
        """
        slots, whole, rest = self._slots, way.whole, way.rest
        paid = np.concatenate([[0.0], np.cumsum(price)])
        at_edge = paid[whole : whole + slots + 1] - paid[: slots + 1] + rest * price[whole : whole + slots + 1]
        between = rest * price[:slots] + paid[whole + 1 : whole + 1 + slots] - paid[1 : 1 + slots]
        rents = np.stack([at_edge[:-1], between, at_edge[1:]])
        cheapest = np.argmin(rents, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(way.fill > 0, way.value - rents.min(axis=0) / way.fill, -np.inf)
        return _Priced(gain, cheapest)

    def _best(self, gains: list[_Floats]) -> _Floats:
        """Return the maximum gain of a query of each group, 0 if it is best left unserved."""
        best = np.zeros(self._slots)
        for way, gain in zip(self._ways, gains, strict=True):
            for offset, barred in enumerate(way.barred):
                here = best[: self._slots - offset]
                np.maximum(here, gain[offset:], out=here, where=True if barred is None else ~barred[: len(here)])
        return best

    def _smoothed(self, price: _Floats, smoothing: float) -> tuple[float, _Floats]:
        """Return the bound with soft maxima and its gradient by price, both per query.

        Partly in float32 for speed: the proof does not depend on it.
        """
        extended = self._extended(price)
        priced = [self._priced(way, extended[way.group]) for way in self._ways]
        best = self._best([option.gain for option in priced])
        lowest = (best / smoothing).astype(np.float32)
        total = np.exp(-lowest)
        weights = []
        for way, option in zip(self._ways, priced, strict=True):
            gain = (option.gain / smoothing).astype(np.float32)
            for offset, barred in enumerate(way.barred):
                weight = gain[offset:] - lowest[: self._slots - offset]
                if barred is not None:  # before: what a query may not do can be worth more than all it may
                    weight[barred[: len(weight)]] = -np.inf
                np.exp(weight, out=weight)
                total[: len(weight)] += weight
                weights.append(weight)
        share = (self._queries / total).astype(np.float32)
        slope = self._workers.copy()
        at = iter(weights)
        for way, option in zip(self._ways, priced, strict=True):
            served = np.zeros(self._slots)
            for offset in range(len(way.barred)):
                served[offset:] += next(at) * share[: self._slots - offset]
            here = slice(way.group * self._slots, (way.group + 1) * self._slots)
            slope[here] -= self._rented(way, option, np.divide(served, way.fill, out=served, where=way.fill > 0))
        value = self._workers @ price + self._queries @ (best + smoothing * np.log(total))
        return float(value) / self._total, slope / self._total

    def _rented(self, way: _Way, priced: _Priced, batches: _Floats) -> _Floats:
        """Return the number of workers rented in each slot, given the number of batches by the slot of their start."""
        slots, whole, rest = self._slots, way.whole, way.rest
        change = np.zeros(slots + self._tail + 1)
        part = np.zeros(slots + self._tail + 1)
        for instant, begin, rest_at in ((0, 0, whole), (1, 1, 0), (2, 1, whole + 1)):
            these = np.where(priced.cheapest == instant, batches, 0.0)
            change[begin : begin + slots] += these
            change[begin + whole : begin + whole + slots] -= these
            part[rest_at : rest_at + slots] += rest * these
        return (np.cumsum(change) + part)[:slots]


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
