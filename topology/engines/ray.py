"""Many machines: actors of Ray, each with the runtime of some workers. Ray delivers; the programs are the same."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from sim.base.errors import SpecError, SsimError
from sim.base.parameters import Positive, PositiveInt  # noqa: TC001 - fields are checked by their annotations
from topology.binding import bind
from topology.engine import Engine, RunSpec
from topology.engines.realtime import RealTimeTransport
from topology.report import RunReport
from topology.runtime import WorkerRuntime
from topology.tag import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from topology.message import Message
    from topology.plan import Plan, Worker

_PATIENCE_S = 10.0
"""How long the head of a cluster may take to answer, in seconds."""
_START_TIMEOUT_S = 60.0
"""How long actors may take to start, in seconds."""


@dataclass(frozen=True, slots=True)
class RayEngine(Engine):
    """Runs plans on the Ray cluster that this process is connected to, on that of an address, or on one of its own.

    Workers of one machine share an actor; those of `default` are spread. Between actors messages are pickled by Ray,
    and arrays arrive read-only; within an actor messages are references.

    Attributes:
        actors: How many processes; None for one for each core of the cluster, at most one for each worker.
        default_timeout_s: How long a wait without a timeout of its own may take, in seconds.
        record: Whether the report holds spans.
        address: The cluster; None for that of RAY_ADDRESS, or else one that is started here.
    """

    actors: PositiveInt | None = None
    default_timeout_s: Positive = 60.0
    record: bool = False
    address: str | None = None

    def execute(self, run: RunSpec) -> RunReport:
        """Run it; return the report.

        Raises:
            TagError: A program does not fit its role.
            SsimError: A program failed or waited too long; an actor was lost; the cluster has too few resources.
        """
        bind(run.plan.tag, run.programs)  # errors are reported here rather than in an actor
        with _cluster(self.address, self.actors):
            count = min(self.actors or int(_resources().get("cpu", 1)), len(run.plan))
            homes = _homes(run.plan, max(1, count))
            handles = _actors(run.plan, homes, (replace(run, programs=dict(run.programs), watch=None), homes, self))
            try:
                report = _outcome(handles)
            finally:
                for handle in handles:
                    ray.kill(handle)
        results = report.results
        report.results = {worker.id: results[worker.id] for worker in run.plan.workers if worker.id in results}
        return report


def _homes(plan: Plan, count: int) -> dict[str, int]:
    """Return the number of the actor of each worker: whole machines, largest first, to the least loaded actor."""
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
    """Start the actors; return their handles when all are running.

    Raises:
        SpecError: The roles require more than the cluster has.
        SsimError: They do not start.
    """
    needs: list[dict[str, float]] = [{} for _ in range(max(homes.values()) + 1)]
    for worker in plan.workers:
        for name, amount in plan.tag.role(worker.role).resources.items():
            need = needs[homes[worker.id]]
            need[name] = need.get(name, 0.0) + amount
    available = _resources()
    for name in {name for need in needs for name in need}:
        required = sum(need.get(name, 0.0) for need in needs)
        if required > available.get(name, 0.0):
            hint = f"{available.get(name, 0):g} available"
            raise SpecError("ray", f"the roles require more {name} than the cluster has", f"{required:g}", hint)
    shared = ray.put(parts)
    handles = [_remote_actor(need).remote(number, shared) for number, need in enumerate(needs)]
    try:
        ray.get([handle.meet.remote(handles) for handle in handles], timeout=_START_TIMEOUT_S)
    except (GetTimeoutError, RayActorError) as error:
        raise SsimError("ray", "the actors do not start", str(error), "see `ray status`") from error
    return handles


def _resources() -> dict[str, float]:
    """Return the cluster's resources, by lower-case name."""
    untyped: Any = ray
    return {name.lower(): amount for name, amount in untyped.cluster_resources().items()}


def _remote_actor(need: Mapping[str, float]) -> Any:
    remote: Any = ray.remote(_Home)
    return remote.options(
        num_cpus=need.get("cpu", 0),
        num_gpus=need.get("gpu", 0),
        resources={name: amount for name, amount in need.items() if name not in {"cpu", "gpu"}},
        scheduling_strategy="SPREAD",  # over the machines: actors that require no cpu could be put anywhere
        max_restarts=0,
    )


def _outcome(handles: Sequence[Any]) -> RunReport:
    """Run the actors; return their merged report.

    Raises:
        SsimError: A program failed or waited too long, or an actor was lost.
    """
    start = time.time()
    waiting = [handle.run.remote(start) for handle in handles]
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
        raise SsimError("ray", "an actor and its workers were lost", str(error).splitlines()[0]) from error


def _merged(reports: Sequence[RunReport]) -> RunReport:
    merged = RunReport(traffic=reports[0].traffic)
    for report in reports:
        merged.results |= report.results
        merged.ended |= report.ended
        merged.end_ns = max(merged.end_ns, report.end_ns)
        merged.log += report.log
        merged.spans += report.spans
    for report in reports[1:]:
        for name, traffic in report.traffic.items():
            merged.traffic[name].messages += traffic.messages
            merged.traffic[name].bytes += traffic.bytes
            merged.traffic[name].lost += traffic.lost
    merged.log.sort(key=lambda entry: entry.at_ns)
    merged.spans.sort(key=lambda span: (span.end_ns, span.start_ns))
    return merged


class Move(NamedTuple):
    """Tells that a worker has joined or left.

    Attributes:
        worker: Its id.
        joins: Whether it has joined.
        returns: Whether it may come back, if it has left.
    """

    worker: str
    joins: bool = False
    returns: bool = False


