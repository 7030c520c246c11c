"""Proteus' allocation of subnets to workers (Ahmad et al., ASPLOS 2024, section 4), for one application.

Code read: UMass-LIDS/Proteus, commit 6967c93, `algorithms/ilp.py`, and `core/simulator.py` for throughputs. An integer
program gives each device a variant and a share of the demand, so that the accuracy over the demand is largest and the
devices serve `beta` times the demand. Where they can't, `beta` is lowered in steps of 0.05 while it is above 0.2.

The code's program multiplies which variant a device has by its share. For one application, devices of a kind with the
same subnet may as well be counted: their number is an integer, their share is a number of its own, and the program is
linear, with the same optimum. Left out: the moving average of the demand (it is that of the last period here), and the
solver's gap of 0.5. The policy `allocated` runs what the planner allocates, and says how queries are routed.
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

_STEP, _LOWEST = 0.05, 0.2


@dataclass(slots=True)
class ProteusAllocation:
    """Gives each worker a subnet, so that accuracy is highest while all of the demand is served.

    Attributes:
        beta: How many times the demand the workers shall be able to serve.
    """

    beta: Positive = 1.05
    _subnets: dict[int, str] = field(default_factory=dict[int, str], init=False, repr=False)  # by worker

    changes_workers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(self, view: PlannerView) -> WorkerPlan:
        """Return the subnet of each worker as the parameter `allocation` of the policy; the workers stay."""
        if not view.arrivals:
            return WorkerPlan()
        found, beta = None, self.beta
        while found is None and beta > _LOWEST:
            found, beta = allocated(view, beta), beta - _STEP
        if found is None:  # overloaded: all that can be served, whatever the accuracy
            return WorkerPlan()
        for kind, counts in zip(view.kinds, found, strict=True):
            left = {kind.table.subnets[subnet].id: int(count) for subnet, count in enumerate(counts)}
            changes = []
            for worker in kind.serving:  # who has the right subnet keeps it
                if left.get(self._subnets.get(worker, ""), 0):
                    left[self._subnets[worker]] -= 1
                else:
                    changes.append(worker)
            rest = [subnet for subnet, count in left.items() for _ in range(count)]
            self._subnets |= dict(zip(changes, rest, strict=True))
        return WorkerPlan(parameters={"allocation": tuple(sorted(self._subnets.items()))})


def allocated(view: PlannerView, beta: float) -> list[npt.NDArray[np.int64]] | None:
    """Return how many workers of each kind run each subnet, or None if they can't serve `beta` times the demand.

    Args:
        view: What the planner sees.
        beta: How many times the demand shall be served; below 1, the rest is given up.

    Returns:
        For each kind int64, shape (subnets,).
    """
    demand = view.rate_per_s
    pairs = [(kind, subnet) for kind in view.kinds for subnet in range(len(kind.table.subnets))]
    speed = np.array([throughput_per_s(kind.table, subnet, view.slo_ns, view.dispatch_ns) for kind, subnet in pairs])
    accuracy = np.array([kind.table.subnets[subnet].accuracy for kind, subnet in pairs])
    count = len(pairs)
    one, none = np.eye(count), np.zeros((count, count))
    # Unknown: how many workers of each kind have each subnet, their share of the demand, and what they serve of it.
    rows = np.array([[float(kind is other) for other, _ in pairs] for kind in view.kinds])
    numbers = np.array([float(len(kind.serving)) for kind in view.kinds])
    all_of_them = np.ones((1, count))
    nothing = np.zeros((1, count))
    constraints = [
        LinearConstraint(np.hstack([rows, np.zeros((len(rows), 2 * count))]), numbers, numbers),
        LinearConstraint(np.hstack([nothing, all_of_them, nothing]), 1, 1),
        LinearConstraint(np.hstack([-np.diag(speed), none, one]), ub=0),
        LinearConstraint(np.hstack([none, -max(1.0, beta) * demand * one, one]), ub=0),
        LinearConstraint(np.hstack([nothing, nothing, all_of_them]), lb=beta * demand),
    ]
    # A device whose subnet is too slow for the SLO has no share.
    most = np.concatenate([np.full(count, np.inf), (speed > 0).astype(float), np.full(count, np.inf)])
    solved = milp(
        np.concatenate([np.zeros(count), -accuracy, np.zeros(count)]),
        integrality=np.repeat([1, 0, 0], count),
        bounds=Bounds(0, most),
        constraints=constraints,
    )
    if solved.x is None or not solved.success:
        return None
    counts = np.rint(solved.x[:count]).astype(np.int64)
    return [counts[[other is kind for other, _ in pairs]] for kind in view.kinds]


if TYPE_CHECKING:
    _conforms: type[Planner] = ProteusAllocation
