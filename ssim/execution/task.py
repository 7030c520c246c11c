"""One run that is to be done, and what came of it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.base.errors import SsimError, raised
from ssim.jobs.experiment.arrivals import raise_if_interrupted
from ssim.results.environment import Stopwatch

if TYPE_CHECKING:
    from pathlib import Path

    from sim.engines import Choice
    from ssim.jobs.experiment.run import Run
    from ssim.results.store import Store


@dataclass(frozen=True, slots=True)
class Task:
    """A run that is to be done.

    Attributes:
        run: The run.
        choice: Its engine.
        shared: Where it finds a trace that other runs need, too; None if none does.
    """

    run: Run
    choice: Choice
    shared: Path | None


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


def run_one(task: Task, store: Store) -> Finished:
    """Do a run and store what came of it; an error is part of what is returned."""
    run, choice = task.run, task.choice
    watch = Stopwatch()
    try:
        raise_if_interrupted()
        measured = run.execute(choice, task.shared)
        raise_if_interrupted()
        circumstances = {"engine": choice.engine, "engine_reason": choice.reason, **watch.circumstances()}
        store.put(run.id, measured, run.identity, circumstances, run.keep)
    except SsimError as error:
        # A copy: the frames of the error itself would hold all that the run had in memory, to the end of the sweep.
        return Finished(run, 0, type(error)(*error.args), traceback.format_exc())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody's own trace source may raise anything
        told = SsimError(f"trace {run.trace['kind']}", *raised(error))
        return Finished(run, 0, told, traceback.format_exc())
    return Finished(run, measured.queries, engine_reason=choice.reason)
