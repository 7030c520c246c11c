"""What a program sees of the world: its ports, a clock, a machine and random numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sim.base.errors import ProgramError, did_you_mean
from sim.base.units import NS_PER_S, ns_from_s
from topology.deadline import Deadline
from topology.port import Port
from topology.report import LogEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    import numpy as np

    from topology.plan import Plan
    from topology.state import WorkerState


class IO:
    """All that a program may use of the world.

    Attributes:
        worker: The worker: id, role, groups, dataset, machine.
    """

    __slots__ = ("_function_tags", "_ports", "_state", "_transport", "worker")

    def __init__(self, state: WorkerState, function_tags: Mapping[str, str]) -> None:
        self.worker = state.worker
        self._state, self._transport = state, state.transport
        self._function_tags = function_tags
        self._ports = {name: Port(mailbox) for name, mailbox in state.mailboxes.items()}

    def __getitem__(self, name: str) -> Port:
        """Return the port for a function tag, or for the name of a channel.

        Raises:
            ProgramError: There is none.
        """
        port = self._ports.get(self._function_tags.get(name, name))
        if port is None:
            hint = did_you_mean(name, [*self._function_tags, *self._ports])
            location = f"{self.worker.id}, step {self.step}"
            raise ProgramError(location, "unknown function tag or channel", repr(name), hint)
        return port

    def port(self, channel: str) -> Port:
        """Return the port of a channel, by its name."""
        return self._ports[channel]

    @property
    def plan(self) -> Plan:
        """All workers, with their groups, datasets and machines."""
        return self._state.context.plan

    @property
    def variants(self) -> Mapping[str, str]:
        """The variants of the workers that run one, of all roles, by the id of the worker."""
        return self._state.context.variants

    @property
    def joined_late(self) -> bool:
        """Whether the worker joined after the run began."""
        return self._state.joined_late

    @property
    def step(self) -> str:
        """The name of the current step."""
        return self._state.step

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run began, in virtual or real time."""
        return self._state.now_ns()

    @property
    def rng(self) -> np.random.Generator:
        """The worker's random numbers: determined by the run's seed and its id."""
        return self._state.rng

    def is_recorder(self, among: Iterable[str]) -> bool:
        """Return whether the worker is the one of some that records what all of them know.

        It is the first of those that have neither left nor died by an injected fault, and joined first. A program must
        base nothing else on it, since a crash is silent.
        """
        faults, now_s = self._state.context.faults, self.now_ns / NS_PER_S

        def until_s(id_: str) -> float:
            fault = faults.get(id_)
            ends = (fault.leave_s, fault.die_s) if fault else ()
            return min((end_s for end_s in ends if end_s is not None), default=math.inf)

        here = [id_ for id_ in among if until_s(id_) >= now_s]
        return self.worker.id == min(here, key=lambda id_: faults[id_].join_s if id_ in faults else 0.0, default="")

    def deadline(self, timeout_s: float | None) -> Deadline:
        """Return a deadline for several waits: give each of them its `left_s` as `timeout_s`.

        Args:
            timeout_s: Seconds from now on; None for no limit.
        """
        return Deadline(self._state.now_ns, timeout_s)

    async def sleep(self, seconds: float) -> None:
        """Let time pass, whatever the speed of the machine."""
        await self._transport.sleep(self._state, ns_from_s(seconds))

    async def compute(
        self, function: Callable[..., Any] | None = None, *args: Any, seconds: float | None = None
    ) -> Any:
        """Call a function on this worker's machine and return its value when the computation is done.

        Args:
            function: The function; None only lets time pass.
            args: Its arguments.
            seconds: Its cost on a machine of speed 1, in virtual time. Without it the time that the call really takes
                counts, and no two runs are the same. In real time it takes the time it takes.
        """
        return await self._transport.compute(self._state, function, args, seconds)

    async def together(self, coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run coroutines concurrently; return when all have ended."""
        await self._transport.together(coroutines)

    def log(self, kind: str, **fields: Any) -> None:
        """Add an event to the report's log."""
        if not self._state.replaying:
            context = self._state.context
            context.report.log.append(LogEntry(self.now_ns, self.worker.id, kind, fields))
            if context.watch is not None:
                context.watch(context.report)
