"""The rule of an instant: what happened at it in a fixed order, then drops and decisions.

The order is completions, arrivals, recoveries and failures, workers that go, queries that are cancelled.

A `Scheduler` holds the queues and the state of the workers. A driver tells it what happened at an instant, and it
answers with the batches to start and the next instant at which it has to be called. It has no clock, starts nothing by
itself, and never predicts when a batch will finish, so that the same object runs under any clock.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, NamedTuple

from sim.base.errors import PolicyError, raised
from sim.base.streams import stream
from sim.base.units import format_ms
from sim.engine.policy import Dispatch, Drop, Hold, View, check_decision, policies_of, policy_name, situation
from sim.engine.queue_set import QueueSet
from sim.engine.residence import Residence
from sim.engine.station import Stations

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy as np

    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.engine.policy import Decision, Policy
    from sim.engine.queues import Admission, Queue
    from sim.engine.station import Station, Watch
    from sim.tables.latency import LatencyTable


class BatchStart(NamedTuple):
    """A batch to start now.

    Attributes:
        batch: Its number: batches are numbered from 0 in the order in which they start.
        worker: The worker that runs it.
        subnet: The subnet that runs it (index into the table of the worker's kind, and of the queue).
        size: Number of queries.
        actuates: Whether the worker has to switch to this subnet and pays the actuation delay.
        head: The most urgent of its queries, which decides the quantile of its latency if latencies are drawn.
        queue: The queue of its queries (index into those of the cluster).
        load_ns: How long it waits on the worker until the weights of its subnet are loaded.
    """

    batch: int
    worker: int
    subnet: int
    size: int
    actuates: bool
    head: int
    queue: int = 0
    load_ns: int = 0


class Scheduler:
    """The queues, the workers and the policy of one run; also the `System` that its policy looks into."""

    def __init__(
        self,
        admission: Admission,
        cluster: Cluster,
        table: LatencyTable,
        policy: Policy | Mapping[str, Policy],
        seed: int,
        watch: Watch = list,
    ) -> None:
        """Begin with all workers free and empty queues.

        Args:
            admission: Knows the arrivals, the queues that they join, and when their batches are due.
            cluster: Workers, queues, dispatch overhead and drop rule. Its faults are the driver's to report.
            table: What the policy sees of workers and queues without a table of their own, as the cluster serves it.
            policy: What to run next, or that of each queue by name.
            seed: For policies that draw random numbers.
            watch: Returns the queues of a worker such that it sees what leaves them.

        Raises:
            SpecError: The subnets of a kind differ from those of the table, a queue has no policy, or a memory does not
                hold a model.
            DataError: A table lacks what the loading of weights needs.
        """
        self._admission, self._cluster, self._seed = admission, cluster, seed
        self._policies = policies_of(policy, cluster)
        pools = cluster.pools_by_queue(table, served=True)
        self._stations = Stations(admission, cluster, pools, watch)
        self._router = self._stations.router
        self._names = [queue.name for queue in cluster.queues] or [""]
        self._offered = 0, self._stations.all[0]  # the queue and the station that a policy was asked about last
        self._running: list[int | None] = [None] * cluster.workers  # the batch on each worker
        self._loaded: list[int | None] = [None] * cluster.workers  # the subnet, a row of the cluster's subnets
        self._unused = [True] * cluster.workers  # has not run a batch yet: its first subnet was loaded before the run
        self.residence = Residence(cluster, pools)
        """What lies in the memories of workers."""
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
        cancelled: Collection[int] = (),
    ) -> tuple[list[BatchStart], list[int], int | None]:
        """Settle an instant: apply all that happened at it, and ask the policy if anything did.

        The order of reports within an argument does not matter. Arrivals are taken from the queue.

        Args:
            now_ns: The instant, later than that of the previous call.
            completed: Worker and batch number of each completion; ignored if the batch was lost before.
            recovered: Workers that come back, with nothing loaded.
            failed: Workers that fail, and lose their batch in flight.
            left: Workers that take no further batch, and go when they have done that in flight.
            cancelled: Queries of a `QueueSet` that wait, and that nobody wants to have answered any more.

        Returns:
            The batches to start; the numbers of the batches that were lost; and the next instant at which `settle` must
            be called even if no worker reports anything, or None.

        Raises:
            PolicyError: The policy raised, or returned a decision that can't be carried out.
        """
        self._now_ns = now_ns
        recovered, failed = list(recovered), list(failed)
        arrival_ns = self._admission.next_arrival_ns
        if self._router:
            self._router.admit(now_ns - 1)  # who came before now has met the workers as they were
        changed = self._wait_ns is not None and now_ns >= self._wait_ns
        for worker, batch in completed:
            if self._running[worker] == batch:
                self._finish(worker)
                changed = True
        if arrival_ns is not None and arrival_ns <= now_ns:
            self._admission.admit(now_ns)
            changed = True
        lost: list[int] = []
        changed = self._change(recovered, failed, left, lost) or changed
        if cancelled and isinstance(self._admission, QueueSet):
            self._admission.cancel(cancelled)
            changed = True
        if not self._stations.any_free:
            return [], lost, None
        # A late report of a lost batch changes nothing: a policy that waits is not asked again because of it.
        starts = self._decide() if changed else []
        return starts, lost, self._wake_ns()

    def _change(self, recovered: list[int], failed: list[int], left: Iterable[int], lost: list[int]) -> bool:
        """Have workers come back, fail and go, note the batches that are lost; return whether anything changes."""
        came = [worker for worker in recovered if self._recover(worker)]
        gone = [worker for worker in failed if worker not in self._left]
        changed = bool(came)
        for worker in failed:
            changed = self._fail(worker, lost) or changed
        for worker in left:
            gone += self._leave(worker)
            changed = True
        if self._router and (came or gone):
            self._router.change(came, gone)
        return changed

    def _wake_ns(self) -> int | None:
        """Return when free workers have to be offered at the latest, if any are left."""
        if not self._stations.any_free:
            return None
        arrival_ns, wait_ns = self._admission.next_arrival_ns, self._wait_ns
        return wait_ns if arrival_ns is None or (wait_ns is not None and wait_ns < arrival_ns) else arrival_ns

    @property
    def idle(self) -> bool:
        """Whether no batch is running."""
        leaving = any(self._running[worker] is not None for worker in self._left)
        return all(len(station.free) == station.alive for station in self._stations.all) and not leaving

    def _finish(self, worker: int) -> None:
        """Have a worker take the next batch, now that it can."""
        self._running[worker] = None
        self.residence.release(worker, self._now_ns)
        if self._router:
            self._router.finish(worker)
        self._release(worker)

    def add_worker(self, kind: int) -> int:
        """Return the number of a new worker; it takes batches once it is reported as recovered.

        Args:
            kind: Its kind, in the order of offers.
        """
        worker = len(self._running)
        self._stations.add_worker(worker, kind)
        self._running.append(None)
        self._loaded.append(None)
        self._unused.append(True)
        self.residence.add(kind)
        self._down.add(worker)
        return worker

    def is_running(self, worker: int) -> bool:
        """Return whether a worker had a batch after the latest instant."""
        return self._running[worker] is not None

    def change_policies(self, policies: Sequence[Policy]) -> None:
        """Take the decisions of other policies from now on, one for each queue."""
        self._policies = [*policies]

    def _release(self, worker: int) -> None:
        """Have a worker take the next batch, unless it goes."""
        if worker not in self._left:
            insort(self._stations.of[worker].free, worker)

    def _recover(self, worker: int) -> bool:
        """Have a worker come, or come back; return whether that changes anything, as it does not for one that goes."""
        if worker in self._left:
            return False
        self._down.remove(worker)
        self._stations.of[worker].alive += 1
        self._release(worker)
        return True

    def _fail(self, worker: int, lost: list[int]) -> bool:
        """Have a worker fail; return whether that changes anything, as it does not for one that has gone."""
        batch, station = self._running[worker], self._stations.of[worker]
        if batch is not None:
            lost.append(batch)
        elif worker not in self._left:
            station.free.remove(worker)
        self._running[worker] = self._loaded[worker] = None
        self._unused[worker] = False
        self.residence.clear(worker)
        if worker not in self._left:
            self._down.add(worker)
            station.alive -= 1
            return True
        return batch is not None

    def _leave(self, worker: int) -> list[int]:
        """Have a worker take no further batch; return those of it that served until now."""
        self._left.add(worker)
        if worker in self._down:
            return []
        station = self._stations.of[worker]
        station.alive -= 1
        if self._running[worker] is None:
            station.free.remove(worker)
        return [worker]

    def _decide(self) -> list[BatchStart]:
        """Ask the policy until no worker is free, the queues are empty or it waits with all kinds that are free."""
        self._stations.drop(self._now_ns)
        self._wait_ns = None
        starts: list[BatchStart] = []
        number = 0  # of the station that is offered
        while number < len(self._stations.all):
            station = self._stations.all[number]
            if not station.free or not self._offer(station, starts):
                number += 1
            else:
                number, self._wait_ns = 0, None  # all that is free is offered anew
        return starts

    def _offer(self, station: Station, starts: list[BatchStart]) -> bool:
        """Offer the free workers of a station to its queues in turn, until one starts a batch or drops queries.

        Returns:
            Whether one did.
        """
        queues = station.queues
        for place in station.offers.in_order(queues, station.pools, station.served):
            self._offered = place, station
            decision, slack_ns = self._ask(queues[place], station.pools[place])
            if isinstance(decision, Dispatch):
                starts.append(self._start(decision))
                return True
            if isinstance(decision, Drop):
                queues[place].drop(int(decision.count))
                return True
            if isinstance(decision, Hold):
                until_ns = self._now_ns + slack_ns - int(decision.until_slack_ns)
            else:
                until_ns = int(decision.until_ns)
            self._wait_ns = until_ns if self._wait_ns is None else min(self._wait_ns, until_ns)
        return False

    def _ask(self, queue: Queue, pool: WorkerPool) -> tuple[Decision, int]:
        """Return the decision about a queue and the workers of a kind, and the slack that the policy saw."""
        place, _ = self._offered
        policy = self._policies[place]
        slack_ns = queue.head_deadline() - self._now_ns - self._cluster.dispatch_ns
        view = View(self._now_ns, slack_ns, queue.length, pool.table, self, pool.kind, self._names[place])
        try:
            decision = policy.decide(view)
        except (Exception, SystemExit) as error:
            location = f"{policy_name(policy)} at {format_ms(self._now_ns)}"
            raise PolicyError(location, *raised(error, situation(view))) from error
        check_decision(decision, view, policy)
        return decision, slack_ns

    def _start(self, decision: Dispatch) -> BatchStart:
        place, station = self._offered
        queue, pool = station.queues[place], station.pools[place]
        # Integers of NumPy would overflow in later sums.
        subnet, size = int(decision.subnet), min(int(decision.batch_size), queue.length)
        free, row = station.free, pool.rows[subnet]
        among = free if decision.worker is None else [int(decision.worker)]
        worker, load_ns = self.residence.use(among, place, subnet, self._now_ns)
        actuates = self._loaded[worker] != row and not self._unused[worker]
        batch = self._batches
        self._batches += 1
        free.remove(worker)
        self._running[worker], self._loaded[worker], self._unused[worker] = batch, row, False
        station.offers.charge(place, self._cluster.dispatch_ns + int(pool.table.dense_ns[subnet, size]))
        return BatchStart(batch, worker, subnet, size, actuates, queue.take(size), place, load_ns)

    # What a policy can look up (sim.engine.policy.System).

    @property
    def workers_alive(self) -> int:
        """Workers that have not failed, of those that serve the queue that is offered."""
        return self._stations.alive(self._offered[0])

    @property
    def dispatch_ns(self) -> int:
        """Overhead of each batch."""
        return self._cluster.dispatch_ns

    @property
    def slo_ns(self) -> int:
        """The smallest time from an arrival to the deadline of its batch, in the queue that is offered."""
        return self._queue.slo_ns

    @property
    def rng(self) -> np.random.Generator:
        """The random stream of the policy."""
        if self._rng is None:
            self._rng = stream(self._seed, "policy")
        return self._rng

    def free_workers(self) -> Sequence[int]:
        """Return the free workers of the kind that is offered, in order."""
        return tuple(self._offered[1].free)

    def subnet_on(self, worker: int) -> int | None:
        """Return the subnet (index into its kind's table) that a worker runs or last ran; None before its first.

        None, too, if it is a subnet that the queue that is offered does not have.
        """
        rows = self._stations.of[worker].pools[self._offered[0]].rows
        row = self._loaded[worker]
        return None if row is None or row not in rows else rows.index(row)

    def loading_ns(self, subnet: int, worker: int) -> int:
        """Return how long a batch on a subnet would wait until its weights are loaded on a worker; 0 if they are."""
        return self.residence.wait_ns(worker, self._offered[0], subnet, self._now_ns)

    def deadlines_ns(self, count: int) -> Sequence[int]:
        """Return the deadlines of up to `count` queries of the queue that is offered, the earliest first."""
        return self._queue.deadlines(count)

    def arrivals_within(self, window_ns: int) -> int:
        """Return the number of queries of this queue that arrived in the last `window_ns`, now included."""
        return self._queue.arrived_since(self._now_ns - window_ns + 1)

    @property
    def _queue(self) -> Queue:
        """The queue that is offered."""
        place, station = self._offered
        return station.queues[place]
