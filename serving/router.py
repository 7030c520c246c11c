"""The router: it drives the scheduler of the simulator by the monotonic clock.

Whatever happens is only noted; one call at the end of the turn of the event loop settles the instant. So a burst is one
instant, as in the simulator. The router knows from answers alone when a worker is free.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from serving.counts import NotServed, QueryCounts
from serving.growing_queues import GrowingQueues
from serving.log import BatchRecord, Instant, LiveLog
from serving.timer import MonotonicTimer
from sim.base.errors import PolicyError
from sim.base.units import format_ms
from sim.engine.instant import Scheduler
from sim.engine.kinds import pool_of_workers
from sim.engine.policy import policies_of, policy_name
from sim.engine.result import NONE
from sim.tables.service_times import service_times

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable


class Client(Protocol):
    """Whoever sends queries."""

    def answer(self, numbers: Sequence[int], outcome: BatchRecord | NotServed, outputs: Sequence[bytes] = ()) -> None:
        """Take the answer to queries, by the numbers that the client gave them.

        Args:
            numbers: The queries.
            outcome: Their batch, or why there is none.
            outputs: Of each query, if workers were given inputs.
        """
        ...

    def inputs(self, number: int) -> bytes:
        """Return the inputs of a query; asked for only where workers are given inputs."""
        ...


class Router:
    """The queue, the policy and the state of the workers of one live run."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        cluster: Cluster,
        table: LatencyTable,
        policy: Policy | Mapping[str, Policy],
        *,
        seed: int,
        slos_ns: Sequence[int],
        most_waiting: int,
    ) -> None:
        """Begin with all workers free and an empty queue.

        Args:
            loop: The event loop.
            cluster: Workers, queues, overheads that policies plan with, drop rule.
            table: The table that the policy sees of workers and queues without one of their own.
            policy: What to run next, or that of each queue by name.
            seed: For latencies that are drawn, random routing, and policies that draw random numbers.
            slos_ns: For each queue the smallest SLO, as policies see it; one without queues.
            most_waiting: Queries that may wait; any more are rejected.
        """
        self._loop, self._cluster, self._policies = loop, cluster, policies_of(policy, cluster)
        self.queues = GrowingQueues(cluster, seed, slos_ns)
        self._scheduler = Scheduler(self.queues, cluster, cluster.served(table), policy, seed)
        pools = cluster.pools_by_queue(table)
        self._pool_of = pool_of_workers(pools[0])
        self._row_of = [[pool.rows for pool in of_queue] for of_queue in pools]
        self._latency_of = [
            [service_times(pool.table, cluster.latency).of_run(seed) for pool in of_queue] for of_queue in pools
        ]
        self._actuation_ns = [[cluster.actuation_delays(pool.table) for pool in of_queue] for of_queue in pools]
        self._most_waiting = most_waiting
        self._run: Sequence[Callable[[int, int, int, int, bytes], None]] = ()
        self._begin_ns = time.monotonic_ns()
        self._settled_ns = NONE
        self._timer = MonotonicTimer(loop, self._soon)
        self._is_due = False
        self._wake_ns: int | None = None
        self._completed: list[tuple[int, int]] = []
        self._recovered: list[int] = []
        self._failed: list[int] = []
        self._cancelled: list[int] = []
        self._askers: dict[int, tuple[int, Client, int]] = {}  # by place in the queue: receipt, client, its number
        self._with_inputs = False
        self._open = 0
        self._given_up: set[int] = set()
        self.log = LiveLog(slos_ns)
        self.counts = QueryCounts(len(cluster.subnets(table)), len(slos_ns))
        self.error: PolicyError | None = None
        self.decide_ns: list[int] = []
        """How long each instant with a decision took to settle, the sending of its batches not included."""

    def begin(
        self, begin_ns: int, run: Sequence[Callable[[int, int, int, int, bytes], None]], *, with_inputs: bool = False
    ) -> None:
        """Start to count time from an instant of the monotonic clock.

        Args:
            begin_ns: The start of the trace.
            run: By worker, what gives it a batch: number, subnet (as `Cluster.subnets` numbers them), size, the time
                that it is expected to take, inputs.
            with_inputs: Whether clients have inputs for the workers.
        """
        self._begin_ns, self._run, self._with_inputs = begin_ns, run, with_inputs

    def now_ns(self) -> int:
        """Return the time since the start, later than any instant that was settled."""
        return max(time.monotonic_ns() - self._begin_ns, self._settled_ns + 1)

    @property
    def open_queries(self) -> int:
        """Queries that were received and not answered yet."""
        return self._open

    def submit(self, slo_ns: int, client: Client, numbers: Sequence[int], queue: int = 0) -> Sequence[int]:
        """Take queries of one client for a queue; all are rejected if there is no room for all.

        A single query that finds the bound of its queue reached is rejected by the queue, as in a simulation.

        Returns:
            Their numbers in the queues, by which they can be cancelled.
        """
        log, now_ns, count = self.log, self.now_ns(), len(numbers)
        log.arrival_ns += [now_ns] * count
        log.slos_ns += [slo_ns] * count
        log.queue += [queue] * count
        self.counts.received[queue] += count
        is_full = self.queues.waiting + count > self._most_waiting
        if is_full or self.error is not None or (count > 1 and not self.queues.has_room(queue, count)):
            log.place += [NONE] * count
            log.answered_ns += [now_ns] * count
            self.counts.not_served[NotServed.REJECTED] += count
            client.answer(numbers, NotServed.REJECTED)
            return ()
        places = [self.queues.arrive(now_ns, slo_ns, queue) for _ in numbers]
        for place, number in zip(places, numbers, strict=True):
            self._askers[place] = (len(log.answered_ns), client, number)
            log.answered_ns.append(NONE)
        log.place += places
        self._open += count
        self._soon()
        return places

    def cancel(self, places: Iterable[int]) -> int:
        """Take queries that wait out of their queues: nobody wants them to be answered; those in a batch are ignored.

        Args:
            places: Their numbers in the queues.

        Returns:
            How many of them waited.
        """
        waiting = [place for place in places if self.queues.is_waiting(place) and place in self._askers]
        for place in waiting:
            del self._askers[place]
        self._cancelled += waiting
        self._soon()
        return len(waiting)

    def complete(
        self,
        worker: int,
        batch: int,
        times_ns: tuple[int, int, int],
        outputs: bytes = b"",
        failed: Sequence[int] = (),
    ) -> None:
        """Take the answer of a worker.

        Args:
            worker: The worker.
            batch: The batch.
            times_ns: Instants of the monotonic clock when it had read, began and ended the batch.
            outputs: Of its queries, one after the other.
            failed: The rows of the batch that could not be computed.
        """
        record = self.log.batches[batch]
        record.read_ns, record.begun_ns, record.ended_ns = (at_ns - self._begin_ns for at_ns in times_ns)
        record.finish_ns = self.now_ns()
        self._completed.append((worker, batch))
        places = self.queues.taken[batch]
        if failed:
            width, gone = len(outputs) // len(places), set(failed)
            bad, kept = [places[row] for row in failed], [row for row in range(len(places)) if row not in gone]
            self.log.uncomputed += bad
            self._answer(bad, NotServed.FAILED)
            places = [places[row] for row in kept]
            outputs = b"".join([outputs[row * width : (row + 1) * width] for row in kept])
        self._answer(places, record, outputs)
        self._soon()

    def fail(self, worker: int) -> None:
        """Take note that a worker is gone, and the batch that it runs with it."""
        self._failed.append(worker)
        self._soon()

    def recover(self, worker: int) -> None:
        """Take note that a worker is back."""
        self._given_up.discard(worker)
        self._recovered.append(worker)
        self._soon()

    def give_up(self, worker: int) -> None:
        """Take note that a worker that is gone is no longer waited for."""
        self._given_up.add(worker)

    @property
    def has_no_workers(self) -> bool:
        """Whether all workers have been given up."""
        return len(self._given_up) == self._cluster.workers

    def close(self) -> None:
        """Release the timer."""
        self._timer.close()

    def check_wait(self) -> None:
        """Refuse to wait past every deadline where no query and no worker is to come, as the simulator does.

        Raises:
            PolicyError: The policy does so.
        """
        wake_ns = self._wake_ns
        latest = self.queues.latest_deadline()
        if latest is None or not self._scheduler.idle or wake_ns is None:
            return
        latest_ns, queue = latest
        if wake_ns > latest_ns:
            problem = "waits with nothing left to wait for, past every deadline"
            location = f"{policy_name(self._policies[queue])} at {format_ms(self._settled_ns)}"
            raise PolicyError(location, problem, f"until {format_ms(wake_ns)}", "dispatch or drop")

    def with_counts(self, error: PolicyError) -> PolicyError:
        """Return the policy's error with the numbers of queries received and served."""
        received = len(self.log.arrival_ns)
        served = sum(one.start.size for one in self.log.batches if one.finish_ns != NONE and not one.lost)
        ended = f"the run ends with {received} queries received, {served} of them served; nothing is stored"
        hint = f"{error.hint}; {ended}" if error.hint else ended
        return PolicyError(error.location, error.problem, error.value, hint)

    def _soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._settle)

    def _settle(self) -> None:
        self._is_due = False
        if self.error is not None:
            return
        now_ns = self.now_ns()
        reports = tuple(self._completed), tuple(self._recovered), tuple(self._failed), tuple(self._cancelled)
        instant = Instant(now_ns, *reports)
        for noted in (self._completed, self._recovered, self._failed, self._cancelled):
            noted.clear()
        self._settled_ns = now_ns
        self.log.instants.append(instant)
        try:
            begin_ns = time.perf_counter_ns()
            starts, lost, self._wake_ns = instant.settle(self._scheduler)
            if starts:
                self.decide_ns.append((time.perf_counter_ns() - begin_ns) // len(starts))
        except PolicyError as error:
            self.error = error
            return
        self._open -= len(instant.cancelled)
        self.counts.not_served[NotServed.CANCELLED] += len(instant.cancelled)
        for start in starts:
            queue, pool = start.queue, self._pool_of[start.worker]
            expected_ns = self._latency_of[queue][pool](start.subnet, start.size, start.head)
            expected_ns += self._actuation_ns[queue][pool][start.subnet] if start.actuates else 0
            row = self._row_of[queue][pool][start.subnet]
            record = BatchRecord(start, row, now_ns, expected_ns)
            self.log.batches.append(record)
            self._run[start.worker](start.batch, row, start.size, expected_ns, self._inputs(start.batch))
            record.sent_ns = self.now_ns()
        for batch in lost:
            self.log.batches[batch].lost, self.log.batches[batch].finish_ns = True, now_ns
            self._answer(self.queues.taken[batch], NotServed.LOST)
        for gone, outcome in ((self.queues.rejected, NotServed.REJECTED), (self.queues.dropped, NotServed.DROPPED)):
            if gone:
                self._answer(gone, outcome)
                gone.clear()
        self._timer.set(None if self._wake_ns is None else self._wake_ns + self._begin_ns)

    def _inputs(self, batch: int) -> bytes:
        """Return the inputs of the queries of a batch, one after the other."""
        if not self._with_inputs:
            return b""
        askers = (self._askers[place] for place in self.queues.taken[batch])
        return b"".join([client.inputs(number) for _, client, number in askers])

    def _answer(self, places: Sequence[int], outcome: BatchRecord | NotServed, outputs: bytes = b"") -> None:
        now_ns, row = self.now_ns(), len(outputs) // max(1, len(places))
        by_client: dict[Client, tuple[list[int], list[bytes]]] = {}
        met = 0
        for begin, place in enumerate(places):
            receipt, client, number = self._askers.pop(place)
            self.log.answered_ns[receipt] = now_ns
            numbers, rows = by_client.setdefault(client, ([], []))
            numbers.append(number)
            if row:
                rows.append(outputs[begin * row : (begin + 1) * row])
            if isinstance(outcome, BatchRecord):
                met += outcome.finish_ns - self.log.arrival_ns[receipt] <= self.log.slos_ns[receipt]
        self._open -= len(places)
        if isinstance(outcome, BatchRecord):
            self.counts.add(outcome.subnet, outcome.start.queue, len(places), met)
        else:
            self.counts.not_served[outcome] += len(places)
        for client, (numbers, rows) in by_client.items():
            client.answer(numbers, outcome, rows)
