"""An actor of Ray: the runtime of some workers, and what it exchanges with the other actors."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import platform
import socket
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from topology.engines.realtime import RealTimeTransport
from topology.report import RunReport
from topology.rests import RoundKeeper
from topology.runtime import WorkerRuntime

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from topology.engine import RunSpec
    from topology.message import Message
    from topology.plan import Worker
    from topology.rests import Rest, RestedWorker
    from topology.sites import PlannedProcess

_DISTRIBUTION = "superserve-sim"
_PACKAGES = ("sim", "supernet", "topology", "federated")
"""The packages of the toolkit whose code runs in actors."""
_LATER_S = 0.2
"""How long a report may be older than what has happened, in seconds."""


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


class ActorBatch(NamedTuple):
    """What an actor sends to another one at once. Ray may start the calls of an actor out of order.

    Attributes:
        sender: The number of the actor that sends it.
        restarts: How many times the sender had been restarted ...
        receiver_restarts: ... and the receiver, as far as the sender knew.
        number: From 0, in order.
        items: The messages and moves.
    """

    sender: int
    restarts: int
    receiver_restarts: int
    number: int
    items: list[Message | Move]


class RestedActor(NamedTuple):
    """The workers of an actor after a number of rounds.

    Attributes:
        rounds: The number.
        workers: The workers by id; none if they can't be kept, or all have ended.
        refused: Why they can't be kept, or "".
        news: What was recorded.
    """

    rounds: int
    workers: dict[str, RestedWorker]
    refused: str
    news: RunReport


class RunSettings(NamedTuple):
    """What all actors of a run know.

    Attributes:
        run: What is run.
        processes: The workers of each actor.
        default_timeout_s: How long a wait without a timeout of its own may take, in seconds.
        record: Whether the report holds spans.
        count_pickled: Whether messages to other processes are counted as they are pickled.
    """

    run: RunSpec
    processes: list[PlannedProcess]
    default_timeout_s: float
    record: bool
    count_pickled: bool


def facts(files: Sequence[Path]) -> dict[str, str]:
    """Return what must be the same on all machines: versions, the toolkit's code, and a user's own files.

    Args:
        files: The files; one that is not there is "missing".
    """
    root = Path(__file__).resolve().parents[2]
    code = hashlib.sha256()
    for path in sorted(path for name in _PACKAGES for path in (root / name).rglob("*.py")):
        code.update(path.read_bytes())
    found = {_DISTRIBUTION: f"{_version(_DISTRIBUTION)}, code {code.hexdigest()[:8]}"}
    found |= {"Python": platform.python_version()} | {name: _version(name) for name in ("torch", "numpy")}
    for path in files:
        hashed = hashlib.sha256(path.read_bytes()).hexdigest()[:8] if path.is_file() else "missing"
        found[str(path)] = hashed
    return found


def _version(distribution: str) -> str:
    """Return the version of a distribution on this machine, whatever it was built for."""
    try:
        return version(distribution).partition("+")[0]
    except PackageNotFoundError:
        return "missing"


class _ActorTransport(RealTimeTransport):
    """Sends messages to other actors, in order."""

    def __init__(self, actor: RuntimeActor, start: float) -> None:
        super().__init__(time.time, start, jobs=1)
        self._actor = actor

    def send(self, message: Message) -> None:
        """Deliver a message to its receiver's actor."""
        self.runtime.count_in_round(message)
        number = self._actor.number_of(message.receiver)
        if number == self._actor.number:
            self.runtime.deliver(message)
        else:
            if self._actor.counts_pickled:
                self.runtime.count_pickled(message.channel, len(pickle.dumps(message.value, pickle.HIGHEST_PROTOCOL)))
            self._actor.post(number, message)

    def notify_left(self, worker: Worker, *, returns: bool) -> None:
        """Notify all runtimes that a worker has left, after all of its messages."""
        self._actor.announce(Move(worker.id, returns=returns))

    def notify_joined(self, worker: Worker) -> None:
        """Notify all runtimes that a worker has joined, after they know of its absence."""
        self._actor.announce(Move(worker.id, joins=True))


