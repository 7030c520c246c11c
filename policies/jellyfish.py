"""Jellyfish (Nigade et al., RTSS 2022), as RAMSIS' artifact reduces it for equal workers.

Code read: dmmendo/RAMSIS, commit 9b74967, `model_selector.py` (lines 176 to 220). A batch may take half of the SLO,
since another one may be before it. At a load, the most accurate model runs that has such a batch with a throughput of
1.05 times each worker's share of the load, in its largest such batch; where there is none, the configuration of the
highest throughput. The rate is that of the last 500 ms.

Left out of the system itself: the delay of each client's network, the annealing, and the packing of clients on workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.by_rate import ByRate, Site
from policies.modelswitching import UpTo
from sim.base.parameters import Positive
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from sim.engine.policy import Policy


@dataclass(frozen=True, slots=True)
class Jellyfish(ByRate):
    """The most accurate model whose throughput is enough for the load.

    Attributes:
        reserve: Throughput over the load.
    """

    reserve: Positive = 1.05

    def policy_for(self, site: Site, load_per_s: float) -> Policy:
        """Return the model for a load, with its largest batch of up to half of the SLO that is enough."""
        table, budget_ns = site.table, (site.slo_ns - site.dispatch_ns) // 2
        needed = self.reserve * load_per_s / site.workers
        for subnet in reversed(range(len(table.subnets))):
            enough = [
                size
                for size, latency_ns in zip(table.batch_sizes, table.latency_ns[subnet].tolist(), strict=True)
                if latency_ns <= budget_ns and size * NS_PER_S / (latency_ns + site.dispatch_ns) >= needed
            ]
            if enough:
                return UpTo(subnet, max(enough))
        return UpTo(*table.max_throughput)


if TYPE_CHECKING:
    _conforms: type[Policy] = Jellyfish
