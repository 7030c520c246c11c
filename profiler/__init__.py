"""Measures the subnets of a supernet on a device, for the latency table that the simulator replays.

A `Schedule` runs the cells of a `ProfilePlan` on a `Meter` and fills a `Grid`, from which `profile_result` builds the
table. These names need no torch. Modules for real devices do: `devices` finds them, `torch_meter` measures on them,
`model_under_test` gives the subnets of a supernet; and `roofline` predicts the tables of other devices.
"""

from profiler.confidence import Interval
from profiler.grid import Cell, CellEstimate, CellStatus, DeviceState, Grid, TrialRecord
from profiler.profile import ProfilePlan, ProfileResult, profile_result
from profiler.schedule import (
    CellError,
    DeviceError,
    Meter,
    NotANumberError,
    NotCompiledError,
    OutOfMemoryError,
    Schedule,
)
from profiler.table import HeldOutCell, build_table
from profiler.trial import Sample, Trial, TrialLimits
from profiler.trial_log import TrialLog

__all__ = [
    "Cell",
    "CellError",
    "CellEstimate",
    "CellStatus",
    "DeviceError",
    "DeviceState",
    "Grid",
    "HeldOutCell",
    "Interval",
    "Meter",
    "NotANumberError",
    "NotCompiledError",
    "OutOfMemoryError",
    "ProfilePlan",
    "ProfileResult",
    "Sample",
    "Schedule",
    "Trial",
    "TrialLimits",
    "TrialLog",
    "TrialRecord",
    "build_table",
    "profile_result",
]
