"""The torch-free core: time, traces, latency tables, clusters, the engine, results and metrics."""

from sim.cluster import Cluster, Fault
from sim.engine import simulate
from sim.errors import BatchSizeError, DataError, PolicyError, SpecError, SsimError, StoreError
from sim.latency import ControlTuple, LatencyTable, Subnet, table_from_cells
from sim.measured import Outcome
from sim.policy import Decision, Dispatch, Drop, Policy, View, Wait
from sim.result import Result
from sim.streams import stream
from sim.trace import Trace

__all__ = [
    "BatchSizeError",
    "Cluster",
    "ControlTuple",
    "DataError",
    "Decision",
    "Dispatch",
    "Drop",
    "Fault",
    "LatencyTable",
    "Outcome",
    "Policy",
    "PolicyError",
    "Result",
    "SpecError",
    "SsimError",
    "StoreError",
    "Subnet",
    "Trace",
    "View",
    "Wait",
    "simulate",
    "stream",
    "table_from_cells",
]
