"""The turns of a planner in a run: what it has seen since the last one."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import SpecError
from sim.engine.planning import PlannerView, ask_planner
from sim.engine.policy import policy_name
from sim.engine.roster import Roster
from sim.engine.run_metrics import NEVER_NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.instant import Scheduler
    from sim.engine.kinds import WorkerPool
    from sim.engine.planning import Planner
    from sim.engine.policy import Policy
    from sim.engine.queues import HeapQueue, OrderedQueue, Queue
    from sim.engine.result import BatchLog
    from sim.engine.roster import NewWorker
    from sim.engine.scaling import Fleet


def check_scaling(cluster: Cluster, planner: Planner | None, period_ns: int) -> None:
    """Check that a planner has workers to plan, and that nothing but a planner uses the bounds of their number.

    Raises:
        SpecError: It has none, or there is no planner, its period is out of range, or the cluster has several queues.
    """
    if planner is None:
        if cluster.is_scaled:
            problem = "the number of workers has bounds, but no planner changes it"
            place = "cluster.kinds" if cluster.kinds else "cluster.max_workers"
            raise SpecError(place, problem, "", "add a planner, or leave out max_workers, min_workers and startup_s")
        return
    if type(period_ns) is not int or not 0 < period_ns < NEVER_NS:
        raise SpecError("planner.period_s", "is out of range", repr(period_ns), "integer nanoseconds above 0")
    if cluster.queues or cluster.is_routed:
        place, hint = "queues" if cluster.queues else "cluster.routing", "leave out the planner, or the queues"
        raise SpecError(place, "can't be combined with a planner", "", hint)
    if not cluster.is_scaled and getattr(planner, "changes_workers", True):
        hint = "give cluster.max_workers, or that of a kind"
        raise SpecError("planner", "no number of workers may change", policy_name(planner), hint)


class WatchedQueue:
    """A queue that counts what leaves it."""

    def __init__(self, queue: OrderedQueue | HeapQueue) -> None:
        self._queue = queue
        self.arrivals = queue.arrivals
        self.length, self.next_arrival_ns = queue.length, queue.next_arrival_ns
        self.taken = 0
        self.dropped = 0
        self.due_ns: list[list[int]] = []
        """When the queries of each batch are due; emptied once they were counted."""

    @property
    def slo_ns(self) -> int:
        """The smallest time from an arrival to its deadline."""
        return self._queue.slo_ns

    def queues(self, worker: int) -> Sequence[Queue]:
        """Return this queue."""
        return [self]

    def arrived_since(self, since_ns: int) -> int:
        """Return the number of admitted queries that arrived at this time or later."""
        return self._queue.arrived_since(since_ns)

    def admit(self, now_ns: int) -> None:
        """Take in all queries that arrived up to now."""
        self._queue.admit(now_ns)
        self.length, self.next_arrival_ns = self._queue.length, self._queue.next_arrival_ns

    def head_deadline(self) -> int:
        """Return the deadline of the most urgent query."""
        return self._queue.head_deadline()

    def deadlines(self, count: int) -> list[int]:
        """Return the deadlines of up to `count` queries, the most urgent first."""
        return self._queue.deadlines(count)

    def take(self, count: int) -> int:
        """Take the `count` most urgent queries out as the next batch; return the first one."""
        self.due_ns.append(self._queue.deadlines(count))
        self.taken += count
        self.length -= count
        return self._queue.take(count)

    def drop(self, count: int) -> None:
        """Drop the `count` most urgent queries."""
        self._queue.drop(count)
        self.dropped += count
        self.length -= count

    def drop_before(self, deadline_ns: int) -> None:
        """Drop all queries with a deadline earlier than this."""
        self._queue.drop_before(deadline_ns)
        self.dropped += self.length - self._queue.length
        self.length = self._queue.length

    def batch_of_query(self) -> npt.NDArray[np.int64]:
        """Return each query's batch."""
        return self._queue.batch_of_query()


