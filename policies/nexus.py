"""Nexus' early drop (Shen et al., SOSP 2019, section 4.3), for one session.

Code read: uwsampl/nexus, commit b436191, `src/nexus/backend/model_exec.cpp` (lines 230 to 298) and
`src/nexus/common/model_db.cpp` (lines 118 to 138). The largest batch is the one that takes half of the SLO, so that a
query that just missed a batch is in time with the next one. The expected batch is that, or the queue if it is shorter.
Queries that would be late with the expected batch are dropped from the head of the queue, although a smaller batch
might have saved them: so batches stay large enough to keep up.

With one queue in order of deadlines the walk over the queue is a look at its head: who comes after has at least as much
slack. Left out: pre- and post-processing, and the standard deviation that the code adds to the mean latency, of which
`plan: p99` is the same idea. The planner `nexus` packs several sessions (`policies.planners.nexus`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.one_model import OneModel
from sim.engine.policy import Dispatch, Drop

if TYPE_CHECKING:
    from sim.engine.policy import Decision, Policy, View


@dataclass(frozen=True, slots=True)
class Nexus(OneModel):
    """One fixed subnet; drops who would be late with the batch that keeps up."""

    def decide(self, view: View) -> Decision:
        """Return the expected batch, or drop the most urgent query if it would be late with it.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        subnet, expected = self.model(view.table), self.expected(view)
        return Drop(1) if view.slack_ns < view.table.latency(subnet, expected) else Dispatch(subnet, expected)

    def expected(self, view: View) -> int:
        """Return the largest batch that takes half of the SLO, or the whole queue if it is shorter."""
        budget_ns = (view.system.slo_ns - view.system.dispatch_ns) // 2
        largest = view.table.largest_within(self.model(view.table), budget_ns) or view.table.batch_sizes[0]
        return largest if view.queue_length >= largest else int(view.queue_length)


if TYPE_CHECKING:
    _conforms: type[Policy] = Nexus
