"""What any policy could have reached: the offline optimum of small traces, and an upper bound for long ones.

Neither an engine nor a policy: nothing here decides anything while time goes on, and all of it knows the future.
"""

from optimum.bound import Bound, upper_bound
from optimum.instance import Instance, Values, instance_of
from optimum.schedule import Optimum, offline_optimum

__all__ = ["Bound", "Instance", "Optimum", "Values", "instance_of", "offline_optimum", "upper_bound"]
