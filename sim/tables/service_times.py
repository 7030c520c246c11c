"""Service times: how long each batch of a run takes, fixed or drawn.

A drawn latency is the inverse of its distribution function at a uniform random quantile. The quantile of a batch is a
hash of the number of its head, the most urgent of its queries. A query heads one batch at most, so the draws of a run
are independent. They have no state: all engines and all policies meet the same quantile at the same query, in whatever
order they start their batches, and a changed decision shifts no later draw. A query with a high quantile is slow on
every subnet.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.base.arrays import read_only
from sim.base.errors import DataError
from sim.base.streams import stream
from sim.base.units import format_ms
from sim.tables.law import STEPS, actual_table, nodes_of, spread_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from sim.tables.latency import LatencyTable
    from sim.tables.law import LatencyLaw

    _Ints = npt.NDArray[np.int64]

MAX_NODES = 2**25
"""Limit on the numbers that describe all distributions of a table: 256 MB."""

LONGEST_NS = 2**46
"""Limit on a latency that is drawn, 19 hours: products with its share of a part fit 64 bits."""

_GOLDEN, _FIRST, _SECOND, _MASK = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 2**64 - 1


def latency_key(seed: int) -> int:
    """Return the key that makes the quantiles of a seed differ from those of others: an integer of 63 bits."""
    return int(stream(seed, "latency").integers(2**63))


def dispatch_key(seed: int) -> int:
    """Return the same for the overheads of batches, which have quantiles of their own."""
    return int(stream(seed, "dispatch").integers(2**63))


def quantile(key: int, query: int) -> int:
    """Return the quantile of the batch that a query heads, in units of 2^-32: an integer of 32 bits, uniform.

    The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    mixed = (key + (query + 1) * _GOLDEN) & _MASK
    mixed = ((mixed ^ mixed >> 30) * _FIRST) & _MASK
    mixed = ((mixed ^ mixed >> 27) * _SECOND) & _MASK
    return (mixed ^ mixed >> 31) >> 32


class Distributions(NamedTuple):
    """The distributions of the latencies of all batches, as arrays that the compiled engine reads, too.

    Attributes:
        nodes_ns: The increasing nodes of all distributions, one after the other, and one number more; int64.
        first: Place of the first node by subnet and batch size from 0, int64, shape (subnets, largest batch + 1).
        parts: Parts of equal probability, likewise: one a node, or one between two nodes if it is linear there.
        is_linear: Whether latencies lie between the nodes, instead of at them: 1 or 0.
    """

    nodes_ns: _Ints
    first: _Ints
    parts: _Ints
    is_linear: int

    def latency(self, subnet: int, size: int, quantile: int) -> int:
        """Return the latency of a batch at a quantile, in units of 2^-32."""
        place = quantile * int(self.parts[subnet, size])
        node = int(self.first[subnet, size]) + (place >> 32)
        low = int(self.nodes_ns[node])
        return low + self.is_linear * ((int(self.nodes_ns[node + 1]) - low) * (place >> 16 & 0xFFFF) >> 16)


@dataclass(frozen=True, slots=True, eq=False)
class ServiceTimes:
    """How long batches take on a worker, without overheads.

    Attributes:
        fixed_ns: Latency by subnet and batch size if none is drawn, int64, shape (subnets, largest batch + 1).
        drawn: The distributions that they are drawn from, or None.
        smallest_ns: The smallest latency by subnet and batch size that can occur, likewise.
    """

    fixed_ns: _Ints
    drawn: Distributions | None
    smallest_ns: _Ints

    def of_run(self, seed: int) -> Callable[[int, int, int], int]:
        """Return a function from subnet, batch size and head (the number of the query) to the latency of the batch."""
        if self.drawn is None:
            fixed = self.fixed_ns.tolist()
            return lambda subnet, size, _head: fixed[subnet][size]
        key, latency = latency_key(seed), self.drawn.latency
        return lambda subnet, size, head: latency(subnet, size, quantile(key, head))


@lru_cache(maxsize=8)
def spread_around(median_ns: int, p99_over_median: float) -> Distributions:
    """Return the lognormal distribution of one time, as that of batches of one query of subnet 0."""
    nodes_ns = spread_nodes(median_ns, p99_over_median)
    place, parts = np.zeros((1, 2), np.int64), np.full((1, 2), STEPS)
    return Distributions(read_only(np.append(nodes_ns, 0)), read_only(place), read_only(parts), 1)


@lru_cache(maxsize=8)
def service_times(table: LatencyTable, law: LatencyLaw) -> ServiceTimes:
    """Return the service times of the subnets of a table, in its order, whatever policies plan on.

    Args:
        table: The table that policies see.
        law: How latencies are distributed around what was measured.

    Raises:
        DataError: The table lacks what the law needs, or there are too many cells.
    """
    actual = actual_table(table)
    rows = [[subnet.id for subnet in actual.subnets].index(subnet.id) for subnet in table.subnets]
    fixed = read_only(actual.dense_ns[rows, : table.max_batch + 1])
    if not law.is_drawn:
        return ServiceTimes(fixed, None, fixed)
    cells = nodes_of(actual, law)
    known: dict[tuple[int, int], int] = {}
    nodes: list[_Ints] = []
    first, parts, smallest = (np.zeros(fixed.shape, np.int64) for _ in range(3))
    total = 0
    for subnet, row in enumerate(rows):
        for size in range(1, table.max_batch + 1):
            column = bisect_left(actual.batch_sizes, size)
            measured = actual.batch_sizes[column]
            as_measured = actual.between == "pad" or column == 0 or size == measured
            stands_for = measured if as_measured else size
            if (row, stands_for) not in known:
                found = cells[row][column] if as_measured else _between(cells[row], actual.batch_sizes, column, size)
                known[row, stands_for] = len(nodes)
                nodes.append(found)
                total += len(found)
                _check_extent(table, total, int(found[-1]))
            place = known[row, stands_for]
            first[subnet, size], parts[subnet, size], smallest[subnet, size] = place, len(nodes[place]), nodes[place][0]
    starts = np.cumsum([0, *map(len, nodes)])
    is_linear = int(law.law == "lognormal")
    first, parts = starts[first], parts - is_linear
    drawn = Distributions(read_only(np.concatenate([*nodes, [0]])), read_only(first), read_only(parts), is_linear)
    return ServiceTimes(fixed, drawn, read_only(smallest))


def _between(cells: Sequence[_Ints], sizes: Sequence[int], column: int, size: int) -> _Ints:
    """Return the distribution at a batch size between two measured ones, quantile by quantile on a straight line."""
    below, above = cells[column - 1], cells[column]
    count = max(len(below), len(above))
    low, high = (cell[np.arange(count) * len(cell) // count] for cell in (below, above))
    share = (size - sizes[column - 1]) / (sizes[column] - sizes[column - 1])
    return np.asarray(np.rint(low + (high - low) * share), np.int64)


def _check_extent(table: LatencyTable, nodes: int, slowest_ns: int) -> None:
    location = f"table of {table.device}"
    if nodes > MAX_NODES:
        hint = "fewer subnets or batch sizes, such as max_batch: 64"
        raise DataError(location, "has too many cells for drawn latencies", f"over {MAX_NODES} numbers", hint)
    if slowest_ns >= LONGEST_NS:
        raise DataError(location, "a latency is too long to be drawn", format_ms(slowest_ns), "below 19 hours")
