"""Runs jobs: stored runs are skipped, and each result is stored as soon as it is there."""

from __future__ import annotations

import time
from concurrent.futures import as_completed
from contextlib import closing
from typing import TYPE_CHECKING

from sim.base.errors import StoreError
from ssim.execution.backends.local import processes, threads
from ssim.execution.backends.remote import run_remote
from ssim.execution.perform import perform
from ssim.jobs.job import DEFAULT_OPTIONS, ExecutionOptions, RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from ssim.execution.backends.local import Pool
    from ssim.execution.backends.machines import Backend
    from ssim.jobs.job import AnyRun, Job, Task, Watch
    from ssim.results.store import Store

_START_S = 1.5
"""About how long a process takes to start."""


def run_job(
    job: Job,
    store: Store,
    *,
    jobs: int,
    backend: Backend | None = None,
    force: bool = False,
    options: ExecutionOptions = DEFAULT_OPTIONS,
    watch: Watch | None = None,
    on_start: Callable[[int, int], None] = lambda _todo, _stored: None,
    on_finished: Callable[[RunOutcome], None] = lambda _finished: None,
) -> list[RunOutcome]:
    """Do the runs that are not stored, and store them; return those that failed. The caller holds `store.writing()`.

    A run that fails does not end the others. The index of the job is written before the first run, so that
    results can be read and drawn at any time.

    Args:
        job: The job.
        store: Where results go.
        jobs: How many runs at once: in threads where a run lets go of Python's lock, else in processes.
        backend: The machines that do them instead, by way of `ssim.execution.backends.machines`.
        force: Repeat stored runs.
        options: How runs are done; it decides no result.
        watch: Called with each step of a run that is done in this thread.
        on_start: Called with the numbers of runs to do and of stored runs.
        on_finished: Called with each run that ends.

    Raises:
        StoreError: Results can't be stored.
        SsimError: A worker process of this machine was killed, or a cluster went away.
    """
    write_index(job, store, job.runs)
    distinct = {run.id: run for run in job.runs}  # a sweep may leave some runs as they are
    todo = [run for run in distinct.values() if force or not run.is_stored(store)]
    if force:
        for run in todo:
            run.forget(store)
    on_start(len(todo), len(distinct) - len(todo))
    return run_all(todo, store, jobs=jobs, backend=backend, options=options, watch=watch, on_finished=on_finished)


def run_all(
    runs: Sequence[AnyRun],
    store: Store,
    *,
    jobs: int,
    backend: Backend | None = None,
    rounds: int = 1,
    options: ExecutionOptions = DEFAULT_OPTIONS,
    watch: Watch | None = None,
    on_finished: Callable[[RunOutcome], None] = lambda _finished: None,
) -> list[RunOutcome]:
    """Run and store; return the runs that failed. Other arguments and errors are those of `run_job`.

    Args:
        runs: The runs, of one kind.
        store: Where results go.
        jobs: How many runs at once.
        backend: Where they run.
        rounds: In how many calls as many runs are to come: an engine that takes long to start may pay for all.
        options: How runs are done.
        watch: Called with each step.
        on_finished: Called with each run that ends.
    """
    failed = []
    with (
        store.shared() as shared,
        closing(_run_all(runs, store, shared, jobs, backend, rounds, options, watch)) as finishing,
    ):
        for finished in finishing:
            on_finished(finished)
            if isinstance(finished.error, StoreError):
                raise finished.error
            if finished.error is not None:
                store.put_failure(finished.run.id, finished.error)
                failed.append(finished)
    return failed


def write_index(job: Job, store: Store, runs: Sequence[AnyRun]) -> None:
    """Note which runs make up a job.

    Raises:
        StoreError: It can't be written.
    """
    store.write_index(
        {
            "schema": "index/1",
            "job": job.schema,
            "name": job.name,
            "swept": job.swept,
            "overrides": job.overrides,
            "runs": [run.row() for run in runs],
            "content": job.content,
        }
    )


def _run_all(
    runs: Sequence[AnyRun],
    store: Store,
    shared: Path,
    jobs: int,
    backend: Backend | None,
    rounds: int,
    options: ExecutionOptions,
    watch: Watch | None,
) -> Generator[RunOutcome]:
    """Do all runs, those that let go of Python's lock first; yield each when it has ended."""
    if not runs:
        return
    here = backend is None and (jobs == 1 or len(runs) == 1)
    light, heavy = list["Task"](), list["Task"]()
    for_processes = None if here or backend is not None else shared
    for task in type(runs[0]).tasks(runs, options, ahead=rounds, shared=for_processes):
        if isinstance(task, RunOutcome):
            yield task
        else:
            (light if task.releases_lock else heavy).append(task)
    if here:
        for task in light + heavy:
            yield perform(task, store, watch)
    elif backend is not None:
        yield from run_remote(backend, light + heavy, store, jobs)
    else:
        yield from _run_on(threads, light, store, jobs)
        if heavy and not heavy[0].run.is_worth_a_process():
            yield from _while_processes_would_start(heavy, store)
        yield from _run_on(processes, heavy, store, jobs)


def _while_processes_would_start(tasks: list[Task], store: Store) -> Generator[RunOutcome]:
    """Do runs here, and take them off the list, until it has lasted as long as processes take to start."""
    begin = time.perf_counter()
    while tasks and time.perf_counter() - begin < _START_S:
        yield perform(tasks.pop(0), store)


def _run_on(pool: Pool, tasks: Sequence[Task], store: Store, jobs: int) -> Generator[RunOutcome]:
    if not tasks:
        return
    with pool(min(jobs, len(tasks)), str(store.folder)) as submit:
        for future in as_completed([submit(perform, task, store) for task in tasks]):
            yield future.result()
