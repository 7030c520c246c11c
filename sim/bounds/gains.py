"""What a query can gain at given prices: the queries of a queue by the slot of their arrival, and their ways.

`docs/optimum.md` has the proof of the bounds that are sums of these gains (`sim.bounds.upper`, `sim.bounds.frontier`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.bounds.instance import Instance

    _Floats = npt.NDArray[np.float64]
    _Whole = npt.NDArray[np.int64]


def slots_of(instance: Instance, slot_ns: int) -> int:
    """Return the number of slots up to the latest deadline."""
    return int(instance.deadline_ns.max() // slot_ns) + 1


def parts_of(instance: Instance, slot_ns: int) -> list[QueryGains]:
    """Return the queries of each queue that has any."""
    return [QueryGains(instance, queue, slot_ns) for queue in np.unique(instance.queue_of).tolist()]


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


class QueryGains:
    """The queries of a queue. Those that arrive in the same slot form a group, which may be empty.

    Attributes:
        queries: Queries of each group, float64, shape (slots,).
        total: Queries in all.
        ways: The ways that are fast enough for some of the queries.
        tail: More slots than any way occupies a worker.
        everything: The largest value of a query.
    """

    def __init__(self, instance: Instance, queue: int, slot_ns: int) -> None:
        """Find what fits into each batch.

        Args:
            instance: The queries, workers and ways.
            queue: The queue.
            slot_ns: The length of a slot.
        """
        mine = instance.queue_of == queue
        arrival, deadline = instance.arrival_ns[mine], instance.deadline_ns[mine]
        self._slots = slots_of(instance, slot_ns)
        queries = np.bincount(arrival // slot_ns, minlength=self._slots)
        self.queries = queries.astype(np.float64)
        self.total = len(arrival)
        self._slo = int((deadline - arrival).max())
        self._there = np.flatnonzero(queries)
        self._first = (np.cumsum(queries) - queries)[self._there]
        self._latest = np.maximum.reduceat(deadline, self._first)
        come = np.searchsorted(arrival, arrival, "right")
        ways = np.flatnonzero((instance.duration_ns <= self._slo) & (instance.queue == queue)).tolist()
        self.ways = [self._way(instance, way, slot_ns, arrival, come) for way in ways]
        self.tail = 2 + max((way.whole for way in self.ways), default=0)
        self.everything = max((way.value for way in self.ways), default=0.0)

    def _way(self, instance: Instance, way: int, slot_ns: int, arrival: _Whole, come: _Whole) -> _Way:
        """Return a way; `come` is the number of arrivals up to each query, itself included."""
        duration = int(instance.duration_ns[way])
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

    def best(self, price: _Floats) -> _Floats:
        """Return the maximum gain of a query of each group, 0 if it is best left unserved.

        Args:
            price: The prices of each group of workers, float64, shape (groups, slots and `tail` more).
        """
        return self._best([self._priced(way, price[way.group]).gain for way in self.ways])

    def largest(self, way: _Way) -> _Floats:
        """Return the size of the largest batch of a way that a query of each group can be in, 0 if in none."""
        return self._most(np.zeros(self._slots), way, way.fill)

    def _best(self, gains: list[_Floats]) -> _Floats:
        best = np.zeros(self._slots)
        for way, gain in zip(self.ways, gains, strict=True):
            self._most(best, way, gain)
        return best

    def _most(self, most: _Floats, way: _Way, values: _Floats) -> _Floats:
        """Raise the numbers of groups to those of the starts of a way at which a batch can hold them."""
        for offset, barred in enumerate(way.barred):
            here = most[: self._slots - offset]
            np.maximum(here, values[offset:], out=here, where=True if barred is None else ~barred[: len(here)])
        return most

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

    def smoothed(self, price: _Floats, smoothing: float, slope: _Floats) -> float:
        """Return the sum of the gains with soft maxima, and subtract the workers that are rented from a slope.

        Partly in float32 for speed: the proof does not depend on it.

        Args:
            price: See `best`.
            smoothing: The temperature of the maxima.
            slope: float64, shape (groups x slots,).
        """
        priced = [self._priced(way, price[way.group]) for way in self.ways]
        best = self._best([option.gain for option in priced])
        lowest = (best / smoothing).astype(np.float32)
        total = np.exp(-lowest)
        weights = []
        for way, option in zip(self.ways, priced, strict=True):
            gain = (option.gain / smoothing).astype(np.float32)
            for offset, barred in enumerate(way.barred):
                weight = gain[offset:] - lowest[: self._slots - offset]
                if barred is not None:  # before: what a query may not do can be worth more than all it may
                    weight[barred[: len(weight)]] = -np.inf
                np.exp(weight, out=weight)
                total[: len(weight)] += weight
                weights.append(weight)
        share = (self.queries / total).astype(np.float32)
        at = iter(weights)
        for way, option in zip(self.ways, priced, strict=True):
            served = np.zeros(self._slots)
            for offset in range(len(way.barred)):
                served[offset:] += next(at) * share[: self._slots - offset]
            here = slice(way.group * self._slots, (way.group + 1) * self._slots)
            slope[here] -= self._rented(way, option, np.divide(served, way.fill, out=served, where=way.fill > 0))
        return float(self.queries @ (best + smoothing * np.log(total)))

    def _rented(self, way: _Way, priced: _Priced, batches: _Floats) -> _Floats:
        """Return the number of workers rented in each slot, given the number of batches by the slot of their start."""
        slots, whole, rest = self._slots, way.whole, way.rest
        change = np.zeros(slots + self.tail + 1)
        part = np.zeros(slots + self.tail + 1)
        for instant, begin, rest_at in ((0, 0, whole), (1, 1, 0), (2, 1, whole + 1)):
            these = np.where(priced.cheapest == instant, batches, 0.0)
            change[begin : begin + slots] += these
            change[begin + whole : begin + whole + slots] -= these
            part[rest_at : rest_at + slots] += rest * these
        return (np.cumsum(change) + part)[:slots]
