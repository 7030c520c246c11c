"""AlpaServe's dispatch: first come, first served, with drops by the SLO (Li et al., OSDI 2023), for one model.

Code read: alpa-projects/mms, commit dba47b1, `alpa_serve/simulator/controller.py` (lines 605 to 720). Queries that
would be late even alone are dropped. The batch is doubled while enough queries wait and the most urgent one is still
answered in time.

Its placement is `policies.placement`. Left out: model parallelism (a group of pipelined devices takes its next batch
before the last one ends).
The code doubles up to 16; here up to the table's largest batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.one_model import OneModel
from sim.engine.policy import Dispatch, Drop

if TYPE_CHECKING:
    from sim.engine.policy import Decision, Policy, View


@dataclass(frozen=True, slots=True)
class AlpaServe(OneModel):
    """One fixed subnet; the largest power of two that the queue fills and the slack allows."""

    def decide(self, view: View) -> Decision:
        """Return the doubled batch, or drop the most urgent query if it is lost.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        table, subnet, size = view.table, self.model(view.table), 1
        if view.slack_ns < table.latency(subnet, size):
            return Drop(1)
        while (
            2 * size <= table.max_batch
            and view.queue_length >= 2 * size
            and view.slack_ns >= table.latency(subnet, 2 * size)
        ):
            size *= 2
        return Dispatch(subnet, size)


if TYPE_CHECKING:
    _conforms: type[Policy] = AlpaServe
