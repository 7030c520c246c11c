"""Runs experiments: what is stored is not computed again, what is computed is stored at once."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import signal
import subprocess
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from sim.engines import numba_is_installed
from sim.errors import SsimError, StoreError
from sim.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

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
    force: bool = False,
    requests: bool = True,
    on_start: Callable[[int, int], None] = lambda _todo, _stored: None,
    on_finished: Callable[[Finished], None] = lambda _finished: None,
) -> list[Finished]:
    """Run what is not stored yet and store it; return the runs that failed. The caller holds `store.writing()`.

    A run that fails does not end the others. The index of the experiment is written before the first run, so that
    what is stored can be read and drawn at any time.

    Args:
        experiment: The experiment.
        store: Where results go.
        jobs: How many runs at once, each in a process of its own if more than one.
        force: Run also what is stored.
        requests: Store the rows per query, too.
        on_start: Told how many runs are to do, and how many are stored.
        on_finished: Told each run that ends.

    Raises:
        StoreError: Results can't be stored.
        SsimError: A worker process was killed.
    """
    store.write_index(_index(experiment))
    distinct = {run.id: run for run in experiment.runs}  # a sweep may leave some runs as they are
    todo = [run for run in distinct.values() if force or not store.has(run.id, requests=requests)]
    on_start(len(todo), len(distinct) - len(todo))
    failed = []
    with closing(_run_all(todo, store, jobs, requests=requests)) as finishing:
        for finished in finishing:
            on_finished(finished)
            if isinstance(finished.error, StoreError):
                raise finished.error
            if finished.error is not None:
                failed.append(finished)
    return failed


def _index(experiment: Experiment) -> dict[str, Any]:
    runs = [
        {"id": run.id, "policy": run.label, "trace": run.trace["kind"], "seed": run.seed, "swept": run.swept}
        for run in experiment.runs
    ]
    return {
        "schema": "index/1",
        "name": experiment.name,
        "swept": experiment.swept,
        "overrides": experiment.overrides,
        "runs": runs,
        "content": experiment.content,
    }


def _run_all(runs: Sequence[Run], store: Store, jobs: int, *, requests: bool) -> Generator[Finished]:
    if jobs == 1 or len(runs) <= 1:
        for run in runs:
            yield _run_one(run, store, requests=requests)
        return
    # Spawned, not forked: a fork copies the locks of threads that it does not copy.
    pool = ProcessPoolExecutor(min(jobs, len(runs)), mp_context=get_context("spawn"), initializer=_follow_parent)
    try:
        waiting: dict[Future[Finished], Run] = {
            pool.submit(_run_one, run, store, requests=requests): run for run in runs
        }
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                run = waiting.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool as error:
                    what = "a worker process was killed (out of memory?)"
                    right = "the same command goes on from what is stored"
                    raise SsimError(str(store.folder), what, run.label, right) from error
    finally:
        for process in (pool._processes or {}).values():  # noqa: SLF001 - there is no public way to end a run in mid-air
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends: nobody else holds the lock on the results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        Thread(target=follow, daemon=True).start()


def _run_one(run: Run, store: Store, *, requests: bool) -> Finished:
    started = datetime.now(UTC)
    begin = time.perf_counter()
    try:
        result, choice = run.execute()
        circumstances = {
            "engine": choice.engine,
            "engine_reason": choice.reason,
            **_versions(),
            "started": started.isoformat(timespec="seconds"),
            "wall_s": round(time.perf_counter() - begin, 6),
        }
        store.put(run.id, result, run.identity, circumstances, requests=requests)
    except SsimError as error:
        return Finished(run, 0, error, traceback.format_exc())
    except Exception as error:  # noqa: BLE001 - somebody's own trace source may raise anything
        told = SsimError(f"trace {run.trace['kind']}", f"raised {type(error).__name__}", str(error))
        return Finished(run, 0, told, traceback.format_exc())
    return Finished(run, len(result.trace), engine_reason=choice.reason)


@lru_cache(maxsize=1)
def _versions() -> dict[str, Any]:
    """Return what else was there: versions, machine, commit. Never compared."""
    libraries = {
        name: importlib.metadata.version(name)
        for name in ("numpy", "pyarrow", "simpy", *(("numba",) if numba_is_installed() else ()))
    }
    return {
        "version": VERSION,
        "python": platform.python_version(),
        "libraries": libraries,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **_commit(),
    }


def _commit() -> dict[str, Any]:
    folder = Path(__file__).parent
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": found.stdout.strip()}
