"""MaxBatch: first the batch, then the accuracy (SuperServe, NSDI 2025, appendix A.5).

The largest batch that the least accurate subnet finishes within the slack, then the most accurate one that finishes
that batch within it. The paper searches by bisection, which needs latencies that grow with batch and accuracy; here
every cell is considered, since real tables violate that (`ssim table check`). Below the smallest latency the paper is
silent: as in SlackFit, the configuration of maximum throughput.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from policies.slack_table import SlackTable, table_by_slack
from sim.engine.policy import Dispatch

if TYPE_CHECKING:
    from sim.engine.policy import Policy, View
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class MaxBatch:
    """The largest batch that fits the slack, then the most accurate subnet that runs it in time."""

    def decide(self, view: View) -> Dispatch:
        """Return the largest batch that fits, on the most accurate subnet that fits with it."""
        return _by_slack(view.table).at(view.slack_ns)


@lru_cache(maxsize=32)
def _by_slack(table: LatencyTable) -> SlackTable:
    def decide(slack_ns: int) -> Dispatch | None:
        size = table.largest_within(table.least_accurate, slack_ns)
        fitting = [s for s in range(len(table.subnets)) if size and table.latency(s, size) <= slack_ns]
        return Dispatch(max(fitting), size) if fitting else None

    return table_by_slack(table, decide)


if TYPE_CHECKING:
    _conforms: type[Policy] = MaxBatch
