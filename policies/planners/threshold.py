"""A threshold autoscaler: INFaaS' rule for the replicas of a model (Romero et al., ATC 2021, section 4.2).

Code read: stanford-mast/INFaaS, commit 02ad2b8, `src/worker/autoscaler.cc`, `checkModvar` and the delays of its scale
down. The load of a model is compared with the profiled throughput of its replicas. Above a share of that (95 % for
CPUs), as many replicas are added as the rest of the load needs. If one replica fewer could carry the load, for some
rounds in a row (10 for CPUs, 20 for GPUs), one is removed.

INFaaS removes a replica as soon as one fewer could carry all of the load (`down=1`). The default here leaves the same
margin as when workers are added: a load that just needs a worker would otherwise have it removed and added in turn.

Left out: the exchange of a variant for another one, since the policy chooses subnets here; memory; and the limit of
replicas on a machine. The load of a kind of workers is its share of the arrivals, by the queries that it started.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from policies.planners.capacity import capacity_per_s
from sim.base.parameters import Percent, PositiveInt, Share, check_parameters
from sim.engine.planning import WorkerPlan

if TYPE_CHECKING:
    from sim.engine.planning import Planner, PlannerView


@dataclass(slots=True)
class Threshold:
    """Adds workers above a share of their capacity, and removes one after some quiet turns.

    Attributes:
        up: The share of the capacity above which workers are added.
        down: The share of the capacity of one worker fewer up to which a turn is quiet.
        quiet_turns: Quiet turns in a row before a worker is removed.
        accuracy: That of the subnet whose throughput is the capacity, in percent; the most accurate one if left out.
    """

    up: Share = 0.95
    down: Share = 0.95
    quiet_turns: PositiveInt = 10
    accuracy: Percent | None = None
    _quiet: dict[str, int] = field(default_factory=dict[str, int], init=False, repr=False)

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(self, view: PlannerView) -> WorkerPlan:
        """Return the workers of each kind that the last load needs.

        Raises:
            DataError: The table has no subnet of this accuracy, or several.
        """
        started = sum(kind.queries for kind in view.kinds)
        wanted: dict[str, int] = {}
        for number, kind in enumerate(view.kinds):
            share = kind.queries / started if started else float(number == 0)
            load, capacity = view.rate_per_s * share, capacity_per_s(view, kind, self.accuracy)
            missing = math.ceil(load / capacity - kind.workers * self.up)
            is_quiet = load <= max(0, kind.workers - 1) * capacity * self.down
            self._quiet[kind.name] = self._quiet.get(kind.name, 0) + 1 if is_quiet else 0
            change = max(0, missing)
            if self._quiet[kind.name] >= self.quiet_turns:
                change, self._quiet[kind.name] = -1, 0
            wanted[kind.name] = max(0, kind.workers + change)
        return WorkerPlan(wanted)


if TYPE_CHECKING:
    _conforms: type[Planner] = Threshold
