"""The SimPy engine: a simulated clock that drives the rule of the instant, and the definition of a run.

Each SimPy event only records what happened; the last event of an instant has the scheduler settle it. So nothing
depends on the order in which SimPy hands out the events of one instant. There is one event for each batch, for each
failure or recovery, and for the first arrival at an idle cluster; none for each query.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import simpy

from sim.base.errors import PolicyError
from sim.base.units import NS_PER_S, format_ms
from sim.engine.instant import BatchStart, Scheduler
from sim.engine.kinds import pool_of_workers
from sim.engine.policy import policies_of, policy_name
from sim.engine.queue_set import admission_for
from sim.engine.result import BatchLog, Result, result_of
from sim.engine.service_queue import in_queues
from sim.engine.turns import Turns, check_scaling
from sim.tables.service_times import service_times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from sim.engine.cluster import Cluster
    from sim.engine.planning import Planner
    from sim.engine.policy import Policy
    from sim.engine.queues import Admission
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

    Latencies: TypeAlias = Callable[[int, int, int], int]


def simulate(
    trace: Trace,
    cluster: Cluster,
    table: LatencyTable,
    policy: Policy | Mapping[str, Policy],
    *,
    seed: int = 0,
    latency_of: Callable[[int, int], Latencies] | None = None,
    planner: Planner | None = None,
    period_ns: int = 10 * NS_PER_S,
) -> Result:
    """Return the outcome of each query of a trace under a policy.

    The run ends when every query has been served or dropped, or can no longer be (all workers have failed for good).
    The same arguments give the same result, to the last byte.

    Args:
        trace: Arrivals and SLOs, and the queue of each query as its class if the cluster has several queues.
        cluster: Workers, queues, overheads, drop rule, failures.
        table: Latency and accuracy of each subnet on workers whose kind has no table of its own, nor the queue.
        policy: What to run next, or that of each queue by name.
        seed: For latencies that are drawn, and policies that draw random numbers.
        latency_of: For a queue and a pool of workers, as `Cluster.pools_by_queue` numbers them, the latency of a batch
            by subnet (of that pool), size and most urgent query, instead of those of the cluster.
        planner: How many workers there are, and which policies; None for those of the cluster.
        period_ns: The time between two turns of the planner, the first of which comes after one period.

    Raises:
        PolicyError: Policy or planner raised, or returned a decision or a plan that can't be carried out.
        SpecError: The subnets of a kind of workers differ from those of the table, a queue is not served, or the
            numbers of workers have bounds without a planner, or none has with one.
        DataError: The trace does not name the queues of the cluster, the cluster takes its actuation delays from a
            table that has none, or the table lacks what the law of its latencies needs.
    """
    check_scaling(cluster, planner, period_ns)
    return _Run(trace, cluster, table, policy, seed, latency_of, planner, period_ns).run()


class _Run:
    """One run in simulated time."""

    def __init__(
        self,
        trace: Trace,
        cluster: Cluster,
        table: LatencyTable,
        policy: Policy | Mapping[str, Policy],
        seed: int,
        latency_of: Callable[[int, int], Latencies] | None,
        planner: Planner | None = None,
        period_ns: int = NS_PER_S,
    ) -> None:
        self._env = simpy.Environment(initial_time=0)
        self._trace, self._table, self._cluster = in_queues(trace, cluster.queues), table, cluster
        self._policies = policies_of(policy, cluster)
        pools = cluster.pools_by_queue(table)
        self._pool_of = pool_of_workers(pools[0])
        if latency_of is None:
            times = [
                [service_times(pool.table, cluster.latency).of_run(seed) for pool in of_queue] for of_queue in pools
            ]
        else:
            times = [[latency_of(queue, pool) for pool in range(len(pools[0]))] for queue in range(len(pools))]
        self._latency_of: list[list[Latencies]] = times  # by queue and pool
        self._row_of = [[pool.rows for pool in of_queue] for of_queue in pools]
        self._actuation_ns = [[cluster.actuation_delays(pool.table) for pool in of_queue] for of_queue in pools]
        self._overhead_of = cluster.overheads(seed)
        served = cluster.served(table)
        self._log = BatchLog()
        admission = admission_for(self._trace, cluster, seed)
        self._admission: Admission = admission
        self._turns: Turns | None = None
        self._period_ns = period_ns
        if planner is not None:
            seen = cluster.pools_by_queue(served, served=True)
            self._turns = Turns(planner, self._policies, cluster, seen, admission, self._log)
        watch = self._turns.watched if self._turns else list
        self._scheduler = Scheduler(admission, cluster, served, policy, seed, watch)
        self._begun: list[list[int]] = [[] for _ in range(cluster.workers)]  # and not finished, where batches overlap
        self._changes = cluster.changes()
        self._wake_ns: int | None = None  # the latest wake-up that was scheduled
        # What has happened at this instant so far.
        self._completed: list[tuple[int, int]] = []
        self._recovered: list[int] = []
        self._failed: list[int] = []
        self._turn_ns: list[int] = []

    def run(self) -> Result:
        """Run to the end and return the result."""
        for at_ns, worker, fails in self._changes:
            self._after(at_ns, (self._failed if fails else self._recovered, worker))
        self._wake_at(0, self._admission.next_arrival_ns)
        if self._turns is not None:
            self._turn_at(0, self._period_ns)
        self._env.run()
        batch_of_query = self._admission.batch_of_query()
        found = result_of(self._trace, self._table, self._cluster, self._log.batches(), batch_of_query)
        return found if self._turns is None else replace(found, fleet=self._turns.fleet())

    def _after(self, delay_ns: int, report: tuple[list[Any], Any] | None = None) -> None:
        event = self._env.timeout(delay_ns, report)
        event.callbacks.append(self._happen)

    def _wake_at(self, now_ns: int, wake_ns: int | None) -> None:
        if wake_ns is not None and wake_ns != self._wake_ns:
            self._wake_ns = wake_ns
            self._after(wake_ns - now_ns)

    def _happen(self, event: simpy.Event) -> None:
        """Record what happened; settle the instant if this was its last event."""
        report = event.value
        if report is not None:
            report[0].append(report[1])
        now_ns: int = self._env.now  # type: ignore[assignment]  # an integer, as all delays are
        if self._env.peek() == now_ns:
            return
        left = self._plan(now_ns)
        starts, lost, wake_ns = self._scheduler.settle(now_ns, self._completed, self._recovered, self._failed, left)
        for batch in lost:
            self._log.lose(batch, now_ns)
        for worker in self._failed:
            for batch in self._overlapping(worker, now_ns):
                self._log.lose(batch, now_ns)
        if self._turns is not None:
            self._turns.note(now_ns, self._recovered, self._failed)
        self._completed.clear()
        self._recovered.clear()
        self._failed.clear()
        for start in starts:
            self._start(now_ns, start)
        if wake_ns is not None:
            if self._admission.next_arrival_ns is None:
                self._check_wait(now_ns, wake_ns)
            self._wake_at(now_ns, wake_ns)

    def _plan(self, now_ns: int) -> list[int]:
        """Have the planner plan if it is its turn; return the workers that go."""
        if self._turns is None or not self._turn_ns:
            return []
        self._turn_ns.clear()
        self._turn_at(now_ns, now_ns + self._period_ns)
        came, left = self._turns.take(now_ns, self._scheduler)
        for worker, pool, startup_ns in came:
            self._pool_of.append(pool)
            self._begun.append([])
            if startup_ns:
                self._after(startup_ns, (self._recovered, worker))
            else:
                self._recovered.append(worker)
        return left

    def _turn_at(self, now_ns: int, at_ns: int) -> None:
        """Schedule a turn of the planner; there is none after the trace, so that no planner keeps a run from ending."""
        if at_ns < self._trace.duration_ns:
            self._after(at_ns - now_ns, (self._turn_ns, at_ns))

    def _comes_a_worker(self, now_ns: int) -> bool:
        """Return whether a worker starts, or fails or comes back after an instant."""
        starting = self._turns is not None and self._turns.is_starting
        return starting or (bool(self._changes) and self._changes[-1][0] > now_ns)

    def _start(self, now_ns: int, start: BatchStart) -> None:
        """Record a batch, and have its worker report when it can take the next one."""
        batch, worker, subnet, size, actuates, head, queue, load_ns = start
        pool = self._pool_of[worker]
        latency_ns = self._latency_of[queue][pool](subnet, size, head)
        overhead_ns = load_ns + self._overhead_of(size, head)
        if actuates:
            overhead_ns += self._actuation_ns[queue][pool][subnet]
        busy_ns = overhead_ns + self._cluster.occupied_ns(latency_ns)
        finish_ns = now_ns + overhead_ns + latency_ns
        if self._cluster.occupancy < 1:
            before = self._overlapping(worker, now_ns)
            finish_ns = max([finish_ns, *(self._log.finish[other] for other in before)])
            self._begun[worker] = [*before, batch]
        self._log.add(now_ns, finish_ns, now_ns + busy_ns, worker, self._row_of[queue][pool][subnet], size, load_ns)
        self._after(busy_ns, (self._completed, (worker, batch)))

    def _overlapping(self, worker: int, now_ns: int) -> list[int]:
        """Return the batches that a worker has begun and not finished, where it begins the next one before."""
        return [batch for batch in self._begun[worker] if self._log.finish[batch] > now_ns]

    def _check_wait(self, now_ns: int, wake_ns: int) -> None:
        """Refuse to wait past every deadline for nothing: such a policy could wait forever.

        Raises:
            PolicyError: Nothing is to come but the end of the wait.
        """
        if self._comes_a_worker(now_ns) or not self._scheduler.idle:
            return
        workers = range(len(self._begun) if self._cluster.is_routed else 1)
        queues = [one for worker in workers for one in enumerate(self._admission.queues(worker))]
        waiting = [(place, queue) for place, queue in queues if queue.length]
        if wake_ns > max(max(queue.deadlines(queue.length)) for _, queue in waiting):
            problem = "waits with nothing left to wait for, past every deadline"
            location = f"{policy_name(self._policies[waiting[0][0]])} at {format_ms(now_ns)}"
            raise PolicyError(location, problem, f"until {format_ms(wake_ns)}", "dispatch or drop")
