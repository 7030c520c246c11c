"""Threads and processes of this machine.

A pool is a context that gives a function like `concurrent.futures.Executor.submit`; when the context ends, what has
not begun is given up.
"""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Protocol

from sim.base.children import follow_parent, interrupts_blocked
from sim.base.errors import SsimError
from ssim.jobs.experiment.arrivals import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager

RESUMES = "the same command resumes from the stored runs"


class Submit(Protocol):
    """Starts a call somewhere else."""

    def __call__(self, function: Any, /, *arguments: Any) -> Future[Any]:
        """Return the future of a call."""
        ...


class Pool(Protocol):
    """A place on this machine where runs are done."""

    def __call__(self, jobs: int, where: str, /) -> AbstractContextManager[Submit]:
        """Return the context of a place for so many runs at once; `where` begins its messages."""
        ...


@contextmanager
def threads(jobs: int, _where: str) -> Generator[Submit]:
    """Do runs in threads of this process: for what lets go of Python's lock."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool.submit
    except BaseException:
        INTERRUPTED.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        INTERRUPTED.clear()


@contextmanager
def processes(jobs: int, where: str) -> Generator[Submit]:
    """Do runs in processes of their own.

    Raises:
        SsimError: One of them was killed.
    """
    # Spawned, not forked: a fork copies the locks of threads that it does not copy. They end with this process,
    # however it ends, since nobody else holds the lock on the results.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=follow_parent)

    def submit(function: Any, /, *arguments: Any) -> Future[Any]:
        with interrupts_blocked():  # it may start a process
            return pool.submit(function, *arguments)

    try:
        yield submit
    except BrokenProcessPool as error:
        raise SsimError(where, "a worker process was killed (out of memory?)", "", RESUMES) from error
    finally:
        for process in (pool._processes or {}).values():  # noqa: SLF001 - there is no public way to end a run in mid-air
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
