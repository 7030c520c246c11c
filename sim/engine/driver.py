"""The SimPy engine: the readable definition of what a run means.

The rule of the instant: at one instant completions come first, then arrivals, then failures and recoveries, then
dispatching. It holds whatever the order in which SimPy hands out the events of that instant: each of them only notes
what happened, and the last one settles the instant in that order. Events exist per batch, per failure, and for the
first arrival at an idle cluster; never per query.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, cast

import simpy

from sim.base.errors import PolicyError, raised
from sim.base.streams import stream
from sim.base.units import format_ms
from sim.engine.policy import Dispatch, Drop, Policy, View, check_decision, policy_name, situation
from sim.engine.queues import queue_for
from sim.engine.result import BatchLog, Result, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace


def simulate(trace: Trace, cluster: Cluster, table: LatencyTable, policy: Policy, *, seed: int = 0) -> Result:
    """Return what becomes of each query of a trace under a policy.

    The run ends when every query has been served or dropped, or can no longer be (all workers have failed for good).
    The same arguments give the same result, to the last byte.

    Args:
        trace: When queries arrive, and their SLOs.
        cluster: Workers, overheads, drop rule, failures.
        table: How long each subnet takes, and how accurate it is.
        policy: What to run next.
        seed: For policies that draw random numbers.

    Raises:
        PolicyError: The policy raised, or answered something that can't be carried out.
        DataError: The cluster takes its actuation delays from a table that has none.
    """
    return _Engine(trace, cluster, table, policy, seed).run()


class _Engine:
    """One run; also the `System` that the views of this run look into."""

    def __init__(self, trace: Trace, cluster: Cluster, table: LatencyTable, policy: Policy, seed: int) -> None:
        self._env = simpy.Environment(initial_time=0)
        self._trace, self._table, self._cluster, self._policy, self._seed = trace, table, cluster, policy, seed
        self._latency_ns: list[list[int]] = table.dense_ns.tolist()
        self._actuation_ns = cluster.actuation_delays(table)
        self._queue = queue_for(trace)
        self._arrivals = self._queue.arrivals
        hopeless = cluster.dispatch_ns + table.smallest_ns
        self._drop_after_ns = {"never": None, "expired": 0, "hopeless": hopeless}[cluster.drop]
        self._log = BatchLog()
        self._free = list(range(cluster.workers))
        self._running: list[int | None] = [None] * cluster.workers  # the batch on each worker
        self._loaded: list[int | None] = [None] * cluster.workers
        self._fresh = [True] * cluster.workers  # has not run a batch yet
        self._down: set[int] = set()
        self._changes = cluster.changes()[::-1]  # failures and recoveries still to come, the next one last
        self._wake_ns = -1  # the arrival that a wake-up is under way for
        self._wait_ns = -1  # until when the policy waits, by its latest answer
        self._stirred = False  # something happened at this instant
        self._rng: np.random.Generator | None = None

    def run(self) -> Result:
        """Run to the end and return what happened."""
        for at_ns in {change[0] for change in self._changes}:
            self._after(at_ns, self._stir)
        self._wake_at(self._arrivals[0])
        self._env.run()
        return result_of(self._trace, self._table, self._cluster, self._log.batches(), self._queue.batch_of_query())

    # What a policy can look up (sim.engine.policy.System).

    @property
    def workers_alive(self) -> int:
        return self._cluster.workers - len(self._down)

    @property
    def dispatch_ns(self) -> int:
        return self._cluster.dispatch_ns

    @property
    def rng(self) -> np.random.Generator:
        if self._rng is None:
            self._rng = stream(self._seed, "policy")
        return self._rng

    def free_workers(self) -> Sequence[int]:
        return tuple(self._free)

    def subnet_on(self, worker: int) -> int | None:
        return self._loaded[worker]

    def deadlines_ns(self, count: int) -> Sequence[int]:
        return self._queue.deadlines(count)

    def arrivals_within(self, window_ns: int) -> int:
        first = bisect_left(self._arrivals, self._now() - window_ns + 1, 0, self._queue.admitted)
        return self._queue.admitted - first

    # Events.

    def _after(self, delay_ns: int, then: Callable[[simpy.Event], None], value: object = None) -> None:
        event = self._env.timeout(delay_ns, value)
        cast("list[Callable[[simpy.Event], None]]", event.callbacks).append(then)  # None only once it is processed

    def _now(self) -> int:
        """Return the clock, which stays a whole number since it starts as one and all delays are whole numbers."""
        return self._env.now  # type: ignore[return-value]

    def _wake_at(self, at_ns: int) -> None:
        """See to it that the instant is settled; a wake-up for it may be under way already."""
        if at_ns != self._wake_ns:
            self._wake_ns = at_ns
            self._after(at_ns - self._now(), self._stir)

    def _complete(self, event: simpy.Event) -> None:
        worker, batch = cast("tuple[int, int]", event.value)
        if self._running[worker] == batch:  # else the worker failed meanwhile
            self._running[worker] = None
            insort(self._free, worker)
            self._stirred = True
        self._settle()

    def _stir(self, _: simpy.Event) -> None:
        self._stirred = True
        self._settle()

    def _wait_is_over(self, _: simpy.Event) -> None:
        if self._now() == self._wait_ns:  # else the policy has been asked since, and the later answer counts
            self._stirred = True
        self._settle()

    def _settle(self) -> None:
        """Settle the instant if something happened in it, and no other event of it is to come."""
        now = self._now()
        if self._env.peek() == now or not self._stirred:
            return
        self._stirred = False
        self._queue.admit(now)
        while self._changes and self._changes[-1][0] <= now:
            self._change(*self._changes.pop())
        if self._free:
            self._dispatch(now)

    def _change(self, at_ns: int, worker: int, fails: bool) -> None:
        if fails:
            batch = self._running[worker]
            if batch is None:
                self._free.remove(worker)
            else:
                self._log.lose(batch, at_ns)
            self._running[worker] = self._loaded[worker] = None
            self._fresh[worker] = False
            self._down.add(worker)
        else:
            self._down.remove(worker)
            insort(self._free, worker)

    # Dispatching.

    def _dispatch(self, now: int) -> None:
        """Ask the policy until no worker is free, the queue is empty or the policy waits."""
        queue, decide, overhead = self._queue, self._policy.decide, self._cluster.dispatch_ns
        if self._drop_after_ns is not None:
            queue.drop_before(now + self._drop_after_ns)
        wait_until = None
        while self._free and queue.length:
            view = View(now, queue.head_deadline() - now - overhead, queue.length, self._table, self)
            try:
                decision = decide(view)
            except (Exception, SystemExit) as error:
                where = f"{policy_name(self._policy)} at {format_ms(now)}"
                raise PolicyError(where, *raised(error, situation(view))) from error
            check_decision(decision, view, self._policy)
            if isinstance(decision, Dispatch):
                self._start(now, decision)
            elif isinstance(decision, Drop):
                queue.drop(int(decision.count))
            else:
                wait_until = int(decision.until_ns)
                break
        self._sleep(now, wait_until)

    def _start(self, now: int, decision: Dispatch) -> None:
        # Whole numbers of NumPy would overflow in later sums.
        subnet, size = int(decision.subnet), min(int(decision.batch_size), self._queue.length)
        worker = self._free[0] if decision.worker is None else int(decision.worker)
        self._free.remove(worker)
        duration = self._latency_ns[subnet][size] + self._cluster.dispatch_ns
        if self._loaded[worker] != subnet:
            if not self._fresh[worker]:
                duration += self._actuation_ns[subnet]
            self._loaded[worker] = subnet
        self._fresh[worker] = False
        self._queue.take(size)
        batch = self._log.add(now, now + duration, worker, subnet, size)
        self._running[worker] = batch
        self._after(duration, self._complete, (worker, batch))

    def _sleep(self, now: int, wait_until: int | None) -> None:
        """Wake up for the next arrival if a worker is free for it, and when the policy asked to be."""
        self._wait_ns = -1 if wait_until is None else wait_until
        if not self._free:
            return
        if self._queue.admitted < len(self._arrivals):
            self._wake_at(self._arrivals[self._queue.admitted])
        if wait_until is not None:
            self._check_wait_ends(now, wait_until)
            self._after(wait_until - now, self._wait_is_over)

    def _check_wait_ends(self, now: int, wait_until: int) -> None:
        arrivals_ahead = self._queue.admitted < len(self._arrivals)
        something_ahead = arrivals_ahead or self._changes or any(batch is not None for batch in self._running)
        if not something_ahead and wait_until > max(self._queue.deadlines(self._queue.length)):
            what = "waits with nothing left to wait for, past every deadline"
            where = f"{policy_name(self._policy)} at {format_ms(now)}"
            raise PolicyError(where, what, f"until {format_ms(wait_until)}", "dispatch or drop")
