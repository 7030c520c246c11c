"""A predictive autoscaler: workers for the rate that is expected once a new one has started, with head-room.

The rate is forecast by Holt's linear trend: an exponentially weighted level and slope (Holt 1957, reprinted in the
International Journal of Forecasting 20, 2004). It looks as far ahead as a new worker takes to start, and one period
more. The rule is that of a fluid: the rate with head-room over what a worker can serve, as Proteus and InferLine have
it. Kinds are filled in order of their price for each query, beside the workers that can't go.

A forecast that swings takes workers back before they have served. So the number may follow the highest of the latest
plans: the stabilization window of Kubernetes' horizontal autoscaler for scaling down (300 s there).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from policies.planners.capacity import capacity_per_s
from sim.base.parameters import NonNegative, Percent, Share, check_parameters
from sim.base.units import NS_PER_S
from sim.engine.planning import WorkerPlan

if TYPE_CHECKING:
    from sim.engine.planning import KindView, Planner, PlannerView


@dataclass(slots=True)
class Predictive:
    """Workers for the rate that is expected when those that are asked for now have started.

    Attributes:
        headroom: What is added to the forecast, as a share of it.
        level: The weight of the latest rate in the level; 1 for the latest rate alone.
        trend: The weight of the latest change in the slope; 0 for no trend.
        stabilization_s: The time over which workers of a kind are not fewer than any plan had; 0 for the latest plan.
        accuracy: That of the subnet whose throughput is the capacity, in percent; the most accurate one if left out.
    """

    headroom: NonNegative = 0.2
    level: Share = 0.5
    trend: Share = 0.2
    stabilization_s: NonNegative = 0.0
    accuracy: Percent | None = None
    _rate: float | None = field(default=None, init=False, repr=False)  # queries/s
    _slope: float = field(default=0.0, init=False, repr=False)  # queries/s a second
    _plans: list[tuple[int, dict[str, int]]] = field(
        default_factory=list[tuple[int, dict[str, int]]], init=False, repr=False
    )  # when, and the workers of each kind

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(self, view: PlannerView) -> WorkerPlan:
        """Return the cheapest workers that can serve the forecast.

        Raises:
            DataError: The table has no subnet of this accuracy, or several.
        """
        self._see(view)
        capacity = {kind.name: capacity_per_s(view, kind, self.accuracy) for kind in view.kinds}
        wanted = {kind.name: kind.limited(0) for kind in view.kinds}  # they stay, whatever they cost
        for kind in sorted(view.kinds, key=lambda kind: (kind.price_per_h or 0.0) / capacity[kind.name]):
            others = sum(number * capacity[name] for name, number in wanted.items() if name != kind.name)
            missing = max(0.0, self._forecast(view, kind) * (1 + self.headroom) - others)
            wanted[kind.name] = kind.limited(math.ceil(missing / capacity[kind.name]))
        return WorkerPlan(self._stabilized(view.now_ns, wanted))

    def _stabilized(self, now_ns: int, wanted: dict[str, int]) -> dict[str, int]:
        """Return the most workers of each kind in the plans of the window, this one included."""
        since_ns = now_ns - self.stabilization_s * NS_PER_S
        self._plans = [(at_ns, plan) for at_ns, plan in self._plans if at_ns > since_ns]
        self._plans.append((now_ns, wanted))
        return {name: max(plan.get(name, 0) for _, plan in self._plans) for name in wanted}

    def _see(self, view: PlannerView) -> None:
        rate, seconds = view.rate_per_s, view.period_ns / NS_PER_S
        if self._rate is None:
            self._rate = rate
            return
        before = self._rate
        self._rate = self.level * rate + (1 - self.level) * (before + self._slope * seconds)
        self._slope = self.trend * (self._rate - before) / seconds + (1 - self.trend) * self._slope

    def _forecast(self, view: PlannerView, kind: KindView) -> float:
        ahead_s = (kind.startup_ns + view.period_ns) / NS_PER_S
        return max(0.0, (self._rate or 0.0) + self._slope * ahead_s)


if TYPE_CHECKING:
    _conforms: type[Planner] = Predictive
