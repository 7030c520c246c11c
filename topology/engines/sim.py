"""Virtual time: a plan on SimPy's clock, with links that queue, machines that compute, and parties that fail.

Functions that programs compute are really called (PyTorch trains for real), and take the virtual time that they are
said to. Workers are coroutines stepped right here; SimPy's calendar holds one event for each instant at which anything
happens, and messages are references. So a message costs little more than its entry in a list.
"""

from __future__ import annotations

import gc
import heapq
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import simpy

from sim.base.errors import ProgramError
from sim.base.parameters import Parameters, Positive
from sim.base.streams import stream
from sim.base.units import NS_PER_MS, NS_PER_S
from topology.engines.tasks import Future, Task, together
from topology.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    from topology.engine import Report
    from topology.io import IO
    from topology.message import Message
    from topology.parties import Compute, Fault
    from topology.plan import Plan
    from topology.port import Port
    from topology.program import Program

_SEARCHES = (100_000, 50, 20)
"""After how many new objects Python looks for cycles among the young, and after how many such looks among the older."""

_NEW_PER_WORKER = 32
"""With many workers it looks after as many new objects of each: looks that find all of them in use are in vain."""

_MOST_TURNS = 1_000_000
"""If an instant happens more often than this, it will not end."""

_DAY_S = 86_400.0
_BITS = 8
_PER_MEGA = 1_000_000


@dataclass(frozen=True, slots=True)
class SimEngine(Parameters):
    """Runs plans in virtual time, the same way for the same seed.

    A message leaves by the line of its sender's machine (`Compute.up_mbps`) and the sender's own line into the channel
    (`Link.bandwidth_mbps`), first come, first served, takes the channel's latency, and enters by the line of its
    receiver's machine (`down_mbps`). Lines pass on what has come so far, so that the slowest one counts, not the sum.

    Attributes:
        patience_s: How long a program may wait for something without having said how long, in virtual seconds.
        record: Whether the report holds how each worker and each message spent its time.
    """

    patience_s: Positive = _DAY_S
    record: bool = False

    def run(
        self,
        plan: Plan,
        programs: Mapping[str, Callable[..., Program]],
        *,
        seed: int = 0,
        faults: Sequence[Fault] = (),
    ) -> Report:
        """Run a program on each worker until all have ended; return what came of it (`topology.engine.Engine`).

        Raises:
            TagError: A program does not fit its role.
            SsimError: A program failed, or waited in vain for longer than `patience_s`.
        """
        world = _World(plan, seed)
        with _few_searches_for_garbage(len(plan)):
            stage = Stage(
                plan, programs, world, seed=seed, faults=faults, patience_s=self.patience_s, record=self.record
            )
            return world.run(stage)


class _Machine:
    """A compute with its lines and slots; times in nanoseconds since the run began."""

    __slots__ = ("busy_until_ns", "down_free_ns", "spec", "up_free_ns")

    def __init__(self, spec: Compute) -> None:
        self.spec = spec
        self.up_free_ns = 0
        self.down_free_ns = 0
        self.busy_until_ns = [0] * (spec.slots or 0)

    def occupy(self, now_ns: int, duration_ns: int) -> int:
        """Return when something that takes so long is done, if it queues for a slot from now on."""
        if not self.busy_until_ns:
            return now_ns + duration_ns
        end_ns = max(now_ns, self.busy_until_ns[0]) + duration_ns
        heapq.heapreplace(self.busy_until_ns, end_ns)
        return end_ns


class _Instant(simpy.Timeout):
    """What happens at one instant: calls, and what comes after all of them unless it is called off."""

    def __init__(self, world: _World, when_ns: int) -> None:
        super().__init__(world.env, when_ns - world.now_ns)
        self.callbacks.append(world.happen)
        self.when_ns = when_ns
        self.calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.late: list[list[Callable[[], None]]] = []


