"""What became of each query and each batch of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from sim.queues import DROPPED

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.cluster import Cluster
    from sim.latency import LatencyTable
    from sim.trace import Trace


class Outcome(IntEnum):
    """What becomes of a query: exactly one of these."""

    MET = 0
    """Answered by its deadline."""
    LATE = 1
    """Answered after its deadline."""
    DROPPED = 2
    """Taken out of the queue unanswered (drop rule, policy), or lost with a worker that failed."""
    UNFINISHED = 3
    """Still waiting when nothing more could happen."""


NONE = -1
"""No time, worker, subnet or batch: the query was never started, or never answered."""


class BatchLog:
    """The batches of a run as they are started."""

    __slots__ = ("finish", "lost", "size", "start", "subnet", "worker")

    def __init__(self) -> None:
        self.start: list[int] = []
        self.finish: list[int] = []
        self.worker: list[int] = []
        self.subnet: list[int] = []
        self.size: list[int] = []
        self.lost: list[int] = []

    def add(self, start_ns: int, finish_ns: int, worker: int, subnet: int, size: int) -> int:
        """Note a batch and return its number."""
        self.start.append(start_ns)
        self.finish.append(finish_ns)
        self.worker.append(worker)
        self.subnet.append(subnet)
        self.size.append(size)
        return len(self.start) - 1

    def lose(self, batch: int, at_ns: int) -> None:
        """Note that a batch was lost with its worker."""
        self.finish[batch] = at_ns
        self.lost.append(batch)

    def batches(self) -> Batches:
        """Return the batches as arrays."""
        lost = np.zeros(len(self.start), dtype=bool)
        lost[self.lost] = True
        columns = (self.start, self.finish, self.worker, self.subnet, self.size)
        start, finish, worker, subnet, size = (np.array(column, dtype=np.int64) for column in columns)
        return Batches(start, finish, worker, subnet, size, lost)


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """The batches of a run in the order in which they were started; all arrays have shape (batches,).

    Attributes:
        start_ns: When the batch was dispatched, int64.
        finish_ns: When it was answered, or when its worker failed, int64.
        worker: Which worker ran it, int64.
        subnet: Which subnet ran it (index into the table), int64.
        size: How many queries it held, int64.
        lost: Whether its worker failed, bool.
    """

    start_ns: npt.NDArray[np.int64]
    finish_ns: npt.NDArray[np.int64]
    worker: npt.NDArray[np.int64]
    subnet: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    lost: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of each query of a trace.

    Laws: every arrival has exactly one outcome; busy + idle + down = workers x horizon.

    Attributes:
        trace: The arrivals.
        table: The latency table.
        cluster: The workers.
        batches: The batches.
        batch: Each query's batch, int64, shape (queries,); -1 for none.
        outcome: Each query's `Outcome`, uint8, shape (queries,).
        horizon_ns: The length of the run: to the last answer, at least to the end of the trace.
    """

    trace: Trace
    table: LatencyTable
    cluster: Cluster
    batches: Batches
    batch: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.uint8]
    horizon_ns: int

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
        """Return the result with its horizon, its arrays read-only."""
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

    def per_query(self, column: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return a column of the batches for each query, int64, shape (queries,); -1 where it has no batch."""
        return np.append(column, NONE)[self.batch]

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which queries were answered, in time or late; bool, shape (queries,)."""
        return self.outcome <= Outcome.LATE

    @property
    def latency_ns(self) -> npt.NDArray[np.int64]:
        """Time from arrival to answer of the answered queries, int64, shape (answered,)."""
        return self.per_query(self.batches.finish_ns)[self.answered] - self.trace.arrival_ns[self.answered]

    @property
    def down_ns(self) -> int:
        """Time within the run that workers were down, summed over workers."""
        spans = (
            (fault.at_ns, self.horizon_ns if fault.recover_ns is None else fault.recover_ns)
            for fault in self.cluster.faults
        )
        return sum(max(0, min(end, self.horizon_ns) - at) for at, end in spans)


def result_of(
    trace: Trace, table: LatencyTable, cluster: Cluster, batches: Batches, batch_of_query: npt.NDArray[np.int64]
) -> Result:
    """Return the result of a finished run.

    Args:
        trace: The arrivals.
        table: The latency table.
        cluster: The workers.
        batches: The batches.
        batch_of_query: As `sim.queues.Queue.batch_of_query` gives it.
    """
    batch = np.maximum(batch_of_query, NONE)
    outcome = np.full(len(trace), Outcome.UNFINISHED, dtype=np.uint8)
    outcome[batch_of_query == DROPPED] = Outcome.DROPPED
    served = batch >= 0
    in_time = batches.finish_ns[batch[served]] <= trace.deadline_ns[served]
    answered = np.where(in_time, Outcome.MET, Outcome.LATE)
    outcome[served] = np.where(batches.lost[batch[served]], Outcome.DROPPED, answered)
    return Result.of(trace, table, cluster, batches, batch, outcome)
