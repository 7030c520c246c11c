"""The turns of a planner in a run: what it has seen since the last one, and which policies serve from then on."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import SpecError
from sim.engine.placement import NO_PLANNER
from sim.engine.planning import PlannerView, QueueView, checked_plan
from sim.engine.policy import policy_name
from sim.engine.queue_set import QueueSet
from sim.engine.residence import Residence
from sim.engine.roster import Roster
from sim.engine.run_metrics import NEVER_NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
        SpecError: It has none, or there is no planner, its period is out of range, or it gives workers to queues whose
            queries are routed to all workers.
    """
    if planner is None:
        if cluster.is_scaled:
            problem = "the number of workers has bounds, but no planner changes it"
            place = "cluster.kinds" if cluster.kinds else "cluster.max_workers"
            raise SpecError(place, problem, "", "add a planner, or leave out max_workers, min_workers and startup_s")
        return
    if type(period_ns) is not int or not 0 < period_ns < NEVER_NS:
        raise SpecError("planner.period_s", "is out of range", repr(period_ns), "integer nanoseconds above 0")
    if cluster.placement is not None:
        raise SpecError("cluster.placement", *NO_PLANNER)
    if cluster.is_routed and len(cluster.queues) > 1 and getattr(planner, "gives_workers_to_queues", False):
        problem = "routes the queries of each queue to all workers, also to those that the planner gives to others"
        hint = "routing: central, or another planner"
        raise SpecError("cluster.routing", problem, policy_name(planner), hint)
    if not cluster.is_scaled and getattr(planner, "changes_workers", True):
        hint = "give cluster.max_workers, or that of a kind"
        raise SpecError("planner", "no number of workers may change", policy_name(planner), hint)


class _Departures:
    """What has left the queues of a run.

    Attributes:
        taken: Queries in batches, by queue of the cluster.
        dropped: Queries that were dropped, by queue of the cluster.
        due_ns: The queue of each batch, and when its queries are due; emptied once they were counted.
    """

    def __init__(self, queues: int) -> None:
        self.taken, self.dropped = [0] * queues, [0] * queues
        self.due_ns: list[tuple[int, list[int]]] = []


class WatchedQueue:
    """A queue that notes what leaves it."""

    def __init__(self, queue: Queue, place: int, departures: _Departures) -> None:
        """Watch a queue.

        Args:
            queue: The queue.
            place: Its place in the cluster.
            departures: Gets what leaves it.
        """
        self._queue, self._place, self._departures = queue, place, departures

    @property
    def length(self) -> int:
        """Queries waiting."""
        return self._queue.length

    @property
    def slo_ns(self) -> int:
        """The smallest time from an arrival to its deadline."""
        return self._queue.slo_ns

    def arrived_since(self, since_ns: int) -> int:
        """Return the number of admitted queries that arrived at this time or later."""
        return self._queue.arrived_since(since_ns)

    def head_deadline(self) -> int:
        """Return the deadline of the most urgent query."""
        return self._queue.head_deadline()

    def deadlines(self, count: int) -> list[int]:
        """Return the deadlines of up to `count` queries, the most urgent first."""
        return self._queue.deadlines(count)

    def take(self, count: int) -> int:
        """Take the `count` most urgent queries out as the next batch; return the first one."""
        self._departures.due_ns.append((self._place, self._queue.deadlines(count)))
        self._departures.taken[self._place] += count
        return self._queue.take(count)

    def drop(self, count: int) -> None:
        """Drop the `count` most urgent queries."""
        self._queue.drop(count)
        self._departures.dropped[self._place] += count

    def drop_before(self, deadline_ns: int) -> None:
        """Drop all queries with a deadline earlier than this."""
        before = self._queue.length
        self._queue.drop_before(deadline_ns)
        self._departures.dropped[self._place] += before - self._queue.length


