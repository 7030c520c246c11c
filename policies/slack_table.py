"""Decisions by slack alone, as a lookup table for policies that depend on nothing else."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sim.engine.policy import Dispatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class SlackTable:
    """Decisions by slack.

    Attributes:
        from_ns: Slacks at which the decision changes, increasing.
        decisions: One more than slacks: the first is valid below all of them, each other from its slack on.
    """

    from_ns: tuple[int, ...]
    decisions: tuple[Dispatch, ...]

    def at(self, slack_ns: int) -> Dispatch:
        """Return the decision for a slack."""
        return self.decisions[bisect_right(self.from_ns, slack_ns)]


def table_by_slack(table: LatencyTable, decide: Callable[[int], Dispatch | None]) -> SlackTable:
    """Return the table of a rule that compares the slack only with latencies of the table.

    Args:
        table: The latency table.
        decide: The rule: from a slack in nanoseconds to a decision, or None if nothing fits. The configuration of
            maximum throughput replaces None.
    """
    latencies = sorted({int(latency) for latency in table.latency_ns.flat})
    fallback = Dispatch(*table.max_throughput)
    return SlackTable(tuple(latencies), (fallback, *(decide(slack_ns) or fallback for slack_ns in latencies)))


@lru_cache(maxsize=32)
def one_subnet(table: LatencyTable, subnet: int) -> SlackTable:
    """Return the table of a single subnet: its largest batch that fits the slack, or its largest if none fits."""
    row = [int(latency) for latency in table.latency_ns[subnet]]
    sizes = [table.largest_within(subnet, slack_ns) for slack_ns in sorted(set(row))]
    decisions = [Dispatch(subnet, size) for size in (table.max_batch, *sizes)]
    return SlackTable(tuple(sorted(set(row))), tuple(decisions))
