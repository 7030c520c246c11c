"""The workers of a plan that share a process: their programs, their ports, and who of all workers is there.

It is the same for all engines. An engine in one process has one stage; one with many processes has a stage in each,
with the workers that run there, and each of them knows of all others whether they are there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sim.base.errors import ClosedError, ProgramError, SpecError, SsimError
from sim.base.units import ns_from_s
from topology.binding import bind
from topology.circle import Circle
from topology.engine import Entry, Report, Span, Traffic
from topology.io import IO
from topology.port import Port
from topology.program import Break, Continue, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from topology.engine import Carrier
    from topology.message import Message
    from topology.parties import Fault
    from topology.plan import Plan, Worker
    from topology.program import Program


class Stage:
    """Workers that share a process.

    Attributes:
        plan: Who there is.
        carrier: The engine.
        seed: What all chance comes from.
        report: What came of the run so far.
        ios: Its own workers, by id.
        waiting_for: How many of them have not ended.
        begun: Whether they have been started.
    """

    def __init__(
        self,
        plan: Plan,
        programs: Mapping[str, Callable[..., Program]],
        carrier: Carrier,
        *,
        seed: int,
        faults: Sequence[Fault],
        patience_s: float,
        record: bool,
        own: Collection[str] | None = None,
    ) -> None:
        self.plan, self.carrier, self.seed = plan, carrier, seed
        self.report = Report(traffic={channel.name: Traffic() for channel in plan.tag.channels})
        self.ios: dict[str, IO] = {}
        self._faults = _by_worker(plan, faults)
        self._patience_ns = ns_from_s(patience_s)
        self._record = record
        self._programs: dict[str, Program] = {}
        absent = [worker for worker, fault in self._faults.items() if fault.join_s > 0]
        self._circles = {
            (channel, group, role): Circle(plan.members(channel, group, role), absent)
            for channel, group, role in plan.index
        }
        self._set_up(programs, own)
        self.waiting_for = len(self.ios)
        self.begun = False

    def _set_up(self, programs: Mapping[str, Callable[..., Program]], own: Collection[str] | None) -> None:
        bindings = bind(self.plan.tag, programs)
        channels = {role.name: self.plan.tag.channels_of(role.name) for role in self.plan.tag.roles}
        for worker in self.plan.workers:
            if own is None or worker.id in own:
                binding = bindings[worker.role]
                io = self.ios[worker.id] = IO(worker, self, binding.verbs)
                for channel in channels[worker.role]:
                    group = worker.at[channel.name]
                    circle = self._circles[channel.name, group, channel.peer_of(worker.role)]
                    colleagues = self._circles[channel.name, group, worker.role]
                    port = io.ports[channel.name] = Port(
                        io, channel, circle, colleagues, binding.selectors[channel.name]
                    )
                    circle.watchers.append(port)
                self._programs[worker.id] = binding.make()

    def begin(self) -> None:
        """Start all workers, or see to it that they start in their time."""
        for id_, io in self.ios.items():
            fault = self._faults.get(id_)
            if fault is None:
                self._start(io)
            else:
                self._befall(io, fault)
        for id_, fault in self._faults.items():
            if id_ not in self.ios and fault.join_s > 0:  # of another stage: it is told here at the same time
                worker = self.plan.worker(id_)
                self.carrier.call_at(ns_from_s(fault.join_s), partial(self._join, worker))
        self.begun = True
        self._sweep()

    def _befall(self, io: IO, fault: Fault) -> None:
        for end_s, how in ((fault.leave_s, "left"), (fault.die_s, "died")):
            if end_s == 0:
                self._cut(io, how)  # it was never there
                return
        if fault.slow != 1:
            until_ns = None if fault.slow_until_s is None else ns_from_s(fault.slow_until_s)
            io.slow = (*io.slow, (fault.slow, ns_from_s(fault.slow_from_s), until_ns))
        if fault.join_s > 0:
            self.carrier.call_at(ns_from_s(fault.join_s), lambda: self._start_late(io))
        else:
            self._start(io)
        for end_s, how in ((fault.leave_s, "left"), (fault.die_s, "died")):
            if end_s is not None:
                self.carrier.call_at(ns_from_s(end_s), partial(self._cut, io, how))

    def _start(self, io: IO) -> None:
        io.stop = self.carrier.start(io, self._run(io))

    def _start_late(self, io: IO) -> None:
        if not io.ended:
            self._note(io, "joined")
            self._join(io.worker)
            self._start(io)

    def _join(self, worker: Worker) -> None:
        for channel, group in worker.at.items():
            self._circles[channel, group, worker.role].join(worker.id)

    async def _run(self, io: IO) -> None:
        program = self._programs[io.worker.id]
        try:
            waiting = perform(program.steps, program, io)
            if waiting is not None:
                await waiting
            self.report.results[io.worker.id] = program.result()
        except ClosedError:  # all of its peers have ended: there is nothing left that it could do
            self._note(io, "closed")
            self.report.ended[io.worker.id] = "closed"
        except (Continue, Break):
            where = f"{io.worker.id}, step {io.step}"
            raise ProgramError(where, "Continue and Break are for steps within a loop") from None
        except SsimError:
            raise
        except Exception as error:
            where = f"{io.worker.id}, step {io.step}"
            raise ProgramError(where, f"the program failed with {type(error).__name__}", str(error)) from error
        self.end(io, "ended")

    def _cut(self, io: IO, how: str) -> None:
        """End a worker from outside."""
        if not io.ended:
            self._note(io, how)
            self.report.ended[io.worker.id] = how
            self.end(io, how)
            if io.stop is not None:
                io.stop()

    def end(self, io: IO, how: str) -> None:
        """Note that a worker has ended, and tell the others unless it died."""
        io.ended = how
        self.waiting_for -= 1
        self.report.end_ns = self.carrier.now_ns
        if how != "died":
            self.carrier.farewell(io)
        if not self.waiting_for:
            self.carrier.finish()

    def outcome(self) -> Report:
        """Return what came of the run, in the order of the plan."""
        results = self.report.results
        self.report.results = {id_: results[id_] for id_ in self.ios if id_ in results}
        return self.report

    def gone(self, worker: Worker) -> None:
        """Let the peers of a worker know that it has ended; nothing of it is on its way any more."""
        for channel, group in worker.at.items():
            self._circles[channel, group, worker.role].leave(worker.id)

    def deliver(self, message: Message) -> bool:
        """Give a message to the program it is for; return whether somebody was there to take it."""
        io = self.ios[message.receiver]
        if io.ended or io.stop is None:
            self.report.traffic[message.channel].lost += 1
            return False
        message.arrived_ns = self.carrier.now_ns
        if self._record:
            self.report.spans.append(
                Span(
                    "message",
                    message.sender,
                    message.sent_ns,
                    message.arrived_ns,
                    message.channel,
                    message.receiver,
                    message.size_bytes,
                )
            )
        io.ports[message.channel].put(message)
        return True

    def span(self, kind: str, io: IO, start_ns: int, what: str) -> None:
        """Note how a worker spent the time since then."""
        if self._record and not io.ended:
            self.report.spans.append(Span(kind, io.worker.id, start_ns, self.carrier.now_ns, what))

    def _note(self, io: IO, kind: str) -> None:
        self.report.log.append(Entry(self.carrier.now_ns, io.worker.id, kind, {}))

    def _sweep(self) -> None:
        """Give up what has been waited for as long as the engine is patient; come back when the next may be due."""
        now_ns = self.carrier.now_ns
        next_ns = now_ns + self._patience_ns
        for io in self.ios.values():
            for port in io.ports.values():
                for wait in list(port.waits):
                    if not wait.timed and wait.since_ns + self._patience_ns <= now_ns:
                        wait.give_up()
                    elif not wait.timed:
                        next_ns = min(next_ns, wait.since_ns + self._patience_ns)
        if self.waiting_for:
            self.carrier.call_at(next_ns, self._sweep)


def _by_worker(plan: Plan, faults: Sequence[Fault]) -> dict[str, Fault]:
    found: dict[str, Fault] = {}
    for fault in faults:
        plan.worker(fault.worker)
        if fault.worker in found:
            raise SpecError("faults", "a worker stands twice", repr(fault.worker), "one entry for all that befalls it")
        found[fault.worker] = fault
    return found
