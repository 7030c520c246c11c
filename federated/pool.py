"""Clients that train at once in virtual time, in processes of this machine.

Each process has data and a network of its own, as each Ray actor has. A training is sent there with all that it may
change: the memory of the client, and its program if that computes a loss of its own. What has changed comes back, so
that it makes no difference where a client trains. What fails there is done again in this process.

This process has no threads for that, which would wait for Python's lock: it reads what has come when it begins a
training or needs one. The model of a round is sent once to each process, and short trainings are sent while another one
is under way, so that a process need not wait until this one gets round to it.
"""

from __future__ import annotations

import math
import pickle
from collections import deque
from contextlib import suppress
from itertools import count
from multiprocessing import get_context
from queue import SimpleQueue
from selectors import EVENT_READ, DefaultSelector
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch

from federated.state import reduce_tensor
from sim.base.children import follow_parent, interrupts_blocked
from topology.copying import fields_of, is_value, pickled, set_fields, unpickled
from topology.deferred import Deferred
from topology.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from federated.averaging import Update
    from federated.job import FederatedJob, TrainingTask
    from federated.local import LocalSettings
    from federated.state import Memory
    from topology.copying import Key
    from topology.deployment import Dataset

_JOB = ("job",)
_REDUCERS = {torch.Tensor: reduce_tensor}
_SHORT_S = 0.1
"""A process that trains for less is sent another training ahead. Longer ones are dealt out more evenly without."""

_NOTHING = b""
"""What a process sends when it has started, and in place of an update when a training failed."""


class LocalTraining(NamedTuple):
    """What `FederatedJob.train` takes."""

    dataset: Dataset
    task: TrainingTask
    memory: Memory
    settings: LocalSettings

    @property
    def program(self) -> Program | None:
        """The program of the client, if it computes the loss."""
        owner = getattr(self.settings.objective, "__self__", None)
        return owner if isinstance(owner, Program) else None


