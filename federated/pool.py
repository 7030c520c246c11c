"""Clients that train at once in virtual time, in processes of this machine.

Each process has data and a network of its own, as each Ray actor has. A training is sent there with all that it may
change: the memory of the client, and its program if that computes a loss of its own. What has changed comes back, so
that it makes no difference where a client trains. What fails there is done again in this process.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch

from federated.state import reduce_tensor
from sim.base.children import follow_parent, interrupts_blocked
from topology.copying import fields_of, is_value, pickled, set_fields, unpickled
from topology.deferred import Deferred
from topology.program import Program

if TYPE_CHECKING:
    from concurrent.futures import Future

    from federated.averaging import Update
    from federated.job import FederatedJob, TrainingTask
    from federated.local import LocalSettings
    from federated.state import Memory
    from topology.deployment import Dataset

_JOB = ("job",)
_REDUCERS = {torch.Tensor: reduce_tensor}


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
        given = pickle.dumps(job), torch.get_num_threads()
        # Spawned, not forked: a fork copies the locks of threads that it does not copy.
        self._executor = ProcessPoolExecutor(processes, get_context("spawn"), _begin, given)
        with interrupts_blocked():
            self._started = self._executor.submit(_is_there)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for process in (self._executor._processes or {}).values():  # noqa: SLF001 - no public way to end a training
            process.terminate()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Wait until a process has started."""
        self._started.result()

    def begin(self, job: FederatedJob, training: LocalTraining) -> Update | Deferred:
        """Begin a training in another process; return it, or the update of one that was done here."""
        owner = type(training.program)
        if not self._started.done() or self.is_broken or owner in self._unfit:
            return job.train(*training)
        try:
            content = pickled(training, {id(job): _JOB}, _REDUCERS)
            with interrupts_blocked():  # it may start a process
                future = self._executor.submit(_train, content)
            return _Begun(self, job, training, future)
        except BrokenProcessPool:
            self.is_broken = True
        except Exception:  # noqa: BLE001  (whatever pickling a user's object raises)
            self._unfit.add(owner)
        return job.train(*training)


class _Begun(Deferred):
    """A training that was begun in another process."""

    def __init__(
        self, pool: TrainingPool, job: FederatedJob, training: LocalTraining, future: Future[bytes | None]
    ) -> None:
        self._pool, self._job, self._training, self._future = pool, job, training, future

    def result(self) -> Update:
        """Wait for the update, and take over what the training has changed.

        Raises:
            SsimError: The training failed.
        """
        try:
            content = self._future.result()
        except BrokenProcessPool:
            self._pool.is_broken, content = True, None
        if content is None:
            return self._job.train(*self._training)
        update: Update
        update, memory, changed, unchanged = unpickled(content, {_JOB: self._job})
        self._training.memory.clear()
        self._training.memory.update(memory)
        program = self._training.program
        if program is not None:
            own = fields_of(program)
            fields = {name: self._training.memory if value is memory else value for name, value in changed.items()}
            set_fields(program, {**{name: own[name] for name in unchanged}, **fields})
        return update


_OF_PROCESS: dict[tuple[str, ...], Any] = {}
"""The job of this process, if it is one of a pool."""


def _begin(job: bytes, threads: int) -> None:
    """Prepare a process: a network and data are made at once."""
    follow_parent()
    torch.set_num_threads(threads)
    found: FederatedJob = pickle.loads(job)  # noqa: S301 - from the process that started this one
    _OF_PROCESS[_JOB] = found


def _is_there() -> None:
    """End when a process has started."""


def _train(content: bytes) -> bytes | None:
    """Train, and return the update, the memory, and what the program has changed; None if that fails."""
    job: FederatedJob = _OF_PROCESS[_JOB]
    try:
        training = LocalTraining(*unpickled(content, _OF_PROCESS))
        program = training.program
        before = {} if program is None else fields_of(program)
        update = job.train(*training)
        after = {} if program is None else fields_of(program)
        unchanged = [name for name, value in after.items() if is_value(value) and value is before.get(name)]
        changed = {name: value for name, value in after.items() if name not in unchanged}
        return pickled((update, training.memory, changed, unchanged), {id(job): _JOB}, _REDUCERS)
    except Exception:  # noqa: BLE001  (it is raised where the training is done again)
        return None
