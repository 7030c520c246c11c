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

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sim.base.parameters import Parameters, Positive
from sim.engine.policy import Dispatch

if TYPE_CHECKING:
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
            size = next(size for size in table.batch_sizes if size >= length)
            column = table.batch_sizes.index(size)
            for subnet in reversed(table.pareto):
                if int(table.latency_ns[subnet, column]) <= view.slack_ns:
                    return Dispatch(subnet, size)
        else:
            system = view.system
            longest = _longest(table, system.dispatch_ns, system.workers_alive, system.slo_ns, self.beta)
            for subnet, latency_ns, queue in longest:
                if latency_ns <= view.slack_ns and length <= queue:
                    return Dispatch(subnet, table.max_batch)
        return Dispatch(*table.max_throughput)


@lru_cache(maxsize=128)
def _longest(
    table: LatencyTable, dispatch_ns: int, workers: int, slo_ns: int, beta: float
) -> tuple[tuple[int, int, int], ...]:
    """Return subnet, latency of a full batch and the longest queue that it drains in time; the most accurate first."""
    full = table.max_batch
    rows = []
    for subnet in reversed(table.pareto):
        latency_ns = int(table.latency_ns[subnet, -1])
        busy_ns = latency_ns + dispatch_ns
        behind = beta * max(0, slo_ns - busy_ns) * full * workers / busy_ns
        rows.append((subnet, latency_ns, full + int(behind)))
    return tuple(rows)


if TYPE_CHECKING:
    _conforms: type[Policy] = QueueFit
