"""MaxAcc: first the accuracy, then the batch (SuperServe, NSDI 2025, appendix A.5).

The most accurate subnet that finishes a single query within the slack, then its largest batch that does. Below the
smallest latency the paper is silent: as in SlackFit, the configuration of maximum throughput. The paper says that
MaxAcc "cannot keep up": it spends all slack on accuracy and leaves none for the batch.
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
class MaxAcc:
    """The most accurate subnet that fits the slack with one query, then its largest batch that fits."""

    def decide(self, view: View) -> Dispatch:
        """Return the most accurate subnet that fits, with the largest batch that fits on it."""
        return _by_slack(view.table).at(view.slack_ns)


@lru_cache(maxsize=32)
def _by_slack(table: LatencyTable) -> SlackTable:
    def decide(slack_ns: int) -> Dispatch | None:
        fitting = [s for s in range(len(table.subnets)) if table.latency_ns[s, 0] <= slack_ns]
        return Dispatch(max(fitting), table.largest_within(max(fitting), slack_ns)) if fitting else None

    return table_by_slack(table, decide)


if TYPE_CHECKING:
    _conforms: type[Policy] = MaxAcc
