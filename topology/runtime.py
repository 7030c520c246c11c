"""Runs the workers of a plan that share a process: their programs, their mailboxes, and the membership of all groups.

It is the same for all engines. An engine in one process has one runtime. An engine with many processes has one in each,
with the workers that run there, and each of them tracks the membership of all workers.
"""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from sim.base.errors import ClosedError, ProgramError, SsimError, raised
from sim.base.units import NS_PER_S, ns_from_s
from topology.binding import bind
from topology.faults import begins_s, by_worker, presence_of, refuse_sessions
from topology.interpreter import Interpreter
from topology.io import IO
from topology.membership import Membership
from topology.program import Break, Continue
from topology.report import LogEntry, RunReport, Span, Traffic
from topology.state import AWAY, Mailbox, RunContext, WorkerState
from topology.variants import drawn_variants
from topology.wait_chain import orphaned, root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from topology.deployment import InjectedFault
    from topology.engine import RunSpec
    from topology.message import Message
    from topology.plan import Worker
    from topology.transport import Transport


class WorkerRuntime:
    """The workers of a process.

    Args:
        run: What is run.
        transport: The engine's side.
        default_timeout_s: How long a wait without a timeout of its own may take, in seconds.
        record: Whether spans are recorded.
        own: The ids of the workers of this process; None for all.

    Attributes:
        plan: The plan of all workers.
        states: The workers of this process, by id.
        interpreters: Their interpreters, by id.
        running: How many of them have not ended; those that are to come back have not.
        started: Whether they have been started.
    """

    def __init__(
        self,
        run: RunSpec,
        transport: Transport,
        *,
        default_timeout_s: float,
        record: bool,
        own: Collection[str] | None = None,
    ) -> None:
        self.plan = run.plan
        self.states: dict[str, WorkerState] = {}
        self.started = False
        traffic = {channel.name: Traffic() for channel in run.plan.tag.channels}
        report = RunReport(traffic=traffic, recording=record)
        self._faults = by_worker(run.plan, run.faults)
        self._variants = drawn_variants(run.plan, run.seed)
        self._context = RunContext(transport, report, run.plan, run.seed, run.watch, self._faults, self._variants)
        self._transport, self._report = transport, report
        self._default_timeout_ns = ns_from_s(default_timeout_s)
        self._died: dict[str, int] = {}
        self.interpreters: dict[str, Interpreter] = {}
        self._away = 0
        absent = [worker for worker, fault in self._faults.items() if begins_s(fault) > 0]
        self._memberships = {
            (channel, group, role): Membership(run.plan.members(channel, group, role), absent)
            for channel, group, role in run.plan.index
        }
        self._set_up(run, own)
        self.running = len(self.states)

    def _set_up(self, run: RunSpec, own: Collection[str] | None) -> None:
        self._bindings = bind(run.plan.tag, run.programs)
        channels = {role.name: run.plan.tag.channels_of(role.name) for role in run.plan.tag.roles}
        idle = {key: binding.idle_channels for key, binding in self._bindings.items()}
        for worker in run.plan.workers:
            if own is None or worker.id in own:
                key = self._program_key(worker)
                binding = self._bindings[key]
                if worker.id in self._faults and self._faults[worker.id].sessions and not idle[key]:
                    refuse_sessions(worker, binding.owner)
                state = self.states[worker.id] = WorkerState(worker, self._context, idle[key])
                for channel in channels[worker.role]:
                    group = worker.at[channel.name]
                    peers = self._memberships[channel.name, group, channel.peer_of(worker.role)]
                    own_group = self._memberships[channel.name, group, worker.role]
                    selector = binding.selectors[channel.name]
                    mailbox = state.mailboxes[channel.name] = Mailbox(state, channel, peers, own_group, selector)
                    peers.subscribers.append(mailbox)
                io = IO(state, binding.function_tags)
                self.interpreters[worker.id] = Interpreter(binding.make(), io, state)

    def _program_key(self, worker: Worker) -> str:
        """Return the key of a worker's program among the bindings."""
        variant = self._variants.get(worker.id)
        return worker.role if variant is None else f"{worker.role}/{variant}"

    def start(self, known: Mapping[str, str] | None = None) -> None:
        """Start the workers, and schedule the faults.

        Args:
            known: What became of the workers of other processes (`presence`), if those of this one join in mid-run.
        """
        for id_, how in (known or {}).items():
            if how == "present":
                self.worker_joined(self.plan.worker(id_))
            elif how != "absent":
                self.worker_left(self.plan.worker(id_), returns=how == AWAY)
        for id_, state in self.states.items():
            if known is not None:
                self.worker_left(state.worker, returns=True)
            elif id_ in self._variants:
                self._log(state, "variant", name=self._variants[id_])
            fault = self._faults.get(id_)
            if fault is not None:
                self._inject(state, fault, late=known is not None)
            elif known is not None:
                self._come(state)
            else:
                self._start(state)
        self.started = True
        self._expire_timeouts()

    def presence(self) -> dict[str, str]:
        """Return of each worker whether it is `present`, `absent` (still to join), `away` (to come back) or `ended`."""
        return {id_: presence_of(state) for id_, state in self.states.items()}

    def _inject(self, state: WorkerState, fault: InjectedFault, *, late: bool) -> None:
        """Start a worker now or when it joins, and schedule its end."""
        now_s = self._transport.now_ns / NS_PER_S if late else 0.0
        number = next(n for n in itertools.count() if (fault.session(n) or (0, math.inf))[1] > now_s)
        session = fault.session(number)
        if session is None or (fault.die_s is not None and fault.die_s <= now_s):
            self._stop(state, "left" if session is None else "died")  # it never starts
            return
        if fault.slow != 1:
            until_ns = None if fault.slow_until_s is None else ns_from_s(fault.slow_until_s)
            state.slow = (fault.slow, ns_from_s(fault.slow_from_s), until_ns)
        if session[0] > now_s:
            self._transport.call_at(ns_from_s(session[0]), partial(self._come, state))
        elif late:
            self._come(state)
        else:
            self._start(state)
        if session[1] < math.inf:
            self._transport.call_at(ns_from_s(session[1]), partial(self._go, state, fault, number))
        if fault.die_s is not None:
            self._transport.call_at(ns_from_s(fault.die_s), partial(self._stop, state, "died"))

    def _start(self, state: WorkerState) -> None:
        state.stop = self.start_at(state)

    def start_at(self, state: WorkerState, position: int = 0) -> Callable[[], None]:
        """Start a worker at a step of its program; return what stops it."""
        return self._transport.start(self._run(state, position))

    def _come(self, state: WorkerState) -> None:
        """Start a worker that joins late, or comes back."""
        if state.ended not in {"", AWAY}:
            return
        self._away -= state.ended == AWAY
        state.ended = ""
        state.joined_late = True
        self._log(state, "joined")
        self._transport.notify_joined(state.worker)
        self._start(state)

    def _go(self, state: WorkerState, fault: InjectedFault, number: int) -> None:
        """End a session of a worker: it leaves, or goes away until the next one."""
        following = fault.session(number + 1)
        if following is None or state.ended:
            self._stop(state, "left")
            return
        self._transport.call_at(ns_from_s(following[0]), partial(self._come, state))
        self._transport.call_at(ns_from_s(following[1]), partial(self._go, state, fault, number + 1))
        self._log(state, "left")
        state.ended = AWAY
        self._away += 1
        self._transport.notify_left(state.worker, returns=True)
        if state.stop is not None:
            state.stop()
        for mailbox in state.mailboxes.values():
            mailbox.inbox = None
        self.interpreters[state.worker.id].renew(self._bindings[self._program_key(state.worker)].make())
        self._end_if_over()

    async def _run(self, state: WorkerState, position: int) -> None:
        id_ = state.worker.id
        interpreter = self.interpreters[id_]
        try:
            await interpreter.run(position)
            self._report.results[id_] = interpreter.program.result()
        except ClosedError:  # all of its peers have ended: nothing is left to do
            self._log(state, "closed")
            self._report.ended[id_] = "closed"
        except (Continue, Break):
            location, hint = f"{id_}, step {state.step}", "only steps of a loop may raise them"
            raise ProgramError(location, "Continue or Break outside of a loop", hint=hint) from None
        except SsimError:
            raise
        except (Exception, SystemExit) as error:
            raise ProgramError(f"{id_}, step {state.step}", *raised(error)) from error
        self._end(state, "ended")

    def _stop(self, state: WorkerState, how: str) -> None:
        """End a worker from outside."""
        if state.ended in {"", AWAY}:
            self._log(state, how)
            self._report.ended[state.worker.id] = how
            self._end(state, how)
            if state.stop is not None:
                state.stop()

    def _end(self, state: WorkerState, how: str) -> None:
        """Mark a worker as ended; notify the others unless it died."""
        self._away -= state.ended == AWAY
        state.ended = how
        self.running -= 1
        self._report.end_ns = self._transport.now_ns
        if how == "died":
            self._died[state.worker.id] = self._transport.now_ns
        else:
            self._transport.notify_left(state.worker, returns=False)
        if not self.running:
            self._transport.finish()
            return
        if self._died and how != "orphaned":
            self._end_orphans()
        self._end_if_over()

    def _end_if_over(self) -> None:
        """End the workers that are away, if no others are left and nobody will be there when they come back."""
        if not self.running or self._away < self.running:
            return
        away = [state for state in self.states.values() if state.ended == AWAY]
        if not any(mailbox.any_remaining() for state in away for mailbox in state.mailboxes.values()):
            for state in away:
                state.ended = self._report.ended[state.worker.id] = "left"
            self.running = self._away = 0
            self._transport.finish()

    def report(self) -> RunReport:
        """Return the report, with results in the order of the plan."""
        results = self._report.results
        self._report.results = {id_: results[id_] for id_ in self.states if id_ in results}
        return self._report

    def stop(self) -> None:
        """Stop all workers."""
        for state in self.states.values():
            if state.stop is not None:
                state.stop()

    def worker_left(self, worker: Worker, *, returns: bool = False) -> None:
        """Note that a worker has left and that all of its messages have arrived.

        Args:
            worker: The worker.
            returns: Whether it may come back.
        """
        for channel, group in worker.at.items():
            self._memberships[channel, group, worker.role].leave(worker.id, returns=returns)
        self._end_if_over()

    def worker_joined(self, worker: Worker) -> None:
        """Note that a worker has joined."""
        for channel, group in worker.at.items():
            self._memberships[channel, group, worker.role].join(worker.id)

    def lose(self, message: Message) -> None:
        """Count a message as lost."""
        self._report.traffic[message.channel].lost += 1

    @property
    def recording(self) -> bool:
        """Whether spans are recorded."""
        return self._report.recording

    def count_pickled(self, channel: str, size_bytes: int) -> None:
        """Count the bytes of a message to another process."""
        self._report.traffic[channel].pickled += size_bytes

    def deliver(self, message: Message) -> None:
        """Put a message into its receiver's mailbox; it is lost if the receiver does not run."""
        state = self.states[message.receiver]
        if state.ended or state.stop is None:
            self.lose(message)
            return
        message.arrived_ns = self._transport.now_ns
        if self._report.recording:
            self._report.spans.append(
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
        state.mailboxes[message.channel].put(message)

    def _log(self, state: WorkerState, kind: str, **fields: str) -> None:
        self._report.log.append(LogEntry(self._transport.now_ns, state.worker.id, kind, fields))

    def stored(self) -> dict[str, Any]:
        """Return all that has changed since the workers were started, but for the engine's part."""
        workers = {
            id_: {
                "fields": {name: getattr(state, name) for name in _STORED},
                "started": state.stop is not None,
                "mailboxes": {name: (mailbox.inbox, mailbox.waits) for name, mailbox in state.mailboxes.items()},
            }
            for id_, state in self.states.items()
        }
        memberships = {key: membership.stored() for key, membership in self._memberships.items()}
        own = {"running": self.running, "died": self._died, "away": self._away}
        return {"workers": workers, "memberships": memberships, "report": self._report, "own": own}

    def restore(self, stored: dict[str, Any]) -> None:
        """Put back what `stored` returned; the workers are started by the engine."""
        for id_, worker in stored["workers"].items():
            state = self.states[id_]
            for name, value in worker["fields"].items():
                setattr(state, name, value)
            state.stop = _not_started if worker["started"] else None
            for name, (inbox, waits) in worker["mailboxes"].items():
                state.mailboxes[name].inbox, state.mailboxes[name].waits = inbox, waits
        for key, membership in stored["memberships"].items():
            self._memberships[key].restore(membership)
        report: RunReport = stored["report"]
        for name, traffic in report.traffic.items():
            own = self._report.traffic[name]
            own.messages, own.bytes, own.lost = traffic.messages, traffic.bytes, traffic.lost
        for name in ("results", "ended", "end_ns", "log", "spans", "recording"):
            setattr(self._report, name, getattr(report, name))
        self.running, self._died, self._away = (stored["own"][name] for name in ("running", "died", "away"))
        self.started = True

    def _expire_timeouts(self) -> None:
        """Fail if a wait has reached the default timeout; come back when the next may reach it.

        Workers that wait for work from dead ones fail nothing while others go on.
        """
        now_ns = self._transport.now_ns
        next_ns = now_ns + self._default_timeout_ns
        expired = []
        for state in self.states.values():
            for wait in state.waits():
                if not wait.has_timeout and wait.since_ns + self._default_timeout_ns <= now_ns:
                    expired.append(wait)
                elif not wait.has_timeout:
                    next_ns = min(next_ns, wait.since_ns + self._default_timeout_ns)
        if expired and not self._end_orphans():
            orphans = orphaned(self.states, self._died)
            failed = [wait for wait in expired if wait.mailbox.owner.worker.id not in orphans]
            if failed:
                root_of(failed, self.states, self._died).fail(self._died)
        if self.running:
            self._transport.call_at(next_ns, self._expire_timeouts)

    def _end_orphans(self) -> bool:
        """End the workers that wait for work from dead ones if no others are left; return whether it is so."""
        running = [state for state in self.states.values() if not state.ended]
        if len(orphaned(self.states, self._died)) < len(running):
            return False
        for state in running:
            self._stop(state, "orphaned")
        return bool(running)


_STORED = ("ended", "joined_late", "slow", "step", "tape")
"""What is stored of the state of a worker."""


def _not_started() -> None:
    """Stand for what stops a worker, until it is started."""
