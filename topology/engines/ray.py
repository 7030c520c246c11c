"""Many machines: actors of Ray, each with a stage of some workers. Ray carries; the programs are the same."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from sim.base.errors import SpecError, SsimError
from sim.base.parameters import Parameters, Positive, PositiveInt
from topology.binding import bind
from topology.engine import Report
from topology.engines.realtime import RealTime
from topology.stage import Stage
from topology.tag import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from topology.io import IO
    from topology.message import Message
    from topology.parties import Fault
    from topology.plan import Plan
    from topology.port import Port
    from topology.program import Program

_SETTLE_S = 60.0
"""How long actors may take to start."""


@dataclass(frozen=True, slots=True)
class RayEngine(Parameters):
    """Runs plans on the Ray cluster that this process is connected to, or on one that is started here for the run.

    Workers of one compute share an actor; those of `default` are spread. Between actors messages are pickled by Ray,
    whose arrays can't be written to where they arrive; within an actor they are references.

    Attributes:
        actors: How many processes; None is one for each core of the cluster, at most one for each worker.
        patience_s: How long a program may wait for something without having said how long, in seconds.
        record: Whether the report holds how each worker and each message spent its time.
    """

    actors: PositiveInt | None = None
    patience_s: Positive = 60.0
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
            SsimError: A program failed, or waited in vain; an actor was lost; the cluster has too little.
        """
        bind(plan.tag, programs)  # told here rather than in an actor
        with _cluster(self.actors):
            count = min(self.actors or int(_resources().get("cpu", 1)), len(plan))
            homes = _homes(plan, max(1, count))
            handles = _actors(plan, homes, (plan, dict(programs), homes, seed, tuple(faults), self))
            try:
                report = _outcome(handles)
            finally:
                for handle in handles:
                    ray.kill(handle)
        report.results = {
            worker.id: report.results[worker.id] for worker in plan.workers if worker.id in report.results
        }
        return report


def _homes(plan: Plan, count: int) -> dict[str, int]:
    """Return the number of the actor of each worker: whole computes, largest first, to the emptiest actor."""
    units: dict[str, list[str]] = {}
    for worker in plan.workers:
        units.setdefault(worker.id if worker.compute == DEFAULT else f"@{worker.compute}", []).append(worker.id)
    load = [0] * count
    homes: dict[str, int] = {}
    for _, members in sorted(units.items(), key=lambda unit: -len(unit[1])):
        emptiest = load.index(min(load))
        load[emptiest] += len(members)
        homes |= dict.fromkeys(members, emptiest)
    return homes


def _actors(plan: Plan, homes: Mapping[str, int], parts: tuple[Any, ...]) -> list[Any]:
    """Start the actors and return their handles, when each of them is there.

    Raises:
        SpecError: The roles ask for more than the cluster has.
        SsimError: They don't start.
    """
    needs: list[dict[str, float]] = [{} for _ in range(max(homes.values()) + 1)]
    for worker in plan.workers:
        for name, amount in plan.tag.role(worker.role).resources.items():
            need = needs[homes[worker.id]]
            need[name] = need.get(name, 0.0) + amount
    there = _resources()
    for name in {name for need in needs for name in need}:
        asked = sum(need.get(name, 0.0) for need in needs)
        if asked > there.get(name, 0.0):
            raise SpecError(
                "ray", f"the roles ask for more {name} than the cluster has", f"{asked:g}", f"{there.get(name, 0):g}"
            )
    shared = ray.put(parts)
    handles = [_remote_actor(need).remote(number, shared) for number, need in enumerate(needs)]
    try:
        ray.get([handle.meet.remote(handles) for handle in handles], timeout=_SETTLE_S)
    except (GetTimeoutError, RayActorError) as error:
        raise SsimError("ray", "actors do not start", str(error), "see `ray status`") from error
    return handles


def _resources() -> dict[str, float]:
    """Return what the cluster has, by names in small letters."""
    known: Any = ray
    return {name.lower(): amount for name, amount in known.cluster_resources().items()}


def _remote_actor(need: Mapping[str, float]) -> Any:
    remote: Any = ray.remote(_Home)
    return remote.options(
        num_cpus=need.get("cpu", 0),
        num_gpus=need.get("gpu", 0),
        resources={name: amount for name, amount in need.items() if name not in {"cpu", "gpu"}},
        scheduling_strategy="SPREAD",  # over the machines: what takes no cpu would be put anywhere
        max_restarts=0,
    )


def _outcome(handles: Sequence[Any]) -> Report:
    """Let the actors run and return their reports in one.

    Raises:
        SsimError: A program failed or waited in vain, or an actor was lost.
    """
    begin = time.time()
    waiting = [handle.run.remote(begin) for handle in handles]
    try:
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            ray.get(done)
        return _merged(ray.get([handle.report.remote() for handle in handles]))
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SsimError):
            raise cause from error
        raise SsimError("ray", "an actor failed", str(cause)) from error
    except RayActorError as error:
        raise SsimError("ray", "an actor was lost, and its workers with it", str(error).splitlines()[0]) from error


