"""The torch-free core: time, traces, latency tables, clusters, the engine, results and metrics."""

from sim.base.errors import BatchSizeError, DataError, PolicyError, SpecError, SsimError, StoreError
from sim.base.streams import stream
from sim.compiled.stepped import Stepped
from sim.engine import metrics
from sim.engine.cluster import Cluster, Fault
from sim.engine.driver import simulate
from sim.engine.measured import Outcome
from sim.engine.policy import Decision, Dispatch, Drop, Policy, View, Wait
from sim.engine.result import Result
from sim.tables.latency import ControlTuple, LatencyTable, Subnet, table_from_cells
from sim.traces.trace import Trace

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
    "Stepped",
    "StoreError",
    "Subnet",
    "Trace",
    "View",
    "Wait",
    "metrics",
    "simulate",
    "stream",
    "table_from_cells",
]
