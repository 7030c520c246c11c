"""Symphony's deferred batching (Chen et al., 2023, arXiv 2308.07470v2), for one model.

Code read: abcdabcd987/nexuslb, commit dbb9043, `src/nexus/dispatcher/batch_policy.cpp` (lines 52 to 135),
`batch_size_estimator.cpp` and `rankmt/model_thread.cpp` (lines 186 to 227). A batch of `b` queries waits for one more
until the most urgent query has just the slack for `b + 1` of them; then it starts (*frontrun*, the default there). So
batches are as large as the SLO allows, and at less than full load workers stand still instead of running small batches.

Which queries: those from the first one that is in time with all that come after it in one batch, or in a batch of the
target size if that is smaller. Earlier ones that are in time with this batch come back; the others are given up
(*window drop*). The target is the largest `b` with `l(b) (1 + 1/n) <= SLO`, where `n` workers are needed at the rate of
the last 5 s; for one worker or less, `l(b) + b / rate <= SLO`. With `window: false` only queries that would be late
even alone are given up: this form looks at the head of the queue alone, so that it has a decision table.

Left out: the choice among models and devices, and the delays of its own control messages.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.one_model import OneModel
from sim.base.units import NS_PER_S
from sim.engine.policy import Dispatch, Drop, Hold

if TYPE_CHECKING:
    from sim.engine.policy import Decision, Policy, View

RATE_WINDOW_NS = 5 * NS_PER_S
"""Window in which the rate is seen: 100 samples of 50 ms."""


@dataclass(frozen=True, slots=True)
class Symphony(OneModel):
    """One fixed subnet; batches are deferred until one more query would come too late.

    Attributes:
        window: Give up urgent queries for the sake of the target batch. Without, tables of up to some dozens of batch
            sizes run compiled.
    """

    window: bool = True

    def decide(self, view: View) -> Decision:
        """Return the batch once it is due.

        Raises:
            DataError: The table has no such subnet, or several of this accuracy.
        """
        subnet = self.model(view.table)
        latency = np.maximum.accumulate(view.table.dense_ns[subnet]).tolist()
        lost = _given_up(view, latency) if self.window else int(view.slack_ns < latency[1])
        if lost:
            return Drop(lost)
        largest = bisect_right(latency, view.slack_ns) - 1  # that the most urgent query can be in
        if view.queue_length >= largest:
            return Dispatch(subnet, largest)
        size = int(view.queue_length)
        return Hold(latency[size + 1]) if view.slack_ns > latency[size + 1] else Dispatch(subnet, size)


def _given_up(view: View, latency: list[int]) -> int:
    """Return how many of the most urgent queries are given up."""
    waiting, largest, system = view.queue_length, len(latency) - 1, view.system
    deadlines, start_ns = system.deadlines_ns(waiting), view.now_ns + system.dispatch_ns
    first = 0
    while first < waiting and deadlines[first] < start_ns + latency[min(waiting - first, largest)]:
        first += 1
    if first == waiting:
        return waiting
    return bisect_left(deadlines, start_ns + latency[min(_target(view, latency), waiting - first)])


def _target(view: View, latency: list[int]) -> int:
    """Return the batch size that the workers need at the rate of the last seconds."""
    per_ns = view.rate_per_s(RATE_WINDOW_NS) / NS_PER_S
    budget_ns = view.system.slo_ns - view.system.dispatch_ns

    def is_met(size: int) -> bool:
        workers = per_ns * latency[size] / size
        wait_ns: Any = size / per_ns if workers <= 1 and per_ns > 0 else latency[size] / max(workers, 1.0)
        return bool(latency[size] + wait_ns <= budget_ns)

    return max((size for size in range(1, len(latency)) if is_met(size)), default=1)


if TYPE_CHECKING:
    _conforms: type[Policy] = Symphony
