"""Runs experiments: what is stored is not computed again, what is computed is stored at once."""

from __future__ import annotations

import traceback
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.engines import WORTH_COMPILING, Choice
from sim.errors import SsimError, StoreError
from ssim.backends import processes, threads
from ssim.circumstances import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from ssim.backends import Backend
    from ssim.expand import Experiment
    from ssim.run import Run
    from ssim.store import Store


@dataclass(frozen=True, slots=True)
class Finished:
    """One run that ended now, well or not.

    Attributes:
        run: The run.
        queries: How many queries it replayed; 0 if it failed.
        error: Why it failed, or None.
        traceback: Where it failed, as text: an exception loses that on its way between processes.
        engine_reason: Why the engine ran that ran.
    """

    run: Run
    queries: int
    error: SsimError | None = None
    traceback: str = ""
    engine_reason: str = ""


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
        backend: Where they run instead, from `ssim.backends`.
        force: Run also what is stored.
        on_start: Told how many runs are to do, and how many are stored.
        on_finished: Told each run that ends.

    Raises:
        StoreError: Results can't be stored.
        SsimError: A worker process was killed, or a cluster went away.
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


@dataclass(frozen=True, slots=True)
class _Task:
    """A run that is to be done.

    Attributes:
        run: The run.
        choice: Its engine.
        shared: Where it finds a trace that other runs need, too; None if none does.
    """

    run: Run
    choice: Choice
    shared: Path | None


def _run_all(
    runs: Sequence[Run], store: Store, shared: Path, jobs: int, backend: Backend | None, rounds: int
) -> Generator[Finished]:
    """Do all runs, those of the compiled engine first; yield each when it has ended."""
    users = Counter(run.trace_key for run in runs)
    here = backend is None and (jobs == 1 or len(runs) == 1)
    compiled, others = [], []
    for run, choice in _chosen(runs, rounds):
        if isinstance(choice, Finished):
            yield choice
        elif choice.rule is not None:
            compiled.append(_Task(run, choice, None))
        else:
            others.append(_Task(run, choice, shared if not here and users[run.trace_key] > 1 else None))
    if here:
        for task in compiled + others:
            yield _run_one(task, store)
    elif backend is not None:
        yield from _run_on(backend, compiled + others, store, jobs)
    else:
        yield from _run_on(threads, compiled, store, jobs)
        yield from _run_on(processes, others, store, jobs)


def _run_on(backend: Backend, tasks: Sequence[_Task], store: Store, jobs: int) -> Generator[Finished]:
    if not tasks:
        return
    with backend(min(jobs, len(tasks)), str(store.folder)) as submit:
        waiting: dict[Future[Finished], _Task] = {submit(_run_one, task, store): task for task in tasks}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                del waiting[future]
                yield future.result()


def _chosen(runs: Sequence[Run], rounds: int) -> Generator[tuple[Run, Choice | Finished]]:
    """Yield the engine of each run; a policy is tabulated once for all runs that use it in the same way."""
    queries = rounds * _queries_ahead(runs)
    known: dict[str, Choice] = {}
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


def _run_one(task: _Task, store: Store) -> Finished:
    run, choice = task.run, task.choice
    watch = Stopwatch()
    try:
        measured = run.execute(choice, task.shared)
        circumstances = {"engine": choice.engine, "engine_reason": choice.reason, **watch.circumstances()}
        store.put(run.id, measured, run.identity, circumstances, run.keep)
    except SsimError as error:
        # A copy: the frames of the error itself would hold all that the run had in memory, to the end of the sweep.
        return Finished(run, 0, type(error)(*error.args), traceback.format_exc())
    except Exception as error:  # noqa: BLE001 - somebody's own trace source may raise anything
        told = SsimError(f"trace {run.trace['kind']}", f"raised {type(error).__name__}", str(error))
        return Finished(run, 0, told, traceback.format_exc())
    return Finished(run, measured.queries, engine_reason=choice.reason)
