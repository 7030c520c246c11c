"""Virtual time: a plan on SimPy's clock, with links that queue, machines that compute, and injected faults.

Functions that programs compute are really called (PyTorch trains for real), and take the virtual time that they are
said to; a `Deferred` goes on elsewhere meanwhile. Workers are coroutines stepped right here; SimPy's calendar holds one
event for each instant at which anything happens, and messages are references. So a message costs little more than its
entry in a list.
"""

from __future__ import annotations

import gc
import heapq
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

import simpy

from sim.base.errors import ProgramError
from sim.base.parameters import Positive  # noqa: TC001 - fields are checked by their annotations
from sim.base.streams import stream
from sim.base.units import NS_PER_MS, NS_PER_S
from topology.checkpoints import Recorder
from topology.deferred import Deferred
from topology.engine import Engine
from topology.engines.tasks import SimFuture, SimTask, together
from topology.runtime import WorkerRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from topology.checkpoints import Checkpoints
    from topology.deployment import Machine
    from topology.engine import RunSpec
    from topology.message import Message
    from topology.plan import Plan, Worker
    from topology.report import RunReport
    from topology.state import WorkerState
    from topology.tag import Link

_GC_THRESHOLDS = (100_000, 50, 20)
"""Garbage collection: new objects before a collection of the youngest generation, collections before the next ones."""

_NEW_PER_WORKER = 32
"""With many workers the first threshold is this many new objects for each: collections that free nothing are wasted."""

_MOST_TURNS = 1_000_000
"""An instant that takes more turns than this is taken for an endless loop."""

_DAY_S = 86_400.0
_BITS = 8
_PER_MEGA = 1_000_000


@dataclass(frozen=True, slots=True)
class SimEngine(Engine):
    """Runs plans in virtual time, the same way for the same seed.

    A message leaves through the network interface of its sender's machine (`Machine.up_mbps`) and the sender's own
    egress queue into the channel (`Link.bandwidth_mbps`), first come, first served, takes the channel's latency, and
    enters through the interface of its receiver's machine (`down_mbps`). Interfaces pass on bits as they come
    (cut-through), so that the slowest one counts, not the sum.

    Attributes:
        default_timeout_s: How long a wait without a timeout of its own may take, in virtual seconds.
        record: Whether the report holds spans.
    """

    is_real_time: ClassVar[bool] = False

    default_timeout_s: Positive = _DAY_S
    record: bool = False

    def execute(self, run: RunSpec) -> RunReport:
        """Run it; return the report."""
        transport = _VirtualTime(run.plan, run.seed)
        with _rare_garbage_collection(len(run.plan)):
            timeout_s = self.default_timeout_s
            runtime = WorkerRuntime(run, transport, default_timeout_s=timeout_s, record=self.record)
            gc.freeze()  # the runtime's objects live for the whole run
            return transport.run(runtime, run.checkpoints)


class _MachineState:
    """The interfaces and slots of a machine; times in nanoseconds since the run began."""

    __slots__ = ("busy_until_ns", "down_free_ns", "spec", "up_free_ns")

    def __init__(self, spec: Machine) -> None:
        self.spec = spec
        self.up_free_ns = 0
        self.down_free_ns = 0
        self.busy_until_ns = [0] * (spec.slots or 0)

    def occupy(self, now_ns: int, duration_ns: int) -> int:
        """Return when a computation ends that queues for a slot from now on."""
        if not self.busy_until_ns:
            return now_ns + duration_ns
        end_ns = max(now_ns, self.busy_until_ns[0]) + duration_ns
        heapq.heapreplace(self.busy_until_ns, end_ns)
        return end_ns


class _Instant(simpy.Timeout):
    """An instant: its calls, and its late calls, which come after all of them unless they are cancelled."""

    def __init__(self, transport: _VirtualTime, when_ns: int) -> None:
        super().__init__(transport.env, when_ns - transport.now_ns)
        self.callbacks.append(transport.happen)
        self.when_ns = when_ns
        self.calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.late: list[list[Callable[[], None]]] = []


@dataclass(slots=True, eq=False)
class _Pause:
    """The time that a computation or a sleep of a worker takes (`topology.tape.Pending`)."""

    future: SimFuture
    state: WorkerState
    start_ns: int
    kind: str = ""

    def close(self) -> None:
        """Record the span of a computation."""
        if self.kind:
            self.state.record_span(self.kind, self.start_ns, self.state.step)


