"""Policies that are chosen by the rate: one for each load, by the arrivals seen lately."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sim.base.parameters import Parameters, Positive
from sim.base.units import NS_PER_S, ns_from_ms

if TYPE_CHECKING:
    from sim.engine.policy import Decision, Policy, View
    from sim.tables.latency import LatencyTable


class Site(NamedTuple):
    """What a policy for a load is made for.

    Attributes:
        table: The latency table.
        workers: Workers that have not failed.
        slo_ns: The smallest SLO.
        dispatch_ns: Overhead of each batch.
    """

    table: LatencyTable
    workers: int
    slo_ns: int
    dispatch_ns: int


@dataclass(frozen=True, slots=True)
class ByRate(Parameters):
    """Decides as the policy for the next higher load; a subclass says by `policy_for` which policy that is.

    Attributes:
        window_ms: In which the rate is seen; nothing arrived before the run.
        step_qps: Loads are multiples of this, in queries/s.
    """

    window_ms: Positive = 500.0
    step_qps: Positive = 200.0

    @abstractmethod
    def policy_for(self, site: Site, load_per_s: float) -> Policy:
        """Return the policy for a load; it is asked for once."""

    def decide(self, view: View) -> Decision:
        """Return the decision of the policy for the load that the rate seen does not exceed."""
        system, window_ns = view.system, ns_from_ms(self.window_ms)
        site = Site(view.table, system.workers_alive, system.slo_ns, system.dispatch_ns)
        # Not `view.rate_per_s`: over a window of a nanosecond, the first query would be a rate of 1e9 queries/s.
        seen_per_s = system.arrivals_within(window_ns) * NS_PER_S / window_ns
        steps = max(1, math.ceil(seen_per_s / self.step_qps))
        return _policy(self, site, steps * self.step_qps).decide(view)


@lru_cache(maxsize=1024)
def _policy(policy: ByRate, site: Site, load_per_s: float) -> Policy:
    return policy.policy_for(site, load_per_s)
