"""The torch-free core: time, traces, latency tables, clusters, the engine, results and metrics."""

from sim.base.errors import BatchSizeError, DataError, PolicyError, SpecError, SsimError, StoreError
from sim.base.streams import stream
from sim.compiled.step_policy import StepPolicy
from sim.engine import metrics
from sim.engine.cluster import Cluster, WorkerFailure
from sim.engine.driver import simulate
from sim.engine.kinds import WorkerKind
from sim.engine.planning import Planner, PlannerView, WorkerPlan
from sim.engine.policy import Decision, Dispatch, Drop, Hold, Policy, View, Wait
from sim.engine.result import Result
from sim.engine.run_metrics import Measure, Outcome
from sim.engine.scaling import Scaling
from sim.engine.service_queue import ServiceQueue
from sim.tables.cells import table_from_cells
from sim.tables.latency import ControlTuple, LatencyTable, ProfiledSubnet
from sim.tables.law import LatencyLaw, planned
from sim.traces.trace import Trace

__all__ = [
    "BatchSizeError",
    "Cluster",
    "ControlTuple",
    "DataError",
    "Decision",
    "Dispatch",
    "Drop",
    "Hold",
    "LatencyLaw",
    "LatencyTable",
    "Measure",
    "Outcome",
    "Planner",
    "PlannerView",
    "Policy",
    "PolicyError",
    "ProfiledSubnet",
    "Result",
    "Scaling",
    "ServiceQueue",
    "SpecError",
    "SsimError",
    "StepPolicy",
    "StoreError",
    "Trace",
    "View",
    "Wait",
    "WorkerFailure",
    "WorkerKind",
    "WorkerPlan",
    "metrics",
    "planned",
    "simulate",
    "stream",
    "table_from_cells",
]