class Turns:
    """A planner's turns, and the workers that have been there."""

    def __init__(
        self,
        planner: Planner,
        policy: Policy,
        cluster: Cluster,
        pools: Sequence[WorkerPool],
        queue: WatchedQueue,
        log: BatchLog,
        load_ns: Sequence[int],
    ) -> None:
        """Begin with the workers of the cluster.

        Args:
            planner: Who plans.
            policy: The policy at the start.
            cluster: The workers.
            pools: The workers of each kind in the order of offers, with the tables that policies see.
            queue: The queue of the run.
            log: The batches of the run.
            load_ns: How long a new worker of each pool loads the weights that it begins with.
        """
        self._planner, self._policy, self._cluster = planner, policy, cluster
        self._queue, self._log, self._roster = queue, log, Roster(cluster, pools, load_ns)
        self._since_ns = 0
        self._arrived = self._dropped = 0  # at the last turn
        self._batches = self._lost = 0  # that the last turn has seen
        self._open: list[int] = []  # batches that had not ended then

    @property
    def is_starting(self) -> bool:
        """Whether a worker is to come."""
        return self._roster.is_starting

    def note(self, now_ns: int, came: Iterable[int], failed: Iterable[int]) -> None:
        """Take note of workers that came, or came back, and of those that failed."""
        self._roster.note(now_ns, came, failed)

    def take(self, now_ns: int, scheduler: Scheduler) -> tuple[list[NewWorker], list[int]]:
        """Have the planner plan, before anything else happens at the instant.

        Args:
            now_ns: The instant.
            scheduler: That of the run, which gets the new workers and the new policy.

        Returns:
            The new workers; and those that take no further batch.

        Raises:
            PolicyError: The planner raised, or its plan can't be carried out.
        """
        view = self._view(now_ns)
        wanted, policy = ask_planner(self._planner, view, self._policy)
        if policy is not self._policy:
            self._policy = policy
            scheduler.change_policy(policy)
        came, left = self._roster.change(now_ns, view.kinds, wanted, scheduler.is_running)
        for new in came:
            scheduler.add_worker(new.pool)
        return came, left

    def _view(self, now_ns: int) -> PlannerView:
        """Return what happened since the last turn; what happens now belongs to the next one."""
        arrived = bisect_left(self._queue.arrivals, now_ns)
        dropped = self._queue.dropped
        met, late, lost, busy_ns, queries = self._ended(now_ns)
        view = PlannerView(
            now_ns,
            self._since_ns,
            arrivals=arrived - self._arrived,
            met=met,
            late=late,
            dropped=dropped - self._dropped + lost,
            queue_length=arrived - self._queue.taken - dropped,
            slo_ns=self._queue.slo_ns,
            dispatch_ns=self._cluster.dispatch_ns,
            kinds=self._roster.views(now_ns, self._since_ns, busy_ns, queries),
        )
        self._since_ns, self._arrived, self._dropped = now_ns, arrived, dropped
        return view

    def _ended(self, now_ns: int) -> tuple[int, int, int, dict[int, int], list[int]]:
        """Return what became of batches since the last turn.

        Returns:
            Queries that met their SLO, that were late, and that were lost; the busy time of each worker; and by kind,
            the queries in the batches that started.
        """
        log, due_ns = self._log, self._queue.due_ns
        lost = set(log.lost[self._lost :])
        met = late = gone = 0
        busy_ns: dict[int, int] = {}
        up_ns, kind = self._roster.up_ns, self._roster.kind
        queries = [0] * len(self._roster.pool_of_kind)
        still: list[int] = []
        for batch in (*self._open, *range(self._batches, len(log.start))):
            worker, finish_ns = log.worker[batch], log.finish[batch]
            if batch >= self._batches:
                queries[kind[worker]] += log.size[batch]
            if worker in up_ns:  # what one did before it failed or went is no part of the share
                begin_ns = max(log.start[batch], self._since_ns, up_ns[worker])
                busy_ns[worker] = busy_ns.get(worker, 0) + max(0, min(log.free[batch], now_ns) - begin_ns)
            if finish_ns >= now_ns and batch not in lost:
                still.append(batch)
                continue
            if batch in lost:
                gone += log.size[batch]
            else:
                in_time = sum(due >= finish_ns for due in due_ns[batch])
                met, late = met + in_time, late + len(due_ns[batch]) - in_time
            due_ns[batch] = []
        self._open, self._batches, self._lost = still, len(log.start), len(log.lost)
        return met, late, gone, busy_ns, queries

    def fleet(self) -> Fleet:
        """Return the workers of the run, which has ended."""
        last_ns = np.zeros(len(self._roster.kind), np.int64)
        np.maximum.at(last_ns, np.array(self._log.worker, np.int64), np.array(self._log.finish, np.int64))
        return self._roster.fleet(last_ns)