class _ActorTransport(RealTimeTransport):
    """Sends messages to other actors, in order."""

    def __init__(self, home: _Home, start: float) -> None:
        super().__init__(time.time, start, jobs=1)
        self._home = home

    def send(self, message: Message) -> None:
        """Deliver a message to its receiver's actor."""
        actor = self._home.homes[message.receiver]
        if actor == self._home.number:
            self.runtime.deliver(message)
        else:
            self._home.post(actor, message)

    def notify_left(self, worker: Worker, *, returns: bool) -> None:
        """Notify all runtimes that a worker has left, after all of its messages."""
        self._home.announce(Move(worker.id, returns=returns))

    def notify_joined(self, worker: Worker) -> None:
        """Notify all runtimes that a worker has joined, after they know of its absence."""
        self._home.announce(Move(worker.id, joins=True))


class _Home:
    """An actor: the runtime of some workers, and the batches of messages between it and the other actors.

    Ray may start the calls of an actor out of order; therefore batches carry sequence numbers.
    """

    def __init__(self, number: int, parts: tuple[RunSpec, dict[str, int], RayEngine]) -> None:
        self._run, self.homes, self._engine = parts
        self.number = number
        self.handles: list[Any] = []
        self._runtime: WorkerRuntime | None = None
        self._outbox: dict[int, list[Message | Move]] = {}
        self._sent: dict[int, int] = {}
        self._early: dict[tuple[int, int], list[Message | Move]] = {}
        self._next: dict[int, int] = {}

    async def meet(self, handles: Sequence[Any]) -> None:
        """Take the handles of all actors."""
        self.handles = list(handles)

    async def run(self, start: float) -> None:
        """Run the workers until all have ended."""
        transport = _ActorTransport(self, start)
        transport.runtime = self._runtime = WorkerRuntime(
            self._run,
            transport,
            default_timeout_s=self._engine.default_timeout_s,
            record=self._engine.record,
            own={id_ for id_, home in self.homes.items() if home == self.number},
        )
        try:
            task = asyncio.ensure_future(transport.perform(self._runtime))
            await asyncio.sleep(0)  # the workers have started: they take what arrived before
            self._deliver_batches()
            await task
        finally:
            self._flush()

    def announce(self, move: Move) -> None:
        """Announce that a worker has joined or left to all actors."""
        for actor in range(len(self.handles)):
            if actor != self.number:
                self.post(actor, move)
        if self._runtime is not None:
            self._move(self._runtime, move)

    @staticmethod
    def _move(runtime: WorkerRuntime, move: Move) -> None:
        worker = runtime.plan.worker(move.worker)
        if move.joins:
            runtime.worker_joined(worker)
        else:
            runtime.worker_left(worker, returns=move.returns)

    def post(self, actor: int, item: Message | Move) -> None:
        """Send a message to an actor, or tell it that a worker has joined or left."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.setdefault(actor, []).append(item)

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, {}
        for actor, batch in outbox.items():
            number = self._sent.get(actor, 0)
            self._sent[actor] = number + 1
            self.handles[actor].receive.remote(self.number, number, batch)

    async def receive(self, sender: int, number: int, batch: list[Message | Move]) -> None:
        """Take a batch from another actor."""
        self._early[sender, number] = batch
        if self._runtime is not None and self._runtime.started:
            self._deliver_batches()

    def _deliver_batches(self) -> None:
        """Deliver all batches that are next in order."""
        runtime = self._runtime
        if runtime is None:
            return
        for sender in range(len(self.handles)):
            while (batch := self._early.pop((sender, self._next.get(sender, 0)), None)) is not None:
                self._next[sender] = self._next.get(sender, 0) + 1
                for item in batch:
                    if isinstance(item, Move):
                        self._move(runtime, item)
                    else:
                        runtime.deliver(item)

    async def report(self) -> RunReport:
        """Return the report of the workers of this actor."""
        if self._runtime is None:
            raise SsimError("ray", "the run has not started")
        return self._runtime.report()


@contextmanager
def _cluster(address: str | None, actors: int | None) -> Generator[None]:
    """Provide a cluster: the connected one, that of an address, or one that is started here and ends with the context.

    Raises:
        SsimError: There is none at the address, or none can be started.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        connect(address, actors)
    except (OSError, RuntimeError, ValueError) as error:
        what = "no cluster answers" if address else "a local cluster cannot be started"
        hint = "host:port, ray://host:port or auto, by --address or RAY_ADDRESS; see `ray status` there"
        raise SsimError(f"ray, {address}" if address else "ray", what, str(error), hint if address else "") from error
    try:
        yield
    finally:
        ray.shutdown()


def connect(address: str | None, cores: int | None) -> None:
    """Connect this process to the cluster of an address; without one, to one that is started here.

    Args:
        address: `host:port`, `ray://host:port` or `auto`.
        cores: How many cores a cluster that is started here has; None for all of the machine.

    Raises:
        OSError: Nobody answers there.
        RuntimeError: The cluster can't be used, such as for another version of Ray.
        ValueError: The address is none.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            reach(address)
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except SystemExit as ended:  # what Ray makes of SIGTERM
        raise KeyboardInterrupt from ended
    finally:
        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, handler)


def reach(address: str) -> None:
    """Pass if somebody listens at a host and port; `auto` says neither, and Ray looks for it by itself.

    Raises:
        OSError: Nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_S).close()
