"""Runs experiments: what is stored is not computed again, what is computed is stored at once."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from typing import TYPE_CHECKING

from sim.base.errors import SsimError, StoreError
from sim.engines import WORTH_COMPILING
from ssim.execution.backends.far import run_far
from ssim.execution.backends.local import processes, threads
from ssim.execution.task import Finished, Task, run_one

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from sim.engines import EngineChoice
    from ssim.execution.backends.local import Pool
    from ssim.execution.backends.machines import Backend
    from ssim.jobs.experiment.expand import Experiment
    from ssim.jobs.experiment.run import Run
    from ssim.results.store import Store

_START_S = 1.5
"""About how long a process takes to start."""


def run_experiment(
    experiment: Experiment,
    store: Store,
    *,
    jobs: int,
    backend: Backend | None = None,
    force: bool = False,
    on_start: Callable[[int, int], None] = lambda _todo, _stored: None,
    on_finished: Callable[[Finished], None] = lambda _finished: None,
) -> list[Finished]:
    """Run what is not stored yet and store it; return the runs that failed. The caller holds `store.writing()`.

    A run that fails does not end the others. The index of the experiment is written before the first run, so that
    what is stored can be read and drawn at any time.

    Args:
        experiment: The experiment.
        store: Where results go.
        jobs: How many runs at once: in threads for the compiled engine, which lets go of Python's lock, else processes.
        backend: The machines that do them instead, by way of `ssim.execution.backends.machines`.
        force: Run also what is stored.
        on_start: Told how many runs are to do, and how many are stored.
        on_finished: Told each run that ends.

    Raises:
        StoreError: Results can't be stored.
        SsimError: A worker process of this machine was killed, or a cluster went away.
    """
    write_index(experiment, store, experiment.runs)
    distinct = {run.id: run for run in experiment.runs}  # a sweep may leave some runs as they are
    todo = [run for run in distinct.values() if force or not store.has(run.id, run.keep)]
    on_start(len(todo), len(distinct) - len(todo))
    return run_all(todo, store, jobs=jobs, backend=backend, on_finished=on_finished)


def run_all(
    runs: Sequence[Run],
    store: Store,
    *,
    jobs: int,
    backend: Backend | None = None,
    rounds: int = 1,
    on_finished: Callable[[Finished], None] = lambda _finished: None,
) -> list[Finished]:
    """Run and store; return the runs that failed. Other arguments and errors are those of `run_experiment`.

    Args:
        runs: The runs.
        store: Where results go.
        jobs: How many runs at once.
        backend: Where they run.
        rounds: In how many calls as many runs are to come: an engine that takes long to start may pay for all.
        on_finished: Told each run that ends.
    """
    failed = []
    with store.shared() as shared, closing(_run_all(runs, store, shared, jobs, backend, rounds)) as finishing:
        for finished in finishing:
            on_finished(finished)
            if isinstance(finished.error, StoreError):
                raise finished.error
            if finished.error is not None:
                store.put_failure(finished.run.id, finished.error)
                failed.append(finished)
    return failed


def write_index(experiment: Experiment, store: Store, runs: Sequence[Run]) -> None:
    """Note which runs make up an experiment.

    Raises:
        StoreError: It can't be written.
    """
    rows = [
        {"id": run.id, "policy": run.label, "trace": run.trace["kind"], "seed": run.seed, "swept": run.swept}
        for run in runs
    ]
    store.write_index(
        {
            "schema": "index/1",
            "name": experiment.name,
            "swept": experiment.swept,
            "overrides": experiment.overrides,
            "runs": rows,
            "content": experiment.content,
        }
    )


def _run_all(
    runs: Sequence[Run], store: Store, shared: Path, jobs: int, backend: Backend | None, rounds: int
) -> Generator[Finished]:
    """Do all runs, those of the compiled engine first; yield each when it has ended."""
    users = Counter(run.trace_key for run in runs)
    here = backend is None and (jobs == 1 or len(runs) == 1)
    queries = _queries_ahead(runs)
    compiled, others = [], []
    for run, choice in _chosen(runs, rounds * queries):
        if isinstance(choice, Finished):
            yield choice
        elif choice.rule is not None:
            compiled.append(Task(run, choice, None))
        else:
            others.append(Task(run, choice, shared if not here and users[run.trace_key] > 1 else None))
    if here:
        for task in compiled + others:
            yield run_one(task, store)
    elif backend is not None:
        yield from run_far(backend, compiled + others, store, jobs)
    else:
        yield from _run_on(threads, compiled, store, jobs)
        if queries < WORTH_COMPILING:
            yield from _while_processes_would_start(others, store)
        yield from _run_on(processes, others, store, jobs)


def _while_processes_would_start(tasks: list[Task], store: Store) -> Generator[Finished]:
    """Do runs here, and take them off the list, until it has lasted as long as processes take to start."""
    begin = time.perf_counter()
    while tasks and time.perf_counter() - begin < _START_S:
        yield run_one(tasks.pop(0), store)


def _run_on(pool: Pool, tasks: Sequence[Task], store: Store, jobs: int) -> Generator[Finished]:
    if not tasks:
        return
    with pool(min(jobs, len(tasks)), str(store.folder)) as submit:
        waiting: dict[Future[Finished], Task] = {submit(run_one, task, store): task for task in tasks}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                del waiting[future]
                yield future.result()


def _chosen(runs: Sequence[Run], queries: int) -> Generator[tuple[Run, EngineChoice | Finished]]:
    """Yield the engine of each run; a policy is tabulated once for all runs that use it in the same way.

    Args:
        runs: The runs.
        queries: How many they are to replay in all, and those that come after them.
    """
    known: dict[str, EngineChoice] = {}
    for run in runs:
        key = run.engine_key
        try:
            if key not in known:
                known[key] = run.choose(queries)
            yield run, known[key]
        except SsimError as error:
            yield run, Finished(run, 0, error, traceback.format_exc())


def _queries_ahead(runs: Sequence[Run]) -> int:
    """Return about how many queries there are to replay, counted no further than the choice of an engine needs."""
    count = 0
    if runs:
        try:
            for chunk in runs[0].build_source().chunks(runs[0].seed):
                count += len(chunk) * len(runs)
                if count >= WORTH_COMPILING:
                    break
        except Exception:  # noqa: BLE001 - somebody's own trace source may raise anything; the run will tell
            return 0
    return count
