"""The result of a run: the outcome of each query and each batch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from sim.base.html import html_table
from sim.base.units import NS_PER_MS
from sim.engine.arrow import queries_table
from sim.engine.energy import batch_energy_j
from sim.engine.metrics import mean_batch_size, mean_serving_accuracy, slo_attainment, utilisation
from sim.engine.queues import CANCELLED, DROPPED, REJECTED
from sim.engine.run_metrics import WHOLE_RUN, KindCounts, Measure, Outcome, WindowCounts, window_edges
from sim.traces.trace import Trace

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from sim.engine.cluster import Cluster
    from sim.engine.scaling import Fleet
    from sim.tables.latency import LatencyTable, ProfiledSubnet


NONE = -1
"""Placeholder for a query that was never started, or never answered."""


class BatchLog:
    """The batches of a run as they are started."""

    __slots__ = ("finish", "free", "load", "lost", "size", "start", "subnet", "worker")

    def __init__(self) -> None:
        self.start: list[int] = []
        self.finish: list[int] = []
        self.free: list[int] = []
        self.worker: list[int] = []
        self.subnet: list[int] = []
        self.size: list[int] = []
        self.load: list[int] = []
        self.lost: list[int] = []

    def add(
        self, start_ns: int, finish_ns: int, free_ns: int, worker: int, subnet: int, size: int, load_ns: int = 0
    ) -> None:
        """Record the next batch."""
        self.start.append(start_ns)
        self.finish.append(finish_ns)
        self.free.append(free_ns)
        self.worker.append(worker)
        self.subnet.append(subnet)
        self.size.append(size)
        self.load.append(load_ns)

    def lose(self, batch: int, at_ns: int) -> None:
        """Record that a batch was lost with its worker."""
        self.finish[batch] = at_ns
        self.free[batch] = min(self.free[batch], at_ns)
        self.load[batch] = min(self.load[batch], at_ns - self.start[batch])
        self.lost.append(batch)

    def batches(self) -> Batches:
        """Return the batches as arrays."""
        lost = np.zeros(len(self.start), dtype=bool)
        lost[self.lost] = True
        columns = (self.start, self.finish, self.worker, self.subnet, self.size, self.free, self.load)
        start, finish, worker, subnet, size, free, load = (np.array(column, dtype=np.int64) for column in columns)
        return Batches(start, finish, worker, subnet, size, lost, free, load)


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """The batches of a run in the order in which they were started; all arrays have shape (batches,).

    Attributes:
        start_ns: Time of dispatch, int64.
        finish_ns: Time of completion, or of the failure of its worker, int64.
        worker: Worker that ran it, int64.
        subnet: Subnet that ran it (index into the table, or into `Result.subnets`), int64.
        size: Number of queries, int64.
        lost: Whether its worker failed, bool.
        free_ns: When its worker could take the next batch, or failed, int64: earlier where batches overlap.
        load_ns: How long it waited on its worker until the weights of its subnet were loaded, int64.
    """

    start_ns: npt.NDArray[np.int64]
    finish_ns: npt.NDArray[np.int64]
    worker: npt.NDArray[np.int64]
    subnet: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    lost: npt.NDArray[np.bool_]
    free_ns: npt.NDArray[np.int64]
    load_ns: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_ns)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} batches)"


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The outcome of each query of a trace, and metrics of the part of the run that is measured.

    Laws: every arrival has exactly one outcome; busy + idle + down = workers x horizon.

    Attributes:
        trace: The arrivals; if the cluster has queues, their names are those of its classes.
        table: The latency table.
        cluster: The workers.
        batches: The batches.
        batch: Each query's batch, int64, shape (queries,); -1 for none.
        outcome: Each query's `Outcome`, uint8, shape (queries,).
        horizon_ns: The length of the run, to the later of the last completion and the end of the trace.
        measure: The part that the metrics are about.
        fleet: The workers, if a planner changed their number.
        queue_of_batch: The queue of each batch, int64, shape (batches,); None if the queries say it.
    """

    trace: Trace
    table: LatencyTable
    cluster: Cluster
    batches: Batches
    batch: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.uint8]
    horizon_ns: int
    measure: Measure = WHOLE_RUN
    fleet: Fleet | None = None
    queue_of_batch: npt.NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        trace: Trace,
        table: LatencyTable,
        cluster: Cluster,
        batches: Batches,
        batch: npt.NDArray[np.int64],
        outcome: npt.NDArray[np.uint8],
    ) -> Result:
        """Return the result with its horizon and read-only arrays."""
        for array in (outcome, batch, *(getattr(batches, column.name) for column in fields(batches))):
            array.flags.writeable = False
        return cls(
            trace,
            table,
            cluster,
            batches,
            batch,
            outcome,
            max(trace.duration_ns, int(batches.finish_ns.max(initial=0))),
        )

    def measured(self, measure: Measure) -> Result:
        """Return the result with metrics of a part of the run; queries and batches stay.

        Raises:
            SpecError: The part is not inside of the trace.
            NoArrivalsError: No query arrives in it.
        """
        measure.check(self.trace.duration_ns)
        found = replace(self, measure=measure)
        if not found.queries:
            raise measure.no_query()
        return found

    def only(self, queries: npt.NDArray[np.int64]) -> Result:
        """Return the result of some queries: its batches are those of all, so metrics of batches stay as they are.

        Args:
            queries: Their indices, in order, int64, shape (n,), n above 0.
        """
        trace = self.trace
        slo_ns = trace.slo_ns if isinstance(trace.slo_ns, int) else trace.slo_ns[queries]
        some = Trace(trace.arrival_ns[queries], slo_ns, trace.duration_ns, trace.name, trace.provenance)
        of_batch = self._queue_of_batch
        return replace(
            self, trace=some, batch=self.batch[queries], outcome=self.outcome[queries], queue_of_batch=of_batch
        )

    def to_arrow(self) -> pa.Table:
        """Return the queries as an Arrow table, a row each: the columns of requests.parquet.

        `result.to_arrow().to_pandas()` is a data frame.
        """
        return queries_table(self)

    def __repr__(self) -> str:
        facts = f"SLO attainment {slo_attainment(self):.6f}, accuracy {mean_serving_accuracy(self):.2f} %"
        return f"{type(self).__name__}({self.trace.name!r}, {self.queries:,} queries: {facts})"

    def _repr_html_(self) -> str:
        facts = {
            "queries": f"{self.queries:,}",
            "SLO attainment": f"{slo_attainment(self):.6f}",
            "mean serving accuracy": f"{mean_serving_accuracy(self):.2f} %",
            "p99 latency": f"{self.latency_quantile_ns(0.99) / NS_PER_MS:.2f} ms",
            "mean batch size": f"{mean_batch_size(self):.2f}",
            "utilisation": f"{utilisation(self):.3f}",
            "workers": self.cluster.workers,
        }
        return html_table(f"Result of {self.trace.name}", facts.items())

    @property
    def subnets(self) -> tuple[ProfiledSubnet, ...]:
        """The subnets that may have run: those of the table, then those of queues with other models."""
        return self.cluster.subnets(self.table)

    def per_query(self, column: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return a column of the batches for each query, int64, shape (queries,); -1 where it has no batch."""
        return np.append(column, NONE)[self.batch]

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which queries were answered, in time or late; bool, shape (queries,)."""
        return self.outcome <= Outcome.LATE

    @property
    def latency_ns(self) -> npt.NDArray[np.int64]:
        """Time from arrival to answer of the answered queries that are measured, int64, shape (answered,)."""
        arrived = self.arrived
        answered = self.answered[arrived]
        finish_ns = self.per_query(self.batches.finish_ns)[arrived]
        return finish_ns[answered] + self.cluster.network_ns - self.trace.arrival_ns[arrived][answered]

    @property
    def arrived(self) -> slice:
        """The queries that are measured: those that arrive in the interval."""
        return self._within(self.trace.arrival_ns)

    @property
    def started(self) -> slice:
        """The batches that are measured: those that start in the interval."""
        return self._within(self.batches.start_ns)

    def _within(self, times_ns: npt.NDArray[np.int64]) -> slice:
        limits = (self.measure.from_ns, self.measure.limit_ns(self.trace.duration_ns))
        return slice(*np.searchsorted(times_ns, limits).tolist())

    # sim.engine.run_metrics.RunMetrics

    @property
    def from_ns(self) -> int:
        """The start of the measured interval."""
        return self.measure.from_ns

    @property
    def to_ns(self) -> int:
        """The end of the measured interval, at most that of the trace."""
        return self.measure.end_ns(self.trace.duration_ns)

    @property
    def until_ns(self) -> int:
        """The end of the measured time: of the run if the interval ends with the trace."""
        return self.horizon_ns if self.to_ns == self.trace.duration_ns else self.to_ns

    @property
    def queries(self) -> int:
        """Measured queries."""
        arrived = self.arrived
        return int(arrived.stop - arrived.start)

    def count(self, outcome: Outcome) -> int:
        """Return the number of measured queries with an outcome."""
        return int(np.count_nonzero(self.outcome[self.arrived] == outcome))

    @property
    def met_by_subnet(self) -> npt.NDArray[np.int64]:
        """Measured queries that met their SLO by the subnet that ran them, int64, shape (subnets,)."""
        met = self.outcome[self.arrived] == Outcome.MET
        return np.bincount(self.batches.subnet[self.batch[self.arrived][met]], minlength=len(self.subnets))

    @property
    def batch_count(self) -> int:
        """Measured batches."""
        return len(self.batches.size[self.started])

    @property
    def batched(self) -> int:
        """Queries in measured batches."""
        return int(self.batches.size[self.started].sum())

    @property
    def busy_ns(self) -> int:
        """The measured time that workers were busy, summed over workers, overheads included."""
        begin = np.maximum(self.batches.start_ns, self.from_ns)
        return int(np.maximum(np.minimum(self.batches.free_ns, self.until_ns) - begin, 0).sum())

    @property
    def kind_counts(self) -> KindCounts:
        """Counts by kind of workers."""
        batches, kinds, subnets = self.batches, max(1, len(self.cluster.kinds)), len(self.subnets)
        kind = (self.cluster.kind_of_worker if self.fleet is None else self.fleet.kind)[batches.worker]
        begin = np.maximum(batches.start_ns, self.from_ns)
        busy_ns = np.zeros(kinds, np.int64)
        np.add.at(busy_ns, kind, np.maximum(np.minimum(batches.free_ns, self.until_ns) - begin, 0))
        batched = np.zeros(kinds, np.int64)
        np.add.at(batched, kind[self.started], batches.size[self.started])
        met = self.batch[self.arrived][self.outcome[self.arrived] == Outcome.MET]
        cells = np.bincount(kind[met] * subnets + batches.subnet[met], minlength=kinds * subnets)
        started = np.bincount(kind[self.started], minlength=kinds)
        part = self.from_ns, self.until_ns
        batch_j = batch_energy_j(self.cluster, self.table, batches, kind, self._queue_of_batch, part)
        return KindCounts(started, batched, busy_ns, cells.reshape(kinds, subnets), batch_j)

    @property
    def _queue_of_batch(self) -> npt.NDArray[np.int64]:
        """The queue of each batch, 0 without queues; int64, shape (batches,)."""
        if self.queue_of_batch is not None:
            return self.queue_of_batch
        found = np.zeros(len(self.batches), np.int64)
        if self.cluster.queues and self.trace.class_codes is not None:
            served = self.batch >= 0
            found[self.batch[served]] = self.trace.class_codes[served]
        return found

    def latency_quantile_ns(self, q: float) -> float:
        """Return the q-quantile of the latency of answered queries (linear interpolation); NaN if none was answered."""
        latency = self.latency_ns
        return float(np.quantile(latency, q)) if len(latency) else float("nan")

    def window_counts(self, width_ns: int) -> WindowCounts:
        """Return counts by windows of a width."""
        edges = window_edges(self.from_ns, self.to_ns, width_ns)
        bins, batches, arrived = len(edges) - 1, self.batches, self.arrived
        met = self.outcome[arrived] == Outcome.MET
        arrival = (self.trace.arrival_ns[arrived] - self.from_ns) // width_ns
        arrival = np.minimum(arrival, bins - 1)  # one at the very end belongs to the last
        accuracy = np.array([subnet.accuracy for subnet in self.subnets], dtype=np.float64)
        within = (batches.start_ns >= self.from_ns) & (batches.start_ns < self.to_ns)
        start = (batches.start_ns[within] - self.from_ns) // width_ns
        return WindowCounts(
            arrivals=np.bincount(arrival, minlength=bins),
            met=np.bincount(arrival[met], minlength=bins),
            accuracy=np.bincount(arrival[met], accuracy[batches.subnet[self.batch[arrived][met]]], bins).astype(
                np.float64, copy=False
            ),
            batches=np.bincount(start, minlength=bins),
            batched=np.bincount(start, batches.size[within], bins).astype(np.int64),
            busy_ns=np.diff(_had_run(batches.start_ns, edges) - _had_run(batches.free_ns, edges)).astype(np.float64),
        )


def _had_run(since_ns: npt.NDArray[np.int64], edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the summed time since the given instants at each edge, modulo 2**64: int64, shape (edges,)."""
    ordered = np.sort(since_ns)
    before = np.searchsorted(ordered, edges)
    # Sums of many late instants leave int64, but differences of these are right where they fit.
    total = np.concatenate([[0], np.cumsum(ordered)])
    had_run: npt.NDArray[np.int64] = before * edges - total[before]
    return had_run


def result_of(
    trace: Trace, table: LatencyTable, cluster: Cluster, batches: Batches, batch_of_query: npt.NDArray[np.int64]
) -> Result:
    """Return the result of a finished run.

    Args:
        trace: The arrivals.
        table: The latency table.
        cluster: The workers.
        batches: The batches.
        batch_of_query: As `sim.engine.queues.Admission.batch_of_query` gives it.
    """
    batch = np.maximum(batch_of_query, NONE)
    outcome = np.full(len(trace), Outcome.UNFINISHED, dtype=np.uint8)
    for mark, fate in ((DROPPED, Outcome.DROPPED), (REJECTED, Outcome.REJECTED), (CANCELLED, Outcome.CANCELLED)):
        outcome[batch_of_query == mark] = fate
    served = batch >= 0
    in_time = batches.finish_ns[batch[served]] <= cluster.due_ns(trace)[served]
    answered = np.where(in_time, Outcome.MET, Outcome.LATE)
    outcome[served] = np.where(batches.lost[batch[served]], Outcome.DROPPED, answered)
    return Result.of(trace, table, cluster, batches, batch, outcome)