class _VirtualTime:
    """The transport of one run: the clock, the network and the machines."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.ready: deque[SimTask] = deque()
        self.env = simpy.Environment(initial_time=0)
        self._machines = {id_: _MachineState(machine) for id_, machine in plan.machines.items()}
        self._limited = any(machine.up_mbps or machine.down_mbps for machine in plan.machines.values())
        self._links = {
            channel.name: (channel.link, round(channel.link.latency_ms * NS_PER_MS)) for channel in plan.tag.channels
        }
        self._in_flight: dict[str, int] = {}  # messages under way, by sender
        self._leaving: dict[str, bool] = {}  # who has left while messages of theirs are under way, and comes back
        self._back: set[str] = set()  # who of these is back before the others know that it left
        self._egress_free_ns: dict[tuple[str, str], int] = {}  # by sender and channel
        self._losses = stream(seed, "loss")
        self._calendar: dict[int, _Instant] = {}
        self.now_ns = 0
        self._runtime: WorkerRuntime
        self._error: Exception | None = None
        self._over = False

    def run(self, runtime: WorkerRuntime, checkpoints: Checkpoints | None) -> RunReport:
        self._runtime = runtime
        self._in_flight = dict.fromkeys(runtime.states, 0)
        own: dict[tuple[str, ...], Any] = {("ready",): self.ready, ("engine",): self}
        own |= {("machine", id_): machine for id_, machine in self._machines.items()}  # messages under way name them
        recorder = None if checkpoints is None else Recorder(runtime, checkpoints, own)
        try:
            stored = None if recorder is None else recorder.load()
            if recorder is not None and stored is not None:
                self._restore(stored)
                recorder.replay(runtime.start_at, self._drain)
            else:
                runtime.start()
            self._drain()
            step = self.env.step
            while self._running():
                step()
                if recorder is not None and recorder.due and self._running():
                    recorder.store(self._stored())
        finally:
            self._over = True
            runtime.stop()
        if self._error is not None:
            raise self._error
        return runtime.report()

    def _stored(self) -> dict[str, Any]:
        """Return all that has changed since the beginning."""
        machines = {id_: (m.up_free_ns, m.down_free_ns, m.busy_until_ns) for id_, m in self._machines.items()}
        calendar = [(instant.when_ns, instant.calls, instant.late) for instant in self._calendar.values()]
        fields = {name: getattr(self, name) for name in _STORED}
        return {"fields": fields, "machines": machines, "calendar": calendar}

    def _restore(self, stored: dict[str, Any]) -> None:
        """Put back what `_stored` returned."""
        for name, value in stored["fields"].items():
            setattr(self, name, value)
        for id_, (up_free_ns, down_free_ns, busy_until_ns) in stored["machines"].items():
            machine = self._machines[id_]
            machine.up_free_ns, machine.down_free_ns, machine.busy_until_ns = up_free_ns, down_free_ns, busy_until_ns
        self.env = simpy.Environment(initial_time=self.now_ns)
        for when_ns, calls, late in stored["calendar"]:
            instant = self._at(when_ns)
            instant.calls, instant.late = calls, late

    def _running(self) -> bool:
        return self._runtime.running > 0 and self._error is None

    def future(self) -> SimFuture:
        return SimFuture(self.ready)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], None]:
        task = SimTask(coroutine, self.ready, self._fail)
        self.ready.append(task)
        return task.stop

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        entry = [callback]
        self._at(when_ns).late.append(entry)
        return entry.clear

    async def sleep(self, state: WorkerState, duration_ns: int) -> None:
        await state.wait(lambda: self._pause(state, self.now_ns + duration_ns))

    def _pause(self, state: WorkerState, end_ns: int, kind: str = "") -> _Pause:
        future = self.future()
        self._schedule(end_ns, future.set, None)
        return _Pause(future, state, self.now_ns, kind)

    def _schedule(self, when_ns: int, call: Callable[..., None], *args: Any) -> None:
        """Schedule a call; those of one instant happen in the order in which they were scheduled."""
        self._at(when_ns).calls.append((call, args))

    def _at(self, when_ns: int) -> _Instant:
        instant = self._calendar.get(when_ns)
        if instant is None:
            instant = self._calendar[when_ns] = _Instant(self, when_ns)
        return instant

    def happen(self, instant: _Instant) -> None:
        """Let an instant happen: arrivals and completions, their consequences, and then timeouts and faults.

        Consequences may happen at the same instant, which then takes another turn.
        """
        self.now_ns = instant.when_ns
        turns = 0
        while (instant.calls or instant.late) and self._running():
            turns += 1
            if turns > _MOST_TURNS:
                at, hint = (
                    f"{self.now_ns / NS_PER_S:g} s",
                    "a loop needs a step that takes time, or a link with latency",
                )
                raise ProgramError("topology", "the programs loop without advancing time", at, hint)
            calls, instant.calls = instant.calls, []
            for call, args in calls:
                call(*args)
            self._drain()
            if not instant.calls:
                late, instant.late = instant.late, []
                for entry in late:
                    for callback in entry:  # none if it was cancelled
                        callback()
                    self._drain()
        del self._calendar[instant.when_ns]

    def _drain(self) -> None:
        """Run all tasks that can go on."""
        ready = self.ready
        while ready:
            ready.popleft().step()

    async def compute(
        self, state: WorkerState, function: Callable[..., Any] | None, args: Sequence[Any], seconds: float | None
    ) -> Any:
        start = perf_counter()
        value = function(*args) if function is not None else None
        if seconds is None and isinstance(value, Deferred):
            value = value.result()
        cost_s = perf_counter() - start if seconds is None else seconds
        try:
            await state.wait(lambda: self._occupy(state, cost_s))
        finally:  # also if the worker is stopped: it has computed in any case
            if isinstance(value, Deferred) and not self._over:
                value = value.result()
        return value

    def _occupy(self, state: WorkerState, cost_s: float) -> _Pause:
        """Occupy a worker's machine."""
        machine = self._machines[state.worker.compute]
        end_ns = machine.occupy(self.now_ns, round(cost_s * NS_PER_S / machine.spec.speed * state.slowdown()))
        if end_ns > self.now_ns:
            return self._pause(state, end_ns, "compute")
        pause = _Pause(self.future(), state, self.now_ns, "compute")
        pause.future.set(None)
        return pause

    async def together(self, coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
        parent = together(coroutines, self.ready)
        try:
            await parent.finished
        finally:  # also if the worker is stopped
            parent.stop()

    def send(self, message: Message) -> None:
        link, latency_ns = self._links[message.channel]
        if link.loss and self._losses.random() < link.loss:
            self._runtime.lose(message)
            return
        self._in_flight[message.sender] += 1
        first_ns = last_ns = self.now_ns
        if link.bandwidth_mbps is not None or self._limited:
            first_ns, last_ns = self._leave(self._worker(message.sender), message, link)
        if self._limited:
            receiver = self._machines[self._worker(message.receiver).compute]
            if receiver.spec.down_mbps is not None:  # its interface is busy from when the first bit arrives, not now
                ends_ns = last_ns + latency_ns
                self._schedule(first_ns + latency_ns, self._enter, message, receiver, ends_ns)
                return
        self._schedule(last_ns + latency_ns, self._arrive, message)

    def _leave(self, sender: Worker, message: Message, link: Link) -> tuple[int, int]:
        """Return when the first and the last bit of a message have left its sender's interfaces."""
        bits = message.size_bytes * _BITS
        first_ns = last_ns = self.now_ns
        machine = self._machines[sender.compute]
        if machine.spec.up_mbps is not None:
            first_ns = max(first_ns, machine.up_free_ns)
            last_ns = machine.up_free_ns = first_ns + _transfer_ns(bits, machine.spec.up_mbps)
        egress_mbps = link.egress_mbps(sender.role)
        if egress_mbps is not None:
            queue = sender.id, message.channel
            first_ns = max(first_ns, self._egress_free_ns.get(queue, 0))
            free_ns = self._egress_free_ns[queue] = first_ns + _transfer_ns(bits, egress_mbps)
            last_ns = max(last_ns, free_ns)
        return first_ns, max(first_ns, last_ns)

    def _enter(self, message: Message, machine: _MachineState, ends_ns: int) -> None:
        """Occupy the receiver's interface; arrive when both it and the sender's are done."""
        mbps = machine.spec.down_mbps or 1.0
        machine.down_free_ns = max(self.now_ns, machine.down_free_ns)
        machine.down_free_ns += _transfer_ns(message.size_bytes * _BITS, mbps)
        self._schedule(max(ends_ns, machine.down_free_ns), self._arrive, message)

    def _arrive(self, message: Message) -> None:
        sender = message.sender
        self._runtime.deliver(message)
        self._in_flight[sender] -= 1
        if sender in self._leaving and not self._in_flight[sender]:
            self._leave_now(sender)

    def _worker(self, id_: str) -> Worker:
        return self._runtime.states[id_].worker

    def notify_left(self, worker: Worker, *, returns: bool) -> None:
        if self._in_flight[worker.id]:
            self._leaving[worker.id] = returns
        else:
            self._runtime.worker_left(worker, returns=returns)

    def notify_joined(self, worker: Worker) -> None:
        if worker.id in self._leaving:  # messages of its last session are still under way
            self._back.add(worker.id)
        else:
            self._runtime.worker_joined(worker)

    def _leave_now(self, id_: str) -> None:
        worker = self._worker(id_)
        self._runtime.worker_left(worker, returns=self._leaving.pop(id_))
        if id_ in self._back:
            self._back.remove(id_)
            self._runtime.worker_joined(worker)

    def finish(self) -> None:
        """Do nothing: the loop looks at the runtime."""


_STORED = ("_back", "_egress_free_ns", "_in_flight", "_leaving", "_losses", "now_ns")
"""What is stored of the transport, beside machines and calendar."""


@contextmanager
def _rare_garbage_collection(workers: int) -> Generator[None]:
    """Collect garbage less often: with a hundred thousand workers it would take half of the run."""
    young, *older = _GC_THRESHOLDS
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(max(young, _NEW_PER_WORKER * workers), *older)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def _transfer_ns(bits: int, mbps: float) -> int:
    return round(bits * NS_PER_S / (mbps * _PER_MEGA))