class TrainingPool:
    """Processes in which clients train. While they start, and once one of them was killed, clients train here.

    Args:
        job: The training.
        processes: How many clients train at once.

    Attributes:
        is_broken: Whether a process was killed.
    """

    def __init__(self, job: FederatedJob, processes: int) -> None:
        self.is_broken = False
        self._unfit: set[type[Any]] = set()
        self._model: _Model | None = None
        self._numbers = count()
        self._waiting: deque[_Begun] = deque()
        self._selector = DefaultSelector()
        content = pickle.dumps(job)
        self._processes = [self.start(content) for _ in range(processes)]
        for process in self._processes:
            self._selector.register(process.pipe, EVENT_READ, process)

    def start(self, job: bytes) -> TrainingProcess:
        """Start a process."""
        return TrainingProcess(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._selector.close()
        for process in self._processes:
            process.end()

    def wait(self) -> None:
        """Wait until all processes have started."""
        while not all(process.has_started for process in self._processes) and not self.is_broken:
            self.advance(None)

    def begin(self, job: FederatedJob, training: LocalTraining) -> Update | Deferred:
        """Begin a training in another process; return it, or the update of one that was done here."""
        self.advance(0)
        is_ready = not self.is_broken and any(process.has_started for process in self._processes)
        if not is_ready or type(training.program) in self._unfit:
            return job.train(*training)
        begun = _Begun(self, job, training)
        self._waiting.append(begun)
        self.advance(0)
        return begun

    def advance(self, timeout_s: float | None) -> None:
        """Receive updates, and send trainings to processes that have none.

        Args:
            timeout_s: How long to wait for an update; None for any time.
        """
        try:
            self._send()
            for key, _ in self._selector.select(timeout_s):
                key.data.receive()
            self._send()
        except (EOFError, OSError):
            self.is_broken = True

    def _send(self) -> None:
        """Send trainings to processes that have none, or a short one."""
        while self._waiting:
            process = min(self._processes, key=TrainingProcess.load)
            if process.load() >= 1:
                return
            begun = self._waiting.popleft()
            try:
                model = self._model = self._model_of(begun)
                content = pickled(begun.training, begun.known | {id(model.task): model.key}, _REDUCERS)
            except Exception:  # noqa: BLE001  (whatever pickling a user's object raises)
                begun.content = _NOTHING
                self._unfit.add(type(begun.training.program))
            else:
                process.send(begun, model, content)

    def _model_of(self, begun: _Begun) -> _Model:
        """Return the model of a training as it is sent; that of the last training, if it is the same."""
        task, last = begun.training.task, self._model
        if last is not None and task is last.task:
            return last
        return _Model(("model", str(next(self._numbers))), task, pickled(task, begun.known, _REDUCERS))


class _Begun(Deferred):
    """A training that was begun in another process.

    Attributes:
        content: What came back; None as long as nothing has.
    """

    def __init__(self, pool: TrainingPool, job: FederatedJob, training: LocalTraining) -> None:
        self._pool, self._job, self.training = pool, job, training
        self.content: bytes | None = None

    @property
    def known(self) -> dict[int, Key]:
        """What each process has from the beginning."""
        return {id(self._job): _JOB}

    def result(self) -> Update:
        """Wait for the update, and take over what the training has changed.

        Raises:
            SsimError: The training failed.
        """
        while self.content is None and not self._pool.is_broken:
            self._pool.advance(None)
        if not self.content:
            return self._job.train(*self.training)
        update: Update
        update, memory, changed, unchanged = unpickled(self.content, {_JOB: self._job})
        self.training.memory.clear()
        self.training.memory.update(memory)
        program = self.training.program
        if program is not None:
            own = fields_of(program)
            fields = {name: self.training.memory if value is memory else value for name, value in changed.items()}
            set_fields(program, {**{name: own[name] for name in unchanged}, **fields})
        return update


class _Model(NamedTuple):
    """A task, which is sent only once to a process for all clients that train it one after the other."""

    key: Key
    task: TrainingTask
    content: bytes


class TrainingProcess:
    """Another process, and the pipe to it.

    Attributes:
        pipe: This process' end.
        has_started: Whether it is ready to train.
    """

    def __init__(self, job: bytes) -> None:
        self.pipe, other = get_context("spawn").Pipe()
        self.start(other, job)
        self.has_started = False
        self._begun: deque[_Begun] = deque()
        self._key: Key = ()
        self._since_s = self._took_s = math.inf

    def start(self, pipe: Connection, job: bytes) -> None:
        """Start to serve the other end of the pipe."""
        context = get_context("spawn")  # not forked: a fork copies the locks of threads that it does not copy
        self._process = context.Process(target=_run, args=(pipe, job, torch.get_num_threads()))
        with interrupts_blocked():
            self._process.start()
        pipe.close()

    def load(self) -> float:
        """Return how many trainings it has, in relation to how many it should have at least."""
        if not self.has_started:
            return math.inf
        return len(self._begun) / (2 if self._took_s < _SHORT_S else 1)

    def send(self, begun: _Begun, model: _Model, content: bytes) -> None:
        """Send a training to the process.

        Args:
            begun: Is given what comes back.
            model: Its task.
            content: The rest of it, pickled.

        Raises:
            OSError: The process was killed.
        """
        if not self._begun:
            self._since_s = perf_counter()
        self._begun.append(begun)
        self.pipe.send_bytes(pickle.dumps((model.key, model.content if model.key != self._key else None, content)))
        self._key = model.key

    def receive(self) -> None:
        """Receive what a training has changed, or that the process has started.

        Raises:
            EOFError, OSError: The process was killed.
        """
        content = self.pipe.recv_bytes()
        if self.has_started:
            self._begun.popleft().content = content
            now_s = perf_counter()
            self._since_s, self._took_s = now_s, now_s - self._since_s
        self.has_started = True

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.terminate()
        self._process.join()
        self.pipe.close()


def _run(pipe: Connection, job: bytes, threads: int) -> None:
    """Be a process of the pool."""
    follow_parent()
    torch.set_num_threads(threads)
    serve(pipe, job)


def serve(pipe: Connection, job: bytes) -> None:
    """Train what comes through a pipe, until the other end is closed."""
    own: FederatedJob = pickle.loads(job)  # noqa: S301 - from the process that started this one
    with suppress(Exception):  # it is raised again by a training
        _ = own.context.network, own.context.shards
    world: dict[Key, Any] = {_JOB: own}
    inbox: SimpleQueue[bytes | None] = SimpleQueue()
    Thread(target=_read, args=(pipe, inbox), daemon=True).start()
    pipe.send_bytes(_NOTHING)
    while (message := inbox.get()) is not None:
        key, model, content = pickle.loads(message)  # noqa: S301 - as above
        try:
            if model is not None:
                world = {_JOB: own}
                world[key] = unpickled(model, world)
            update = _train(own, content, world)
        except Exception:  # noqa: BLE001  (it is raised where the training is done again)
            update = _NOTHING
        with suppress(OSError):  # the other end was closed
            pipe.send_bytes(update)


def _read(pipe: Connection, inbox: SimpleQueue[bytes | None]) -> None:
    """Read at once whatever is sent, so that the sender never waits for a training; None at the end."""
    with suppress(EOFError, OSError):
        while True:
            inbox.put(pipe.recv_bytes())
    inbox.put(None)


def _train(job: FederatedJob, content: bytes, world: Mapping[Key, Any]) -> bytes:
    """Train, and return the update, the memory, and what the program has changed."""
    training = LocalTraining(*unpickled(content, world))
    program = training.program
    before = {} if program is None else fields_of(program)
    update = job.train(*training)
    after = {} if program is None else fields_of(program)
    unchanged = [name for name, value in after.items() if is_value(value) and value is before.get(name)]
    changed = {name: value for name, value in after.items() if name not in unchanged}
    return pickled((update, training.memory, changed, unchanged), {id(job): _JOB}, _REDUCERS)
