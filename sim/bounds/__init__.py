"""Bounds on all policies: the offline optimum of small traces, and an upper bound for long ones.

Both are clairvoyant: they know all arrivals in advance.
"""

from sim.bounds.instance import Instance, Values, instance_of
from sim.bounds.schedule import Optimum, offline_optimum
from sim.bounds.upper import Bound, upper_bound

__all__ = ["Bound", "Instance", "Optimum", "Values", "instance_of", "offline_optimum", "upper_bound"]
