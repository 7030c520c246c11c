"""Model-Switching (Zhang et al., HotCloud 2020), as RAMSIS' artifact has it as a baseline.

Code read: dmmendo/RAMSIS, commit 9b74967, `MS_gen.py` (lines 119 to 156) and `model_selector.py` (lines 74 to 83). For
each load every model is simulated alone, with one queue and Poisson arrivals. The most accurate model with fewer than
1 % of late answers serves that load; where there is none, the least accurate one. Its batches take at most half of the
SLO, or are as small as can be. The rate is that of the last 500 ms, and the next higher load counts.

Left open: how long the simulations are (20 s here, or 50,000 queries). Models that can't keep up in their largest
batches are not simulated. The artifact plans on 95th percentiles (`plan: p95`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.by_rate import ByRate, Site
from sim.base.parameters import Positive, Share
from sim.base.units import NS_PER_MS, NS_PER_S
from sim.engine import metrics
from sim.engine.cluster import Cluster
from sim.engine.policy import Dispatch
from sim.engines import replay
from sim.traces.synthetic import Poisson

if TYPE_CHECKING:
    from sim.engine.policy import Policy, View


MOST_QUERIES = 50_000
"""Limit on the length of a simulation."""


@dataclass(frozen=True, slots=True)
class UpTo:
    """One subnet, and batches up to a size.

    Attributes:
        subnet: The subnet (index).
        size: The largest batch.
    """

    subnet: int
    size: int

    def decide(self, view: View) -> Dispatch:
        """Return the largest batch."""
        del view
        return Dispatch(self.subnet, self.size)


@dataclass(frozen=True, slots=True)
class ModelSwitching(ByRate):
    """The most accurate model that meets the target alone at the load.

    Attributes:
        target: The SLO attainment that a model must reach in its simulation.
        seconds: How long that simulation is.
    """

    target: Share = 0.99
    seconds: Positive = 20.0

    def policy_for(self, site: Site, load_per_s: float) -> Policy:
        """Return the model for a load, with batches of up to half of the SLO."""
        table = site.table
        seconds = min(self.seconds, MOST_QUERIES / load_per_s)
        trace = Poisson(mean_qps=load_per_s, duration_s=seconds, slo_ms=site.slo_ns / NS_PER_MS).trace(seed=0)
        cluster = Cluster(site.workers, site.dispatch_ns)
        budget_ns = (site.slo_ns - site.dispatch_ns) // 2
        model = UpTo(table.least_accurate, table.batch_sizes[0])
        for subnet in reversed(range(table.least_accurate, len(table.subnets))):
            model = UpTo(subnet, table.largest_within(subnet, budget_ns) or table.batch_sizes[0])
            busy_s = (table.latency(subnet, model.size) + site.dispatch_ns) / NS_PER_S
            if site.workers * model.size / busy_s < load_per_s:
                continue  # it falls behind, however long that takes to show
            run, _ = replay(trace, cluster, table, model)
            if metrics.slo_attainment(run) > self.target:
                break
        return model


if TYPE_CHECKING:
    _conforms: type[Policy] = ModelSwitching
