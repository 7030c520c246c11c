"""SlackFit: the paper's policy (SuperServe, NSDI 2025, section 4.2 and appendix A.4).

Offline, the latencies of the Pareto-optimal subnets are cut into buckets of equal width; online, the highest bucket
that fits the slack of the most urgent query gives subnet and batch size. A burst shortens the slack, a short slack
means a low bucket, and a low bucket holds large batches of small subnets: no forecast of the rate is needed.

Decisions where the paper is not specific:

- Number of buckets: 3, a parameter. Of the numbers that were searched it most often attains the most, and it costs no
  accuracy (`docs/buckets.md`): with few buckets the lowest one holds a full batch, so that a short slack does not
  lower the throughput.
- Choice of a bucket: the body ("largest batch below the bucket's latency") would give every bucket above 8.8 ms of
  the paper's own table to the smallest subnet; the appendix (tuples with a latency *inside* the bucket) is meant. Ties:
  the most accurate.
- Fit: the chosen latency is at most the slack. The paper writes both `<` and `<=`; a query is met when it
  finishes at its deadline.
- Slack below the smallest bucket: the configuration (subnet and batch size) of maximum throughput, which drains the
  queue fastest (in both shipped tables the smallest subnet at the largest batch).
- A queue shorter than the chosen batch: it runs as a smaller batch. `queue_aware` (ours, off by default)
  then looks for the most accurate subnet that fits the slack with the batch that the queue needs.
- A queue longer than the chosen batch: the batch runs, however little of the queue it takes. `drain` (ours, off by
  default) then runs the configuration of maximum throughput instead, unless the batch is the largest of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from policies.slack_table import SlackTable
from sim.base.parameters import Parameters, PositiveInt
from sim.engine.policy import Dispatch

if TYPE_CHECKING:
    from sim.engine.policy import Policy, View
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class SlackFit(Parameters):
    """The highest latency bucket that fits the slack; in it, the largest batch.

    Attributes:
        buckets: Number of latency buckets between the smallest and the largest latency.
        queue_aware: Limit the batch to the size that the queue needs, and use the remaining slack for accuracy.
        drain: Run the configuration of maximum throughput where a batch below the largest would leave queries behind.
    """

    buckets: PositiveInt = 3
    queue_aware: bool = False
    drain: bool = False

    def decide(self, view: View) -> Dispatch:
        """Return the choice of the highest bucket whose choice fits the slack."""
        table = view.table
        choice = bucket_choices(table, self.buckets).at(view.slack_ns)
        if self.drain and choice.batch_size < table.max_batch and view.queue_length > choice.batch_size:
            return Dispatch(*table.max_throughput)
        if self.queue_aware and choice.batch_size > view.queue_length:
            return _for_short_queue(view) or choice
        return choice


@lru_cache(maxsize=32)
def bucket_choices(table: LatencyTable, buckets: int) -> SlackTable:
    """Return the choices of the buckets of the Pareto-optimal subnets, by slack.

    Args:
        table: The latency table.
        buckets: Number of buckets of equal width.
    """
    cells = [
        (int(table.latency_ns[subnet, column]), size, subnet)
        for subnet in table.pareto
        for column, size in enumerate(table.batch_sizes)
    ]
    lowest, highest = min(cells)[0], max(cells)[0]
    best: dict[int, tuple[int, int, int]] = {}
    for latency, size, subnet in cells:
        # The bucket of a latency, in whole numbers; the largest latency belongs to the last bucket.
        bucket = min(buckets - 1, (latency - lowest) * buckets // max(1, highest - lowest))
        best[bucket] = max(best.get(bucket, (0, 0, 0)), (size, subnet, latency))
    chosen = [best[bucket] for bucket in sorted(best)]
    decisions = (Dispatch(*table.max_throughput), *(Dispatch(subnet, size) for size, subnet, _ in chosen))
    return SlackTable(tuple(latency for _, _, latency in chosen), decisions)


def _for_short_queue(view: View) -> Dispatch | None:
    """Return the most accurate subnet that fits the slack with the smallest measured batch that holds the queue."""
    table = view.table
    column = next(i for i, size in enumerate(table.batch_sizes) if size >= view.queue_length)
    fitting = [subnet for subnet in table.pareto if table.latency_ns[subnet, column] <= view.slack_ns]
    return Dispatch(max(fitting), table.batch_sizes[column]) if fitting else None


if TYPE_CHECKING:
    _conforms: type[Policy] = SlackFit