def _merged(reports: Sequence[Report]) -> Report:
    whole = Report(traffic=reports[0].traffic)
    for report in reports:
        whole.results |= report.results
        whole.ended |= report.ended
        whole.end_ns = max(whole.end_ns, report.end_ns)
        whole.log += report.log
        whole.spans += report.spans
    for report in reports[1:]:
        for name, traffic in report.traffic.items():
            whole.traffic[name].messages += traffic.messages
            whole.traffic[name].bytes += traffic.bytes
            whole.traffic[name].lost += traffic.lost
    whole.log.sort(key=lambda entry: entry.at_ns)
    whole.spans.sort(key=lambda span: (span.end_ns, span.start_ns))
    return whole


class _Carrier(RealTime):
    """Brings messages to other actors, in the order in which they were sent."""

    def __init__(self, home: _Home, start: float) -> None:
        super().__init__(time.time, start, jobs=1)
        self._home = home

    def carry(self, message: Message, port: Port) -> None:
        """Bring a message to its receiver's actor."""
        there = self._home.homes[message.receiver]
        if there == self._home.number:
            self.stage.deliver(message)
        else:
            self._home.post(there, message)

    def farewell(self, io: IO) -> None:
        """Tell all stages that a worker has ended, behind all that it sent."""
        self.stage.gone(io.worker)
        for there in range(len(self._home.handles)):
            if there != self._home.number:
                self._home.post(there, io.worker.id)


class _Home:
    """An actor: a stage, and the mail between it and the other actors.

    Ray may begin the calls of an actor out of order, so that letters carry numbers.
    """

    def __init__(self, number: int, parts: tuple[Any, ...]) -> None:
        plan, programs, self.homes, seed, faults, engine = parts
        self.number = number
        self.handles: list[Any] = []
        self._plan, self._programs = plan, programs
        own = {id_ for id_, home in self.homes.items() if home == number}
        self._terms: dict[str, Any] = {
            "seed": seed,
            "faults": faults,
            "patience_s": engine.patience_s,
            "record": engine.record,
            "own": own,
        }
        self._stage: Stage | None = None
        self._outbox: dict[int, list[Message | str]] = {}
        self._sent: dict[int, int] = {}
        self._early: dict[tuple[int, int], list[Message | str]] = {}
        self._next: dict[int, int] = {}

    async def meet(self, handles: Sequence[Any]) -> None:
        """Take the handles of all actors."""
        self.handles = list(handles)

    async def run(self, start: float) -> None:
        """Run the workers until all have ended."""
        carrier = _Carrier(self, start)
        carrier.stage = self._stage = Stage(self._plan, self._programs, carrier, **self._terms)
        running = carrier.perform(self._stage)
        try:
            await self._with_mail(running)
        finally:
            self._flush()

    async def _with_mail(self, running: Any) -> None:
        task = asyncio.ensure_future(running)
        await asyncio.sleep(0)  # the workers are there now: what came before them is theirs
        self._sort()
        await task

    def post(self, there: int, letter: Message | str) -> None:
        """Send something to an actor: a message, or the id of a worker that has ended."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.setdefault(there, []).append(letter)

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, {}
        for there, letters in outbox.items():
            number = self._sent.get(there, 0)
            self._sent[there] = number + 1
            self.handles[there].receive.remote(self.number, number, letters)

    async def receive(self, sender: int, number: int, letters: list[Message | str]) -> None:
        """Take what an actor sent."""
        self._early[sender, number] = letters
        if self._stage is not None and self._stage.begun:
            self._sort()

    def _sort(self) -> None:
        """Hand on all that is there in the order of its numbers."""
        stage = self._stage
        if stage is None:
            return
        for sender in range(len(self.handles)):
            while (letters := self._early.pop((sender, self._next.get(sender, 0)), None)) is not None:
                self._next[sender] = self._next.get(sender, 0) + 1
                for letter in letters:
                    if isinstance(letter, str):
                        stage.gone(stage.plan.worker(letter))
                    else:
                        stage.deliver(letter)

    async def report(self) -> Report:
        """Return what came of the workers here."""
        if self._stage is None:
            raise SsimError("ray", "the run has not begun")
        return self._stage.report


@contextmanager
def _cluster(actors: int | None) -> Generator[None]:
    """Give a cluster: the one there is, or one that is started here and ends with the context."""
    if ray.is_initialized():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init("local", num_cpus=actors, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except SystemExit as ended:  # what Ray makes of SIGTERM
        raise KeyboardInterrupt from ended
    except (OSError, RuntimeError, ValueError) as error:
        raise SsimError("ray", "no cluster can be started here", str(error)) from error
    finally:
        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()
