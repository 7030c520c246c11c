"""Bounds on all policies: the offline optimum of small traces, an upper bound for long ones, and one by cost.

All are clairvoyant: they know all arrivals in advance.
"""

from sim.bounds.frontier import CostFrontier, cost_frontier
from sim.bounds.instance import Instance, Values, instance_of
from sim.bounds.schedule import Optimum, offline_optimum
from sim.bounds.upper import Bound, upper_bound

__all__ = [
    "Bound",
    "CostFrontier",
    "Instance",
    "Optimum",
    "Values",
    "cost_frontier",
    "instance_of",
    "offline_optimum",
    "upper_bound",
]
