"""The log of a live run: what was received, decided and answered, and when, by the monotonic clock.

All instants are nanoseconds from the start of the trace. The scheduler, fed with a log, decides the same again: it
has no clock of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serving.growing_queues import GrowingQueues
from sim.engine.instant import Scheduler
from sim.engine.queues import REJECTED
from sim.engine.result import NONE, Batches, result_of
from sim.engine.run_metrics import Outcome
from sim.traces.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.instant import BatchStart
    from sim.engine.policy import Policy
    from sim.engine.result import Result
    from sim.tables.latency import LatencyTable


class Instant(NamedTuple):
    """An instant that was settled, with what was reported; the arrivals up to it are admitted.

    Attributes:
        at_ns: When.
        completed: Worker and number of each batch that was answered.
        recovered: Workers that came back.
        failed: Workers that failed.
        cancelled: Queries that nobody wanted to have answered any more, by their numbers in the queues.
    """

    at_ns: int
    completed: tuple[tuple[int, int], ...] = ()
    recovered: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()

    def settle(self, scheduler: Scheduler) -> tuple[list[BatchStart], list[int], int | None]:
        """Have a scheduler settle it; see `Scheduler.settle`."""
        return scheduler.settle(self.at_ns, self.completed, self.recovered, self.failed, cancelled=self.cancelled)


@dataclass(slots=True)
class BatchRecord:
    """One batch of a live run.

    Attributes:
        start: The decision.
        subnet: Its subnet, as `Cluster.subnets` numbers those of all kinds of workers and all queues.
        start_ns: When it was made.
        expected_ns: How long the batch was expected to take.
        sent_ns: When the batch was handed to the connection of its worker.
        read_ns: When the worker had read it; `NONE` if it was lost, as for the next two.
        begun_ns: When its forward pass began.
        ended_ns: When its forward pass ended.
        finish_ns: When the router had its answer, or noticed that the worker was gone.
        lost: Whether the worker was gone.
    """

    start: BatchStart
    subnet: int
    start_ns: int
    expected_ns: int
    sent_ns: int = NONE
    read_ns: int = NONE
    begun_ns: int = NONE
    ended_ns: int = NONE
    finish_ns: int = NONE
    lost: bool = False


@dataclass(slots=True)
class LiveLog:
    """What happened in a live run.

    Attributes:
        least_slos_ns: For each queue the smallest SLO, as policies see it.
        arrival_ns: When each query was received.
        slos_ns: Its SLO.
        queue: Its queue (index into those of the cluster).
        place: Its number in the queues; `NONE` if it was turned away before.
        answered_ns: When the router answered it, served or not; `NONE` if it did not.
        instants: The instants that were settled.
        batches: The batches.
        uncomputed: Queries of batches that were answered, by their numbers in the queues, that could not be computed.
        faults: What happened to workers, as text.
    """

    least_slos_ns: Sequence[int]
    arrival_ns: list[int] = field(default_factory=list[int])
    slos_ns: list[int] = field(default_factory=list[int])
    queue: list[int] = field(default_factory=list[int])
    place: list[int] = field(default_factory=list[int])
    answered_ns: list[int] = field(default_factory=list[int])
    instants: list[Instant] = field(default_factory=list[Instant])
    batches: list[BatchRecord] = field(default_factory=list[BatchRecord])
    uncomputed: list[int] = field(default_factory=list[int])
    faults: list[str] = field(default_factory=list[str])

    @property
    def receipts(self) -> Iterable[tuple[int, int, int]]:
        """Arrival, SLO and queue of each query that was not turned away before the queues."""
        receipts = zip(self.arrival_ns, self.slos_ns, self.queue, self.place, strict=True)
        return ((arrival, slo, queue) for arrival, slo, queue, place in receipts if place != NONE)

    def batch_of_query(self, queues: GrowingQueues) -> npt.NDArray[np.int64]:
        """Return the batch of each query that was received, as `sim.engine.queues.Admission` numbers them."""
        return np.append(queues.batch_of_query(), REJECTED)[self.place]

    def result(self, queues: GrowingQueues, trace: Trace, end_ns: int, table: LatencyTable, cluster: Cluster) -> Result:
        """Return the result in the form of a simulation's: a query arrives when the router receives it.

        Args:
            queues: The queues at the end of the run.
            trace: The trace that was sent, in the order in which it was received.
            end_ns: When sending ended: the trace's end, or an interruption.
            table: The latency table.
            cluster: The workers.
        """
        count = len(self.arrival_ns)
        received = Trace(
            np.array(self.arrival_ns, dtype=np.int64),
            trace.slo_ns if isinstance(trace.slo_ns, int) else trace.slo_ns[:count],
            max(end_ns, self.arrival_ns[-1] + 1),
            trace.name,
            trace.provenance,
            None if trace.class_codes is None else trace.class_codes[:count],
            trace.class_names,
        )
        rows = [(one.start_ns, one.finish_ns, one.start.worker, one.subnet, one.start.size) for one in self.batches]
        start_ns, finish_ns, worker, subnet, size = np.array(rows, dtype=np.int64).reshape(-1, 5).T.copy()
        lost = np.array([one.lost for one in self.batches], dtype=bool)
        batches = Batches(start_ns, finish_ns, worker, subnet, size, lost, finish_ns.copy(), np.zeros_like(start_ns))
        found = result_of(received, table, cluster, batches, self.batch_of_query(queues))
        is_uncomputed = np.isin(self.place, self.uncomputed)
        return replace(found, outcome=np.where(is_uncomputed, np.uint8(Outcome.DROPPED), found.outcome))


def replay_log(
    instants: Iterable[Instant],
    receipts: Iterable[tuple[int, int, int]],
    least_slos_ns: Sequence[int],
    cluster: Cluster,
    table: LatencyTable,
    policy: Policy | Mapping[str, Policy],
    seed: int,
) -> tuple[list[tuple[int, BatchStart]], GrowingQueues]:
    """Return the decisions of a scheduler that is fed with a log, each with its instant, and its queues at the end.

    Args:
        instants: The instants that were settled.
        receipts: Arrival, SLO and queue of each query that was not turned away before the queues.
        least_slos_ns: For each queue the smallest SLO, as policies see it.
        cluster: The workers.
        table: The table that the policy sees.
        policy: A new policy object, or those of the queues by name.
        seed: The seed of the run.

    Raises:
        PolicyError: The policy raised, or returned a decision that can't be carried out.
    """
    queues = GrowingQueues(cluster, seed, least_slos_ns)
    for receipt in receipts:
        queues.arrive(*receipt)
    scheduler = Scheduler(queues, cluster, cluster.served(table), policy, seed)
    decisions: list[tuple[int, BatchStart]] = []
    for one in instants:
        starts, _, _ = one.settle(scheduler)
        decisions += [(one.at_ns, start) for start in starts]
    return decisions, queues
