"""Proteus' adaptive batching (Ahmad et al., ASPLOS 2024, section 5), for one model.

Code read: UMass-LIDS/Proteus, commit 6967c93, `core/predictor.py`. It waits: the batch is the largest measured size
that the queue fills, and it starts at the last moment at which the most urgent query can still be answered in time. If
a query arrives that makes the batch larger, but too late for that, it runs with the queries before. Queries that can't
be answered in time even alone are dropped.

Left out: the planner (`policies.planners.proteus`, with the policy `allocated`), its queue for each device (here all
workers share one), and routing by shares. Where the larger batch comes too late, the code runs one query fewer; here it
runs the largest measured size that still fits, since a batch of another size is padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.one_model import OneModel
from sim.engine.policy import Dispatch, Drop, Hold

if TYPE_CHECKING:
    from sim.engine.policy import Decision, Policy, View


@dataclass(frozen=True, slots=True)
class Proteus(OneModel):
    """One fixed subnet; batches wait until the last moment for more queries."""

    def decide(self, view: View) -> Decision:
        """Return the batch that the queue fills, once it is due.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        return proteus_batch(view, self.model(view.table))


def proteus_batch(view: View, subnet: int) -> Dispatch | Drop | Hold:
    """Return the batch of a subnet that the queue fills, once it is due."""
    table = view.table
    smallest, *larger = table.batch_sizes
    if view.slack_ns < table.latency(subnet, smallest):
        return Drop(1)
    filled = max((size for size in larger if size <= view.queue_length), default=smallest)
    due_ns = table.latency(subnet, filled)
    if filled < table.max_batch and view.slack_ns > due_ns:
        return Hold(due_ns)
    while table.latency(subnet, filled) > view.slack_ns:
        filled = max(size for size in table.batch_sizes if size < filled)
    return Dispatch(subnet, filled)


if TYPE_CHECKING:
    _conforms: type[Policy] = Proteus