class _World:
    """One run: the clock, the lines and the machines."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.ready: deque[Task] = deque()
        self.env = simpy.Environment(initial_time=0)
        self._machines = {id_: _Machine(compute) for id_, compute in plan.computes.items()}
        self._has_lines = any(compute.up_mbps or compute.down_mbps for compute in plan.computes.values())
        self._losses = stream(seed, "loss")
        self._calendar: dict[int, _Instant] = {}
        self.now_ns = 0
        self._stage: Stage
        self._latency_ns = {channel.name: round(channel.link.latency_ms * NS_PER_MS) for channel in plan.tag.channels}
        self._failed: Exception | None = None

    def run(self, stage: Stage) -> Report:
        self._stage = stage
        try:
            stage.begin()
            self._drain()
            step = self.env.step
            while self._going_on():
                step()
        finally:
            for io in stage.ios.values():
                if io.stop is not None:
                    io.stop()
        if self._failed is not None:
            raise self._failed
        return stage.outcome()

    def _going_on(self) -> bool:
        return self._stage.waiting_for > 0 and self._failed is None

    def future(self) -> Future:
        return Future(self.ready)

    def start(self, io: IO, job: Coroutine[Any, Any, None]) -> Callable[[], None]:
        task = Task(job, self.ready, self._fail)
        self.ready.append(task)
        return task.stop

    def _fail(self, error: Exception) -> None:
        self._failed = self._failed or error

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        entry = [callback]
        self._at(when_ns).late.append(entry)
        return entry.clear

    async def sleep(self, duration_ns: int) -> None:
        future = self.future()
        self._plan(self.now_ns + duration_ns, future.set, None)
        await future

    def _plan(self, when_ns: int, call: Callable[..., None], *args: Any) -> None:
        """Enter a call; those of one instant happen in the order in which they were entered."""
        self._at(when_ns).calls.append((call, args))

    def _at(self, when_ns: int) -> _Instant:
        instant = self._calendar.get(when_ns)
        if instant is None:
            instant = self._calendar[when_ns] = _Instant(self, when_ns)
        return instant

    def happen(self, instant: _Instant) -> None:
        """Let an instant happen: arrivals and completions, what comes of them, and then deadlines and faults.

        What comes of that may happen at the same instant, which then takes another turn.
        """
        self.now_ns = instant.when_ns
        turns = 0
        while (instant.calls or instant.late) and self._going_on():
            turns += 1
            if turns > _MOST_TURNS:
                at = f"{self.now_ns / NS_PER_S:g} s"
                right = "a loop needs a step that takes time, or a link with latency"
                raise ProgramError("topology", "programs go round and round, and no time passes", at, right)
            calls, instant.calls = instant.calls, []
            for call, args in calls:
                call(*args)
            self._drain()
            if not instant.calls:
                late, instant.late = instant.late, []
                for entry in late:
                    for callback in entry:  # none, if it was called off
                        callback()
                    self._drain()
        del self._calendar[instant.when_ns]

    def _drain(self) -> None:
        """Let all tasks go on that can."""
        ready = self.ready
        while ready:
            ready.popleft().step()

    async def compute(
        self, io: IO, function: Callable[..., Any] | None, args: Sequence[Any], seconds: float | None
    ) -> Any:
        start = perf_counter()
        value = function(*args) if function is not None else None
        cost_s = perf_counter() - start if seconds is None else seconds
        machine = self._machines[io.worker.compute]
        duration_ns = round(cost_s * NS_PER_S / machine.spec.speed * io.slowness())
        end_ns = machine.occupy(self.now_ns, duration_ns)
        if end_ns > self.now_ns:
            future = self.future()
            self._plan(end_ns, future.set, None)
            await future
        return value

    async def together(self, io: IO, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        parent = together(jobs, self.ready)
        stop = io.stop

        def stop_all() -> None:
            parent.stop()
            if stop is not None:
                stop()

        io.stop = stop_all
        try:
            await parent.finished
        finally:
            io.stop = stop
            parent.stop()

    def carry(self, message: Message, port: Port) -> None:
        link, sender = port.channel.link, port.io
        if link.loss and self._losses.random() < link.loss:
            self._stage.report.traffic[message.channel].lost += 1
            return
        sender.flight += 1
        first_ns = last_ns = self.now_ns
        if link.bandwidth_mbps is not None or self._has_lines:
            first_ns, last_ns = self._leave(port, message.size_bytes * _BITS)
        latency_ns = self._latency_ns[message.channel]
        if self._has_lines:
            receiver = self._machines[self._stage.ios[message.receiver].worker.compute]
            if receiver.spec.down_mbps is not None:  # its line is taken when the first bit gets there, not now
                ends_ns = last_ns + latency_ns
                self._plan(first_ns + latency_ns, self._enter, message, sender, receiver, ends_ns)
                return
        self._plan(last_ns + latency_ns, self._land, message, sender)

    def _leave(self, port: Port, bits: int) -> tuple[int, int]:
        """Return when the first and when the last bit of a message have left the lines of its sender."""
        first_ns = last_ns = self.now_ns
        worker = port.io.worker
        machine = self._machines[worker.compute]
        if machine.spec.up_mbps is not None:
            first_ns = max(first_ns, machine.up_free_ns)
            last_ns = machine.up_free_ns = first_ns + _transfer_ns(bits, machine.spec.up_mbps)
        line_mbps = port.channel.link.line_mbps(worker.role)
        if line_mbps is not None:
            first_ns = max(first_ns, port.line_free_ns)
            port.line_free_ns = first_ns + _transfer_ns(bits, line_mbps)
            last_ns = max(last_ns, port.line_free_ns)
        return first_ns, max(first_ns, last_ns)

    def _enter(self, message: Message, sender: IO, machine: _Machine, ends_ns: int) -> None:
        """Take the line of the receiver's machine, and arrive when both it and the sender's are through."""
        mbps = machine.spec.down_mbps or 1.0
        machine.down_free_ns = max(self.now_ns, machine.down_free_ns)
        machine.down_free_ns += _transfer_ns(message.size_bytes * _BITS, mbps)
        self._plan(max(ends_ns, machine.down_free_ns), self._land, message, sender)

    def _land(self, message: Message, sender: IO) -> None:
        stage = self._stage
        stage.deliver(message)
        sender.flight -= 1
        if not sender.flight and sender.ended and sender.ended != "died":
            stage.gone(sender.worker)

    def finish(self) -> None:
        """Nothing is to be done: the loop looks for itself."""

    def farewell(self, io: IO) -> None:
        if not io.flight:
            self._stage.gone(io.worker)


@contextmanager
def _few_searches_for_garbage(workers: int) -> Generator[None]:
    """Let Python look for cycles less often: with a hundred thousand workers it would spend half of the run on that."""
    young, *older = _SEARCHES
    usual = gc.get_threshold()
    gc.freeze()  # what is there now stands for the whole run
    gc.set_threshold(max(young, _NEW_PER_WORKER * workers), *older)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def _transfer_ns(bits: int, mbps: float) -> int:
    return round(bits * NS_PER_S / (mbps * _PER_MEGA))
