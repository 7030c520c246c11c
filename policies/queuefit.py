"""QueueFit: SlackFit's idea with the queue in view (ours; no paper has it).

SlackFit sees a burst only once it has shortened the slack of the most urgent query. The queue tells it earlier. Between
the most urgent query, which has its slack, and the youngest, which has about the whole SLO, slack grows linearly in a
steady stream, and so does the time until each is served. So two conditions are enough, in the fluid limit:

- the batch fits the slack of the most urgent query;
- what waits behind the batch is drained within the SLO of the youngest: with `l` the latency of a full batch of `b`
  queries, overhead included, `(queue - b) * l <= beta * (SLO - l) * b * workers`.

Of the subnets that meet both with a full batch, the most accurate one runs. A queue shorter than a full batch takes the
most accurate subnet that fits the slack at the size that holds the queue. Where nothing fits, the configuration of
maximum throughput. `beta` below 1 leaves a reserve for what arrives meanwhile.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from policies.slack_table import SlackTable
from sim.base.parameters import Parameters, Positive
from sim.engine.policy import Dispatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.engine.policy import Policy, View
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class QueueFit(Parameters):
    """The most accurate subnet that fits the slack and drains the queue in time.

    Attributes:
        beta: Share of the time to the youngest query's deadline in which the queue must be drained.
    """

    beta: Positive = 0.7

    def decide(self, view: View) -> Dispatch:
        """Return the most accurate subnet that fits the most urgent query and, by its throughput, the youngest."""
        table, length = view.table, view.queue_length
        if length < table.max_batch:
            return _short(table)[bisect_left(table.batch_sizes, length)].at(view.slack_ns)
        system = view.system
        longest, tables = _long(table, system.dispatch_ns, system.workers_alive, system.slo_ns, self.beta)
        return tables[bisect_left(longest, length)].at(view.slack_ns)


@lru_cache(maxsize=32)
def _short(table: LatencyTable) -> tuple[SlackTable, ...]:
    """Return the choices for each measured batch size, by slack."""
    return tuple(_choices(table, table.pareto, column) for column in range(len(table.batch_sizes)))


@lru_cache(maxsize=128)
def _long(
    table: LatencyTable, dispatch_ns: int, workers: int, slo_ns: int, beta: float
) -> tuple[tuple[int, ...], tuple[SlackTable, ...]]:
    """Return the queue lengths up to which the same subnets drain in time, and for each the choices by slack.

    There is one more table than lengths: beyond the last, no subnet drains in time.
    """
    full = table.max_batch
    longest: dict[int, int] = {}
    for subnet in table.pareto:
        busy_ns = int(table.latency_ns[subnet, -1]) + dispatch_ns
        longest[subnet] = full + int(beta * max(0, slo_ns - busy_ns) * full * workers / busy_ns)
    lengths = tuple(sorted(set(longest.values())))
    draining = ([subnet for subnet in table.pareto if longest[subnet] >= length] for length in lengths)
    return lengths, (*(_choices(table, able, -1) for able in draining), _choices(table, (), -1))


def _choices(table: LatencyTable, subnets: Sequence[int], column: int) -> SlackTable:
    """Return the most accurate of some subnets that fits with a measured batch, by slack; or maximum throughput."""
    size = table.batch_sizes[column]
    latencies = {subnet: int(table.latency_ns[subnet, column]) for subnet in subnets}
    edges = tuple(sorted(set(latencies.values())))
    best = (max(subnet for subnet in subnets if latencies[subnet] <= edge) for edge in edges)
    return SlackTable(edges, (Dispatch(*table.max_throughput), *(Dispatch(subnet, size) for subnet in best)))


if TYPE_CHECKING:
    _conforms: type[Policy] = QueueFit
