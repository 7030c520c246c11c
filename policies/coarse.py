"""Coarse: switch models on the observed rate (SuperServe, NSDI 2025, section 2.1, Figures 1b and 1c).

The paper's motivation simulates a policy that switches to a model "that can serve the present rate" with an actuation
delay of 100 ms against one without delay; how it measures the rate and picks the model is not stated. Here: the rate
over a sliding window, and the most accurate subnet whose throughput at its largest batch, over the workers that are
alive and with the dispatch overhead, is at least that rate times a headroom. The delay itself is the cluster's
`actuation_ms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from policies.slack_table import one_subnet
from sim.base.parameters import Parameters, Positive
from sim.base.units import NS_PER_S, ns_from_ms

if TYPE_CHECKING:
    from sim.engine.policy import Dispatch, Policy, View
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True)
class Coarse(Parameters):
    """The most accurate subnet that can serve the recent rate; the largest batch that fits the slack.

    Attributes:
        window_ms: Window of the rate measurement in milliseconds.
        headroom: Required throughput of the subnet as a multiple of the measured rate.
    """

    window_ms: Positive = 1000.0
    headroom: Positive = 1.0

    def decide(self, view: View) -> Dispatch:
        """Return the largest batch that fits on the most accurate subnet that can serve the rate."""
        needed_per_s = view.rate_per_s(ns_from_ms(self.window_ms)) * self.headroom
        capacities = _capacities_per_s(view.table, view.system.dispatch_ns)
        able = [s for s, per_worker in enumerate(capacities) if per_worker * view.system.workers_alive >= needed_per_s]
        return one_subnet(view.table, max(able, default=view.table.least_accurate)).at(view.slack_ns)


@lru_cache(maxsize=32)
def _capacities_per_s(table: LatencyTable, dispatch_ns: int) -> list[float]:
    """Return the throughput of one worker with each subnet at its largest batch, in queries per second."""
    return [table.max_batch * NS_PER_S / (int(latency) + dispatch_ns) for latency in table.latency_ns[:, -1]]


if TYPE_CHECKING:
    _conforms: type[Policy] = Coarse