class RuntimeActor:
    """An actor: the runtime of some workers, and the batches of messages between it and the other actors.

    Ray restarts an actor that was lost. Its workers are lost with it, and those that can begin anew in mid-run do.
    """

    def __init__(self, number: int) -> None:
        self._settings: RunSettings
        self._numbers: dict[str, int] = {}
        self.number = number
        self.handles: list[Any] = []
        self._restarts: list[int] = []
        self._runtime: WorkerRuntime | None = None
        self._keeper: RoundKeeper | None = None
        self._begun = asyncio.Event()
        self._outbox: dict[int, list[Message | Move]] = {}
        self._sent: dict[int, int] = {}
        self._early: dict[tuple[int, int, int], ActorBatch] = {}
        self._next: dict[int, int] = {}

    @property
    def counts_pickled(self) -> bool:
        """Whether messages to other actors are counted as they are pickled."""
        return self._settings.count_pickled

    def number_of(self, worker: str) -> int:
        """Return the number of the actor of a worker."""
        return self._numbers[worker]

    async def facts(self, files: Sequence[Path]) -> tuple[str, dict[str, str]]:
        """Return the name of this machine, and what must be the same on all of them (`facts`)."""
        return socket.gethostname(), facts(files)

    async def clock(self) -> float:
        """Return what the clock of this machine shows, in seconds."""
        return time.time()

    async def meet(self, settings: RunSettings, handles: Sequence[Any], restarts: Sequence[int]) -> None:
        """Take what all know, all handles, and how many times each actor was restarted."""
        self._settings = settings
        self._numbers = {id_: n for n, process in enumerate(settings.processes) for id_ in process.workers}
        self.handles, self._restarts = list(handles), list(restarts)

    async def run(self, start: float, rest: Rest | None) -> None:
        """Run the workers until all have ended.

        Args:
            start: When the run began.
            rest: The run that is to go on, with the workers of this actor; None for a new one.
        """
        await self._run(start, self._settings.processes[self.number].workers, None, rest)

    async def run_again(self, start: float, own: Collection[str], known: Mapping[str, str]) -> None:
        """Run some of the workers, anew in mid-run, until all have ended.

        Args:
            start: When the run began.
            own: Their ids.
            known: What became of the others, by id, as `lost` returns it.
        """
        await self._run(start, own, known, None)

    async def _run(
        self, start: float, own: Collection[str], known: Mapping[str, str] | None, rest: Rest | None
    ) -> None:
        transport = _ActorTransport(self, start)
        settings = self._settings
        runtime = transport.runtime = self._runtime = WorkerRuntime(
            settings.run,
            transport,
            default_timeout_s=settings.default_timeout_s,
            record=settings.record,
            own=set(own),
        )
        if settings.run.checkpoints is not None:
            self._keeper = RoundKeeper(runtime, settings.run.checkpoints)
            runtime.positions = {} if rest is None else self._keeper.restore(rest)
        try:
            task = asyncio.ensure_future(transport.perform(runtime, known))
            await asyncio.sleep(0)  # the workers have started: they take what arrived before
            self._begun.set()
            self._deliver_batches()
            await task
        finally:
            self._begun.set()
            self._flush()

    def announce(self, move: Move) -> None:
        """Announce that a worker has joined or left to all actors."""
        for number in range(len(self.handles)):
            if number != self.number:
                self.post(number, move)
        if self._runtime is not None:
            _note(self._runtime, move)

    def post(self, actor: int, item: Message | Move) -> None:
        """Send a message to an actor, or tell it that a worker has joined or left."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.setdefault(actor, []).append(item)

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, {}
        for actor, items in outbox.items():
            number = self._sent.get(actor, 0)
            self._sent[actor] = number + 1
            batch = ActorBatch(self.number, self._restarts[self.number], self._restarts[actor], number, items)
            self.handles[actor].receive.remote(batch)

    async def receive(self, batch: ActorBatch) -> None:
        """Take a batch from another actor; one that was meant for this actor before its restart is lost."""
        own_restarts = self._restarts[self.number] if self._restarts else batch.receiver_restarts
        if batch.receiver_restarts == own_restarts:
            self._early[batch.sender, batch.restarts, batch.number] = batch
            if self._runtime is not None and self._runtime.started:
                self._deliver_batches()

    def _deliver_batches(self) -> None:
        """Deliver all batches that are next in order."""
        runtime = self._runtime
        if runtime is None:
            return
        for sender in range(len(self.handles)):
            restarts = self._restarts[sender]
            while (batch := self._early.pop((sender, restarts, self._next.get(sender, 0)), None)) is not None:
                self._next[sender] = batch.number + 1
                for item in batch.items:
                    if isinstance(item, Move):
                        _note(runtime, item)
                    else:
                        runtime.deliver(item)

    async def lost(self, actor: int, restarts: int, returning: Collection[str]) -> dict[str, str]:
        """Note that an actor was lost with its workers; return what became of the workers of this one.

        Args:
            actor: Its number.
            restarts: How many times it was restarted, with this one.
            returning: The ids of its workers that may come back.

        Returns:
            For each worker here `present`, `absent` (still to join), `away` (to come back) or `ended`.
        """
        await self._begun.wait()
        runtime = self._runtime
        if runtime is None:
            return {}
        if restarts > self._restarts[actor]:
            self._restarts[actor] = restarts
            self._next[actor] = self._sent[actor] = 0
            self._outbox.pop(actor, None)
        for id_ in self._settings.processes[actor].workers:
            runtime.worker_left(runtime.plan.worker(id_), returns=id_ in returning)
        self._deliver_batches()
        return runtime.presence()

    async def rest(self, entries: int, spans: int, rounds: int) -> RestedActor:
        """Return the workers after a number of rounds, when they have completed them; other arguments as of `report`.

        Args:
            entries: How many entries of the log are known.
            spans: How many spans are known.
            rounds: The number.
        """
        await self._begun.wait()
        keeper, runtime, found = self._keeper, self._runtime, None
        while keeper is not None and runtime is not None and not keeper.refused and runtime.running:
            found = keeper.after(rounds)
            if found is not None:
                break
            await asyncio.sleep(_LATER_S)
        return RestedActor(rounds, found or {}, "" if keeper is None else keeper.refused, self._news(entries, spans))

    async def report(self, entries: int, spans: int, *, recording: bool, with_results: bool) -> RunReport:
        """Return what was recorded here since the last report.

        Args:
            entries: How many entries of the log are known.
            spans: How many spans are known.
            recording: Whether more spans are wanted.
            with_results: Whether results are wanted: models are large.
        """
        if self._runtime is not None:
            self._runtime.report().recording &= recording
        if not with_results:
            await asyncio.sleep(_LATER_S)
        return self._news(entries, spans, with_results=with_results)

    def _news(self, entries: int, spans: int, *, with_results: bool = False) -> RunReport:
        if self._runtime is None:
            return RunReport()
        own = self._runtime.report()
        return RunReport(
            results=own.results if with_results else {},
            ended=own.ended,
            end_ns=own.end_ns,
            traffic=own.traffic,
            by_round=own.by_round,
            log=own.log[entries:],
            spans=own.spans[spans:],
            recording=own.recording,
        )


def _note(runtime: WorkerRuntime, move: Move) -> None:
    worker = runtime.plan.worker(move.worker)
    if move.joins:
        runtime.worker_joined(worker)
    else:
        runtime.worker_left(worker, returns=move.returns)
