"""Clockwork's choice of a batch (Gujarati et al., OSDI 2020, section 5.3), for one model that is loaded everywhere.

Code read: malixian/clockwork, commit 59176203, `src/clockwork/controller/infer5/infer5_scheduler.cpp` (lines 235 to 297
and 710 to 790); defaults from `src/controller.cpp`. Queries must be answered some milliseconds before their deadlines.
For each batch size, queries that such a batch would answer later are passed over; the largest batch that the remaining
ones fill runs, exactly full. Who was passed over for its sake is given up. Batches have up to 8 queries; larger than
one, they take less than 250 ms.

Left out: loading and eviction of models, and the look ahead of 10 ms by which actions are sent before a GPU is free
(here a decision takes no time). The code plans on the largest of the last ten latencies of a batch size: `plan: p99` is
the same idea.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.one_model import OneModel
from sim.base.parameters import NonNegative, PositiveInt
from sim.base.units import ns_from_ms
from sim.engine.policy import Dispatch, Drop

if TYPE_CHECKING:
    from sim.engine.policy import Decision, Policy, View

LONGEST_NS = 250_000_000
"""Batches of several queries take less."""


@dataclass(frozen=True, slots=True)
class Clockwork(OneModel):
    """One fixed subnet; the largest batch that enough queries can be in, all of them in time.

    Attributes:
        margin_ms: How long before its deadline a query is to be answered.
        max_batch: The largest batch.
    """

    margin_ms: NonNegative = 5.0
    max_batch: PositiveInt = 8

    def decide(self, view: View) -> Decision:
        """Return the largest full batch; drop the queries that are passed over for it, or all if none is possible.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        table, subnet = view.table, self.model(view.table)
        deadlines = view.system.deadlines_ns(view.queue_length)
        start_ns = view.now_ns + view.system.dispatch_ns + ns_from_ms(self.margin_ms)
        for size in reversed(table.batch_sizes):
            latency_ns = table.latency(subnet, size)
            if size > table.batch_sizes[0] and (size > self.max_batch or latency_ns >= LONGEST_NS):
                continue
            lost = bisect_left(deadlines, start_ns + latency_ns)
            if view.queue_length - lost >= size:
                return Drop(lost) if lost else Dispatch(subnet, size)
        # No measured size is filled in time: what one batch of the smallest size can't save is lost.
        lost = bisect_left(deadlines, start_ns + table.latency(subnet, table.batch_sizes[0]))
        return Drop(lost) if lost else Dispatch(subnet, view.queue_length)


if TYPE_CHECKING:
    _conforms: type[Policy] = Clockwork
