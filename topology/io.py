"""What a program sees of the world: its ports, a clock, a machine and random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.base.errors import ProgramError, did_you_mean
from sim.base.streams import stream
from sim.base.units import ns_from_s
from topology.deadline import Deadline
from topology.engine import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    import numpy as np

    from topology.plan import Worker
    from topology.port import Port
    from topology.stage import Stage


class IO:
    """All that a program may use of the world.

    Attributes:
        worker: Who this is: id, role, groups, dataset, compute.
        step: The step that is under way.
        stage: What it stands on; not for programs.
        ended: Whether it has ended, and how; not for programs.
        flight: How many of its messages are on their way; not for programs.
        slow: Whose steps take how many times as long: factor, from when, until when; not for programs.
    """

    __slots__ = ("_ports", "_rng", "_verbs", "ended", "flight", "slow", "stage", "step", "stop", "worker")

    def __init__(self, worker: Worker, stage: Stage, verbs: Mapping[str, str]) -> None:
        self.worker = worker
        self.stage = stage
        self.step = ""
        self.ended = ""
        self.flight = 0
        self.slow: tuple[tuple[float, int, int | None], ...] = ()
        self.stop: Callable[[], None] | None = None
        self._verbs = verbs
        self._ports: dict[str, Port] = {}
        self._rng: np.random.Generator | None = None

    def __getitem__(self, verb: str) -> Port:
        """Return the port on which a verb acts; the name of a channel does, too.

        Raises:
            ProgramError: There is none.
        """
        port = self._ports.get(self._verbs.get(verb, verb))
        if port is None:
            known = did_you_mean(verb, [*self._verbs, *self._ports])
            raise ProgramError(f"{self.worker.id}, step {self.step}", "has no such verb or channel", repr(verb), known)
        return port

    @property
    def ports(self) -> dict[str, Port]:
        """The ports by the names of their channels."""
        return self._ports

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run began: of the world in a simulation, of a real clock otherwise."""
        return self.stage.carrier.now_ns

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers of this worker: by the run's seed and its id."""
        if self._rng is None:
            role, _, number = self.worker.id.rpartition("/")
            self._rng = stream(self.stage.seed, f"worker {role}", int(number))
        return self._rng

    def deadline(self, timeout_s: float | None) -> Deadline:
        """Return a deadline for several waits: give each of them its `left_s` as `timeout_s`.

        Args:
            timeout_s: Seconds from now on; None for no limit.
        """
        return Deadline(lambda: self.now_ns, timeout_s)

    async def sleep(self, seconds: float) -> None:
        """Let time pass. Machines and stragglers have no influence on it."""
        await self.stage.carrier.sleep(ns_from_s(seconds))

    async def compute(
        self, function: Callable[..., Any] | None = None, *args: Any, seconds: float | None = None
    ) -> Any:
        """Call a function on this worker's machine and return what it returns, when it is done.

        Args:
            function: What to call; None only lets time pass.
            args: Its arguments.
            seconds: What it costs on a machine of speed 1, in virtual time. Without it, the time that the call really
                takes counts, and no two runs are the same. Engines in real time take the time it takes.
        """
        start_ns = self.now_ns
        value = await self.stage.carrier.compute(self, function, args, seconds)
        self.stage.span("compute", self, start_ns, self.step)
        return value

    async def together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Let coroutines run at the same time; return when all have ended."""
        await self.stage.carrier.together(self, jobs)

    def log(self, kind: str, **fields: Any) -> None:
        """Note in the report that something happened."""
        self.stage.report.log.append(Entry(self.now_ns, self.worker.id, kind, fields))

    def slowness(self) -> float:
        """Return how many times as long as usual this worker takes now."""
        now_ns, factor = self.now_ns, 1.0
        for times, from_ns, until_ns in self.slow:
            if from_ns <= now_ns and (until_ns is None or now_ns < until_ns):
                factor *= times
        return factor
