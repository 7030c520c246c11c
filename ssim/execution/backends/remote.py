"""Runs on other machines: their inputs are sent there, their results are sent back and stored here.

So a cluster needs no file system in common with this machine, one process alone writes to the store, and a run that is
done twice, because its machine was thought lost, does no harm. The toolkit must be installed there; the identity of
each run, hashes of code and inputs included, is worked out there again and must be the same.
"""

from __future__ import annotations

import pickle
import socket
import tempfile
import traceback
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.base.errors import SsimError, StoreError
from ssim.execution.backends.bundle import bundle_of
from ssim.execution.perform import perform
from ssim.jobs.identity import own_hash
from ssim.jobs.job import Completion, RunOutcome, Task
from ssim.results.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from concurrent.futures import Future

    from ssim.execution.backends.machines import Backend, Machines

_CHECK_S = 2.0
"""How long nothing may come back until it is looked whether the cluster is still there."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """A worker's reply about a run: the fields of its `RunOutcome`, and the files to store by name."""

    completion: Completion = field(default_factory=Completion)
    error: SsimError | None = None
    traceback: str = ""
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])


def run_remote(backend: Backend, tasks: Sequence[Task], store: Store, jobs: int) -> Generator[RunOutcome]:
    """Do runs of one experiment on other machines and store their results; yield each when it has ended.

    A run whose worker was killed is tried again when the others are done, and then once more alone: a run that kills
    its worker takes others with it, and memory that was too little for several may be enough for one.

    Raises:
        SsimError: There is no cluster, or it went away.
        StoreError: A result can't be stored.
    """
    if not tasks:
        return
    with backend(min(jobs, len(tasks)), str(store.folder)) as machines:
        # Pickled here, not by the engine: there, the toolkit may be missing, and a module of which a task holds an
        # object is found only when the bundle has been unpacked.
        bundle = pickle.dumps((machines.scratch, bundle_of([task.run for task in tasks]), own_hash()))
        call = _sent_as_it_stands()

        def send(tasks: Sequence[Task]) -> dict[Future[_Reply], Task]:
            shared = machines.share(bundle)  # each time: it may have been lost with a worker
            return {machines.submit(call, shared, pickle.dumps((task, task.run.identity))): task for task in tasks}

        killed = yield from _answered(machines, send(tasks), store)
        killed = yield from _answered(machines, send(killed), store)
        for task in killed:
            if (yield from _answered(machines, send([task]), store)):
                yield RunOutcome(task.run, error=SsimError("a worker", "was killed each time that it tried this run"))


def _answered(
    machines: Machines, waiting: dict[Future[_Reply], Task], store: Store
) -> Generator[RunOutcome, None, list[Task]]:
    """Wait for all replies, store the results, and return the tasks whose worker was killed."""
    killed = []
    while waiting:
        done, _ = wait(waiting, _CHECK_S, FIRST_COMPLETED)
        if not done:
            machines.check()
        for future in done:
            task = waiting.pop(future)
            error = future.exception()
            if isinstance(error, machines.gone):
                raise error
            if isinstance(error, machines.lost):
                killed.append(task)
            else:
                reply = future.result() if error is None else _no_answer(error)
                if reply.files:
                    store.take(task.run.id, reply.files)
                yield RunOutcome(task.run, reply.completion, reply.error, reply.traceback)
    return killed


def _sent_as_it_stands() -> Callable[[bytes, bytes], _Reply]:
    """Return a function that calls `run_in_worker`: engines send it whole, since no module has it."""

    def call(bundle: bytes, task: bytes) -> _Reply:
        from ssim.execution.backends.remote import run_in_worker

        return run_in_worker(bundle, task)

    return call


def _no_answer(error: BaseException) -> _Reply:
    cause = getattr(error, "cause", None) or error  # Ray wraps what a worker raised
    right = "the toolkit must be installed on all machines" if isinstance(cause, ImportError) else ""
    failure = SsimError("a worker", f"raised {type(cause).__name__}", str(cause), right)
    return _Reply(error=failure, traceback="".join(traceback.format_exception(error)))


def run_in_worker(bundle: bytes, pickled: bytes) -> _Reply:
    """Do a run in a worker; return the reply.

    Args:
        bundle: The folder to work in, as a function that finds it, and what to unpack there.
        pickled: The task, and the identity of its run.
    """
    scratch, unpacking, toolkit = pickle.loads(bundle)  # noqa: S301 - comes from `run_remote`
    here = None
    try:
        here = unpacking.unpack(scratch())
        task, identity = pickle.loads(pickled)  # noqa: S301 - comes from `run_remote`
        run = replace(task.run, point=replace(task.run.point, folder=here))
        _check_same(toolkit, run.identity, identity)
        with tempfile.TemporaryDirectory(dir=scratch()) as folder:
            store = Store(Path(folder))
            outcome = perform(replace(task, run=run), store)
            if outcome.error is None:
                return _Reply(outcome.completion, files=store.files(run.id))
        return _Reply(error=_relocated(outcome.error, here, unpacking.folder), traceback=outcome.traceback)
    except Exception as error:  # noqa: BLE001 - own modules may raise anything when they are imported
        return _Reply(error=_relocated(error, here, unpacking.folder), traceback=traceback.format_exc())


def _check_same(toolkit: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Pass if the identity of a run is the same as on the machine that sent it.

    Raises:
        SsimError: It is not.
    """
    if toolkit != own_hash():
        right = "install the same one on all machines, and restart their workers"
        raise SsimError(_name(), "has another version of the toolkit than the machine that sent the run", "", right)
    if there != here:
        names = ", ".join(name for name in here if there[name] != here[name])
        right = "what an experiment names by an absolute path must be the same on all machines"
        raise SsimError(_name(), "has other inputs of the run than the machine that sent it", names, right)


def _relocated(error: Exception, here: Path | None, sent_from: Path) -> SsimError:
    """Return an error in the words of the machine that sent the run."""
    if not isinstance(error, SsimError):
        return SsimError(_name(), f"raised {type(error).__name__}", str(error))
    parts = [str(part).replace(str(here), str(sent_from)) for part in error.args]
    if isinstance(error, StoreError):  # its disk is full, not that of this machine
        return SsimError(f"{_name()}, {parts[0]}", *parts[1:])
    return type(error)(*parts)


def _name() -> str:
    return f"a worker on {socket.gethostname()}"