class Turns:
    """A planner's turns, and the workers that have been there."""

    def __init__(
        self,
        planner: Planner,
        policies: list[Policy],
        cluster: Cluster,
        pools: Sequence[Sequence[WorkerPool]],
        admission: OrderedQueue | HeapQueue | QueueSet,
        log: BatchLog,
    ) -> None:
        """Begin with the workers of the cluster.

        Args:
            planner: Who plans.
            policies: The policy of each queue at the start.
            cluster: The workers.
            pools: For each queue the workers of each kind in the order of offers, with the tables that its policy sees.
            admission: The queues of the run.
            log: The batches of the run.
        """
        self._planner, self._policies, self._cluster = planner, policies, cluster
        self._pools, self._admission, self._log = pools, admission, log
        self._departures = _Departures(len(pools))
        self._roster = Roster(cluster, pools[0], Residence(cluster, pools).first_load_ns())
        self._since_ns = 0
        self._counted = [Counter[str]() for _ in pools]  # by queue, at the last turn
        self._batches = self._lost = 0  # that the last turn has seen
        self._open: list[int] = []  # batches that had not ended then

    def watched(self, queues: Sequence[Queue]) -> list[WatchedQueue]:
        """Return the queues of a worker such that turns see what leaves them."""
        return [WatchedQueue(queue, place, self._departures) for place, queue in enumerate(queues)]

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
            scheduler: That of the run, which gets the new workers and the new policies.

        Returns:
            The new workers; and those that take no further batch.

        Raises:
            PolicyError: The planner raised, or its plan can't be carried out.
        """
        view = self._view(now_ns)
        if self._cluster.has_limited_memory:
            view = self._with_residence(view, scheduler.residence)
        plan = checked_plan(self._planner, view, self._policies)
        self._policies = plan.policies
        scheduler.change_policies(self._policies)
        scheduler.residence.keep(plan.resident, now_ns)
        came, left = self._roster.change(now_ns, view.kinds, plan.workers, scheduler.is_running)
        for new in came:
            scheduler.add_worker(new.pool)
        return came, left

    def _with_residence(self, view: PlannerView, residence: Residence) -> PlannerView:
        kinds = (
            replace(kind, units=residence.units(pool), resident={one: residence.resident(one) for one in kind.serving})
            for kind, pool in zip(view.kinds, self._roster.pool_of_kind, strict=True)
        )
        return replace(view, kinds=tuple(kinds))

    def _view(self, now_ns: int) -> PlannerView:
        """Return what happened since the last turn; what happens now belongs to the next one."""
        self._admission.admit(now_ns - 1)
        ended, busy_ns, queries = self._ended(now_ns)
        view = PlannerView(
            now_ns,
            self._since_ns,
            self._cluster.dispatch_ns,
            kinds=self._roster.views(now_ns, self._since_ns, busy_ns, queries),
            queues=tuple(self._queue_view(place, now_ns, found) for place, found in enumerate(ended)),
        )
        self._since_ns = now_ns
        return view

    def _queue_view(self, place: int, now_ns: int, ended: Counter[str]) -> QueueView:
        admission, known = self._admission, self._cluster.queues[place] if self._cluster.queues else None
        queue = admission.queues(0)[place]
        length = admission.length_of(place) if isinstance(admission, QueueSet) else admission.length
        arrived, dropped = bisect_left(queue.arrivals, now_ns), self._departures.dropped[place]
        rejected = arrived - self._departures.taken[place] - dropped - length
        counted = Counter(arrivals=arrived, dropped=dropped, rejected=rejected)
        before, self._counted[place] = self._counted[place], counted
        return QueueView(
            known.name if known else "",
            {pool.kind: pool.table for pool in self._pools[place]},
            arrivals=arrived - before["arrivals"],
            met=ended["met"],
            late=ended["late"],
            dropped=dropped - before["dropped"] + ended["lost"],
            rejected=rejected - before["rejected"],
            length=length,
            slo_ns=queue.slo_ns,
            weight=known.weight if known else 1.0,
        )

    def _ended(self, now_ns: int) -> tuple[list[Counter[str]], dict[int, int], list[int]]:
        """Return what became of batches since the last turn.

        Returns:
            By queue, the queries that met their SLO, that were late, and that were lost; the busy time of each worker;
            and by kind, the queries in the batches that started.
        """
        log, due_ns = self._log, self._departures.due_ns
        lost = set(log.lost[self._lost :])
        ended = [Counter[str]() for _ in self._counted]
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
            queue, due = due_ns[batch]
            if batch in lost:
                ended[queue]["lost"] += len(due)
            else:
                in_time = sum(instant >= finish_ns for instant in due)
                ended[queue] += Counter(met=in_time, late=len(due) - in_time)
            due_ns[batch] = queue, []
        self._open, self._batches, self._lost = still, len(log.start), len(log.lost)
        return ended, busy_ns, queries

    def fleet(self) -> Fleet:
        """Return the workers of the run, which has ended."""
        last_ns = np.zeros(len(self._roster.kind), np.int64)
        np.maximum.at(last_ns, np.array(self._log.worker, np.int64), np.array(self._log.finish, np.int64))
        return self._roster.fleet(last_ns)
