"""The router: it drives the scheduler of the simulator by the monotonic clock.

Whatever happens is only noted; one call at the end of the turn of the event loop settles the instant. So a burst is one
instant, as in the simulator. The router knows from answers alone when a worker is free.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from serving.counts import NotServed, QueryCounts
from serving.growing_queue import GrowingQueue
from serving.log import BatchRecord, Instant, LiveLog
from serving.timer import MonotonicTimer
from sim.base.errors import PolicyError
from sim.base.units import format_ms
from sim.engine.instant import Scheduler
from sim.engine.policy import policy_name
from sim.engine.result import NONE
from sim.tables.service_times import service_times

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable


class Client(Protocol):
    """Whoever sends queries."""

    def answer(self, numbers: Sequence[int], fate: BatchRecord | NotServed, outputs: Sequence[bytes] = ()) -> None:
        """Take the answer to queries, by the numbers that the client gave them.

        Args:
            numbers: The queries.
            fate: Their batch, or why there is none.
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
        policy: Policy,
        *,
        seed: int,
        slo_ns: int,
        most_waiting: int,
    ) -> None:
        """Begin with all workers free and an empty queue.

        Args:
            loop: The event loop.
            cluster: Workers, overheads that policies plan with, drop rule.
            table: The table that the policy sees.
            policy: What to run next.
            seed: For latencies that are drawn, and policies that draw random numbers.
            slo_ns: The smallest SLO, as policies see it.
            most_waiting: Queries that may wait; any more are rejected.
        """
        self._loop, self._cluster, self._policy = loop, cluster, policy
        self.queue = GrowingQueue(slo_ns)
        self._scheduler = Scheduler(self.queue, cluster, cluster.served(table), policy, seed)
        self._latency_of = service_times(table, cluster.latency).of_run(seed)
        self._actuation_ns = cluster.actuation_delays(table)
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
        self._askers: dict[int, tuple[int, Client, int]] = {}  # by place in the queue: receipt, client, its number
        self._with_inputs = False
        self._open = 0
        self._given_up: set[int] = set()
        self.log = LiveLog(slo_ns)
        self.counts = QueryCounts(len(table.subnets))
        self.error: PolicyError | None = None
        self.decide_ns: list[int] = []
        """How long each instant with a decision took to settle, the sending of its batches not included."""

    def begin(
        self, begin_ns: int, run: Sequence[Callable[[int, int, int, int, bytes], None]], *, with_inputs: bool = False
    ) -> None:
        """Start to count time from an instant of the monotonic clock.

        Args:
            begin_ns: The start of the trace.
            run: By worker, what gives it a batch: number, subnet, size, the time that it is expected to take, inputs.
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

    def submit(self, slo_ns: int, client: Client, numbers: Sequence[int]) -> None:
        """Take queries of one client; all are rejected if the queue has no room for all."""
        log, now_ns, count = self.log, self.now_ns(), len(numbers)
        log.arrival_ns += [now_ns] * count
        log.slos_ns += [slo_ns] * count
        if self.queue.waiting + count > self._most_waiting or self.error is not None:
            log.place += [NONE] * count
            log.answered_ns += [now_ns] * count
            self.counts.not_served[NotServed.REJECTED] += count
            client.answer(numbers, NotServed.REJECTED)
            return
        for number in numbers:
            place = self.queue.arrive(now_ns, slo_ns)
            self._askers[place] = (len(log.answered_ns), client, number)
            log.answered_ns.append(NONE)
            log.place.append(place)
        self._open += count
        self._soon()

    def complete(self, worker: int, batch: int, times_ns: tuple[int, int, int], outputs: bytes = b"") -> None:
        """Take the answer of a worker.

        Args:
            worker: The worker.
            batch: The batch.
            times_ns: Instants of the monotonic clock when it had read, began and ended the batch.
            outputs: Of its queries, one after the other.
        """
        record = self.log.batches[batch]
        record.read_ns, record.begun_ns, record.ended_ns = (at_ns - self._begin_ns for at_ns in times_ns)
        record.finish_ns = self.now_ns()
        self._completed.append((worker, batch))
        self._answer(self.queue.taken[batch], record, outputs)
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
    def is_deserted(self) -> bool:
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
        if not self.queue.length or not self._scheduler.idle or wake_ns is None:
            return
        if wake_ns > self.queue.latest_deadline():
            problem = "waits with nothing left to wait for, past every deadline"
            location = f"{policy_name(self._policy)} at {format_ms(self._settled_ns)}"
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
        instant = Instant(now_ns, tuple(self._completed), tuple(self._recovered), tuple(self._failed))
        self._completed.clear()
        self._recovered.clear()
        self._failed.clear()
        self._settled_ns = now_ns
        self.log.instants.append(instant)
        try:
            begin_ns = time.perf_counter_ns()
            starts, lost, self._wake_ns = self._scheduler.settle(*instant)
            if starts:
                self.decide_ns.append((time.perf_counter_ns() - begin_ns) // len(starts))
        except PolicyError as error:
            self.error = error
            return
        for start in starts:
            expected_ns = self._latency_of(start.subnet, start.size, start.head)
            expected_ns += self._actuation_ns[start.subnet] if start.actuates else 0
            record = BatchRecord(start, now_ns, expected_ns)
            self.log.batches.append(record)
            self._run[start.worker](start.batch, start.subnet, start.size, expected_ns, self._inputs(start.batch))
            record.sent_ns = self.now_ns()
        for batch in lost:
            self.log.batches[batch].lost, self.log.batches[batch].finish_ns = True, now_ns
            self._answer(self.queue.taken[batch], NotServed.LOST)
        if self.queue.dropped:
            self._answer(self.queue.dropped, NotServed.DROPPED)
            self.queue.dropped.clear()
        self._timer.set(None if self._wake_ns is None else self._wake_ns + self._begin_ns)

    def _inputs(self, batch: int) -> bytes:
        """Return the inputs of the queries of a batch, one after the other."""
        if not self._with_inputs:
            return b""
        askers = (self._askers[place] for place in self.queue.taken[batch])
        return b"".join([client.inputs(number) for _, client, number in askers])

    def _answer(self, places: Sequence[int], fate: BatchRecord | NotServed, outputs: bytes = b"") -> None:
        now_ns, row = self.now_ns(), len(outputs) // len(places)
        by_client: dict[Client, tuple[list[int], list[bytes]]] = {}
        met = 0
        for begin, place in enumerate(places):
            receipt, client, number = self._askers.pop(place)
            self.log.answered_ns[receipt] = now_ns
            numbers, rows = by_client.setdefault(client, ([], []))
            numbers.append(number)
            if row:
                rows.append(outputs[begin * row : (begin + 1) * row])
            if isinstance(fate, BatchRecord):
                met += fate.finish_ns - self.log.arrival_ns[receipt] <= self.log.slos_ns[receipt]
        self._open -= len(places)
        if isinstance(fate, BatchRecord):
            self.counts.add(fate.start, met)
        else:
            self.counts.not_served[fate] += len(places)
        for client, (numbers, rows) in by_client.items():
            client.answer(numbers, fate, rows)
