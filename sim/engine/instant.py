"""The rule of an instant: completions, then arrivals, recoveries and failures, workers that go, drops and decisions.

A `Scheduler` holds the queue and the state of the workers. A driver tells it what happened at an instant, and it
answers with the batches to start and the next instant at which it has to be called. It has no clock, starts nothing by
itself, and never predicts when a batch will finish, so that the same object runs under any clock.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, NamedTuple

from sim.base.errors import PolicyError, raised
from sim.base.streams import stream
from sim.base.units import format_ms
from sim.engine.kinds import pool_of_workers
from sim.engine.policy import Dispatch, Drop, Hold, View, check_decision, policy_name, situation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.engine.policy import Decision, Policy
    from sim.engine.queues import Queue
    from sim.tables.latency import LatencyTable


class BatchStart(NamedTuple):
    """A batch to start now.

    Attributes:
        batch: Its number: batches are numbered from 0 in the order in which they start.
        worker: The worker that runs it.
        subnet: The subnet that runs it (index into the table of the worker's kind).
        size: Number of queries.
        actuates: Whether the worker has to switch to this subnet and pays the actuation delay.
        head: The most urgent of its queries, which decides its luck if latencies are drawn.
    """

    batch: int
    worker: int
    subnet: int
    size: int
    actuates: bool
    head: int


class Scheduler:
    """The queue, the workers and the policy of one run; also the `System` that its policy looks into."""

    def __init__(self, queue: Queue, cluster: Cluster, table: LatencyTable, policy: Policy, seed: int) -> None:
        """Begin with all workers free and an empty queue.

        Args:
            queue: The queue, which knows the arrivals and when their batches are due.
            cluster: Workers, dispatch overhead and drop rule. Its faults are the driver's to report.
            table: What the policy sees of workers whose kind has no table of its own, as the cluster serves it.
            policy: What to run next.
            seed: For policies that draw random numbers.

        Raises:
            SpecError: The subnets of a kind differ from those of the table.
        """
        self._queue, self._cluster, self._policy, self._seed = queue, cluster, policy, seed
        self._pools = cluster.pools(table, served=True)
        self._pool_of = pool_of_workers(self._pools)
        self._free = [list(pool.workers) for pool in self._pools]  # by pool
        self._alive = [len(pool.workers) for pool in self._pools]
        self._offered = 0  # the pool that the policy was offered last
        self._running: list[int | None] = [None] * cluster.workers  # the batch on each worker
        self._loaded: list[int | None] = [None] * cluster.workers
        self._unused = [True] * cluster.workers  # has not run a batch yet: its first subnet was loaded before the run
        self._down: set[int] = set()  # failed, or has not come yet
        self._left: set[int] = set()  # has gone, or will when its batch is done
        self._batches = 0
        self._now_ns = 0
        self._wait_ns: int | None = None  # until when the policy waits, by its latest answer
        self._rng: np.random.Generator | None = None

    def settle(
        self,
        now_ns: int,
        completed: Iterable[tuple[int, int]] = (),
        recovered: Iterable[int] = (),
        failed: Iterable[int] = (),
        left: Iterable[int] = (),
    ) -> tuple[list[BatchStart], list[int], int | None]:
        """Settle an instant: apply all that happened at it, and ask the policy if anything did.

        The order of reports within an argument does not matter. Arrivals are taken from the queue.

        Args:
            now_ns: The instant, later than that of the previous call.
            completed: Worker and batch number of each completion; ignored if the batch was lost before.
            recovered: Workers that come back, with nothing loaded.
            failed: Workers that fail, and lose their batch in flight.
            left: Workers that take no further batch, and go when they have done that in flight.

        Returns:
            The batches to start; the numbers of the batches that were lost; and the next instant at which `settle` must
            be called even if no worker reports anything, or None.

        Raises:
            PolicyError: The policy raised, or returned a decision that can't be carried out.
        """
        self._now_ns = now_ns
        changed = self._wait_ns is not None and now_ns >= self._wait_ns
        for worker, batch in completed:
            if self._running[worker] == batch:
                self._running[worker] = None
                self._release(worker)
                changed = True
        arrival_ns = self._queue.next_arrival_ns
        if arrival_ns is not None and arrival_ns <= now_ns:
            self._queue.admit(now_ns)
            changed = True
        for worker in recovered:
            changed = self._recover(worker) or changed
        lost: list[int] = []
        for worker in failed:
            changed = self._fail(worker, lost) or changed
        for worker in left:
            self._leave(worker)
            changed = True
        if not any(self._free):
            return [], lost, None
        # A late report of a lost batch changes nothing: a policy that waits is not asked again because of it.
        starts = self._decide() if changed and self._queue.length else []
        wake_ns = None
        if any(self._free):
            arrival_ns, wait_ns = self._queue.next_arrival_ns, self._wait_ns
            wake_ns = wait_ns if arrival_ns is None or (wait_ns is not None and wait_ns < arrival_ns) else arrival_ns
        return starts, lost, wake_ns

    @property
    def idle(self) -> bool:
        """Whether no batch is running."""
        leaving = any(self._running[worker] is not None for worker in self._left)
        return sum(map(len, self._free)) == self.workers_alive and not leaving

    def add_worker(self, pool: int) -> int:
        """Return the number of a new worker of a pool; it takes batches once it is reported as recovered."""
        worker = len(self._running)
        self._pool_of.append(pool)
        self._running.append(None)
        self._loaded.append(None)
        self._unused.append(True)
        self._down.add(worker)
        return worker

    def is_running(self, worker: int) -> bool:
        """Return whether a worker had a batch after the latest instant."""
        return self._running[worker] is not None

    def change_policy(self, policy: Policy) -> None:
        """Take the decisions of another policy from now on."""
        self._policy = policy

    def _release(self, worker: int) -> None:
        """Have a worker take the next batch, unless it goes."""
        if worker not in self._left:
            insort(self._free[self._pool_of[worker]], worker)

    def _recover(self, worker: int) -> bool:
        """Have a worker come, or come back; return whether that changes anything, as it does not for one that goes."""
        if worker in self._left:
            return False
        self._down.remove(worker)
        self._alive[self._pool_of[worker]] += 1
        self._release(worker)
        return True

    def _fail(self, worker: int, lost: list[int]) -> bool:
        """Have a worker fail; return whether that changes anything, as it does not for one that has gone."""
        batch, pool = self._running[worker], self._pool_of[worker]
        if batch is not None:
            lost.append(batch)
        elif worker not in self._left:
            self._free[pool].remove(worker)
        self._running[worker] = self._loaded[worker] = None
        self._unused[worker] = False
        if worker not in self._left:
            self._down.add(worker)
            self._alive[pool] -= 1
            return True
        return batch is not None

    def _leave(self, worker: int) -> None:
        self._left.add(worker)
        if worker in self._down:
            return
        self._alive[self._pool_of[worker]] -= 1
        if self._running[worker] is None:
            self._free[self._pool_of[worker]].remove(worker)

    def _decide(self) -> list[BatchStart]:
        """Ask the policy until no worker is free, the queue is empty or it waits with all kinds that are free."""
        queue = self._queue
        if (drop_before_ns := self._drop_before_ns()) is not None:
            queue.drop_before(drop_before_ns)
        self._wait_ns = None
        starts: list[BatchStart] = []
        number = 0  # of the pool that is offered
        while queue.length and number < len(self._pools):
            if not self._free[number]:
                number += 1
                continue
            self._offered = number
            decision, slack_ns = self._ask(self._pools[number])
            if isinstance(decision, Dispatch | Drop):
                if isinstance(decision, Dispatch):
                    starts.append(self._start(decision))
                else:
                    queue.drop(int(decision.count))
                number, self._wait_ns = 0, None  # all that is free is offered anew
                continue
            if isinstance(decision, Hold):
                until_ns = self._now_ns + slack_ns - int(decision.until_slack_ns)
            else:
                until_ns = int(decision.until_ns)
            self._wait_ns = until_ns if self._wait_ns is None else min(self._wait_ns, until_ns)
            number += 1
        return starts

    def _drop_before_ns(self) -> int | None:
        """Return the time before which a query must be due to be dropped by the drop rule; None if none is."""
        if self._cluster.drop == "never":
            return None
        if self._cluster.drop == "expired":
            return self._now_ns
        alive = (pool.table.smallest_ns for pool, count in zip(self._pools, self._alive, strict=True) if count)
        return self._now_ns + self._cluster.dispatch_ns + min(alive)  # a worker is free

    def _ask(self, pool: WorkerPool) -> tuple[Decision, int]:
        """Return the policy's decision about the workers of a kind, and the slack that it saw."""
        slack_ns = self._queue.head_deadline() - self._now_ns - self._cluster.dispatch_ns
        view = View(self._now_ns, slack_ns, self._queue.length, pool.table, self, pool.kind)
        try:
            decision = self._policy.decide(view)
        except (Exception, SystemExit) as error:
            location = f"{policy_name(self._policy)} at {format_ms(self._now_ns)}"
            raise PolicyError(location, *raised(error, situation(view))) from error
        check_decision(decision, view, self._policy)
        return decision, slack_ns

    def _start(self, decision: Dispatch) -> BatchStart:
        # Integers of NumPy would overflow in later sums.
        subnet, size = int(decision.subnet), min(int(decision.batch_size), self._queue.length)
        free = self._free[self._offered]
        worker = free[0] if decision.worker is None else int(decision.worker)
        actuates = self._loaded[worker] != subnet and not self._unused[worker]
        batch = self._batches
        self._batches += 1
        free.remove(worker)
        self._running[worker], self._loaded[worker], self._unused[worker] = batch, subnet, False
        return BatchStart(batch, worker, subnet, size, actuates, self._queue.take(size))

    # What a policy can look up (sim.engine.policy.System).

    @property
    def workers_alive(self) -> int:
        """Workers that have not failed."""
        return sum(self._alive)

    @property
    def dispatch_ns(self) -> int:
        """Overhead of each batch."""
        return self._cluster.dispatch_ns

    @property
    def slo_ns(self) -> int:
        """The smallest time from an arrival to the deadline of its batch."""
        return self._queue.slo_ns

    @property
    def rng(self) -> np.random.Generator:
        """The random stream of the policy."""
        if self._rng is None:
            self._rng = stream(self._seed, "policy")
        return self._rng

    def free_workers(self) -> Sequence[int]:
        """Return the free workers of the kind that is offered, in order."""
        return tuple(self._free[self._offered])

    def subnet_on(self, worker: int) -> int | None:
        """Return the subnet (index into its kind's table) that a worker runs or last ran; None before its first."""
        return self._loaded[worker]

    def deadlines_ns(self, count: int) -> Sequence[int]:
        """Return the deadlines of up to `count` queued queries, the earliest first."""
        return self._queue.deadlines(count)

    def arrivals_within(self, window_ns: int) -> int:
        """Return the number of queries that arrived in the last `window_ns`, now included."""
        first = bisect_left(self._queue.arrivals, self._now_ns - window_ns + 1, 0, self._queue.admitted)
        return self._queue.admitted - first
