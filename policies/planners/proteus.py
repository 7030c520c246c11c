"""Proteus' allocation of subnets to workers (Ahmad et al., ASPLOS 2024, section 4).

Code read: UMass-LIDS/Proteus, commit 6967c93, `algorithms/ilp.py`, and `core/simulator.py` for throughputs. An integer
program gives each device a variant of a model and a share of its demand, so that the accuracy over all demand is
largest and the devices serve `beta` times the demand. Where they can't, `beta` is lowered in steps of 0.05 while it is
above 0.2.

The code's program multiplies which variant a device has by its share. Devices of a kind with the same subnet for the
same queue may as well be counted: their number is an integer, their share is a number of its own, and the program is
linear, with the same optimum. Left out: the moving average of the demand (it is that of the last period here), and the
solver's gap of 0.5. The policy `allocated` runs what the planner allocates, and says how queries are routed.
Where memory is limited, workers load what they are given beside execution.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from policies.planners.capacity import throughput_per_s
from sim.base.parameters import Positive, check_parameters
from sim.engine.planning import WorkerPlan

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.planning import Planner, PlannerView
    from sim.engine.residence import Units

_STEP, _LOWEST = 0.05, 0.2


@dataclass(slots=True)
class ProteusAllocation:
    """Gives each worker a subnet and a queue, so that accuracy is highest while all of the demand is served.

    Attributes:
        beta: How many times the demand the workers shall be able to serve.
    """

    beta: Positive = 1.05
    # The queue and the subnet of each worker.
    _given: dict[int, tuple[int, str]] = field(default_factory=dict[int, "tuple[int, str]"], init=False, repr=False)

    changes_workers: ClassVar[bool] = False
    gives_workers_to_queues: ClassVar[bool] = True
    plans_for: ClassVar[str] = "allocated"

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(self, view: PlannerView) -> WorkerPlan:
        """Return the subnet of each worker as the parameter `allocation` of the policies; the workers stay.

        A queue without arrivals since the last turn has no workers of its own, and may use all.
        """
        if not view.arrivals:
            return WorkerPlan()
        found, beta = None, self.beta
        while found is None and beta > _LOWEST:
            found, beta = allocated(view, beta), beta - _STEP
        if found is None:  # overloaded: all that can be served, whatever the accuracy
            return WorkerPlan()
        for kind, of_queues in zip(view.kinds, found, strict=True):
            left = {
                (place, subnet.id): int(count)
                for place, (queue, counts) in enumerate(zip(view.queues, of_queues, strict=True))
                for subnet, count in zip(queue.tables[kind.name].subnets, counts, strict=True)
            }
            changes: list[int] = []
            for worker in kind.serving:  # who has the right subnet keeps it
                given = self._given.get(worker)
                if given is not None and left.get(given, 0):
                    left[given] -= 1
                else:
                    changes.append(worker)
            rest = [given for given, count in left.items() for _ in range(count)]
            self._given |= dict(zip(changes, rest, strict=True))
        serving = sorted(self._given.items())
        return WorkerPlan(
            queues={
                queue.name: {
                    "allocation": tuple(
                        (worker, subnet if place == number else None) for worker, (place, subnet) in serving
                    )
                    if queue.arrivals
                    else ()
                }
                for number, queue in enumerate(view.queues)
            },
            resident={
                worker: [self._weights(worker, view, kind.units)]
                for kind in view.kinds
                if kind.units is not None
                for worker in kind.serving
                if worker in self._given
            },
        )

    def _weights(self, worker: int, view: PlannerView, units: Units) -> str:
        """Return the subnet of a worker by the name of its weights."""
        place, subnet = self._given[worker]
        full = f"{view.queues[place].name}/{subnet}"
        return full if full in units.named else subnet


def allocated(view: PlannerView, beta: float) -> list[list[npt.NDArray[np.int64]]] | None:
    """Return how many workers of each kind run each subnet, or None if they can't serve `beta` times the demand.

    Args:
        view: What the planner sees, with an arrival.
        beta: How many times the demand of each queue shall be served; below 1, the rest is given up.

    Returns:
        For each kind and each queue int64, shape (subnets of the queue,).
    """
    parts = [
        (kind, queue, subnet)
        for kind in view.kinds
        for queue in view.queues
        for subnet in range(len(queue.tables[kind.name].subnets))
    ]
    tables = [queue.tables[kind.name] for kind, queue, _ in parts]
    speed = np.array(
        [
            throughput_per_s(table, subnet, queue.slo_ns, view.dispatch_ns)
            for table, (_, queue, subnet) in zip(tables, parts, strict=True)
        ]
    )
    accuracy = np.array([table.subnets[subnet].accuracy for table, (*_, subnet) in zip(tables, parts, strict=True)])
    demand = np.array([view.rate_of(queue) for _, queue, _ in parts])
    count = len(parts)
    one, none = np.eye(count), np.zeros((count, count))
    # Unknown: how many workers of each kind have each subnet for each queue, their share of the demand of the queue,
    # and what they serve of it.
    rows = np.array([[float(kind is other) for other, *_ in parts] for kind in view.kinds])
    numbers = np.array([float(len(kind.serving)) for kind in view.kinds])
    of_queue = np.array([[float(queue is other) for _, other, _ in parts] for queue in view.queues if queue.arrivals])
    demands = np.array([view.rate_of(queue) for queue in view.queues if queue.arrivals])
    nothing = np.zeros_like(of_queue)
    constraints = [
        LinearConstraint(np.hstack([rows, np.zeros((len(rows), 2 * count))]), numbers, numbers),
        LinearConstraint(np.hstack([nothing, of_queue, nothing]), 1, 1),
        LinearConstraint(np.hstack([-np.diag(speed), none, one]), ub=0),
        LinearConstraint(np.hstack([none, -max(1.0, beta) * np.diag(demand), one]), ub=0),
        LinearConstraint(np.hstack([nothing, nothing, of_queue]), lb=beta * demands),
    ]
    # A device whose subnet is too slow for the SLO has no share, nor has one of a queue without demand.
    most = np.concatenate([np.full(count, np.inf), ((speed > 0) & (demand > 0)).astype(float), np.full(count, np.inf)])
    solved = milp(
        np.concatenate([np.zeros(count), -accuracy * demand / view.rate_per_s, np.zeros(count)]),
        integrality=np.repeat([1, 0, 0], count),
        bounds=Bounds(0, most),
        constraints=constraints,
    )
    if solved.x is None or not solved.success:
        return None
    counts = np.rint(solved.x[:count]).astype(np.int64)
    return [
        [counts[[other is kind and of is queue for other, of, _ in parts]] for queue in view.queues]
        for kind in view.kinds
    ]


if TYPE_CHECKING:
    _conforms: type[Planner] = ProteusAllocation
